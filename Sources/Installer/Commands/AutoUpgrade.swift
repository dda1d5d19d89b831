import Appliance
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
        for other in ["url", "sha256", "allow-downgrade"] + (arguments.has("auto") ? ["auto-run"] : [])
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
        let before = try UpgradeTimer.mode(try layout(), files: machine.files)
        let notices = try await timer.change(to: mode)
        return ModeReport(mode: mode, changed: mode != before, notices: notices)
    }
}

/// The releases that this build knows of.
private struct ReleaseUpgrade: UpgradeSource {
    var call: Invocation

    func newest() async throws(GatewayError) -> SemanticVersion {
        // A bundle that the shell names is for the shell's own commands.
        _ = try BundleRequest.resolve()
        throw GatewayError("no-release-source", "no release source is configured in this build")
    }

    func install() async throws(GatewayError) -> InstallReport {
        try await call.installation().install(
            try BundleRequest.resolve(),
            Installation.Options(verb: "upgrade", allowsDowngrade: false)
        )
    }
}

/// What `upgrade --auto MODE` did.
private struct ModeReport: Report {
    var mode: UpgradeMode
    var changed: Bool
    var notices: [String]

    var json: JSON {
        [
            "ok": true, "action": "upgrade", "auto": .string(mode.rawValue), "changed": .bool(changed),
            "notices": .strings(notices),
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
        return ([first] + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
