import Appliance
import Glibc
import Platform

/// Installs, upgrades, rolls back and repairs, as one transaction under one lock.
///
/// 1. take the lock, read the receipt, finish or undo what an interrupted command left
/// 2. fetch, digest and unpack into a staging directory; check manifest, platform, and that both programs start
/// 3. make it durable, move it into `versions/`, switch `current`
/// 4. restart a running service that was started with something else, and wait until it is healthy; when it is not,
///    switch back and restart again
/// 5. commit to the receipt, remove what is older than the version before
///
/// Nothing that runs is touched before step 3. Before each step that leaves something behind, the receipt says what.
struct Installation: Sendable {
    let machine: Machine
    let layout: Layout
    let service: any ServiceControl
    let transport: any BundleTransport
    /// Gets one sentence at a time: what is waited for, what was found and left alone.
    var say: @Sendable (String) -> Void = { _ in }
    /// Gets the bytes as they come.
    var progress: @Sendable (FetchProgress) -> Void = { _ in }
    /// How long a restarted service has to become healthy.
    var healthLimit = Duration.seconds(30)
    /// How long another command's lock is waited for.
    var lockLimit = Duration.seconds(60)
    /// What an archive may contain.
    var limits = ArchiveLimits()
    /// The unit files as they should be; `nil` when nobody asks for them.
    var units: [UnitFiles.Unit]?

    var files: Files { machine.files }

    /// What is asked for.
    struct Options: Sendable {
        /// The verb, for the journal and the lock's note.
        var verb = "install-bundle"
        /// Whether a version older than the installed one is accepted.
        var allowsDowngrade = true
        /// Whether a bundle that is installed and intact is installed again.
        var reinstalls = false
        /// The damaged copy of the same bundle that this takes the place of: how it came to be believed stays known.
        var replaces: Receipt.Installed?
    }

    /// Installs a bundle.
    ///
    /// Safe to repeat: what is installed and intact is left as it is.
    ///
    /// Throws `busy`; whatever `BundleFetch.run` throws; `smoke-test-failed`, `downgrade-refused`; and
    /// `unhealthy-version` after switching back.
    func install(
        _ request: BundleRequest,
        _ options: Options = Options()
    ) async throws(GatewayError) -> InstallReport {
        try await locked(options.verb) { (receipt, notices) async throws(GatewayError) in
            if !options.reinstalls, let report = try await unchanged(request, &receipt, options, notices) {
                return report
            }
            return try await perform(request, options, &receipt, notices)
        }
    }

    /// Does something under the lock, with the receipt, once what an interrupted command left is finished or undone.
    ///
    /// The second argument of `body` says what that was.
    func locked<Value>(
        _ verb: String,
        _ body: (inout Receipt, [String]) async throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        let (lock, madeHome) = try await MutationLock.take(
            layout,
            verb: verb,
            machine: machine,
            limit: lockLimit,
            say: say
        )
        return try await holding(lock) { () async throws(GatewayError) in
            var (receipt, notice) = try Receipt.recovered(layout, files: files, now: machine.clock.now())
            var notices = notice.map { [$0] } ?? []
            if madeHome { receipt.note(Receipt.Created(path: layout.home, kind: .directory)) }
            if let restored = try RestoreJournal.recover(layout, files: files) { notices.append(restored) }
            notices += try await recover(&receipt)
            return try await body(&receipt, notices)
        }
    }

    /// Keeps the lock until the work has ended, however it ends.
    func holding<Value>(
        _ lock: FileLock,
        _ body: () async throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        defer { withExtendedLifetime(lock) {} }
        return try await body()
    }

    // MARK: the steps

    /// The report for a bundle that is in use and intact already; `nil` when there is something to do.
    private func unchanged(
        _ request: BundleRequest,
        _ receipt: inout Receipt,
        _ options: Options,
        _ notices: [String]
    ) async throws(GatewayError) -> InstallReport? {
        let layout = layout, files = files
        guard let active = receipt.active, active.sha256 == request.sha256,
            InstalledVersions.current(layout, files: files) == active.directory
        else { return nil }
        let findings = try await BlockingThread.run("verify") { () throws(GatewayError) in
            try InstalledVersions.verify(active, layout, files: files)
        }
        guard findings.isEmpty else { return nil }
        let before = receipt
        var notices = notices
        notices += try ensureCommandLink(&receipt)
        // Nobody's note means nobody knows: what changes nothing must not restart what may be as it should be.
        let isRestarted =
            receipt.startedWith != nil ? try await restartIfChanged(&receipt, checks: true) : false
        if receipt != before { try receipt.write(layout, files: files) }
        return report(
            request,
            active,
            options,
            previous: receipt.previous,
            notices: notices,
            restarted: isRestarted
        )
    }

    private func perform(
        _ request: BundleRequest,
        _ options: Options,
        _ receipt: inout Receipt,
        _ notices: [String]
    ) async throws(GatewayError) -> InstallReport {
        try await service.checkReplaceable()
        let installed = try await stage(request, options, &receipt)
        var notices = notices
        let wasRunning = try await activate(installed, &receipt)
        notices += try commit(installed, &receipt)
        return report(
            request,
            installed,
            options,
            previous: receipt.previous,
            notices: notices,
            changed: true,
            restarted: wasRunning
        )
    }

    /// Puts a new copy in the place of a damaged version that is not in use.
    func replace(
        _ damaged: Receipt.Installed,
        by installed: Receipt.Installed,
        _ receipt: inout Receipt
    ) throws(GatewayError) {
        receipt.installed = receipt.installed.map { $0.directory == damaged.directory ? installed : $0 }
        receipt.discarded.append(damaged.directory)
        receipt.operation = nil
        try receipt.write(layout, files: files)
        try removeDiscarded(receipt)
    }

    /// Brings a bundle into `versions/`, whole, tried and durable; nothing uses it yet.
    ///
    /// When that fails, nothing of it is left when this throws.
    func stage(
        _ request: BundleRequest,
        _ options: Options,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> Receipt.Installed {
        try checkSwitchable()
        let staging = Layout.join(layout.staging, Hex.encode(machine.random.bytes(8)))
        receipt.operation = Receipt.Operation(
            verb: options.verb,
            staging: staging,
            previous: InstalledVersions.current(layout, files: files),
            startedAt: machine.clock.now()
        )
        let folders = [layout.versions, layout.staging, layout.cache]
        for folder in folders { receipt.noteFolders(try files.missingFolders(folder)) }
        try receipt.write(layout, files: files)
        do throws(GatewayError) {
            for folder in folders { try files.makeDirectory(folder, durable: true) }
            try files.makeDirectory(staging)
            var installed = try await verified(request, options, staging, receipt)
            if let replaced = options.replaces {
                installed.trust = replaced.trust
                installed.signer = replaced.signer
                installed.source = replaced.source
            }
            receipt.operation?.installing = installed
            receipt.note(Receipt.Created(path: layout.current, kind: .link))
            try receipt.write(layout, files: files)
            try await place(staging, as: installed.directory)
            return installed
        } catch {
            // Whatever cannot be removed now is removed by the next command: the journal still names it.
            do throws(GatewayError) { try undo(&receipt) } catch {}
            throw error
        }
    }

    /// Fetches, unpacks and tries a bundle; what it returns is worth installing.
    private func verified(
        _ request: BundleRequest,
        _ options: Options,
        _ staging: String,
        _ receipt: Receipt
    ) async throws(GatewayError) -> Receipt.Installed {
        let fetch = BundleFetch(
            request: request,
            cache: layout.cache,
            files: files,
            transport: transport,
            clock: machine.clock,
            say: say,
            progress: progress
        )
        let unpacked = try await fetch.run(into: Unpacking(directory: staging, files: files, limits: limits))
        let version = unpacked.manifest.version
        if let wanted = request.version, wanted.description != version.description {
            throw GatewayError(
                "wrong-version",
                "the bundle of the release \(wanted) has version \(version)",
                help: "the release source mixes up its releases; do not use it"
            )
        }
        if !options.allowsDowngrade, let active = receipt.active.flatMap({ SemanticVersion($0.version) }),
            version < active
        {
            throw GatewayError(
                "downgrade-refused",
                "the bundle has version \(version), which is older than the installed \(active)",
                help: "use --allow-downgrade if that is what you want"
            )
        }
        try await SmokeTest(directory: staging, version: version.description, processes: machine.processes)
            .run()
        return Receipt.Installed(
            version: version.description,
            directory: InstalledVersions.freshName(
                version.description,
                layout,
                files: files,
                taken: receipt.discarded
            ),
            sha256: request.sha256,
            manifestSHA256: unpacked.manifestDigest,
            trust: request.trust,
            signer: request.signer,
            source: request.shown,
            installedAt: machine.clock.now()
        )
    }

    /// Throws `in-the-way` when something else than a link has the name of the link to the version in use.
    func checkSwitchable() throws(GatewayError) {
        guard let there = try files.status(layout.current), there.kind != .link else { return }
        throw GatewayError(
            "in-the-way",
            "'\(layout.current)' is no link to a version, so nothing can be switched to",
            help: "move it away, then run the command again"
        )
    }

    /// Makes a verified tree durable and gives it its final name.
    private func place(_ staging: String, as directory: String) async throws(GatewayError) {
        let files = files
        let destination = layout.version(directory)
        try await BlockingThread.run("sync") { () throws(GatewayError) in
            try files.changeMode(staging, to: 0o755)
            try files.syncFileSystem(staging)
            try files.rename(staging, to: destination)
        }
    }

    /// Points `current` at a version and, when the service runs on something else, restarts it; `true` when it did.
    ///
    /// When that fails, the version before is in use again when this throws.
    func activate(
        _ installed: Receipt.Installed,
        _ receipt: inout Receipt,
        restarts: Bool = true
    ) async throws(GatewayError) -> Bool {
        do throws(GatewayError) {
            try files.link(layout.current, to: "versions/\(installed.directory)")
            return restarts ? try await restartIfChanged(&receipt) : false
        } catch {
            throw await switchBack(from: installed, &receipt, because: error)
        }
    }

    /// Restarts the service when it runs on something else than it would be started with now, and waits for its health.
    ///
    /// So it does with one that `wasReplaced` and has failed since, unless somebody has stopped it. With `checks` it throws what
    /// `checkReplaceable` does before it changes anything.
    func restartIfChanged(
        _ receipt: inout Receipt,
        wasReplaced: Bool = false,
        checks: Bool = false
    ) async throws(GatewayError) -> Bool {
        if !(await service.isRunning()) {
            guard wasReplaced || receipt.operation?.replaces == true, !(await service.isStopped()) else {
                return false
            }
        }
        let wanted = try service.fingerprint()
        guard receipt.startedWith != wanted else { return false }
        if checks { try await service.checkReplaceable() }
        // Until it is healthy nobody knows what runs, not even the command after this one's end.
        receipt.startedWith = nil
        receipt.operation?.replaces = true
        try receipt.write(layout, files: files)
        do throws(GatewayError) {
            try await service.restart()
        } catch  where error.code == "service-stopped" {
            // That says nothing about the version: it is in use with the next start.
            return false
        }
        do throws(GatewayError) {
            try await service.waitUntilHealthy(within: healthLimit)
        } catch {
            if await service.isStopped() { return false }
            throw error
        }
        receipt.startedWith = wanted
        return true
    }

    /// Puts the version before back into use and says what happened.
    func switchBack(
        from installed: Receipt.Installed,
        _ receipt: inout Receipt,
        because cause: GatewayError
    ) async -> GatewayError {
        let previous = receipt.operation?.previous
        do throws(GatewayError) {
            if let previous {
                try files.link(layout.current, to: "versions/\(previous)")
                _ = try await restartIfChanged(&receipt)
            } else if !receipt.installed.contains(where: { $0.directory == installed.directory }) {
                try files.removeFile(layout.current)
            }
            try undo(&receipt)
        } catch {
            return GatewayError(
                "rollback-failed",
                "version \(installed.version) did not work (\(cause.description)), and going back to \(previous ?? "nothing") failed",
                help: "run: llm-cli-gateway repair",
                cause: error
            )
        }
        return GatewayError(
            "unhealthy-version",
            previous.map { "version \(installed.version) did not work, so '\($0)' is in use again" }
                ?? "version \(installed.version) did not work, and there is no earlier version to go back to",
            help: cause.help ?? "see: llm-cli-gateway logs",
            cause: cause
        )
    }

    /// Makes an activated version the installed one, and removes what is older than the one before.
    func commit(_ installed: Receipt.Installed, _ receipt: inout Receipt) throws(GatewayError) -> [String] {
        let before = receipt.operation?.previous
        let others = receipt.installed.filter { $0.directory != installed.directory }
        // A damaged copy of the same bundle is nothing to go back to.
        let different = others.filter { $0.sha256 != installed.sha256 || $0.sha256.isEmpty }
        let kept = different.first { $0.directory == before } ?? different.first
        receipt.installed = [installed] + (kept.map { [$0] } ?? [])
        receipt.discarded += others.map(\.directory).filter { $0 != kept?.directory }
        receipt.operation = nil
        var notices: [String]
        do throws(GatewayError) {
            try receipt.write(layout, files: files)
            notices = try ensureCommandLink(&receipt)
        } catch {
            throw GatewayError(
                error.code,
                "version \(installed.version) is in use, but not everything could be recorded",
                help: "remove the cause, then run: llm-cli-gateway repair",
                cause: error
            )
        }
        do throws(GatewayError) {
            try removeDiscarded(receipt)
        } catch {
            notices.append("an older version could not be removed (\(error)); 'repair' tries again")
        }
        return notices
    }

    /// Removes versions that are no longer installed; their names stay in the receipt until the next command finds
    /// them gone.
    func removeDiscarded(_ receipt: Receipt) throws(GatewayError) {
        let kept = receipt.installed.map(\.directory)
        for name in receipt.discarded where !kept.contains(name) {
            try files.removeTree(layout.version(name))
        }
    }

    /// Removes what an operation left that did not come to switching.
    func undo(_ receipt: inout Receipt) throws(GatewayError) {
        guard let operation = receipt.operation else { return }
        if let staging = operation.staging, Files.parent(of: staging) == layout.staging {
            try files.removeTree(staging)
        }
        if let installing = operation.installing,
            !receipt.installed.contains(where: { $0.directory == installing.directory }),
            InstalledVersions.current(layout, files: files) != installing.directory
        {
            receipt.discarded.append(installing.directory)
        }
        receipt.operation = nil
        try receipt.write(layout, files: files)
        try removeDiscarded(receipt)
    }

    // MARK: the command

    /// Makes `~/.local/bin/llm-cli-gateway` lead to the version in use; says what it left alone.
    ///
    /// What it makes is in the receipt on the disk before.
    func ensureCommandLink(_ receipt: inout Receipt) throws(GatewayError) -> [String] {
        let link = layout.commandLink
        guard layout.isDefaultHome else {
            return [
                "'\(link)' belongs to the default home; the manager of this one is '\(layout.currentManager)'"
            ]
        }
        let ours = Receipt.Created(path: link, kind: .link, target: layout.currentManager)
        if let status = try files.status(link) {
            let target = status.kind == .link ? files.destination(ofLink: link) : nil
            let isFormer = target != nil && receipt.entry(link)?.target == target
            guard target == layout.currentManager || isFormer else {
                return [
                    "'\(link)' is not from this program\(target.map { " (it points to '\($0)')" } ?? "") and was left alone; the installed manager is '\(layout.currentManager)'"
                ]
            }
            if target != layout.currentManager {
                // Ours, from where this home was before.
                try files.link(link, to: layout.currentManager)
            }
            // What was made before the receipt was lost, with the home or without it, is not in it.
            if receipt.entry(link) != ours {
                receipt.note(ours)
                try receipt.write(layout, files: files)
            }
        } else {
            receipt.noteFolders(try files.missingFolders(Files.parent(of: link)))
            receipt.note(ours)
            try receipt.write(layout, files: files)
            try files.makeDirectory(Files.parent(of: link), durable: true)
            try files.link(link, to: layout.currentManager)
        }
        let folder = Files.parent(of: link)
        let folders = (machine.environment["PATH"] ?? "").split(separator: ":")
        guard !folders.contains(where: { $0 == folder || $0 == folder + "/" }) else { return [] }
        return ["'\(folder)' is not on your PATH; add it with: export PATH=\"\(folder):$PATH\""]
    }
}
