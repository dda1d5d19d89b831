import Appliance
package import Platform

/// Keeps web pages of other origins away from a server on this machine: DNS rebinding and cross-site requests
/// (MCP specification, Streamable HTTP, security).
///
/// Asked before authentication, for every method and path.
package struct OriginPolicy: Sendable {
    /// Origins beyond this machine's own, lower case: `https://chat.example`.
    package let allowedOrigins: Set<String>
    /// Host names beyond this machine's own, lower case and without port, such as a tunnel's.
    package let allowedHosts: Set<String>
    /// Whether the server listens on loopback addresses only.
    package let isLoopback: Bool

    /// A policy.
    package init(isLoopback: Bool, allowedOrigins: Set<String> = [], allowedHosts: Set<String> = []) {
        self.isLoopback = isLoopback
        self.allowedOrigins = Set(allowedOrigins.map { $0.lowercased() })
        self.allowedHosts = Set(allowedHosts.map { $0.lowercased() })
    }

    /// The answer that turns a request away: 403 for its Origin, 421 for its Host; `nil` lets it in.
    package func refusal(of request: HTTPRequest) -> HTTPResponse? {
        let origins = request.fields.values("Origin")
        if let origin = origins.first, origins.count > 1 || !allows(origin: origin) {
            return .json(403, ["error": .string("Origin '\(origin.prefix(200))' is not allowed")])
        }
        guard isLoopback else { return nil }
        let hosts = request.fields.values("Host")
        guard hosts.count == 1, let name = OriginPolicy.hostName(hosts[0]), allows(host: name) else {
            let shown = hosts.first.map { "Host '\($0.prefix(200))'" } ?? "a request without Host"
            return .json(421, ["error": .string("\(shown) is not served here")])
        }
        return nil
    }

    private func allows(host: String) -> Bool {
        OriginPolicy.localHosts.contains(host) || allowedHosts.contains(host)
    }

    /// Pages of this machine may talk to a server that only this machine reaches.
    private func allows(origin: String) -> Bool {
        let origin = origin.lowercased()
        if allowedOrigins.contains(origin) { return true }
        guard isLoopback, let separator = origin.firstRange(of: "://"),
            ["http", "https"].contains(origin[..<separator.lowerBound]),
            let host = OriginPolicy.hostName(String(origin[separator.upperBound...]))
        else { return false }
        return OriginPolicy.localHosts.contains(host)
    }

    private static let localHosts: Set<String> = ["localhost", "127.0.0.1", "[::1]"]

    /// The lower-case name in `name`, `name:port` or `[address]:port`; `nil` when it is none of them.
    private static func hostName(_ authority: String) -> String? {
        let text = authority.lowercased()
        let name: Substring
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            name = text[...end]
        } else {
            name = text.prefix { $0 != ":" }
        }
        let rest = text.dropFirst(name.count)
        guard !name.isEmpty,
            rest.isEmpty || rest.first == ":" && UInt16(rest.dropFirst()) != nil
        else { return nil }
        return String(name)
    }

    // MARK: browsers

    /// The answer to a browser's question before a cross-origin request; `nil` for any other request.
    ///
    /// Only for requests that `refusal` let in.
    package func preflight(_ request: HTTPRequest) -> HTTPResponse? {
        guard request.method == "OPTIONS", request.fields["Origin"] != nil,
            request.fields["Access-Control-Request-Method"] != nil
        else { return nil }
        var response = allowing(request, HTTPResponse(status: 204))
        response.fields["Access-Control-Allow-Methods"] = "POST, GET, DELETE"
        let parameters = (request.fields["Access-Control-Request-Headers"] ?? "").split(separator: ",")
            .map { RoutingHeader.trimmed(String($0)) }.filter { $0.lowercased().hasPrefix("mcp-param-") }
        let allowed = [
            "Content-Type", "Authorization", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name",
            "Mcp-Session-Id",
            "Last-Event-ID",
        ]
        response.fields["Access-Control-Allow-Headers"] = (allowed + parameters).joined(separator: ", ")
        response.fields["Access-Control-Max-Age"] = "600"
        return response
    }

    /// An answer that the page which asked may read.
    package func allowing(_ request: HTTPRequest, _ response: HTTPResponse) -> HTTPResponse {
        guard let origin = request.fields["Origin"], allows(origin: origin) else { return response }
        var response = response
        response.fields["Access-Control-Allow-Origin"] = origin
        response.fields["Access-Control-Expose-Headers"] = "Mcp-Session-Id, WWW-Authenticate"
        response.fields.add("Vary", "Origin")
        return response
    }
}
