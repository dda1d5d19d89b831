import Appliance

/// Which release to install, if any: decided by versions alone.
struct ReleaseChoice: Sendable, Equatable {
    /// What is wanted.
    struct Wish: Sendable, Equatable {
        var channel = Release.Channel.stable
        /// This one and no other, on whichever channel it is.
        var version: SemanticVersion?
        /// Whether a version older than the installed one is accepted.
        var allowsDowngrade = false
        /// Whether the installed version is installed again.
        var reinstalls = false
    }

    /// What to do about it.
    enum Verdict: Sendable, Equatable {
        case install
        /// The installed version is the one.
        case installed
        /// The installed version is newer than any release on the channel.
        case ahead
    }

    var release: Release
    var verdict: Verdict

    /// Chooses among the releases of a source, which `shown` names in messages.
    ///
    /// Throws `no-release`, `release-not-found` or `downgrade-refused`.
    init(
        from releases: [Release],
        _ wish: Wish,
        installed: SemanticVersion?,
        shown: String
    ) throws(GatewayError) {
        release = try ReleaseChoice.release(releases, wish, shown)
        guard let installed else {
            verdict = .install
            return
        }
        if release.version < installed {
            guard wish.allowsDowngrade else {
                guard wish.version == nil else {
                    throw GatewayError(
                        "downgrade-refused",
                        "version \(release.version) is older than the installed \(installed)",
                        help: "use --allow-downgrade if that is what you want"
                    )
                }
                verdict = .ahead
                return
            }
            verdict = .install
        } else {
            verdict = installed < release.version || wish.reinstalls ? .install : .installed
        }
    }

    private static func release(
        _ releases: [Release],
        _ wish: Wish,
        _ shown: String
    ) throws(GatewayError) -> Release {
        if let version = wish.version {
            if let release = releases.first(where: { $0.version.description == version.description }) {
                return release
            }
            let newest = releases.sorted { $1.version < $0.version }.prefix(3).map(\.version.description)
            throw GatewayError(
                "release-not-found",
                "'\(shown)' has no release \(version)",
                help: newest.isEmpty
                    ? "it has no releases at all" : "its newest are: \(newest.joined(separator: ", "))"
            )
        }
        let onChannel = releases.filter { wish.channel == .prerelease || $0.channel == .stable }
        if let newest = onChannel.max(by: { $0.version < $1.version }) { return newest }
        let other = releases.max { $0.version < $1.version }
        throw GatewayError(
            "no-release",
            "'\(shown)' has no \(other == nil ? "" : "stable ")release",
            help: other.map { "its newest prerelease is \($0.version): use --channel prerelease" }
                ?? "check the release source"
        )
    }
}
