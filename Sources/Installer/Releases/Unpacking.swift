import Appliance
import Glibc
import Platform

/// Unpacks a bundle into an empty directory and compares it with its own manifest.
///
/// 1. This thread reads entries and decompresses; `EntryRules` decides about each before anything is written.
/// 2. A second thread writes the files and digests them, so that decompression never waits for the disk.
/// 3. The manifest is checked for version, platform and room on the disk as soon as it was read.
/// 4. At the end every file is compared with the manifest, and modes are set as it says.
struct Unpacking: Sendable {
    /// A bundle that is unpacked and complete.
    struct Unpacked: Sendable {
        var manifest: BundleManifest
        /// Of `manifest.json` itself.
        var manifestDigest: String
    }

    /// The kind of an archive file, told by its first bytes.
    enum Format: Sendable, Equatable {
        case tarGzip, tarZstd, zip

        /// The kind of a file that starts like this; `nil` for any other.
        init?(_ start: some Collection<UInt8>) {
            let start = Array(start.prefix(4))
            if start.starts(with: [0x1F, 0x8B]) {
                self = .tarGzip
            } else if start == [0x28, 0xB5, 0x2F, 0xFD] {
                self = .tarZstd
            } else if start == [0x50, 0x4B, 0x03, 0x04] {
                self = .zip
            } else {
                return nil
            }
        }

        /// What is said of a file that is none of them.
        static func refusal(of start: some Collection<UInt8>) -> GatewayError {
            let text = String(decoding: start.prefix(64), as: UTF8.self).drop { $0.isWhitespace }
            let looks =
                start.isEmpty
                ? "it is empty"
                : text.hasPrefix("<") ? "it looks like a web page" : "it begins with other bytes"
            return GatewayError(
                "archive-damaged",
                "the file is no tar.gz, tar.zst or zip archive: \(looks)",
                help: "check the address; nothing was installed"
            )
        }
    }

    /// The empty directory to fill.
    var directory: String
    var files: Files
    var limits = ArchiveLimits()
    var platform = Product.platform

    /// Reads the whole archive, on the calling thread, which must be one that may block.
    ///
    /// Throws `archive-damaged`, `unsafe-archive`, `archive-too-large`, `manifest-missing`, `manifest-invalid`,
    /// `manifest-mismatch`, `wrong-platform`, `reference-bundle`, `disk-full`.
    func run(_ input: ArchiveReader.Input, first: Slab? = nil) throws(GatewayError) -> Unpacked {
        let reader = try ArchiveReader(input, first: first)
        let writer = Writer(try StagingTree(directory, files: files))
        let found: (manifest: BundleManifest, digest: String)
        do throws(GatewayError) {
            found = try read(reader, writer)
        } catch {
            writer.stop()
            throw writer.failure() ?? error
        }
        let findings = found.manifest.findings(in: try writer.finish(found.manifest))
        guard findings.isEmpty else { throw Unpacking.mismatch(findings) }
        return Unpacked(manifest: found.manifest, manifestDigest: found.digest)
    }

    private func read(
        _ reader: ArchiveReader,
        _ writer: Writer
    ) throws(GatewayError) -> (manifest: BundleManifest, digest: String) {
        var rules = EntryRules(limits: limits)
        var manifest: (BundleManifest, String)?
        while let entry = try reader.next() {
            guard let path = try rules.admit(entry) else { continue }
            try Unpacking.refuseReference(path)
            switch entry.kind {
            case .directory: try writer.put(.directory(path))
            case .link(let target): try writer.put(.link(path, target))
            case .hardLink(let target):
                guard let first = try EntryRules.normalise(target) else { continue }
                try writer.put(.hardLink(path, first))
            case .file, .special:
                try writer.put(.begin(path, entry.mode))
                var kept: [UInt8]? = path == BundleManifest.name ? [] : nil
                try copy(reader, writer, &rules, path, &kept)
                try writer.put(.end)
                if let kept {
                    let read = try BundleManifest(kept)
                    try check(read)
                    manifest = (read, SHA256.hex(kept))
                }
            }
        }
        guard let manifest else {
            throw GatewayError(
                "manifest-missing",
                "the archive has no manifest.json at its root, so it is no bundle of \(Product.name)",
                help: "use a file named llm-cli-gateway-bundle-<version>-\(platform).tar.gz"
            )
        }
        return manifest
    }

    /// The content of one file: to the writer and, for the manifest, into `kept`.
    private func copy(
        _ reader: ArchiveReader,
        _ writer: Writer,
        _ rules: inout EntryRules,
        _ path: String,
        _ kept: inout [UInt8]?
    ) throws(GatewayError) {
        try reader.content(of: path, &rules) { (bytes) throws(GatewayError) in
            try writer.write(bytes)
            guard let count = kept?.count else { return }
            guard count + bytes.count <= BundleManifest.limit else {
                throw GatewayError("manifest-invalid", "the bundle's manifest.json is larger than 8 MiB")
            }
            kept?.append(contentsOf: bytes)
        }
    }

    private func check(_ manifest: BundleManifest) throws(GatewayError) {
        try manifest.checkPlatform(platform)
        guard manifest.unpackedSize <= limits.bytes else {
            throw GatewayError(
                "archive-too-large",
                "the bundle unpacks to \(manifest.unpackedSize >> 20) MiB, more than the \(limits.bytes >> 20) MiB allowed"
            )
        }
        try DiskSpace.require(manifest.unpackedSize, in: directory, files: files)
    }

    /// A bundle of the Node.js gateway is told from a damaged one.
    private static func refuseReference(_ path: String) throws(GatewayError) {
        let marks = [
            "gateway/package.json", "gateway/dist/index.js", "runtime/.llm-cli-gateway-runtime",
            "runtime/node",
            "runtime/node.exe",
        ]
        guard marks.contains(path) else { return }
        throw GatewayError(
            "reference-bundle",
            "this is a bundle of the Node.js gateway (it contains '\(path)'), which this program cannot run",
            help: "use a bundle of this program: llm-cli-gateway-bundle-<version>-\(Product.platform).tar.gz"
        )
    }

    private static func mismatch(_ findings: [BundleManifest.Finding]) -> GatewayError {
        let named = findings.prefix(5).map(\.sentence).joined(separator: ", ")
        let more = findings.count > 5 ? ", and \(findings.count - 5) more" : ""
        return GatewayError(
            "manifest-mismatch",
            "the bundle is not what its manifest.json says: \(named)\(more)",
            help: "do not use this file; nothing of it was installed"
        )
    }
}

/// The check that something fits on the disk before it is written.
enum DiskSpace {
    /// Bytes that stay free for the journal, the receipt and the logs.
    static let reserve: Int64 = 4 << 20

    /// Throws `disk-full` with both numbers when fewer bytes than needed are free.
    static func require(_ bytes: Int64, in directory: String, files: Files) throws(GatewayError) {
        try require([(bytes, directory)], files: files)
    }

    /// As the other, for several directories; what goes to the same file system is added up.
    static func require(_ needs: [(bytes: Int64, directory: String)], files: Files) throws(GatewayError) {
        var sums: [(device: UInt64, bytes: Int64, directory: String)] = []
        for need in needs where need.bytes > 0 {
            let device = try files.target(need.directory)?.device ?? 0
            if let index = sums.firstIndex(where: { $0.device == device }) {
                sums[index].bytes += need.bytes
            } else {
                sums.append((device, need.bytes, need.directory))
            }
        }
        for sum in sums {
            let free = try files.freeSpace(sum.directory)
            guard free >= sum.bytes + reserve else {
                throw GatewayError(
                    "disk-full",
                    "'\(sum.directory)' needs \(megabytes(sum.bytes + reserve)) of free space, but has only \(megabytes(free))",
                    help:
                        "free some space, then run the command again; nothing that worked before was changed"
                )
            }
        }
    }

    private static func megabytes(_ bytes: Int64) -> String { "\((bytes + (1 << 20) - 1) >> 20) MiB" }
}

/// The thread that writes, seen from the thread that decompresses.
private final class Writer {
    enum Work: Sendable {
        case directory(String)
        case begin(String, UInt32)
        case bytes(Slab)
        case end
        case link(String, String)
        case hardLink(String, String)
        /// Set the modes that the manifest says.
        case modes(BundleManifest)
    }

    private typealias Outcome = Result<[String: StagingTree.Written], GatewayError>

    private let work = Handoff<Work>(capacity: 64)
    private let free = Handoff<Slab>(capacity: 8)
    private let outcome = Handoff<Outcome>(capacity: 1)
    private var slab: Slab?

    init(_ tree: sending StagingTree) {
        for _ in 0..<8 { free.put(Slab(capacity: 256 << 10)) }
        let lane = Lane(tree: tree, work: work, free: free, outcome: outcome)
        BlockingThread.start("bundle-writer") { lane.run() }
    }

    /// Queues a step after the bytes before it.
    func put(_ step: Work) throws(GatewayError) {
        try flush()
        guard work.put(step) else { throw stopped() }
    }

    /// Queues bytes.
    func write(_ bytes: UnsafeRawBufferPointer) throws(GatewayError) {
        var rest = bytes
        while rest.count > 0 {
            guard let slab = slab ?? free.take() else { throw stopped() }
            self.slab = slab
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(slab.append(rest)))
            if slab.count == slab.capacity { try flush() }
        }
    }

    private func flush() throws(GatewayError) {
        guard let slab else { return }
        self.slab = nil
        guard work.put(.bytes(slab)) else { throw stopped() }
    }

    /// Waits until everything is written and says what.
    func finish(_ manifest: BundleManifest) throws(GatewayError) -> [String: StagingTree.Written] {
        do throws(GatewayError) {
            try put(.modes(manifest))
        } catch {
            // The thread has ended already, and said why.
            throw failure() ?? error
        }
        work.finish()
        guard let outcome = outcome.take() else { throw stopped() }
        return try outcome.get()
    }

    /// Ends the thread early.
    func stop() { work.abandon() }

    /// Why the thread ended by itself; waits for its end.
    func failure() -> GatewayError? {
        guard case .failure(let error)? = outcome.take() else { return nil }
        return error
    }

    private func stopped() -> GatewayError {
        GatewayError("internal-error", "the thread that writes the bundle has ended")
    }

    /// The writing thread's side; the tree is touched by that thread alone.
    private final class Lane: @unchecked Sendable {
        // Unchecked for the tree: it was sent here and is used only inside `run`, by one thread.
        let tree: StagingTree
        let work: Handoff<Work>
        let free: Handoff<Slab>
        let outcome: Handoff<Outcome>

        init(tree: sending StagingTree, work: Handoff<Work>, free: Handoff<Slab>, outcome: Handoff<Outcome>) {
            self.tree = tree
            self.work = work
            self.free = free
            self.outcome = outcome
        }

        func run() {
            do throws(GatewayError) {
                while let step = work.take() { try perform(step) }
                outcome.put(.success(tree.written))
            } catch {
                outcome.put(.failure(error))
                work.abandon()
                free.abandon()
            }
        }

        private func perform(_ step: Work) throws(GatewayError) {
            switch step {
            case .directory(let path): try tree.makeDirectory(path)
            case .begin(let path, let mode): try tree.beginFile(path, mode: mode)
            case .bytes(let slab):
                try tree.write(slab.contents)
                slab.count = 0
                free.put(slab)
            case .end: try tree.endFile()
            case .link(let path, let target): try tree.link(path, to: target)
            case .hardLink(let path, let first): try tree.hardLink(path, to: first)
            case .modes(let manifest):
                for finding in manifest.findings(in: tree.written) {
                    guard case .mode(_, let expected) = finding.problem else { continue }
                    try tree.changeMode(finding.path, to: expected)
                }
            }
        }
    }
}
