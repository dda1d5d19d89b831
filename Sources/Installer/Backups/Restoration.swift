import Appliance
import CShims
import Glibc
import Jobs
import Platform

/// Puts a backup into a home, which may be of another machine and another version.
///
/// 1. Under the lock: unpack into the staging directory; nothing of the archive is believed, links and surprises are refused.
/// 2. Every file is compared with the manifest; databases are read through; records of a newer form are refused.
/// 3. What is there already and differs is only replaced when that is asked for, and goes aside.
/// 4. The service is stopped, the journal written, and one rename after the other puts the files in place.
/// 5. What the backup does not hold is made: a token, the search path. The service is started if it ran; when it does not
///    start, what was replaced comes back.
///
/// Until step 4 nothing that was there is touched; killed in it, the next command goes on.
struct Restoration: Sendable {
    struct Options: Sendable {
        /// The archive, absolute.
        var file: String
        /// Whether data of the home is replaced.
        var replaces = false
        /// Whether it is only said what would be done.
        var isDry = false
    }

    struct Outcome: Sendable {
        var manifest: BackupManifest
        /// Names that were put in place, or would be.
        var placed: [String] = []
        /// Names that were there already with the same content.
        var same: [String] = []
        /// What was moved aside, or would be, and where it is.
        var replaced: [String] = []
        var aside: String?
        /// Runs whose records were closed.
        var closedRuns = 0
        /// What was made because the backup does not hold it, one sentence each.
        var changes: [String] = []
        var notices: [String] = []
        /// The gateway, where it was running and was started again.
        var status: ServiceStatus?
    }

    var machine: Machine
    var layout: Layout
    var say: @Sendable (String) -> Void = { _ in }
    /// Gets a phase, and bytes done and in all.
    var progress: @Sendable (String, Int64, Int64) -> Void = { _, _, _ in }
    /// Unpacked bytes for each byte of the archive: what is more than gzip can make of anything is a bomb.
    var ratio: Int64 = 1100

    private var files: Files { machine.files }

    /// Throws `not-a-backup`, `backup-invalid`, `backup-mismatch`, `backup-too-new`, `unsafe-archive`, `archive-damaged`,
    /// `archive-too-large`, `disk-full`, `home-not-empty`, `home-in-use`, `busy`, or what stopping and starting throws.
    func run(_ options: Options) async throws(GatewayError) -> Outcome {
        let isNew = !files.exists(layout.home)
        if options.isDry, isNew { throw dryWithoutHome() }
        if options.isDry, files.exists(layout.restoration) { throw RestoreJournal.interrupted }
        // What would fail after the gateway was stopped.
        _ = try Settings(environment: machine.environment)
        let switched: (outcome: Outcome, wasRunning: Bool)
        do {
            let lock = try await MutationLock.acquire(layout, verb: "restore", machine: machine, say: say)
            defer { withExtendedLifetime(lock) {} }
            if let notice = try RestoreJournal.recover(layout, files: files) { say(notice) }
            if isNew { try noteHome() }
            switched = try await underLock(options)
        } catch {
            throw GatewayError.wrapping(error)
        }
        var outcome = switched.outcome
        guard switched.wasRunning else { return outcome }
        do throws(GatewayError) {
            outcome.status = try await GatewayService(machine: machine).start()
        } catch  where error.code == "busy" {
            // It runs already, or another command is about to start it.
            outcome.notices.append("\(error)")
        } catch {
            throw try await undo(outcome, because: error)
        }
        return outcome
    }

    /// Puts what was replaced back into use, because the gateway does not start with what the backup has.
    private func undo(
        _ outcome: Outcome,
        because cause: GatewayError
    ) async throws(GatewayError) -> GatewayError {
        guard let source = outcome.aside else {
            return GatewayError(
                cause.code,
                "the backup was restored, but the gateway did not start: \(cause)",
                help: cause.help
            )
        }
        let failed = source + ".undone"
        do {
            let lock = try await MutationLock.acquire(layout, verb: "restore", machine: machine, say: say)
            defer { withExtendedLifetime(lock) {} }
            // What does not answer may run all the same, with its files open.
            _ = try await GatewayService(machine: machine).stop()
            let back = try files.list(source)
            let journal = RestoreJournal(
                source: source,
                aside: failed,
                placed: back,
                removed: (outcome.placed + ["logs.db-wal", "logs.db-shm"]).filter { !back.contains($0) }
            )
            try journal.write(layout, files: files)
            try journal.finish(layout, files: files)
        } catch {
            throw GatewayError.wrapping(error)
        }
        var sentence = "the gateway did not start with the restored files, so what was there is in use again"
        do throws(GatewayError) {
            _ = try await GatewayService(machine: machine).start()
        } catch {
            sentence += ", and it did not start with that either (\(error))"
        }
        return GatewayError(
            "restore-undone",
            sentence,
            help: "the backup's files are in '\(failed)'" + (cause.help.map { "; \($0)" } ?? ""),
            cause: cause
        )
    }

    private func dryWithoutHome() -> GatewayError {
        GatewayError(
            "nothing-to-compare",
            "'\(layout.home)' does not exist, so a restore would put everything there",
            help: "without --dry-run it does"
        )
    }

    /// The home is this program's, and goes with it.
    private func noteHome() throws(GatewayError) {
        var receipt = try Receipt.recovered(layout, files: files, now: machine.clock.now()).receipt
        receipt.note(Receipt.Created(path: layout.home, kind: .directory))
        try receipt.write(layout, files: files)
    }

    private func underLock(
        _ options: Options
    ) async throws(GatewayError) -> (outcome: Outcome, wasRunning: Bool) {
        // No name that another command's sweeping knows: once the journal is written, these are the user's data.
        let name = RestoreJournal.stagingPrefix + Hex.encode(machine.random.bytes(8))
        let staging = Layout.join(layout.staging, name)
        do throws(GatewayError) {
            return try await restore(options, staging)
        } catch {
            // Once the journal is written, the files are needed.
            if !files.exists(layout.restoration) { try? files.removeTree(staging) }
            throw error
        }
    }

    private func restore(
        _ options: Options,
        _ staging: String
    ) async throws(GatewayError) -> (outcome: Outcome, wasRunning: Bool) {
        let manifest = try await BlockingThread.run("restore") { () throws(GatewayError) in
            do throws(GatewayError) {
                let manifest = try unpack(options.file, into: staging)
                try check(manifest, in: staging)
                return manifest
            } catch {
                throw unchanged(error)
            }
        }
        var outcome = Outcome(manifest: manifest)
        if manifest.files.contains(where: { $0.path == "logs.db" && $0.isDatabase }) {
            outcome.closedRuns = try await DatabaseFile.settle(
                staged(staging, "logs.db"),
                keeping: Set(try files.list(layout.jobs)),
                machine: machine
            )
        }
        let journal = try compare(manifest, staging, &outcome)
        guard options.replaces || options.isDry || outcome.replaced.isEmpty else {
            throw GatewayError(
                "home-not-empty",
                "'\(layout.home)' has data of its own: \(outcome.replaced.joined(separator: ", "))",
                help: "with --replace it is moved aside, not deleted; 'backup' keeps it in a file"
            )
        }
        guard !options.isDry else {
            try files.removeTree(staging)
            return (outcome, false)
        }
        // Settings that cannot be read are about to be replaced.
        let settings = (try? files.settings(of: layout, environment: machine.environment)) ?? .standard
        let service = GatewayService(machine: machine, layout: layout, settings: settings)
        let before = try await service.status()
        try refuseOthers(besides: before.pid)
        if before.supervisor != .none { _ = try await service.stop() }
        try journal.write(layout, files: files)
        try await BlockingThread.run("restore") { () throws(GatewayError) in
            try journal.finish(layout, files: files)
        }
        if outcome.replaced.isEmpty { outcome.aside = nil }
        let home = try HomePreparation(machine: machine, layout: layout)
            .run(HomePreparation.Options(recordsShell: true))
        outcome.changes = home.changes
        outcome.notices += home.notices
        return (outcome, before.running || before.awaitsConnection)
    }

    private func staged(_ staging: String, _ path: String) -> String {
        Layout.join(Layout.join(staging, BackupManifest.folder), path)
    }

    // MARK: unpacking

    private func unpack(_ file: String, into staging: String) throws(GatewayError) -> BackupManifest {
        let descriptor = shim_open(file, O_RDONLY, 0)
        guard descriptor >= 0 else { throw Files.failure("read", file, -descriptor) }
        defer { close(descriptor) }
        var start = [UInt8](repeating: 0, count: 16)
        guard pread(descriptor, &start, start.count, 0) == start.count,
            let format = Unpacking.Format(start), format != .zip
        else { throw notABackup(file, "it is no tar.gz or tar.zst archive") }
        let reader = try ArchiveReader(.descriptor(descriptor))
        guard let first = try reader.next(), first.path == BackupManifest.name, first.kind == .file else {
            throw notABackup(file, "it does not begin with '\(BackupManifest.name)'")
        }
        var text: [UInt8] = []
        while let (bytes, _) = try reader.block() {
            text += bytes
            guard text.count <= BackupManifest.limit else {
                throw notABackup(file, "its list of files is too long")
            }
        }
        let manifest = try BackupManifest(text)
        let total = manifest.size
        try files.makeDirectory(layout.staging)
        try DiskSpace.require(total, in: layout.staging, files: files)
        try files.makeDirectory(staging)
        let tree = try StagingTree(staging, files: files)
        try tree.makeDirectory(BackupManifest.folder)
        var rules = EntryRules(
            limits: ArchiveLimits(entries: manifest.files.count + 100, bytes: total + 1 << 20, ratio: ratio)
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
            guard entry.size == file.size else { throw mismatch(["'\(file.path)' is altered"]) }
            try tree.beginFile(path, mode: file.mode)
            var position: Int64 = 0
            while let (bytes, offset) = try reader.block() {
                guard offset == position else {
                    throw GatewayError(
                        "unsafe-archive",
                        "the archive is not safe to unpack: '\(path)' is a sparse file"
                    )
                }
                position += Int64(bytes.count)
                try rules.admit(bytes: bytes.count, consumed: reader.consumed)
                try tree.write(bytes)
                done += Int64(bytes.count)
                progress("unpack", done, total)
            }
            try tree.endFile()
        }
        try compareDigests(manifest, tree.written)
        try files.syncFileSystem(staging)
        return manifest
    }

    private func compareDigests(
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
        guard wrong.isEmpty else { throw mismatch(wrong) }
    }

    private func mismatch(_ wrong: [String]) -> GatewayError {
        GatewayError(
            "backup-mismatch",
            "the backup is not what its list of files says: \(wrong.prefix(5).joined(separator: ", "))",
            help: "use another copy of the backup; nothing was changed"
        )
    }

    private func notABackup(_ file: String, _ reason: String) -> GatewayError {
        GatewayError(
            "not-a-backup",
            "'\(file)' is no backup of \(Product.name): \(reason)",
            help: "'\(Product.name) backup FILE' makes one"
        )
    }

    /// What unpacking says speaks of installing.
    private func unchanged(_ error: GatewayError) -> GatewayError {
        let isOfArchive = ["unsafe-archive", "archive-damaged", "archive-too-large"].contains(error.code)
        guard isOfArchive else { return error }
        return GatewayError(
            error.code,
            error.message,
            help: "use another copy of the backup; nothing was changed"
        )
    }

    // MARK: checking

    private func check(_ manifest: BackupManifest, in staging: String) throws(GatewayError) {
        for file in manifest.files where file.isDatabase {
            let path = staged(staging, file.path)
            do throws(GatewayError) {
                try DatabaseFile.check(path)
                if file.path == "logs.db" { try DatabaseFile.checkSchema(path) }
            } catch {
                if error.code == "backup-too-new" {
                    throw GatewayError(
                        error.code,
                        "the backup of version \(manifest.version) cannot be restored by this one: \(error.message)",
                        help: error.help
                    )
                }
                throw GatewayError(
                    "backup-invalid",
                    "'\(file.path)' of the backup is damaged: \(error.message)",
                    help: "use another copy of the backup; nothing was changed"
                )
            }
        }
        guard let bytes = try files.readIfPresent(staged(staging, "settings.json"), limit: 1 << 20) else {
            return
        }
        let document = try Settings.document(of: bytes)
        _ = try Settings(stored: document)
    }

    /// Compares the staged files with the home's: what is put in place, what is the same, what goes aside.
    private func compare(
        _ manifest: BackupManifest,
        _ staging: String,
        _ outcome: inout Outcome
    ) throws(GatewayError) -> RestoreJournal {
        let names = manifest.names
        for name in names {
            let there = Layout.join(layout.home, name)
            if try isSame(staged(staging, name), there) {
                outcome.same.append(name)
                continue
            }
            outcome.placed.append(name)
            if files.exists(there) { outcome.replaced.append(name) }
        }
        // Left out of a backup on purpose, they stay as they are here.
        let omitted = Set(manifest.omissions.map(\.path))
        var removed = HomeContents.together.filter {
            !names.contains($0) && !omitted.contains($0) && files.exists(Layout.join(layout.home, $0))
        }
        outcome.replaced += removed
        let replacesDatabase = outcome.placed.contains("logs.db") || removed.contains("logs.db")
        if replacesDatabase {
            removed =
                ["logs.db-wal", "logs.db-shm"].filter { files.exists(Layout.join(layout.home, $0)) } + removed
        }
        let stamp = machine.clock.now().iso8601.filter { $0 != ":" }
        var aside = Layout.join(layout.home, Layout.replacedPrefix + stamp)
        var number = 2
        while files.exists(aside) {
            aside = Layout.join(layout.home, "\(Layout.replacedPrefix)\(stamp).\(number)")
            number += 1
        }
        if !outcome.replaced.isEmpty { outcome.aside = aside }
        return RestoreJournal(
            source: Layout.join(staging, BackupManifest.folder),
            aside: aside,
            placed: outcome.placed,
            removed: removed
        )
    }

    private func isSame(_ first: String, _ second: String) throws(GatewayError) -> Bool {
        guard let left = try files.status(first), let right = try files.status(second) else { return false }
        guard left.kind == .file, right.kind == .file, left.size == right.size else { return false }
        return try InstalledVersions.digest(first) == InstalledVersions.digest(second)
    }

    /// A gateway that a client started would go on writing into what is moved aside.
    private func refuseOthers(besides service: Int32?) throws(GatewayError) {
        let database = files.realPath(layout.database)
        for entry in ProcessTable.all() where entry.identity.pid != service && entry.identity.pid != getpid()
        {
            let folder = "/proc/\(entry.identity.pid)/fd"
            guard let database else { return }
            for name in (try? files.list(folder)) ?? []
            where files.destination(ofLink: Layout.join(folder, name)) == database {
                let pid = entry.identity.pid
                let command = PortOwner.shortened(ProcessTable.commandLine(pid)).map { " (\($0))" } ?? ""
                throw GatewayError(
                    "home-in-use",
                    "process \(pid)\(command) has the records of this home open",
                    help: "end it, or the client that started it, then restore again"
                )
            }
        }
    }
}
