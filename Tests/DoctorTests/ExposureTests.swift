import Appliance
import Testing

@testable import Doctor

@Suite("From where the gateway can be reached")
struct ExposureTests {
    private func exposure(
        host: String? = nil,
        url: String? = nil,
        _ environment: [String: String] = [:]
    ) throws -> EndpointExposure {
        var stored = JSONObject()
        stored["http_host"] = host.map { .string($0) }
        stored["public_url"] = url.map { .string($0) }
        return EndpointExposure(try Settings(stored: stored), environment: environment)
    }

    @Test(
        "is told by the address where there is no public URL",
        arguments: [
            ("127.0.0.1", EndpointExposure.Mode.localOnly, "http://127.0.0.1:3333/mcp"),
            ("::1", .localOnly, "http://[::1]:3333/mcp"),
            ("0.0.0.0", .lan, "http://127.0.0.1:3333/mcp"), ("::", .lan, "http://[::1]:3333/mcp"),
            ("192.168.1.5", .lan, "http://192.168.1.5:3333/mcp"),
            ("10.0.0.1", .lan, "http://10.0.0.1:3333/mcp"),
            ("172.31.0.1", .lan, "http://172.31.0.1:3333/mcp"),
            ("fd00::1", .lan, "http://[fd00::1]:3333/mcp"), ("fe80::1", .lan, "http://[fe80::1]:3333/mcp"),
            ("::ffff:10.0.0.1", .lan, "http://[::ffff:10.0.0.1]:3333/mcp"),
            ("203.0.113.9", .lan, "http://203.0.113.9:3333/mcp"),
            ("2001:db8::1", .lan, "http://[2001:db8::1]:3333/mcp"),
            ("::ffff:127.0.0.1", .localOnly, "http://[::ffff:127.0.0.1]:3333/mcp"),
        ]
    )
    func address(_ host: String, _ mode: EndpointExposure.Mode, _ url: String) throws {
        let exposure = try exposure(host: host)
        #expect(exposure.mode == mode)
        #expect(exposure.localURL == url)
    }

    @Test(
        "is told by the public URL where there is one",
        arguments: [
            ("https://gateway.example.org", EndpointExposure.Mode.reverseProxy, nil as String?),
            ("https://x.trycloudflare.com/mcp", .tunnel, "cloudflare"),
            ("https://a.ngrok-free.app", .tunnel, "ngrok"),
            ("https://box.tail1.ts.net", .tunnel, "tailscale"),
            ("https://ts.net.example.org", .reverseProxy, nil),
            ("http://gateway.example.org", .misconfigured, nil), ("gateway.example.org", .misconfigured, nil),
            ("https://", .misconfigured, nil), ("http://127.0.0.1:9", .localOnly, nil),
            ("https://localhost", .localOnly, nil), ("https://[::1]/", .localOnly, nil),
            ("https://192.168.0.2", .lan, nil), ("https://172.16.0.1", .lan, nil),
            ("https://172.32.0.1", .reverseProxy, nil), ("https://[fd12::1]", .lan, nil),
            ("https://[::ffff:192.168.0.2]", .lan, nil),
        ]
    )
    func publicURL(_ url: String, _ mode: EndpointExposure.Mode, _ tunnel: String?) throws {
        let exposure = try exposure(url: url)
        #expect(exposure.mode == mode)
        #expect(exposure.tunnelProvider == tunnel)
        #expect(exposure.json["reachable_from_web"]?.string == "not_checked")
        #expect(exposure.json["web_clients_supported"]?.bool == false)
    }

    @Test("says when it can be reached past the public URL")
    func beside() throws {
        #expect(try exposure(host: "0.0.0.0", url: "https://gateway.example.org").listensBeside)
        #expect(try exposure(host: "10.0.0.1", url: "http://localhost").listensBeside)
        #expect(try !exposure(host: "::1", url: "https://gateway.example.org").listensBeside)
        // Then it is the mode that says so.
        #expect(try !exposure(host: "0.0.0.0").listensBeside)
    }

    @Test("takes the tunnel's name from the environment")
    func namedTunnel() throws {
        let url = "https://gateway.example.org"
        #expect(try exposure(url: url, ["LLM_GATEWAY_TUNNEL_PROVIDER": "frp"]).mode == .tunnel)
        #expect(try exposure(url: url, ["LLM_GATEWAY_TUNNEL_PROVIDER": ""]).mode == .reverseProxy)
    }

    @Test("shows no credential of a public URL")
    func redaction() throws {
        let json = try exposure(url: "https://me:pw123456@gateway.example.org/mcp?api_key=abc").json
        #expect(json["public_url"]?.string == "https://<redacted>@gateway.example.org/mcp?api_key=<redacted>")
    }
}

@Suite("How far remote access is set up")
struct RemoteAccessTests {
    private func access(
        _ url: String?,
        _ change: (inout RemoteAccess) -> Void = { _ in }
    ) throws -> RemoteAccess {
        var stored = JSONObject()
        stored["public_url"] = url.map { .string($0) }
        var access = RemoteAccess(
            exposure: EndpointExposure(try Settings(stored: stored), environment: [:]),
            path: "/mcp",
            requiresToken: true,
            hasToken: true,
            oauth: Configuration.OAuth(),
            workspaces: Configuration.Workspaces()
        )
        change(&access)
        return access
    }

    private static let url = "https://gateway.example.org"

    /// A client as a configuration file has it.
    private static func clients() throws -> [Configuration.OAuth.Client] {
        let text = """
            [http.oauth]
            enabled = true
            [[http.oauth.clients]]
            client_id = "web"
            client_secret_hash = "scrypt:N=16384,r=8,p=1:c2FsdHNhbHQ:aGFzaGhhc2g"
            allowed_redirect_uris = ["https://example.org/back"]
            """
        let layout = try Layout(environment: ["HOME": "/home/me"])
        return Configuration.load(text: text, environment: [:], layout: layout).0.oauth.clients
    }

    @Test("passes through its stages in their order")
    func stages() throws {
        #expect(try access(nil).stage == .notStarted)
        #expect(try access(nil) { $0.oauth.enabled = true }.stage == .missingPublicURL)
        #expect(try access(nil) { $0.oauthIsMalformed = true }.stage == .missingPublicURL)
        #expect(try access("http://gateway.example.org").stage == .missingPublicURL)
        #expect(try access("https://10.0.0.1") { $0.oauth.enabled = true }.stage == .missingPublicURL)
        #expect(try access(Self.url).stage == .oauthDisabled)
        #expect(try access(Self.url) { $0.oauthIsMalformed = true }.stage == .unsafeOAuth)
        var last = try access(Self.url) { $0.oauth.enabled = true }
        #expect(last.stage == .missingClient)
        last.oauth.allowPublicClients = true
        #expect(last.stage == .unsafeOAuth)
        last.oauth.allowPublicClients = false
        last.oauth.registrationPolicy = .openDevelopment
        #expect(last.stage == .unsafeOAuth)
        last.oauth.registrationPolicy = .sharedSecret
        #expect(last.stage == .missingWorkspace)
        last.oauth.registrationPolicy = .staticClients
        last.oauth.clients = try Self.clients()
        #expect(last.stage == .missingWorkspace)
        last.workspaces.repositories = [Configuration.Workspaces.Repository(alias: "a", path: "/a")]
        #expect(last.stage == .ready)
        #expect(
            last.nextActions == [
                "connect a web client; whether the address is reachable from outside was not verified"
            ]
        )
        last.oauthIsServed = false
        #expect(last.stage == .oauthDisabled)
        #expect(last.json["ready"]?.bool == false)
        #expect(last.json["auth_mode"]?.string == "bearer_token")
    }

    @Test("has addresses only where there is an origin, and those of OAuth only where it is on")
    func addresses() throws {
        let off = try access(Self.url).json
        #expect(off["mcp_url"]?.string == "https://gateway.example.org/mcp")
        #expect(off["oauth"]?["token_url"]?.isNull == true)
        #expect(try access(nil).json["mcp_url"]?.isNull == true)
        let on = try access(Self.url + "/deep/path") {
            $0.oauth.enabled = true
            $0.oauth.issuer = "https://login.example.org"
        }.json
        #expect(on["auth_mode"]?.string == "oauth")
        #expect(on["oauth"]?["authorization_url"]?.string == "https://login.example.org/oauth/authorize")
        #expect(on["mcp_url"]?.string == "https://login.example.org/mcp")
    }
}
