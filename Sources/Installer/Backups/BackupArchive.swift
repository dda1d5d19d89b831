import Appliance
import CShims
import Glibc
import Platform

/// The file of a backup, as it is read: nothing in it is believed.
struct BackupArchive: Sendable {
    /// Absolute.
    var path: String
    var files: Files
    /// Unpacked bytes for each byte of the archive: what is more than gzip can make of anything is a bomb.
    var ratio: Int64

    /// Its list of files, which is all that is read.
    ///
    /// Throws `file-not-found`, `not-a-backup`, `backup-invalid`, `backup-too-new`, `unsafe-archive` or `archive-damaged`.
    func manifest() throws(GatewayError) -> BackupManifest {
        try reading { (_, manifest) throws(GatewayError) in manifest }
    }

    /// Unpacks it into a new directory, and compares every file with the list.
    ///
    /// Throws what `manifest` throws, `backup-mismatch`, `archive-too-large` or `disk-full`.
    func unpack(
        into staging: String,
        progress: (Int64, Int64) -> Void
    ) throws(GatewayError) -> BackupManifest {
        try reading { (reader, manifest) throws(GatewayError) in
            let total = manifest.size
            try files.makeDirectory(Files.parent(of: staging))
            try DiskSpace.require(total, in: Files.parent(of: staging), files: files)
            try files.makeDirectory(staging)
            let tree = try StagingTree(staging, files: files)
            try tree.makeDirectory(BackupManifest.folder)
            var rules = EntryRules(
                limits: ArchiveLimits(
                    entries: manifest.files.count + 100,
                    bytes: total + 1 << 20,
                    ratio: ratio
                )
            )
            let listed = Dictionary(manifest.files.map { ("\(BackupManifest.folder)/\($0.path)", $0) }) { $1 }
            var done: Int64 = 0
            while let entry = try reader.next() {
                guard let path = try rules.admit(entry) else { continue }
                guard entry.kind == .file, let file = listed[path] else {
                    throw GatewayError(
                        "unsafe-archive",
                        "the archive is not safe to unpack: '\(path)' is not in its list of files"
                    )
                }
                guard entry.size == file.size else {
                    throw BackupArchive.mismatch(["'\(file.path)' is altered"])
                }
                try tree.beginFile(path, mode: file.mode)
                try reader.content(of: path, &rules) { (bytes) throws(GatewayError) in
                    try tree.write(bytes)
                    done += Int64(bytes.count)
                    progress(done, total)
                }
                try tree.endFile()
            }
            try compare(manifest, tree.written)
            try files.syncFileSystem(staging)
            return manifest
        }
    }

    /// Opens it, reads the list at its beginning, and gives both to the body.
    private func reading<Value>(
        _ body: (ArchiveReader, BackupManifest) throws(GatewayError) -> Value
    ) throws(GatewayError) -> Value {
        guard let there = try files.target(path) else { throw Files.failure("read", path, ENOENT) }
        guard there.kind == .file else { throw notABackup("it is no regular file") }
        // Should it be a FIFO by now, nobody is waited for.
        let descriptor = shim_open(path, O_RDONLY | O_NONBLOCK, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        var start = [UInt8](repeating: 0, count: 16)
        guard pread(descriptor, &start, start.count, 0) == start.count,
            let format = Unpacking.Format(start), format != .zip
        else { throw notABackup("it is no tar.gz or tar.zst archive") }
        do throws(GatewayError) {
            let reader = try ArchiveReader(.descriptor(descriptor))
            guard let first = try reader.next(), first.path == BackupManifest.name, first.kind == .file else {
                throw notABackup("it does not begin with '\(BackupManifest.name)'")
            }
            var text: [UInt8] = []
            while let (bytes, _) = try reader.block() {
                text += bytes
                guard text.count <= BackupManifest.limit else {
                    throw notABackup("its list of files is too long")
                }
            }
            return try body(reader, try BackupManifest(text))
        } catch {
            // What unpacking says speaks of installing.
            let isOfArchive = ["unsafe-archive", "archive-damaged", "archive-too-large"].contains(error.code)
            guard isOfArchive else { throw error }
            throw GatewayError(
                error.code,
                error.message,
                help: "use another copy of the backup; nothing was changed"
            )
        }
    }

    private func compare(
        _ manifest: BackupManifest,
        _ written: [String: StagingTree.Written]
    ) throws(GatewayError) {
        var wrong: [String] = []
        for file in manifest.files {
            guard let found = written["\(BackupManifest.folder)/\(file.path)"] else {
                wrong.append("'\(file.path)' is missing")
                continue
            }
            if found.sha256 != file.sha256 || found.size != file.size {
                wrong.append("'\(file.path)' is altered")
            }
        }
        guard wrong.isEmpty else { throw BackupArchive.mismatch(wrong) }
    }

    private static func mismatch(_ wrong: [String]) -> GatewayError {
        GatewayError(
            "backup-mismatch",
            "the backup is not what its list of files says: \(wrong.prefix(5).joined(separator: ", "))",
            help: "use another copy of the backup; nothing was changed"
        )
    }

    private func notABackup(_ reason: String) -> GatewayError {
        GatewayError(
            "not-a-backup",
            "'\(path)' is no backup of \(Product.name): \(reason)",
            help: "'\(Product.name) backup FILE' makes one"
        )
    }
}
