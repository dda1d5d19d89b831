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
/// 4. The journal is written, the service stopped, and one rename after the other puts the files in place. What the backup
///    has no file for stays, whatever folder it is in.
/// 5. What the backup does not hold is made: a token, the search path. The service is started if it ran; when it does not
///    start, what was replaced comes back.
///
/// Until files are put in place nothing that was there is touched. Killed from there on, or for want of the lock, the next
/// command goes on, and starts the gateway that was stopped.
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
        /// Files that were put in place, or would be, relative to the home.
        var placed: [String] = []
        /// Files that were there already with the same content.
        var same: [String] = []
        /// What was moved aside, or would be, and where it is.
        var replaced: [String] = []
        var aside: String?
        /// Runs whose records were closed.
        var closedRuns = 0
        /// What was made because the backup does not hold it, one sentence each.
        var changes: [String] = []
        var notices: [String] = []
        /// What is noted of the gateway that was stopped; `nil` when none was.
        var pending: PendingStart?
        /// The gateway, where it was running and was started again.
        var status: ServiceStatus?
    }

    /// What a restore has to do with the gateway of the home.
    struct Gateway: Sendable {
        var status: @Sendable () async throws(GatewayError) -> ServiceStatus
        var stop: @Sendable () async throws(GatewayError) -> Void
        /// Starts it, and takes the note away that it has to be started.
        var start: @Sendable (GatewayService.StartOptions) async throws(GatewayError) -> ServiceStatus
    }

    var machine: Machine
    var layout: Layout
    var gateway: Gateway
    var say: @Sendable (String) -> Void
    /// Gets a phase, and bytes done and in all.
    var progress: @Sendable (String, Int64, Int64) -> Void
    /// Unpacked bytes for each byte of the archive: what is more than gzip can make of anything is a bomb.
    var ratio: Int64 = 1100

    private var files: Files { machine.files }

    init(
        machine: Machine,
        layout: Layout,
        say: @escaping @Sendable (String) -> Void = { _ in },
        progress: @escaping @Sendable (String, Int64, Int64) -> Void = { _, _, _ in }
    ) {
        self.machine = machine
        self.layout = layout
        self.say = say
        self.progress = progress
        // Settings that cannot be read are about to be replaced.
        let files = machine.files
        let service = { @Sendable () in
            let settings = try? files.settings(of: layout, environment: machine.environment)
            var service = GatewayService(machine: machine, layout: layout, settings: settings ?? .standard)
            service.say = say
            return service
        }
        gateway = Gateway(
            status: { () async throws(GatewayError) in try await service().status() },
            stop: { () async throws(GatewayError) in _ = try await service().stop() },
            start: { options async throws(GatewayError) in
                var service = try GatewayService(machine: machine)
                service.say = say
                return try await service.start(options)
            }
        )
    }

    /// Throws `not-a-backup`, `backup-invalid`, `backup-mismatch`, `backup-too-new`, `unsafe-archive`, `archive-damaged`,
    /// `archive-too-large`, `disk-full`, `home-not-empty`, `home-in-use`, `busy`, `restore-undone`, or what stopping and
    /// starting throws.
    func run(_ options: Options) async throws(GatewayError) -> Outcome {
        if options.isDry, files.exists(layout.restoration) {
            throw RestoreJournal.interrupted(layout, files: files)
        }
        let archive = BackupArchive(path: options.file, files: files, ratio: ratio)
        // What is no backup at all makes no home and waits for nobody.
        try await BlockingThread.run("restore") { () throws(GatewayError) in _ = try archive.manifest() }
        if options.isDry, !files.exists(layout.home) { throw dryWithoutHome() }
        // What would fail after the gateway was stopped.
        _ = try Settings(environment: machine.environment)
        let restored: (outcome: Outcome, flaw: GatewayError?)
        do throws(GatewayError) {
            restored = try await locked(options, archive)
        } catch {
            throw options.isDry ? error : await startedAgain(after: error)
        }
        var outcome = restored.outcome
        if let flaw = restored.flaw {
            _ = try await undo(outcome, because: flaw)
            throw incomplete(flaw)
        }
        guard let pending = outcome.pending else { return outcome }
        do throws(GatewayError) {
            outcome.status = try await gateway.start(pending.options)
        } catch {
            outcome.status = try await settled(pending, after: error)
            if outcome.status == nil { outcome.status = try await undo(outcome, because: error) }
        }
        return outcome
    }

    /// What became of a gateway that could not be started from here: it runs all the same because another command has started
    /// it, or the note is not ours any more because somebody stopped it or restored something else.
    ///
    /// Gives `nil` when it is still to be started. Throws `busy` when it is and the lock was not to be had: under systemd it is
    /// needed for the units, before anything is started.
    private func settled(
        _ pending: PendingStart,
        after cause: GatewayError
    ) async throws(GatewayError) -> ServiceStatus? {
        let status = try await gateway.status()
        guard files.exists(layout.home) else {
            throw GatewayError(
                "file-not-found",
                "the backup was restored, and then another command has removed '\(layout.home)'",
                help: "restore it again if you want it back"
            )
        }
        guard try PendingStart.read(layout, files: files) == pending else { return status }
        let isBusy = cause.code == "busy"
        if status.healthy || (isBusy && (status.running || status.awaitsConnection)) {
            try files.removeFile(layout.pendingStart)
            return status
        }
        guard isBusy else { return nil }
        throw GatewayError(
            "busy",
            "the backup was restored, but the gateway is still stopped: \(cause.message)",
            help: "run '\(Product.name) start' when that command has ended",
            cause: cause
        )
    }

    /// The reason why nothing was restored, once the gateway that was stopped for it runs again.
    private func startedAgain(after cause: GatewayError) async -> GatewayError {
        do throws(GatewayError) {
            guard let pending = try PendingStart.read(layout, files: files) else { return cause }
            _ = try await gateway.start(pending.options)
            return cause
        } catch {
            return GatewayError(
                cause.code,
                "\(cause.message); the gateway, which was stopped meanwhile, does not start again: \(error.message)",
                help: error.help,
                cause: error
            )
        }
    }

    /// The files are in place, but something is not as it has to be.
    private func incomplete(_ cause: GatewayError, started: Bool = true) -> GatewayError {
        let what = started ? "the home is not complete" : "the gateway did not start"
        return GatewayError(
            cause.code,
            "the backup was restored, but \(what): \(cause.message)",
            help: cause.help,
            cause: cause
        )
    }

    /// Puts what was replaced back into use, because the gateway does not start with what the backup has, and throws
    /// `restore-undone`.
    ///
    /// Gives the gateway instead when nothing is to be undone, because another command has seen to it.
    private func undo(
        _ outcome: Outcome,
        because cause: GatewayError
    ) async throws(GatewayError) -> ServiceStatus? {
        guard let pending = outcome.pending else { throw incomplete(cause) }
        guard let source = outcome.aside, files.exists(source) else {
            throw incomplete(cause, started: false)
        }
        let failed = source + ".undone"
        do throws(GatewayError) {
            let lock = try await MutationLock.acquire(
                layout,
                verb: "restore",
                machine: machine,
                makesHome: false,
                say: say
            )
            defer { withExtendedLifetime(lock) {} }
            // Whoever had the lock may have put right what is wrong.
            if let status = try await settled(pending, after: cause) { return status }
            // What does not answer may run all the same, with its files open.
            try await gateway.stop()
            let back = try leaves(of: source)
            let journal = RestoreJournal(
                source: source,
                aside: failed,
                placed: back,
                removed: (outcome.placed + ["logs.db-wal", "logs.db-shm"]).filter { !back.contains($0) },
                wasRunning: true,
                wasDetached: pending.isDetached,
                state: .placing
            )
            try journal.write(layout, files: files)
            try journal.finish(layout, files: files)
        } catch {
            throw GatewayError(
                error.code,
                "the gateway did not start with the restored files (\(cause.message)), and what was there could not be put back: \(error.message)",
                help: "what was there is in '\(source)'; run '\(Product.name) repair'",
                cause: cause
            )
        }
        var sentence = "the gateway did not start with the restored files, so what was there is in use again"
        do throws(GatewayError) {
            // Without the note somebody has stopped it since.
            if let again = try PendingStart.read(layout, files: files) {
                _ = try await gateway.start(again.options)
            }
        } catch {
            sentence += ", and it did not start with that either (\(error))"
        }
        throw GatewayError(
            "restore-undone",
            sentence,
            help: "the backup's files are in '\(failed)'" + (cause.help.map { "; \($0)" } ?? ""),
            cause: cause
        )
    }

    /// Everything below a folder that is no folder itself, relative to it.
    private func leaves(of folder: String) throws(GatewayError) -> [String] {
        var found: [String] = []
        for name in try files.list(folder) {
            let path = Layout.join(folder, name)
            if try files.status(path)?.kind == .directory {
                found += try leaves(of: path).map { "\(name)/\($0)" }
            } else {
                found.append(name)
            }
        }
        return found
    }

    private func dryWithoutHome() -> GatewayError {
        GatewayError(
            "nothing-to-compare",
            "'\(layout.home)' does not exist, so a restore would put everything there",
            help: "without --dry-run it does"
        )
    }

    /// Restores with the lock; also gives why the home is not complete afterwards.
    private func locked(
        _ options: Options,
        _ archive: BackupArchive
    ) async throws(GatewayError) -> (outcome: Outcome, flaw: GatewayError?) {
        let (lock, madeHome) = try await MutationLock.take(
            layout,
            verb: "restore",
            machine: machine,
            say: say
        )
        defer { withExtendedLifetime(lock) {} }
        // No name that another command's sweeping knows: once the journal is written, these are the user's data.
        let name = RestoreJournal.stagingPrefix + Hex.encode(machine.random.bytes(8))
        let staging = Layout.join(layout.staging, name)
        do throws(GatewayError) {
            if let notice = try RestoreJournal.recover(layout, files: files) { say(notice) }
            if madeHome { try noteHome() }
            return try await restore(options, archive, staging)
        } catch {
            throw clearedUp(after: error, staging, madeHome: madeHome)
        }
    }

    /// The home is this program's, and goes with it.
    private func noteHome() throws(GatewayError) {
        var receipt = try Receipt.recovered(layout, files: files, now: machine.clock.now()).receipt
        receipt.note(Receipt.Created(path: layout.home, kind: .directory))
        try receipt.write(layout, files: files)
    }

    /// The reason why nothing was restored, once all that was made for it is gone; what cannot be removed is swept later.
    private func clearedUp(
        after cause: GatewayError,
        _ staging: String,
        madeHome: Bool
    ) -> GatewayError {
        do throws(GatewayError) {
            if let journal = try RestoreJournal.read(layout, files: files) {
                guard journal.state == .stopping else {
                    return GatewayError(
                        cause.code,
                        "the restore came to a halt half-way: \(cause.message)",
                        help: RestoreJournal.standing(layout, files: files).help,
                        cause: cause
                    )
                }
                _ = try RestoreJournal.recover(layout, files: files)
            }
            try files.removeTree(staging)
            guard madeHome else { return cause }
            try files.removeEmptyDirectory(layout.staging)
            let made = [layout.lock, layout.receipt]
            guard try files.list(layout.home).allSatisfy({ made.contains(Layout.join(layout.home, $0)) })
            else { return cause }
            // Whoever waits for the lock finds that it is gone, and makes another home.
            for path in made.reversed() { try files.removeFile(path) }
            try files.removeEmptyDirectory(layout.home)
            return cause
        } catch {
            return cause
        }
    }

    private func restore(
        _ options: Options,
        _ archive: BackupArchive,
        _ staging: String
    ) async throws(GatewayError) -> (outcome: Outcome, flaw: GatewayError?) {
        let manifest = try await BlockingThread.run("restore") { () throws(GatewayError) in
            let manifest = try archive.unpack(into: staging) { progress("unpack", $0, $1) }
            try check(manifest, in: staging)
            return manifest
        }
        var outcome = Outcome(manifest: manifest)
        if manifest.files.contains(where: { $0.path == "logs.db" && $0.isDatabase }) {
            outcome.closedRuns = try await DatabaseFile.settle(
                staged(staging, "logs.db"),
                keeping: Set(try files.list(layout.jobs)),
                machine: machine
            )
        }
        var journal = try compare(manifest, staging, &outcome)
        guard options.replaces || options.isDry || outcome.replaced.isEmpty else {
            throw GatewayError(
                "home-not-empty",
                "'\(layout.home)' has data of its own: \(Restoration.listed(outcome.replaced))",
                help: "with --replace it is moved aside, not deleted; 'backup' keeps it in a file"
            )
        }
        guard !options.isDry else {
            try files.removeTree(staging)
            return (outcome, nil)
        }
        let preparation = HomePreparation(machine: machine, layout: layout)
        try preparation.check(besides: journal.placed + journal.removed)
        let before = try await refuseOthers()
        let pending = try PendingStart.read(layout, files: files)
        journal.wasRunning =
            before.running || before.awaitsConnection || before.isComingUp || pending != nil
        journal.wasDetached = before.supervisor == .detached || pending?.isDetached == true
        try journal.write(layout, files: files)
        // One that another command is about to start as well.
        if journal.wasRunning || before.supervisor != .none { try await gateway.stop() }
        journal.state = .placing
        let final = journal
        try await BlockingThread.run("restore") { () throws(GatewayError) in
            try final.write(layout, files: files)
            try final.finish(layout, files: files)
        }
        outcome.pending = final.pendingStart
        if outcome.replaced.isEmpty { outcome.aside = nil }
        do throws(GatewayError) {
            let home = try preparation.run(HomePreparation.Options(recordsShell: true))
            outcome.changes = home.changes
            outcome.notices += home.notices
            return (outcome, nil)
        } catch {
            return (outcome, error)
        }
    }

    /// Names for a sentence, which a folder full of files must not make endless.
    static func listed(_ names: [String]) -> String {
        let shown = names.prefix(12).joined(separator: ", ")
        return names.count > 12 ? "\(shown) and \(names.count - 12) more" : shown
    }

    private func staged(_ staging: String, _ path: String) -> String {
        Layout.join(Layout.join(staging, BackupManifest.folder), path)
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
        _ = try Settings(stored: document, environment: machine.environment)
    }

    /// Compares the staged files with the home's: what is put in place, what is the same, what goes aside.
    private func compare(
        _ manifest: BackupManifest,
        _ staging: String,
        _ outcome: inout Outcome
    ) throws(GatewayError) -> RestoreJournal {
        let names = manifest.names
        var replaced: Set<String> = []
        for file in manifest.files {
            if try isSame(staged(staging, file.path), Layout.join(layout.home, file.path)) {
                outcome.same.append(file.path)
                continue
            }
            outcome.placed.append(file.path)
            if let place = try RestoreJournal.linkedFile(file.path, layout, files) {
                outcome.notices.append("'\(file.path)' stays a link: the backup's goes to '\(place)'")
            }
            if let part = try partInTheWay(of: file.path), replaced.insert(part).inserted {
                outcome.replaced.append(part)
            }
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

    /// What goes aside so that a file can be put in place: what has its name, or the first part of its path that is no folder.
    private func partInTheWay(of path: String) throws(GatewayError) -> String? {
        for part in RelativePath.folders(of: path) + [path] {
            guard let kind = try files.status(Layout.join(layout.home, part))?.kind else { return nil }
            if part == path || kind != .directory { return part }
        }
        return nil
    }

    /// Whether a name of the home holds, or leads to, what the backup has.
    private func isSame(_ verified: String, _ path: String) throws(GatewayError) -> Bool {
        guard let left = try files.status(verified), let place = files.realPath(path),
            let right = try files.target(place)
        else { return false }
        guard left.kind == .file, right.kind == .file, left.size == right.size else { return false }
        return try InstalledVersions.digest(verified) == InstalledVersions.digest(place)
    }

    /// A gateway that a client started would go on writing into what is moved aside; gives the one of this home.
    private func refuseOthers() async throws(GatewayError) -> ServiceStatus {
        var service = try await gateway.status()
        guard let database = files.realPath(layout.database) else { return service }
        for pid in ProcessTable.all().map(\.identity.pid) where pid != service.pid && pid != getpid() {
            let folder = "/proc/\(pid)/fd"
            for name in (try? files.list(folder)) ?? []
            where files.destination(ofLink: Layout.join(folder, name)) == database {
                // Another command may have started it a moment ago.
                service = try await gateway.status()
                if pid == service.pid { break }
                let command = PortOwner.shortened(ProcessTable.commandLine(pid)).map { " (\($0))" } ?? ""
                throw GatewayError(
                    "home-in-use",
                    "process \(pid)\(command) has the records of this home open",
                    help: "end it, or the client that started it, then restore again"
                )
            }
        }
        return service
    }
}
