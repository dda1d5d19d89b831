import Appliance
import CShims
import Glibc
import Platform

/// What is in `versions/` and what `current` points to, read from the disk.
enum InstalledVersions {
    /// The directory name that `current` points to; `nil` when it is absent or leads anywhere but into `versions`.
    ///
    /// Another home's versions come and go without this one.
    static func current(_ layout: Layout, files: Files) -> String? {
        guard let target = files.destination(ofLink: layout.current) else { return nil }
        let name = Files.name(of: target)
        guard !name.isEmpty, name != ".", name != ".." else { return nil }
        let parent = Files.parent(of: target.hasPrefix("/") ? target : Layout.join(layout.home, target))
        // A home may be reached through links, and named by another of its names.
        guard parent == layout.versions || isSame(parent, layout.versions, files) else { return nil }
        return name
    }

    private static func isSame(_ first: String, _ second: String, _ files: Files) -> Bool {
        guard let first = files.realPath(first) else { return false }
        return first == files.realPath(second)
    }

    /// Where `current` leads when that is no version of this home; `nil` when it is one, or there is no link.
    static func strayed(_ layout: Layout, files: Files) -> String? {
        guard current(layout, files: files) == nil else { return nil }
        return files.destination(ofLink: layout.current)
    }

    /// Every directory with a readable manifest, the one in use first, then the newest.
    ///
    /// For a receipt that was lost: the digest of the bundle is unknown then, and empty.
    static func found(_ layout: Layout, files: Files) throws(GatewayError) -> [Receipt.Installed] {
        let current = current(layout, files: files)
        var result: [Receipt.Installed] = []
        for name in try files.list(layout.versions) {
            let path = Layout.join(layout.version(name), BundleManifest.name)
            guard let bytes = try manifestBytes(path, files: files),
                let manifest = try? BundleManifest(bytes)
            else { continue }
            result.append(
                Receipt.Installed(
                    version: manifest.version.description,
                    directory: name,
                    sha256: "",
                    manifestSHA256: SHA256.hex(bytes),
                    trust: .pinnedChecksum,
                    source: "",
                    installedAt: try files.status(path)?.modified ?? Timestamp(milliseconds: 0)
                )
            )
        }
        return result.sorted { first, second in
            if (first.directory == current) != (second.directory == current) {
                return first.directory == current
            }
            return first.installedAt > second.installedAt
        }
    }

    /// A directory name for a version that is not taken: the version itself, else with `.r2`, `.r3`, … behind it.
    ///
    /// `taken` are names that must not be used although nothing may be there any more.
    static func freshName(_ version: String, _ layout: Layout, files: Files, taken: [String]) -> String {
        var name = version
        var number = 2
        while taken.contains(name) || files.exists(layout.version(name)) {
            name = "\(version).r\(number)"
            number += 1
        }
        return name
    }

    /// Compares an installed version with its manifest, by reading every file.
    ///
    /// Blocks.
    ///
    /// The manifest itself is compared with the digest that the receipt has.
    static func verify(
        _ installed: Receipt.Installed,
        _ layout: Layout,
        files: Files
    ) throws(GatewayError) -> [BundleManifest.Finding] {
        let root = layout.version(installed.directory)
        // What a link leads to is not what was unpacked here.
        guard try files.status(root)?.kind == .directory else {
            return [BundleManifest.Finding(path: BundleManifest.name, problem: .missing)]
        }
        guard let manifest = try manifest(installed, layout, files: files) else {
            let isThere = files.exists(Layout.join(root, BundleManifest.name))
            return [
                BundleManifest.Finding(path: BundleManifest.name, problem: isThere ? .altered : .missing)
            ]
        }
        var found: [String: StagingTree.Written] = [:]
        try collect(root, "", files, into: &found)
        return manifest.findings(in: found)
    }

    /// The manifest of an installed version; `nil` when it is missing or is not the one that the receipt has.
    static func manifest(
        _ installed: Receipt.Installed,
        _ layout: Layout,
        files: Files
    ) throws(GatewayError) -> BundleManifest? {
        let path = Layout.join(layout.version(installed.directory), BundleManifest.name)
        guard let bytes = try manifestBytes(path, files: files),
            SHA256.hex(bytes) == installed.manifestSHA256
        else { return nil }
        return try? BundleManifest(bytes)
    }

    /// The bytes of a manifest; `nil` where none is, or what can be none.
    static func manifestBytes(_ path: String, files: Files) throws(GatewayError) -> [UInt8]? {
        guard let status = try files.status(path), status.kind == .file,
            status.size <= BundleManifest.limit
        else { return nil }
        return try files.readIfPresent(path, limit: BundleManifest.limit)
    }

    private static func collect(
        _ directory: String,
        _ prefix: String,
        _ files: Files,
        into found: inout [String: StagingTree.Written]
    ) throws(GatewayError) {
        for name in try files.list(directory) {
            let path = Layout.join(directory, name)
            let relative = prefix.isEmpty ? name : "\(prefix)/\(name)"
            guard let status = try files.status(path) else { continue }
            switch status.kind {
            case .directory: try collect(path, relative, files, into: &found)
            case .link:
                let target = files.destination(ofLink: path) ?? ""
                found[relative] = StagingTree.Written(
                    sha256: "",
                    size: Int64(target.utf8.count),
                    mode: 0o777,
                    target: target
                )
            case .file:
                found[relative] = StagingTree.Written(
                    sha256: try digest(path),
                    size: status.size,
                    mode: status.mode
                )
            case .other: found[relative] = StagingTree.Written(sha256: "", size: 0, mode: status.mode)
            }
        }
    }

    /// Whether an installed version looks complete: its manifest is the receipt's, and every file has the size and the
    /// mode that it says.
    ///
    /// Takes a millisecond where `verify` reads everything.
    static func looksIntact(_ installed: Receipt.Installed, _ layout: Layout, files: Files) -> Bool {
        let root = layout.version(installed.directory)
        let path = Layout.join(root, BundleManifest.name)
        guard let bytes = (try? manifestBytes(path, files: files)) ?? nil,
            SHA256.hex(bytes) == installed.manifestSHA256, let manifest = try? BundleManifest(bytes)
        else { return false }
        return manifest.entries.allSatisfy { entry in
            let path = Layout.join(root, entry.path)
            if let target = entry.target { return files.destination(ofLink: path) == target }
            guard let status = (try? files.status(path)) ?? nil else { return false }
            return status.kind == .file && status.size == entry.size && status.mode == entry.mode
        }
    }

    /// The SHA-256 of a file of any size.
    static func digest(_ path: String) throws(GatewayError) -> String {
        let descriptor = shim_open(path, O_RDONLY | O_NOFOLLOW, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        let digest = SHA256()
        let slab = Slab(capacity: 256 << 10)
        while true {
            let count = read(descriptor, slab.bytes, slab.capacity)
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("read", path)
            }
            if count == 0 { return Hex.encode(digest.finish()) }
            slab.count = count
            digest.update(slab.contents)
        }
    }
}
