import Appliance

/// From where the gateway can be reached, by its address and its public URL; nothing is contacted.
struct EndpointExposure: Sendable, Equatable {
    enum Mode: String, Sendable {
        case localOnly = "local_only"
        case lan
        case tunnel
        case reverseProxy = "byo_reverse_proxy"
        case misconfigured
    }

    var mode: Mode
    /// The address that it listens on.
    var bound: String
    var localURL: String
    var publicURL: String?
    var isHTTPS: Bool
    var tunnelProvider: String?

    /// Classifies an address to bind and a public URL.
    init(_ settings: Settings, environment: [String: String]) {
        let host = settings.host, publicURL = settings.publicURL
        bound = host
        localURL = settings.localURL
        self.publicURL = publicURL
        isHTTPS = false
        guard let publicURL else {
            mode = EndpointExposure.isLocal(host) ? .localOnly : .lan
            return
        }
        guard let url = try? WebAddress(publicURL) else {
            mode = .misconfigured
            return
        }
        isHTTPS = url.scheme == "https"
        tunnelProvider =
            environment["LLM_GATEWAY_TUNNEL_PROVIDER"].flatMap { $0.isEmpty ? nil : $0 }
            ?? EndpointExposure.tunnel(url.host)
        if EndpointExposure.isLocal(url.host) || EndpointExposure.isWildcard(url.host) {
            mode = .localOnly
        } else if EndpointExposure.isPrivate(url.host) {
            mode = .lan
        } else if !isHTTPS {
            mode = .misconfigured
        } else {
            mode = tunnelProvider == nil ? .reverseProxy : .tunnel
        }
    }

    /// Whether it listens beyond this machine though it is reached through something that could run here: a tunnel or a
    /// reverse proxy.
    var listensBeside: Bool { publicURL != nil && mode != .lan && !EndpointExposure.isLocal(bound) }

    /// Whether the URL is one that a web client could use, if it leads here.
    var isPublicHTTPS: Bool { isHTTPS && (mode == .tunnel || mode == .reverseProxy) }

    /// What is wrong with it; `nil` when nothing is.
    var concern: String? {
        switch mode {
        case .misconfigured: "the public URL is not one that starts with https://"
        case .lan: "the gateway is offered beyond this machine without TLS"
        case .localOnly, .tunnel, .reverseProxy: nil
        }
    }

    /// What to do about it, one sentence each.
    var nextActions: [String] {
        switch mode {
        case .misconfigured:
            ["set a public URL that starts with https://, or clear it, in settings.json (public_url)"]
        case .lan: ["listen on 127.0.0.1 only, or put the gateway behind HTTPS"]
        case .localOnly, .tunnel, .reverseProxy: []
        }
    }

    var json: JSON {
        [
            "mode": .string(mode.rawValue), "local_url": .string(localURL),
            "public_url_configured": .bool(publicURL != nil),
            "public_url": .optional(publicURL.map(Redaction.url)),
            "https_required_for_web": true, "https_configured": .bool(isHTTPS),
            // Only a probe from outside could know; without one the honest answer is no.
            "web_clients_supported": false, "tunnel_provider": .optional(tunnelProvider),
            "reachable_from_web": "not_checked",
            "verification": ["method": "not_checked", "checked_url": nil, "status_code": nil, "error": nil],
            "next_actions": .strings(nextActions),
        ]
    }

    /// This machine only, IPv4 addresses in IPv6 form included.
    static func isLocal(_ host: String) -> Bool {
        WebAddress.isLoopback(host.hasPrefix("::ffff:") ? String(host.dropFirst(7)) : host)
    }

    static func isWildcard(_ host: String) -> Bool { host == "0.0.0.0" || host == "::" }

    /// RFC 1918 and RFC 3927 addresses, unique local and link-local IPv6, IPv4-mapped ones included.
    static func isPrivate(_ host: String) -> Bool {
        if host.hasPrefix("::ffff:") { return isPrivate(String(host.dropFirst(7))) }
        if host.contains(":") {
            let lower = host.lowercased()
            return ["fc", "fd", "fe8", "fe9", "fea", "feb"].contains { lower.hasPrefix($0) }
        }
        let numbers = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        guard numbers.count == 4, let first = numbers[0], let second = numbers[1] else { return false }
        switch (first, second) {
        case (10, _), (192, 168), (169, 254), (172, 16...31): return true
        default: return false
        }
    }

    private static func tunnel(_ host: String) -> String? {
        let providers = [
            ("cloudflare", ["trycloudflare.com", "cloudflare.com", "cfargotunnel.com"]),
            ("ngrok", ["ngrok.app", "ngrok-free.app", "ngrok.io"]),
            ("tailscale", ["ts.net", "tailscale.com"]),
        ]
        return providers.first { _, domains in
            domains.contains { host == $0 || host.hasSuffix("." + $0) }
        }?.0
    }
}
