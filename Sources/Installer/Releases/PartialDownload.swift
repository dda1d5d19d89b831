import Appliance
import Glibc
import Platform

/// The kept bytes of a download that is not complete: `cache/<sha256>.part`, and beside it a note that says what they are
/// the beginning of.
///
/// The digest in the name says what the file will be, whichever server it came from; a wrong beginning is found out at
/// the end, and then everything is fetched anew.
struct PartialDownload: Sendable {
    /// What is noted of the server's file.
    struct Note: Sendable, Equatable {
        /// The digest of the address; a validator means something to the server that gave it only.
        var address: String
        /// In bytes, where the server said it.
        var size: Int64?
        var validator: String?
    }

    /// Such files of the last two downloads are kept, for a week.
    static let kept = 2
    static let lifetime = Duration.seconds(7 * 24 * 3600)

    /// The incomplete file.
    var path: String
    var files: Files

    /// That of a digest, in an existing directory.
    init(cache: String, sha256: String, files: Files) {
        path = Layout.join(cache, sha256 + ".part")
        self.files = files
    }

    private var notePath: String { path + ".json" }

    /// Bytes that are there; 0 when there is nothing to go on with, or nothing of ours.
    func size() throws(GatewayError) -> Int64 {
        guard let status = try files.status(path), status.kind == .file, status.owner == getuid() else {
            return 0
        }
        return status.size
    }

    /// What is noted of an address; `nil` when that is another server's file, or nothing is known.
    func note(of url: String) throws(GatewayError) -> Note? {
        guard let bytes = try files.readIfPresent(notePath, limit: 64 << 10),
            let json = try? JSON.parse(bytes),
            json["address"]?.string == SHA256.hex(Array(url.utf8))
        else { return nil }
        return Note(
            address: SHA256.hex(Array(url.utf8)),
            size: json["size"]?.int.flatMap { $0 > 0 ? Int64($0) : nil },
            validator: json["validator"]?.string
        )
    }

    /// Notes what is coming from an address.
    func write(size: Int64?, validator: String?, url: String) throws(GatewayError) {
        var json: JSON = ["address": .string(SHA256.hex(Array(url.utf8)))]
        if let size { json["size"] = .int(size) }
        if let validator { json["validator"] = .string(validator) }
        try files.write(Array(json.prettyText.utf8), to: notePath, durable: false)
    }

    /// Removes the file and its note.
    func remove() throws(GatewayError) {
        try files.removeTree(path)
        try files.removeTree(notePath)
    }

    /// The paths in a cache that no download will go on with: too old, too many, notes without a file, and what bears such
    /// a name without being a file.
    static func leftovers(in cache: String, files: Files, now: Timestamp) throws(GatewayError) -> [String] {
        // A link leads to somebody else's files.
        guard try files.status(cache)?.kind == .directory else { return [] }
        let names = try files.list(cache).filter(HomeClaim.isDownload)
        var resumable: [(name: String, modified: Timestamp)] = []
        let oldest = now.advanced(byMilliseconds: -lifetime.components.seconds * 1000)
        for name in names where name.hasSuffix(".part") {
            guard let status = try files.status(Layout.join(cache, name)), status.kind == .file,
                status.size > 0,
                status.owner == getuid(), status.modified >= oldest
            else { continue }
            resumable.append((name, status.modified))
        }
        resumable.sort { $0.modified > $1.modified }
        let stays = Set(resumable.prefix(kept).flatMap { [$0.name, $0.name + ".json"] })
        return names.filter { $0.contains(".part") && !stays.contains($0) }.map { Layout.join(cache, $0) }
    }
}
