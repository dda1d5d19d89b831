import Appliance
import CShims
import Glibc
import Jobs
import Platform

/// Writes the user's part of a home into one file, while the gateway goes on.
///
/// 1. Under the lock, so that no restore or removal is half-way: every database is copied as it is at one instant, every
///    other file is read once. Copies lose their names at once, so that nothing is left of them whatever happens.
/// 2. Without the lock: digests, the manifest, and the archive beside its destination, which it replaces when it is whole.
struct Backup: Sendable {
    /// What is asked for.
    struct Options: Sendable {
        /// The archive, absolute.
        var file: String
        var withSecrets = false
        /// Whether a file of that name is replaced.
        var replaces = false
    }

    /// What was written.
    struct Outcome: Sendable, Equatable {
        var file: String
        /// Bytes of the archive.
        var size: Int64
        var sha256: String
        var manifest: BackupManifest
    }

    var machine: Machine
    var layout: Layout
    var say: @Sendable (String) -> Void = { _ in }
    /// Gets a phase, and bytes done and in all.
    var progress: @Sendable (String, Int64, Int64) -> Void = { _, _, _ in }

    private var files: Files { machine.files }

    /// Files up to this size are kept in memory until they are written.
    private static let inMemory: Int64 = 4 << 20

    /// Throws `inside-home`, `file-exists`, `nothing-to-back-up`, `restore-interrupted`, `busy`, or what reading and writing throws.
    func run(_ options: Options) async throws(GatewayError) -> Outcome {
        try check(options)
        let lock = try await MutationLock.acquire(layout, verb: "backup", machine: machine, say: say)
        let taken: Taken
        do throws(GatewayError) {
            taken = try await BlockingThread.run("backup") { () throws(GatewayError) in try take(options) }
        } catch {
            withExtendedLifetime(lock) {}
            throw error
        }
        withExtendedLifetime(lock) {}
        return try await BlockingThread.run("backup") { () throws(GatewayError) in try pack(taken, options) }
    }

    private func check(_ options: Options) throws(GatewayError) {
        guard try files.target(layout.home)?.kind == .directory else {
            throw GatewayError(
                "nothing-to-back-up",
                "'\(layout.home)' does not exist",
                help: "LLM_GATEWAY_HOME names another home"
            )
        }
        guard !files.exists(layout.restoration) else {
            throw RestoreJournal.interrupted(layout, files: files)
        }
        let parent = Files.parent(of: options.file)
        guard let folder = files.realPath(parent) else { throw Files.failure("write", options.file, ENOENT) }
        let home = files.realPath(layout.home) ?? layout.home
        guard folder != home, !folder.hasPrefix(home + "/") else {
            throw GatewayError(
                "inside-home",
                "'\(options.file)' is inside the home that it is to be a backup of",
                help: "choose another folder, best on another disk"
            )
        }
        if let status = try files.status(options.file) {
            guard status.kind == .file else {
                throw GatewayError("file-exists", "'\(options.file)' is there already, and is no file")
            }
            guard options.replaces else {
                throw GatewayError(
                    "file-exists",
                    "'\(options.file)' is there already",
                    help: "choose another name, or replace it with --force"
                )
            }
        }
    }

    // MARK: taking

    /// A file of the home as it was at one instant.
    private struct Item: Sendable {
        enum Content: Sendable {
            case bytes([UInt8])
            /// A copy without a name.
            case copy(OpenFile)
        }

        var path: String
        var content: Content
        var mode: UInt32
        var modified: Timestamp
        var isDatabase = false
    }

    /// An open descriptor that is closed with the last one who has it.
    private final class OpenFile: Sendable {
        let descriptor: Int32
        init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit { close(descriptor) }
    }

    private struct Taken: Sendable {
        var items: [Item] = []
        var omissions: [BackupManifest.Omission] = []
    }

    private func take(_ options: Options) throws(GatewayError) -> Taken {
        var taken = Taken()
        for name in try files.list(layout.home).sorted() where HomeContents.isCarried(name) {
            try take(name, options, &taken)
        }
        taken.omissions += try elsewhere()
        let running = try files.list(layout.jobs).filter { !$0.hasPrefix(".") }
        if !running.isEmpty {
            taken.omissions.append(
                .init(
                    path: "jobs",
                    reason:
                        "\(running.count) runs are under way: they end here, and a later backup has their answers"
                )
            )
        }
        return taken
    }

    /// What belongs to the home by its configuration, and is somewhere else.
    private func elsewhere() throws(GatewayError) -> [BackupManifest.Omission] {
        var omissions: [BackupManifest.Omission] = []
        func note(_ path: String?, _ what: String) {
            guard let path, Files.parent(of: path) != layout.home, files.exists(path) else { return }
            omissions.append(.init(path: path, reason: "\(what) is not in the home"))
        }
        let environment = try files.environmentFile(of: layout).overriding(machine.environment)
        note(layout.configuration, "the configuration")
        var bytes: [UInt8]?
        do throws(GatewayError) {
            bytes = try files.readIfPresent(layout.configuration, limit: Int(Backup.inMemory))
        } catch  where error.code == "file-too-large" {
            // No gateway reads one of that size; its file is a file all the same.
        }
        let (configuration, _) = Configuration.load(
            bytes,
            environment: environment,
            layout: layout
        )
        note(configuration.persistence.databaseFile(layout), "the database")
        if configuration.persistence.backend == .postgres {
            let reason = "the records are in a database of a server, which is backed up there"
            omissions.append(.init(path: "PostgreSQL", reason: reason))
        }
        note(
            environment["LLM_GATEWAY_SESSIONS_FILE"].flatMap { $0.isEmpty ? nil : $0 },
            "the session records"
        )
        return omissions
    }

    private func take(_ path: String, _ options: Options, _ taken: inout Taken) throws(GatewayError) {
        let full = Layout.join(layout.home, path)
        func omit(_ reason: String) { taken.omissions.append(.init(path: path, reason: reason)) }
        guard (try? EntryRules.normalise(path)) == path else {
            return omit("its name is not plain ASCII, or too long")
        }
        // The user's own files may be links to a place that is kept in order elsewhere.
        let isKnown = UninstallPlan.data.contains(path)
        guard let status = isKnown ? try files.target(full) : try files.status(full) else { return }
        switch status.kind {
        case .directory:
            for name in try files.list(full).sorted() { try take("\(path)/\(name)", options, &taken) }
            return
        case .link, .other: return omit("it is no regular file")
        case .file: break
        }
        guard options.withSecrets || !HomeContents.isSecret(path) else {
            return omit("it holds secrets (--with-secrets takes it)")
        }
        guard
            options.withSecrets || status.size <= Backup.inMemory
                || !["config.toml", "settings.json"].contains(path)
        else { return omit("it is too large to have its secrets taken out (--with-secrets takes it)") }
        var item = Item(
            path: path,
            content: .bytes([]),
            mode: status.mode & 0o700 | 0o600,
            modified: status.modified
        )
        if try begins(full, with: DatabaseFile.beginning) {
            item.isDatabase = true
            item.content = .copy(try copyDatabase(full))
        } else if status.size > Backup.inMemory {
            item.content = .copy(try copyFile(full))
        } else {
            var bytes = try files.read(full)
            if !options.withSecrets {
                guard let clean = Backup.withoutSecrets(path, bytes) else {
                    return omit("it may hold secrets that cannot be taken out (--with-secrets takes it)")
                }
                if clean != bytes { omit("its secrets were taken out; the rest is in the backup") }
                bytes = clean
            }
            item.content = .bytes(bytes)
        }
        taken.items.append(item)
    }

    private static func withoutSecrets(_ path: String, _ bytes: [UInt8]) -> [UInt8]? {
        switch path {
        case "settings.json": HomeContents.withoutSecrets(settings: bytes)
        case "config.toml": HomeContents.withoutSecrets(configuration: bytes)
        default: bytes
        }
    }

    private func begins(_ path: String, with beginning: [UInt8]) throws(GatewayError) -> Bool {
        let descriptor = shim_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        var start = [UInt8](repeating: 0, count: beginning.count)
        return read(descriptor, &start, start.count) == start.count && start == beginning
    }

    private func copyDatabase(_ path: String) throws(GatewayError) -> OpenFile {
        try nameless { (copy) throws(GatewayError) in
            try DatabaseFile.copy(path, to: copy) { done, total in progress("copy", done, total) }
        }
    }

    private func copyFile(_ path: String) throws(GatewayError) -> OpenFile {
        try nameless { (copy) throws(GatewayError) in
            let source = shim_open(path, O_RDONLY, 0)
            guard source >= 0 else { throw Files.failure("read", path, -source) }
            defer { close(source) }
            let target = shim_open(copy, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
            guard target >= 0 else { throw Files.failure("write", copy, -target) }
            defer { close(target) }
            try Backup.pour(source, path) { (bytes) throws(GatewayError) in
                try Files.writeAll(bytes, to: target, path: copy)
            }
        }
    }

    /// Has a copy made in the staging directory, opens it and takes its name away.
    private func nameless(_ make: (String) throws(GatewayError) -> Void) throws(GatewayError) -> OpenFile {
        let folder = Layout.join(layout.staging, Hex.encode(machine.random.bytes(8)))
        let copy = Layout.join(folder, "copy")
        try files.makeDirectory(folder)
        do throws(GatewayError) {
            try make(copy)
            let descriptor = shim_open(copy, O_RDONLY | O_NOFOLLOW, 0)
            guard descriptor >= 0 else { throw Files.failure("read", copy, -descriptor) }
            let file = OpenFile(descriptor)
            try files.removeTree(folder)
            return file
        } catch {
            try? files.removeTree(folder)
            throw error
        }
    }

    /// Reads a descriptor to its end, piece by piece.
    static func pour(
        _ descriptor: Int32,
        _ path: String,
        _ body: (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) throws(GatewayError) {
        let slab = Slab(capacity: 256 << 10)
        while true {
            let count = read(descriptor, slab.bytes, slab.capacity)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Files.failure("read", path) }
            if count == 0 { return }
            slab.count = count
            try body(slab.contents)
        }
    }

    // MARK: packing

    private func each(
        _ item: Item,
        _ body: (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) throws(GatewayError) {
        switch item.content {
        case .bytes(let bytes):
            let result = bytes.withUnsafeBytes { buffer in
                Result { () throws(GatewayError) in try body(buffer) }
            }
            try result.get()
        case .copy(let file):
            guard lseek(file.descriptor, 0, SEEK_SET) == 0 else { throw Files.failure("read", item.path) }
            try Backup.pour(file.descriptor, item.path, body)
        }
    }

    private func pack(_ taken: Taken, _ options: Options) throws(GatewayError) -> Outcome {
        var listed: [BackupManifest.File] = []
        for item in taken.items {
            let digest = SHA256()
            var size: Int64 = 0
            try each(item) { (bytes) throws(GatewayError) in
                digest.update(bytes)
                size += Int64(bytes.count)
            }
            listed.append(
                BackupManifest.File(
                    path: item.path,
                    size: size,
                    sha256: Hex.encode(digest.finish()),
                    mode: item.mode,
                    isDatabase: item.isDatabase
                )
            )
        }
        let manifest = BackupManifest(
            version: Product.version,
            createdAt: machine.clock.now(),
            home: layout.home,
            hasSecrets: options.withSecrets,
            files: listed,
            omissions: taken.omissions
        )
        let staged = "\(options.file).tmp.\(getpid()).\(Hex.encode(machine.random.bytes(4)))"
        do throws(GatewayError) {
            try write(taken, manifest, to: staged)
            try files.rename(staged, to: options.file)
        } catch {
            unlink(staged)
            throw error
        }
        return Outcome(
            file: options.file,
            size: try files.status(options.file)?.size ?? 0,
            sha256: try InstalledVersions.digest(options.file),
            manifest: manifest
        )
    }

    private func write(_ taken: Taken, _ manifest: BackupManifest, to path: String) throws(GatewayError) {
        try files.step(.open(path))
        let descriptor = shim_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        defer { close(descriptor) }
        guard fchmod(descriptor, 0o600) == 0 else { throw Files.failure("write", path) }
        let writer = try ArchiveWriter(descriptor, path: path)
        let text = Array((manifest.json.prettyText + "\n").utf8)
        try put(
            Item(path: "", content: .bytes(text), mode: 0o600, modified: manifest.createdAt),
            as: BackupManifest.name,
            size: Int64(text.count),
            writer
        ) { _ in }
        var done: Int64 = 0
        for (item, file) in zip(taken.items, manifest.files) {
            try put(item, as: "\(BackupManifest.folder)/\(file.path)", size: file.size, writer) { count in
                done += Int64(count)
                progress("pack", done, manifest.size)
            }
        }
        try writer.finish()
        try files.step(.sync(path))
        guard fsync(descriptor) == 0 else { throw Files.failure("write", path) }
    }

    private func put(
        _ item: Item,
        as name: String,
        size: Int64,
        _ writer: ArchiveWriter,
        _ wrote: (Int) -> Void
    ) throws(GatewayError) {
        try writer.begin(name, size: size, mode: item.mode, modified: item.modified)
        try each(item) { (bytes) throws(GatewayError) in
            try writer.write(bytes)
            wrote(bytes.count)
        }
    }
}
