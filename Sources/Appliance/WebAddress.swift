/// An absolute URL in its parts (RFC 3986), as far as installers and clients need it.
package struct WebAddress: Sendable, Equatable {
    /// Lower case: `https`, `http`, `file`.
    package var scheme: String
    /// `user:password`, percent-encoding as written; `nil` when there is no `@`.
    package var userInfo: String?
    /// Lower case, IPv6 without brackets; empty for `file:///…`.
    package var host: String
    /// As written, 1 to 65535; `nil` when the URL leaves it to the scheme.
    package var port: Int?
    /// From the first `/`; empty when the URL has none.
    package var path: String
    /// Without `?`; `nil` when there is none.
    package var query: String?

    /// Reads an absolute URL.
    ///
    /// Throws `malformed-url`, naming what is missing.
    package init(_ text: String) throws(GatewayError) {
        func malformed(_ reason: String) -> GatewayError {
            GatewayError(
                "malformed-url",
                "'\(Self.withoutSecrets(text))' is not a URL: \(reason)",
                help: "write it like https://example.org/file.tar.gz or file:///home/you/file.tar.gz"
            )
        }
        guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://") else {
            throw malformed("it does not start with a scheme such as https://")
        }
        scheme = text[..<colon].lowercased()
        guard let first = scheme.utf8.first, (0x61...0x7A).contains(first),
            scheme.utf8.allSatisfy({
                (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || "+-.".utf8.contains($0)
            })
        else { throw malformed("'\(scheme)' is not a scheme") }
        guard !text.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F }) else {
            throw malformed("it contains a space or a control character")
        }
        var rest = text[text.index(colon, offsetBy: 3)...]
        rest = rest.prefix { $0 != "#" }
        if let mark = rest.firstIndex(of: "?") {
            query = String(rest[rest.index(after: mark)...])
            rest = rest[..<mark]
        }
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        path = String(rest[slash...])
        var authority = rest[..<slash]
        if let at = authority.lastIndex(of: "@") {
            userInfo = String(authority[..<at])
            authority = authority[authority.index(after: at)...]
        }
        let hostText: Substring
        let portText: Substring?
        if authority.hasPrefix("[") {
            guard let close = authority.firstIndex(of: "]") else {
                throw malformed("an IPv6 address needs its ']'")
            }
            hostText = authority[authority.index(after: authority.startIndex)..<close]
            let after = authority[authority.index(after: close)...]
            guard after.isEmpty || after.hasPrefix(":") else { throw malformed("text follows the ']'") }
            portText = after.isEmpty ? nil : after.dropFirst()
        } else {
            let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count <= 2 else { throw malformed("an IPv6 address needs brackets") }
            hostText = parts[0]
            portText = parts.count == 2 ? parts[1] : nil
        }
        host = hostText.lowercased()
        guard !host.isEmpty || scheme == "file" else { throw malformed("the host is missing") }
        if let portText {
            guard let number = Int(portText), (1...65535).contains(number) else {
                // What stands there may be the beginning of a password.
                throw malformed("after the ':' of the host there is no port from 1 to 65535")
            }
            port = number
        }
    }

    /// Whether the host is this machine by its form: `localhost`, 127.0.0.0/8 or `::1`.
    package var isLoopback: Bool { WebAddress.isLoopback(host) }

    /// Whether a host name or address is this machine by its form.
    package static func isLoopback(_ host: String) -> Bool {
        if host == "localhost" || host == "::1" || host == "[::1]" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    /// `scheme://host[:port]`, IPv6 in brackets: never a credential.
    package var origin: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return "\(scheme)://\(name)\(port.map { ":\($0)" } ?? "")"
    }

    /// The text of a URL, well-formed or not, without its user information and query.
    private static func withoutSecrets(_ text: String) -> String {
        String(Redaction.url(text).prefix { $0 != "?" && $0 != "#" })
    }
}
