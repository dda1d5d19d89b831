import Appliance
import Platform

/// Where releases come from.
enum ReleaseSource: Sendable, Equatable {
    /// The folder of an index or of a single release; absolute.
    case folder(String)
    /// The base address of an index or of a single release, without a slash at its end.
    case web(String)
    /// An address that answers in the form of the reference's release service: one release, or an array of them.
    case service(String)

    /// Our variable for a base address or a folder, of a mirror for example.
    static let variable = "LLM_GATEWAY_RELEASE_SOURCE"
    /// The reference's variable for its release service.
    static let serviceVariable = "RVWR_RELEASE_API_URL"

    /// The source of a flag, else of the environment, else of this build; `nil` when none of them names one.
    ///
    /// Throws `malformed-url`, `insecure-url`, `file-not-found` or `not-a-directory`.
    static func resolve(
        flag: String?,
        environment: [String: String],
        builtIn: String = Product.releaseSource,
        files: Files
    ) throws(GatewayError) -> ReleaseSource? {
        func value(_ name: String) -> String? {
            environment[name].map(\.trimmed).flatMap { $0.isEmpty ? nil : $0 }
        }
        if let text = flag ?? value(variable) { return try base(text, files: files) }
        if let text = value(serviceVariable) {
            guard case .web(let url) = try BundleRequest.locate(text, isPinned: false) else {
                throw GatewayError(
                    "malformed-url",
                    "\(serviceVariable) is '\(BundleRequest.withoutSecrets(text))', expected an https address",
                    help: "for a folder use \(variable)"
                )
            }
            return .service(url)
        }
        return builtIn.isEmpty ? nil : try base(builtIn, files: files)
    }

    /// The source that a base address or a path names.
    static func base(_ text: String, files: Files) throws(GatewayError) -> ReleaseSource {
        guard text.contains("://") else { return .folder(try directory(text, files: files)) }
        switch try BundleRequest.locate(text, isPinned: false) {
        case .file(let path): return .folder(try directory(path, files: files))
        case .web(let url):
            guard !url.contains("?"), !url.contains("#") else {
                throw GatewayError(
                    "malformed-url",
                    "'\(BundleRequest.withoutSecrets(url))' has a query, so nothing can be looked up below it",
                    help: "use a base address such as https://host/releases"
                )
            }
            var base = Substring(url)
            while base.hasSuffix("/") { base = base.dropLast() }
            return .web(String(base))
        }
    }

    private static func directory(_ path: String, files: Files) throws(GatewayError) -> String {
        guard let real = files.realPath(path) else {
            throw GatewayError(
                "file-not-found",
                "'\(path)' does not exist",
                help: "name the folder with the release files"
            )
        }
        guard try files.target(real)?.kind == .directory else {
            throw GatewayError(
                "not-a-directory",
                "'\(path)' is no folder",
                help: "name the folder with the release files"
            )
        }
        return real
    }

    /// What is said where none is configured.
    static var missing: GatewayError {
        GatewayError(
            "no-release-source",
            "no release source is configured in this build, so a source or a bundle must be named",
            help: "give --source or set \(variable), or give --url and --sha256"
                + " or set both \(BundleRequest.urlVariable) and \(BundleRequest.digestVariable)"
        )
    }

    /// The command that installs a release here: what a hint may name depends on what is configured.
    static func installCommand(_ environment: [String: String]) -> String {
        func isSet(_ name: String) -> Bool { !(environment[name] ?? "").trimmed.isEmpty }
        let command = "\(Product.name) install-bundle"
        if isSet(BundleRequest.urlVariable), isSet(BundleRequest.digestVariable) { return command }
        guard !Product.releaseSource.isEmpty || isSet(variable) || isSet(serviceVariable) else {
            return "\(command) --url URL --sha256 DIGEST"
        }
        return SignerPolicy.releases == nil ? "\(command) --identity NAME --issuer URL" : command
    }

    /// For messages and records: without secrets.
    var shown: String {
        switch self {
        case .folder(let path): path
        case .web(let url), .service(let url): BundleRequest.withoutSecrets(url)
        }
    }

    /// What a report calls it.
    var origin: BundleRequest.Origin {
        switch self {
        case .folder: .local
        case .web: .index
        case .service: .service
        }
    }
}

/// Where files of a release lie side by side.
enum ReleaseFolder: Sendable, Equatable {
    /// Absolute.
    case directory(String)
    /// An address without a slash at its end.
    case web(String)

    /// A file in it; `name` has no slash.
    func file(_ name: String) -> BundleRequest.Location {
        switch self {
        case .directory(let path): .file(Layout.join(path, name))
        case .web(let url): .web("\(url)/\(name)")
        }
    }

    /// A folder in it; `path` is relative and has been checked.
    func folder(_ path: String) -> ReleaseFolder {
        guard !path.isEmpty else { return self }
        return switch self {
        case .directory(let base): .directory(Layout.join(base, path))
        case .web(let base): .web("\(base)/\(path)")
        }
    }
}
