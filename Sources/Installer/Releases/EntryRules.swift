import Appliance

/// What an archive may contain, so that unpacking it cannot write outside its directory, fill the disk or hang.
struct ArchiveLimits: Sendable {
    /// Entries of any kind.
    var entries = 20_000
    /// Unpacked bytes of all files together.
    var bytes: Int64 = 2 << 30
    /// Unpacked bytes for each byte of the archive, once more than `ratioFrom` bytes came out.
    var ratio: Int64 = 200
    var ratioFrom: Int64 = 16 << 20
}

/// Decides about each entry of one archive before anything of it is written.
///
/// A pure value: names in, a normalised path or a refusal out.
struct EntryRules: Sendable {
    private enum Seen { case file, directory, link }

    private let limits: ArchiveLimits
    private var seen: [String: Seen] = [:]
    private var entries = 0
    private var bytes: Int64 = 0

    /// Rules with nothing seen yet.
    init(limits: ArchiveLimits = ArchiveLimits()) { self.limits = limits }

    /// The normalised relative path of an entry that may be unpacked; `nil` for the root itself.
    ///
    /// Throws `unsafe-archive` with the entry's name and the rule it breaks, or `archive-too-large`.
    mutating func admit(_ entry: ArchiveEntry) throws(GatewayError) -> String? {
        entries += 1
        guard entries <= limits.entries else {
            throw EntryRules.tooLarge("has more than \(limits.entries) entries")
        }
        guard let path = try EntryRules.normalise(entry.path) else {
            guard entry.kind == .directory else {
                throw EntryRules.unsafe(entry.path, "has no name")
            }
            return nil
        }
        guard entry.mode & 0o7000 == 0 || entry.kind == .directory else {
            throw EntryRules.unsafe(path, "has a setuid, setgid or sticky bit")
        }
        try admitParents(of: path)
        switch entry.kind {
        case .file:
            try claim(path, as: .file)
            if let size = entry.size {
                guard size >= 0, size <= limits.bytes - bytes else { throw oversize() }
            }
        case .directory:
            if let earlier = seen[path], earlier != .directory {
                throw EntryRules.unsafe(path, "is a directory where an earlier entry is a file")
            }
            seen[path] = .directory
        case .link(let target):
            guard EntryRules.stays(target: target, from: path) else {
                throw EntryRules.unsafe(
                    path,
                    "is a symbolic link to '\(ForeignText.shown(target))', outside the bundle"
                )
            }
            try claim(path, as: .link)
        case .hardLink(let target):
            guard let first = (try? EntryRules.normalise(target)) ?? nil, seen[first] == .file else {
                throw EntryRules.unsafe(
                    path,
                    "is a hard link to '\(ForeignText.shown(target))', which is no earlier file of the bundle"
                )
            }
            try claim(path, as: .file)
        case .special(let name):
            throw EntryRules.unsafe(path, "is a \(name)")
        }
        return path
    }

    /// Counts unpacked bytes against the limits; `consumed` is how much of the archive was used so far.
    mutating func admit(bytes count: Int, consumed: Int64) throws(GatewayError) {
        bytes += Int64(count)
        guard bytes <= limits.bytes else { throw oversize() }
        guard bytes <= limits.ratioFrom || bytes / max(1, consumed) <= limits.ratio else {
            throw EntryRules.tooLarge(
                "unpacks to more than \(limits.ratio) times its size, as only a decompression bomb does"
            )
        }
    }

    private func oversize() -> GatewayError {
        EntryRules.tooLarge("unpacks to more than \(limits.bytes >> 20) MiB")
    }

    private mutating func claim(_ path: String, as kind: Seen) throws(GatewayError) {
        guard let earlier = seen[path] else { return seen[path] = kind }
        throw EntryRules.unsafe(
            path,
            earlier == .directory ? "is a file where an earlier entry is a directory" : "occurs twice"
        )
    }

    /// Every leading directory of a path is a directory: made by an entry, or implied by this one.
    private mutating func admitParents(of path: String) throws(GatewayError) {
        var end = path.startIndex
        while let slash = path[end...].firstIndex(of: "/") {
            let parent = String(path[..<slash])
            if let earlier = seen[parent], earlier != .directory {
                throw EntryRules.unsafe(
                    path,
                    "lies below '\(parent)', which an earlier entry made no directory"
                )
            }
            seen[parent] = .directory
            end = path.index(after: slash)
        }
    }

    // MARK: names

    /// A name without `./` and trailing slashes; `nil` for the root.
    ///
    /// Throws `unsafe-archive`.
    static func normalise(_ name: String) throws(GatewayError) -> String? {
        guard !name.hasPrefix("/") else { throw unsafe(name, "is an absolute path") }
        guard name.utf8.allSatisfy({ (0x20..<0x7F).contains($0) && $0 != 0x5C }) else {
            throw unsafe(name, "has a name with a character that is not printable ASCII")
        }
        guard name.utf8.count <= 1024 else { throw unsafe(name, "has a name of more than 1024 bytes") }
        var parts: [Substring] = []
        for part in name.split(separator: "/") where part != "." {
            guard part != ".." else { throw unsafe(name, "has '..' in its path") }
            guard part.utf8.count <= 255 else {
                throw unsafe(name, "has a path component of more than 255 bytes")
            }
            parts.append(part)
        }
        guard parts.count <= 32 else { throw unsafe(name, "lies more than 32 directories deep") }
        return parts.isEmpty ? nil : parts.joined(separator: "/")
    }

    /// Whether a symbolic link at `path` leads to a place inside the bundle, wherever the bundle is.
    static func stays(target: String, from path: String) -> Bool {
        guard !target.isEmpty, !target.hasPrefix("/") else { return false }
        var depth = path.split(separator: "/").count - 1
        for part in target.split(separator: "/") where part != "." {
            depth += part == ".." ? -1 : 1
            guard depth >= 0 else { return false }
        }
        return true
    }

    private static func unsafe(_ name: String, _ rule: String) -> GatewayError {
        GatewayError(
            "unsafe-archive",
            "the archive is not safe to unpack: '\(ForeignText.shown(name, limit: 120))' \(rule)",
            help: "do not use this file; nothing of it was installed"
        )
    }

    private static func tooLarge(_ what: String) -> GatewayError {
        GatewayError(
            "archive-too-large",
            "the archive \(what)",
            help: "do not use this file; nothing of it was installed"
        )
    }
}
