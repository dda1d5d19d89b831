import Appliance
import Platform

extension Invocation {
    /// The installation of this home.
    func installation(progress: ProgressLine? = nil) throws(GatewayError) -> Installation {
        var installation = Installation(
            machine: machine,
            layout: try layout(),
            service: try service(),
            transport: HTTPClient(environment: machine.environment)
        )
        installation.say = note
        if let progress { installation.progress = { progress.show($0) } }
        return installation
    }

    /// Installs what the flags or the environment name.
    fileprivate func install(_ options: Installation.Options) async throws(GatewayError) -> InstallReport {
        let request = try BundleRequest.resolve(
            url: arguments["url"],
            sha256: arguments["sha256"],
            environment: machine.environment
        )
        var event: (@Sendable (FetchProgress) -> Void)?
        if output == .events {
            event = { self.progress("download", bytes: $0.received, total: $0.total) }
        }
        let progress = ProgressLine(machine.terminal, clock: machine.clock, isQuiet: isQuiet, event: event)
        defer { progress.finish() }
        return try await installation(progress: progress).install(request, options)
    }
}

private let bundleFlags = [
    Flag("url", value: "URL", "the bundle: https, file, or http where the digest is given"),
    Flag("sha256", value: "DIGEST", "the SHA-256 that the bundle must have, from its SHA256SUMS"),
]

extension Verb {
    static let installBundle = Verb(
        "install-bundle",
        .install,
        "install a release bundle whose digest you trust",
        details: """
            Without flags, RVWR_GATEWAY_BUNDLE_URL and RVWR_GATEWAY_BUNDLE_SHA256 name the
            bundle. Nothing that runs is touched before the bundle is verified; a running
            gateway is then restarted, and the old version comes back when the new one does
            not become healthy. The two last versions are kept.
            """,
        flags: bundleFlags + [Flag("force", "install it again even when it is installed and intact")]
    ) { call throws(GatewayError) in
        try await call.install(Installation.Options(reinstalls: call.arguments.has("force")))
    }

    static let upgrade = Verb(
        "upgrade",
        .install,
        "replace the installed version by a newer bundle",
        details: """
            As 'install-bundle', but an older version than the installed one is refused.
            This build has no release source of its own, so the bundle must be named.
            With --auto a timer of your service manager does it once a day, at a time of
            its own: only releases whose signature was verified, never an older one.
            What it came to is in 'status' and 'doctor'.
            """,
        flags: bundleFlags + [Flag("allow-downgrade", "accept an older version than the installed one")]
            + automaticUpgradeFlags
    ) { call throws(GatewayError) in
        if let report = try await call.automaticUpgrade() { return report }
        return try await call.install(
            Installation.Options(
                verb: "upgrade",
                allowsDowngrade: call.arguments.has("allow-downgrade")
            )
        )
    }
}

extension InstallReport: Report {
    var text: String {
        var lines = [
            changed
                ? "installed version \(installed.version) in '\(directory)'"
                : "version \(installed.version) is installed and intact already"
        ]
        if changed, let previousVersion { lines.append("version \(previousVersion) is kept beside it") }
        if restarted { lines.append("the gateway was restarted and is healthy") }
        return (lines + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
