import Appliance
import Platform

/// What `install-bundle` and `upgrade` do.
///
/// 1. Flags, environment and settings say what is wanted (`ReleaseQuery`).
/// 2. The release source is asked what there is, and the versions decide (`ReleaseChoice`). Nothing is locked meanwhile.
/// 3. Unless the installed version is the newest and looks intact: the checksums of the chosen release are verified.
/// 4. The bundle is installed as one transaction (`Installation`), or it is said that it would be.
struct BundleCommand: Sendable {
    var call: Invocation
    /// `install-bundle` or `upgrade`.
    var verb: String

    /// Carries out the command line.
    func run() async throws(GatewayError) -> any Report {
        let query = try query()
        let plan = try await plan(query)
        if let question = BundlePlanReport.Question(call.arguments) {
            return BundlePlanReport(question: question, verb: verb, plan: plan)
        }
        let report = try await carryOut(plan, query)
        if let channel = query.chosenChannel { try await remember(channel) }
        return report
    }

    /// What is asked for.
    func query() throws(GatewayError) -> ReleaseQuery {
        try ReleaseQuery(
            call.arguments,
            environment: call.machine.environment,
            remembered: try call.machine.files.storedSettings(of: try call.layout()),
            files: call.machine.files
        )
    }

    /// What is to be done; changes nothing.
    func plan(_ query: ReleaseQuery) async throws(GatewayError) -> BundlePlan {
        let layout = try call.layout(), files = call.machine.files
        var receipt = Receipt()
        do throws(GatewayError) {
            receipt = try Receipt.read(layout, files: files)
        } catch  where error.code == "receipt-invalid" {
            // Installing begins it anew, and compares versions again.
        }
        var plan = BundlePlan(installed: receipt.active, previous: receipt.previous, wish: query.wish)
        let isInOrder = receipt.active.map { active in
            receipt.operation == nil && InstalledVersions.current(layout, files: files) == active.directory
                && InstalledVersions.looksIntact(active, layout, files: files)
        }
        let reader = try reader()
        switch query.target {
        case .bundle(let request):
            plan.request = request
            plan.isNeeded =
                receipt.active?.sha256 != request.sha256 || isInOrder != true || query.wish.reinstalls
        case .file(let path):
            let request = try await reader.request(forFile: path)
            plan.request = request
            plan.isNeeded =
                receipt.active?.sha256 != request.sha256 || isInOrder != true || query.wish.reinstalls
        case .release(let source):
            plan.source = source
            let choice = try ReleaseChoice(
                from: try await reader.releases(of: source),
                query.wish,
                installed: receipt.active.flatMap { SemanticVersion($0.version) },
                shown: source.shown
            )
            plan.choice = choice
            plan.isNeeded = choice.verdict == .install || (choice.verdict == .installed && isInOrder != true)
            if plan.isNeeded {
                plan.request = try await reader.request(
                    for: choice.release,
                    origin: source.origin,
                    pinned: query.pinned
                )
            }
        }
        return plan
    }

    private func reader() throws(GatewayError) -> ReleaseReader {
        let machine = call.machine
        return ReleaseReader(
            documents: ReleaseDocuments(
                transport: HTTPClient(environment: machine.environment),
                files: machine.files,
                clock: machine.clock,
                say: call.note
            ),
            trust: .sigstore(
                try SignerFlags.policy(call.arguments, files: machine.files),
                trustRoot: call.arguments["trust-root"],
                files: machine.files
            )
        )
    }

    /// Does what a plan says.
    func carryOut(_ plan: BundlePlan, _ query: ReleaseQuery) async throws(GatewayError) -> InstallReport {
        guard let request = plan.request else { return try upToDate(plan) }
        try BundleFetch.check(request, files: call.machine.files)
        var isPinned = false
        if case .bundle = query.target { isPinned = true }
        let options = Installation.Options(
            verb: verb,
            // Who names a bundle and its digest says which version it is to be, unless the verb promises a newer one.
            allowsDowngrade: query.wish.allowsDowngrade || (isPinned && verb != "upgrade"),
            reinstalls: query.wish.reinstalls
        )
        var event: (@Sendable (FetchProgress) -> Void)?
        if call.output == .events {
            event = { call.progress("download", bytes: $0.received, total: $0.total) }
        }
        let machine = call.machine
        let progress = ProgressLine(
            machine.terminal,
            clock: machine.clock,
            isQuiet: call.isQuiet,
            event: event
        )
        defer { progress.finish() }
        var report = try await call.installation(progress: progress).install(request, options)
        if report.changed, let before = plan.installed.flatMap({ SemanticVersion($0.version) }),
            let now = SemanticVersion(report.installed.version), now < before
        {
            report.notices.append("version \(now) is older than \(before), which was in use before")
        }
        report.notices += try await call.startPending()
        return report
    }

    /// The report of a release that is in use already.
    private func upToDate(_ plan: BundlePlan) throws(GatewayError) -> InstallReport {
        guard let installed = plan.installed, let source = plan.source, let choice = plan.choice else {
            throw GatewayError("internal-error", "nothing is to be installed, and nothing is installed")
        }
        let layout = try call.layout()
        var report = InstallReport(
            verb: verb,
            installed: installed,
            directory: layout.version(installed.directory),
            bundle: installed.source,
            origin: source.origin,
            previousVersion: plan.previous?.version,
            changed: false,
            restarted: false,
            command: layout.currentManager,
            notices: []
        )
        if plan.wish.version == nil { report.newestOf = "of the channel '\(plan.wish.channel.rawValue)'" }
        if choice.verdict == .ahead {
            report.newestOf = nil
            report.notices.append(
                "it is newer than \(choice.release.version), the newest of the channel '\(plan.wish.channel.rawValue)' of '\(source.shown)'"
            )
        }
        return report
    }

    // MARK: the channel

    /// Keeps the channel in `settings.json`.
    private func remember(_ channel: Release.Channel) async throws(GatewayError) {
        let layout = try call.layout(), files = call.machine.files
        let lock = try await MutationLock.acquire(layout, verb: verb, machine: call.machine, say: call.note)
        defer { withExtendedLifetime(lock) {} }
        let stored = try files.storedSettings(of: layout)
        var document = stored
        // What holds where nobody said otherwise is left out.
        document[ReleaseQuery.channelKey] = channel == .stable ? nil : .string(channel.rawValue)
        guard document != stored else { return }
        try files.writeUsersFile(Array((JSON.object(document).prettyText + "\n").utf8), to: layout.settings)
    }
}

/// What `install-bundle` or `upgrade` would do.
struct BundlePlan: Sendable {
    /// The version in use, and the one before.
    var installed: Receipt.Installed?
    var previous: Receipt.Installed?
    var wish: ReleaseChoice.Wish
    /// `nil` when a bundle was named.
    var source: ReleaseSource?
    var choice: ReleaseChoice?
    /// What would be installed; of a release `nil` when it is in use already.
    var request: BundleRequest?
    var isNeeded = false
}

/// The answer to `--check` and `--dry-run`.
struct BundlePlanReport: Report {
    enum Question: String, Sendable {
        case check
        case dryRun = "dry-run"

        /// What the flags ask; `nil` when something is to be done.
        init?(_ arguments: Arguments) {
            if arguments.has("check") {
                self = .check
            } else if arguments.has("dry-run") {
                self = .dryRun
            } else {
                return nil
            }
        }
    }

    var question: Question
    var verb: String
    var plan: BundlePlan

    private var version: String? { plan.choice?.release.version.description }

    var json: JSON {
        var json: JSON = [
            "ok": true, "action": .string(verb), "question": .string(question.rawValue),
            "available": .bool(plan.isNeeded), "installed_version": .optional(plan.installed?.version),
            "latest_version": .optional(version),
            "channel": plan.source == nil ? .null : .string(plan.wish.channel.rawValue),
            "source": .optional(plan.source?.shown), "bundle": .null, "sha256": .null, "size": .null,
            "trust": .null, "signer": .null,
        ]
        if let request = plan.request {
            json["bundle"] = .string(request.shown)
            json["sha256"] = .string(request.sha256)
            json["size"] = request.size.map { .int($0) } ?? .null
            json["trust"] = .string(request.trust.rawValue)
            json["signer"] = request.signer?.json ?? .null
        }
        return json
    }

    var text: String {
        let installed = plan.installed.map { "version \($0.version) is installed" } ?? "nothing is installed"
        guard plan.isNeeded, let request = plan.request else {
            return "\(installed)" + (version.map { "; the newest is \($0)" } ?? ", from this bundle")
        }
        let what = version.map { "version \($0)" } ?? "the bundle '\(request.shown)'"
        if question == .check { return "\(installed); \(what) can be had: \(Product.name) \(verb)" }
        let size = request.size.map { " (\(ProgressLine.megabytes($0)) MB)" } ?? ""
        let trust =
            request.signer.map { "its digest is signed by \($0.identity)" }
            ?? "its digest was given: \(request.sha256)"
        return "\(installed)\nwould install \(what) from '\(request.shown)'\(size)\n\(trust)"
    }

    var exitCode: ExitCode { question == .check && plan.isNeeded ? .failed : .done }
}
