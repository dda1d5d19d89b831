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
}

/// The flags that say what to install, and whom to believe about it.
private let bundleFlags =
    [
        Flag("url", value: "URL", "a bundle: https, file, or http where the digest is given"),
        Flag("sha256", value: "DIGEST", "the SHA-256 that the bundle must have, from its SHA256SUMS"),
        Flag("source", value: "URL|DIR", "the release source: a base address, or a folder"),
        Flag(
            "from",
            value: "DIR|FILE",
            "a release folder, or a bundle beside its SHA256SUMS: no network is used",
            offers: .files
        ),
        Flag("version", value: "VERSION", "this release, not the newest"),
        Flag(
            "channel",
            value: "NAME",
            "stable or prerelease; remembered for the next time",
            offers: .words(Release.Channel.allCases.map(\.rawValue))
        ),
        Flag("allow-downgrade", "accept an older version than the installed one"),
        Flag("check", "only say whether there is something newer: exit status 1 when there is"),
        Flag("dry-run", "say what would be done, and change nothing"),
    ] + SignerFlags.all

extension Verb {
    static let installBundle = Verb(
        "install-bundle",
        .install,
        "install a release whose signature or digest you trust",
        details: """
            Without flags, RVWR_GATEWAY_BUNDLE_URL and RVWR_GATEWAY_BUNDLE_SHA256 name the
            bundle, else the newest release of the release source is taken:
            LLM_GATEWAY_RELEASE_SOURCE, RVWR_RELEASE_API_URL, or that of this build. Its
            SHA256SUMS must be signed by whom this build or the flags name; a bundle
            without a signature is refused unless its digest is given.
            Nothing that runs is touched before the bundle is verified; a running
            gateway is then restarted, and the old version comes back when the new one does
            not become healthy. The two last versions are kept. A download that was
            interrupted goes on where it stopped.
            """,
        flags: bundleFlags + [Flag("force", "install it again even when it is installed and intact")]
    ) { call throws(GatewayError) in try await BundleCommand(call: call, verb: "install-bundle").run() }

    static let upgrade = Verb(
        "upgrade",
        .install,
        "replace the installed version by a newer release",
        details: """
            As 'install-bundle', but an older version than the installed one is refused
            also where the bundle is named. When the installed version is the newest,
            nothing is downloaded.
            With --check nothing is installed. Exit status 0: the installed version is the
            newest; 1: there is a newer one, and its signature is right; 3: it is refused;
            5: the release source could not be asked.
            With --auto a timer of your service manager does it once a day, at a time of
            its own: only releases whose signature was verified, never an older one.
            It remembers --source, the flags that name the signer, and --trust-root, until
            they are given anew or '--auto off' forgets them; what it is not told, the
            build knows. What it came to is in 'status' and 'doctor'.
            """,
        flags: bundleFlags + automaticUpgradeFlags
    ) { call throws(GatewayError) in
        if let report = try await call.automaticUpgrade() { return report }
        return try await BundleCommand(call: call, verb: "upgrade").run()
    }
}

extension InstallReport: Report {
    var text: String {
        var lines = [
            changed
                ? "installed version \(installed.version) in '\(directory)'"
                : "version \(installed.version) is installed already"
                    + (newestOf.map { ", the newest \($0)" } ?? " and intact")
        ]
        if changed, let previousVersion { lines.append("version \(previousVersion) is kept beside it") }
        if restarted { lines.append("the gateway was restarted and is healthy") }
        return (lines + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
