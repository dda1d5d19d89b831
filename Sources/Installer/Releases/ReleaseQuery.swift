import Appliance
import Platform

/// What a command line asks to be installed, and from where.
struct ReleaseQuery: Sendable {
    enum Target: Sendable, Equatable {
        /// A bundle whose digest the user gave.
        case bundle(BundleRequest)
        /// A bundle file, beside its signed checksums; absolute.
        case file(String)
        /// A release of a source.
        case release(ReleaseSource)
    }

    var target: Target
    var wish = ReleaseChoice.Wish()
    /// The digest that the user gave for the bundle of a release.
    var pinned: String?
    /// The channel that the user chose now, to be remembered.
    var chosenChannel: Release.Channel?

    /// The key of `settings.json` that keeps the channel.
    static let channelKey = "release_channel"

    /// Understands flags, environment and what is remembered, in this order.
    ///
    /// Throws `usage` for flags that exclude each other, `invalid-value`, and what `BundleRequest.resolve` and
    /// `ReleaseSource.resolve` throw.
    init(
        _ arguments: Arguments,
        environment: [String: String],
        remembered: JSONObject,
        files: Files,
        builtIn: String = Product.releaseSource
    ) throws(GatewayError) {
        let flags = ["url", "from", "source"].filter { arguments.has($0) }
        let others = flags + ["channel", "version"].filter { arguments.has($0) && flags.first == "url" }
        guard others.count < 2 else {
            throw GatewayError(
                "usage",
                "'--\(others[0])' and '--\(others[1])' exclude each other",
                help: "give one of them"
            )
        }
        wish = try ReleaseQuery.wish(arguments, remembered)
        chosenChannel = arguments.has("channel") ? wish.channel : nil
        let sha256 = arguments["sha256"]
        if arguments.has("url") {
            target = .bundle(try BundleRequest.resolve(url: arguments["url"], sha256: sha256))
            return
        }
        if let path = arguments["from"] {
            target = try ReleaseQuery.local(path, sha256, files)
        } else {
            let asksForRelease = ["source", "channel", "version"].contains { arguments.has($0) }
            let isPaired = [BundleRequest.urlVariable, BundleRequest.digestVariable].contains { name in
                !(environment[name] ?? "").trimmed.isEmpty
            }
            if !asksForRelease, isPaired, sha256 == nil {
                target = .bundle(try BundleRequest.resolve(environment: environment))
                return
            }
            let source = try ReleaseSource.resolve(
                flag: arguments["source"],
                environment: environment,
                builtIn: builtIn,
                files: files
            )
            guard let source else {
                // A digest alone is half of a pair.
                if sha256 != nil { _ = try BundleRequest.resolve(url: nil, sha256: sha256) }
                throw ReleaseSource.missing
            }
            target = .release(source)
        }
        if let sha256, case .release = target { pinned = try BundleRequest.digest(sha256, from: "--sha256") }
    }

    private static func wish(
        _ arguments: Arguments,
        _ remembered: JSONObject
    ) throws(GatewayError) -> ReleaseChoice.Wish {
        var wish = ReleaseChoice.Wish(
            allowsDowngrade: arguments.has("allow-downgrade"),
            reinstalls: arguments.has("force")
        )
        if let text = arguments["channel"] {
            guard let channel = Release.Channel(rawValue: text) else {
                throw GatewayError(
                    "invalid-value",
                    "'--channel' is '\(text)', expected 'stable' or 'prerelease'"
                )
            }
            wish.channel = channel
        } else if let value = remembered[channelKey], !value.isNull {
            guard let channel = value.string.flatMap(Release.Channel.init(rawValue:)) else {
                throw GatewayError(
                    "settings-invalid",
                    "'\(channelKey)' in settings.json is \(value.compactText), expected \"stable\" or \"prerelease\"",
                    help: "correct it, or choose anew with --channel"
                )
            }
            wish.channel = channel
        }
        if let text = arguments["version"] {
            guard let version = SemanticVersion(text) else {
                throw GatewayError(
                    "invalid-value",
                    "'--version' is '\(text)', expected a version such as 1.2.3"
                )
            }
            wish.version = version
        }
        return wish
    }

    /// A folder of releases or of one, or a bundle file.
    private static func local(
        _ path: String,
        _ sha256: String?,
        _ files: Files
    ) throws(GatewayError) -> Target {
        if path.contains("://") {
            guard case .file(let plain) = try BundleRequest.locate(path, isPinned: true) else {
                throw GatewayError(
                    "invalid-value",
                    "'--from' is an address, expected a folder or file of this machine",
                    help: "use --source for an address, or --url and --sha256 for a single bundle"
                )
            }
            return try local(plain, sha256, files)
        }
        guard let real = files.realPath(path) else {
            throw GatewayError(
                "file-not-found",
                "'\(path)' does not exist",
                help: "name a release folder or a bundle file"
            )
        }
        if try files.target(real)?.kind == .directory { return .release(.folder(real)) }
        guard let sha256 else { return .file(real) }
        return .bundle(
            BundleRequest(
                location: .file(real),
                sha256: try BundleRequest.digest(sha256, from: "--sha256"),
                origin: .flags
            )
        )
    }
}
