import Appliance

/// Which bundle to install, from where, and the digest that its bytes must have.
struct BundleRequest: Sendable, Equatable {
    /// Where the request came from; the raw value is the contract's `bundle_source`.
    enum Origin: String, Sendable {
        case environment = "env"
        case flags
        /// A release that an index lists.
        case index = "release-index"
        /// A release that an answer of the reference's form describes.
        case service = "github-latest"
        /// A folder or a file on this machine.
        case local
    }

    /// Where the bytes are.
    enum Location: Sendable, Equatable {
        /// An absolute path.
        case file(String)
        /// An `http` or `https` URL.
        case web(String)
    }

    var location: Location
    /// 64 lower-case hexadecimal digits.
    var sha256: String
    var origin: Origin
    /// Why the digest is believed.
    var trust = Receipt.Trust.pinnedChecksum
    /// Who signed it, where somebody did.
    var signer: Receipt.Signer?
    /// The version that it must have, where that is known.
    var version: SemanticVersion?
    /// Bytes of the bundle, and of what it unpacks to, where that is known.
    var size: Int64?
    var unpackedSize: Int64?

    /// The variable that names the bundle.
    static let urlVariable = "RVWR_GATEWAY_BUNDLE_URL"
    /// The variable that pins its digest.
    static let digestVariable = "RVWR_GATEWAY_BUNDLE_SHA256"

    /// The request of a command line or, without flags, of an environment.
    ///
    /// Throws `no-release-source` when neither names a bundle, `missing-value` when only one half of the pair is there,
    /// `malformed-url`, `insecure-url` or `digest-malformed`.
    static func resolve(
        url: String? = nil,
        sha256: String? = nil,
        environment: [String: String] = [:]
    ) throws(GatewayError) -> BundleRequest {
        func value(_ name: String) -> String? {
            environment[name].map(\.trimmed).flatMap { $0.isEmpty ? nil : $0 }
        }
        if url != nil || sha256 != nil {
            return try BundleRequest(url, sha256, .flags, names: ("--url", "--sha256"))
        }
        let pair = (url: value(urlVariable), sha256: value(digestVariable))
        guard pair.url != nil || pair.sha256 != nil else { throw ReleaseSource.missing }
        return try BundleRequest(pair.url, pair.sha256, .environment, names: (urlVariable, digestVariable))
    }

    private init(
        _ url: String?,
        _ sha256: String?,
        _ origin: Origin,
        names: (url: String, sha256: String)
    ) throws(GatewayError) {
        let location: Location? =
            if let url { try BundleRequest.locate(url.trimmed, isPinned: sha256 != nil) } else { nil }
        guard let location, let sha256 else {
            let (given, lacking) = location == nil ? (names.sha256, names.url) : (names.url, names.sha256)
            throw GatewayError(
                "missing-value",
                "\(given) is given without \(lacking)",
                help:
                    "set both \(names.url) and \(names.sha256); without the digest nothing vouches for the file"
            )
        }
        let digest = try BundleRequest.digest(sha256, from: names.sha256)
        self.location = location
        self.sha256 = digest
        self.origin = origin
    }

    /// A bundle at a known place, with a checked digest.
    init(location: Location, sha256: String, origin: Origin) {
        self.location = location
        self.sha256 = sha256
        self.origin = origin
    }

    /// A digest as the user wrote it, in lower case.
    ///
    /// Throws `digest-malformed`.
    static func digest(_ text: String, from name: String) throws(GatewayError) -> String {
        let digest = text.trimmed.lowercased()
        guard SHA256Text.isWellFormed(digest) else {
            throw GatewayError(
                "digest-malformed",
                "\(name) is '\(text)', expected 64 hexadecimal digits",
                help: "copy the digest of the file from SHA256SUMS"
            )
        }
        return digest
    }

    /// The place that a URL names.
    ///
    /// Plain `http` is only for this machine, unless a digest vouches for the bytes. Throws `malformed-url` or
    /// `insecure-url`.
    static func locate(_ url: String, isPinned: Bool) throws(GatewayError) -> Location {
        func malformed(_ what: String) -> GatewayError {
            GatewayError(
                "malformed-url",
                "'\(ForeignText.shown(withoutSecrets(url), limit: 300))' \(what)",
                help: "use an address such as https://host/bundle.tar.gz or file:///path/bundle.tar.gz"
            )
        }
        guard url.utf8.allSatisfy({ (0x21..<0x7F).contains($0) }) else {
            throw malformed("contains a space or another character that a URL must have percent-encoded")
        }
        guard let colon = url.firstIndex(of: ":"), url[colon...].hasPrefix("://") else {
            throw malformed("is no absolute URL")
        }
        let scheme = url[..<colon].lowercased()
        let rest = url[url.index(colon, offsetBy: 3)...]
        let end = rest.firstIndex { "/?#".contains($0) } ?? rest.endIndex
        let authority = rest[..<end]
        switch scheme {
        case "file":
            guard authority.isEmpty || authority.lowercased() == "localhost" else {
                throw malformed("names the host '\(authority)', but a file is on this machine")
            }
            guard let path = percentDecoded(rest[end...]), path.hasPrefix("/") else {
                throw malformed("has no absolute path")
            }
            return .file(path)
        case "http", "https":
            let hostAndPort =
                authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority
            let host = try host(of: hostAndPort, malformed: malformed)
            guard scheme == "https" || isPinned || isLoopback(host) else {
                throw GatewayError(
                    "insecure-url",
                    "'\(withoutSecrets(url))' is plain http to another machine, so anyone on the way could change the file",
                    help: "use https, or pin the file's digest with --sha256"
                )
            }
            return .web(url)
        default:
            throw malformed("has the scheme '\(scheme)', expected https, http or file")
        }
    }

    /// The place that a document from the web names: https, or http on this machine when the document came so itself.
    ///
    /// Throws `insecure-url` for any other, which would be reached less safely than the document was, and `malformed-url`.
    static func locate(_ url: String, namedBy document: String) throws(GatewayError) -> Location {
        func scheme(_ url: String) -> String { url.prefix { $0 != ":" }.lowercased() }
        let location = try locate(url, isPinned: true)
        if scheme(url) == "https" { return location }
        if scheme(url) == "http", scheme(document) == "http" { return try locate(url, isPinned: false) }
        throw GatewayError(
            "insecure-url",
            "'\(withoutSecrets(document))' names '\(ForeignText.shown(withoutSecrets(url), limit: 300))', "
                + "but a document from the web may only name https addresses",
            help: "the release source must name its files by https; do not use it"
        )
    }

    private static func host(
        of authority: Substring,
        malformed: (String) -> GatewayError
    ) throws(GatewayError) -> String {
        var host = authority
        var port: Substring = ""
        if authority.hasPrefix("[") {
            guard let bracket = authority.firstIndex(of: "]") else { throw malformed("has an unclosed '['") }
            host = authority[authority.index(after: authority.startIndex)..<bracket]
            port = authority[authority.index(after: bracket)...]
            guard port.isEmpty || port.hasPrefix(":") else { throw malformed("has no valid host") }
            port = port.dropFirst()
        } else if let colon = authority.lastIndex(of: ":") {
            host = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !host.isEmpty else { throw malformed("names no host") }
        guard port.isEmpty || (Int(port).map { (1...65535).contains($0) } ?? false) else {
            // What stands there may be the beginning of a password.
            throw malformed("has after its host no port from 1 to 65535")
        }
        return host.lowercased()
    }

    /// Whether a host is this machine by its spelling alone.
    private static func isLoopback(_ host: String) -> Bool {
        if host == "localhost" || host == "::1" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    private static func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == 0x25 else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(Hex.value(ofDigit:)),
                let low = rest.popFirst().flatMap(Hex.value(ofDigit:)), high << 4 | low != 0
            else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// A URL without user information and query, for messages and records.
    static func withoutSecrets(_ url: String) -> String {
        let shown = Redaction.url(url).replacing("://\(Redaction.mark)@", with: "://")
        return String(shown.prefix { $0 != "?" && $0 != "#" })
    }

    /// The location for messages and records: a URL without secrets.
    var shown: String {
        switch location {
        case .file(let path): "file://\(path)"
        case .web(let url): BundleRequest.withoutSecrets(url)
        }
    }
}
