import Appliance
import Doctor
import Platform

extension Verb {
    /// What `upgrade` takes for automatic upgrades.
    static let automaticUpgradeFlags = [
        Flag(
            "auto",
            value: "MODE",
            "upgrade every day by itself: on, notify (only look and say so) or off",
            offers: .words(UpgradeMode.allCases.map(\.rawValue))
        ),
        Flag("auto-run", "do what the timer does: look, and upgrade where the mode is on"),
    ]
}

extension Invocation {
    /// What `upgrade --auto` and `upgrade --auto-run` are about; `nil` for an upgrade by hand.
    func automaticUpgrade() async throws(GatewayError) -> (any Report)? {
        guard arguments.has("auto") || arguments.has("auto-run") else { return nil }
        var byHand = ["url", "sha256", "from", "version", "allow-downgrade", "check", "dry-run"]
        if arguments.has("auto") {
            byHand.append("channel")
            // What is forgotten need not be said.
            if arguments["auto"] == UpgradeMode.off.rawValue { byHand += TimerSource.flags }
        }
        for other in byHand + (arguments.has("auto") ? ["auto-run"] : [])
        where arguments.has(other) {
            throw GatewayError(
                "usage",
                "'--\(arguments.has("auto") ? "auto" : "auto-run")' and '--\(other)' exclude each other",
                help: "'\(Product.name) help upgrade' says what they do"
            )
        }
        guard let word = arguments["auto"] else {
            return try await AutomaticUpgrade(
                layout: try layout(),
                files: machine.files,
                clock: machine.clock,
                source: ReleaseUpgrade(call: self)
            ).run()
        }
        guard let mode = UpgradeMode(rawValue: word) else {
            throw GatewayError("invalid-value", "'--auto' is '\(word)', expected on, notify or off")
        }
        let timer = UpgradeTimer(service: try service())
        let files = machine.files, layout = try layout()
        let source = try TimerSource(arguments, files: files)
        let before = try UpgradeTimer.mode(layout, files: files)
        let settings = try files.storedSettings(of: layout)
        let notices = try await timer.change(to: mode, source)
        let isChanged = try files.storedSettings(of: layout) != settings
        return ModeReport(
            mode: mode,
            origin: try UpgradeTimer.source(layout, files: files)?.facts,
            changed: mode != before || isChanged,
            notices: notices
        )
    }
}

/// The releases of the configured source, without a word from the shell about single bundles.
private struct ReleaseUpgrade: UpgradeSource {
    private let call: Invocation

    init(call: Invocation) {
        var call = call
        // A bundle that the shell names is for the shell's own commands.
        for name in [BundleRequest.urlVariable, BundleRequest.digestVariable] {
            call.machine.environment[name] = nil
        }
        self.call = call
    }

    func newest() async throws(GatewayError) -> SemanticVersion {
        let plan = try await plan().plan
        guard let version = plan.choice?.release.version else { throw ReleaseSource.missing }
        return version
    }

    func install() async throws(GatewayError) -> InstallReport {
        let (command, plan, query) = try await plan()
        return try await command.carryOut(plan, query)
    }

    /// Read anew each time: what is remembered and cannot be understood is a failure of the run, which is recorded.
    private func plan() async throws(GatewayError) -> (
        command: BundleCommand, plan: BundlePlan, query: ReleaseQuery
    ) {
        var call = call
        if let source = try UpgradeTimer.source(try call.layout(), files: call.machine.files) {
            call.arguments = source.completing(call.arguments)
        }
        let command = BundleCommand(call: call, verb: "upgrade")
        let query = try command.query()
        return (command, try await command.plan(query), query)
    }
}

/// What `upgrade --auto MODE` did.
private struct ModeReport: Report {
    var mode: UpgradeMode
    /// Where its runs find releases, and whom they believe, where they were told.
    var origin: UpgradeFacts.Origin?
    var changed: Bool
    var notices: [String]

    var json: JSON {
        [
            "ok": true, "action": "upgrade", "auto": .string(mode.rawValue), "changed": .bool(changed),
            "source": origin?.json ?? .null, "notices": .strings(notices),
        ]
    }

    var text: String {
        let first =
            switch mode {
            case .on: "a newer release is looked for every day, and installed"
            case .notify:
                "a newer release is looked for every day; 'status' and 'doctor' say when there is one"
            case .off: "nothing is upgraded by itself"
            }
        let source = origin.map { ["releases: \($0.wording)"] } ?? []
        return ([first] + source + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
