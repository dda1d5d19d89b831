import Appliance
import MCP
import Platform
import TestSupport
import Testing

@testable import Gateway

@Suite("Who may speak over HTTP")
struct AccessTests {
    private func decide(
        _ fields: HTTPFields,
        token: String? = "secret-token",
        disabled: Bool = false,
        header: String? = nil
    ) -> (status: Int?, principal: Principal?) {
        let access = Access(token: token, isDisabled: disabled, principalHeader: header)
        switch access.decide(HTTPRequest("POST", "/mcp", fields: fields)) {
        case .allowed(let principal): return (nil, principal)
        case .refused(let response): return (response.status, nil)
        }
    }

    @Test("the token opens, in any spelling of the scheme")
    func token() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            #expect(decide(["authorization": "\(scheme) secret-token"]).principal?.id == "gateway-bearer")
        }
    }

    @Test(
        "nothing else opens",
        arguments: [
            "Bearer wrong", "Bearer", "Basic secret-token", "secret-token", "Bearer secret-token x", "",
        ]
    )
    func refused(value: String) {
        #expect(decide(["Authorization": value]).status == 401)
        #expect(decide([:]).status == 401)
    }

    @Test("a refusal names the scheme, so that a client knows what to send")
    func challenge() {
        let access = Access(token: "x", isDisabled: false, principalHeader: nil)
        guard case .refused(let response) = access.decide(HTTPRequest("POST", "/mcp")) else {
            Issue.record("it was allowed")
            return
        }
        #expect(response.fields["WWW-Authenticate"] == #"Bearer realm="llm-cli-gateway""#)
    }

    @Test("without a configured token nobody comes in")
    func unconfigured() {
        #expect(decide(["Authorization": "Bearer "], token: nil).status == 503)
    }

    @Test("a trusted field names the caller, but only behind the token")
    func trustedField() {
        let fields: HTTPFields = ["Authorization": "Bearer secret-token", "X-User": "ada@example.org"]
        #expect(decide(fields, header: "X-User").principal?.id == "ada@example.org")
        #expect(decide(["X-User": "ada@example.org"], header: "X-User").status == 401)
        let odd: HTTPFields = ["Authorization": "Bearer secret-token", "X-User": "a b"]
        #expect(decide(odd, header: "X-User").status == 400)
        // A proxy that adds the field does not take away what the caller wrote into it.
        var twice = fields
        twice.add("x-user", "bob@example.org")
        #expect(decide(twice, header: "X-User").status == 400)
        let local: HTTPFields = ["Authorization": "Bearer secret-token", "X-User": "local"]
        #expect(decide(local, header: "X-User").status == 400)
        #expect(
            decide(["Authorization": "Bearer secret-token"], header: "X-User").principal?.id
                == "gateway-bearer"
        )
    }

    @Test("a token is read as the doctor reads it, however long its file is")
    func tokenFile() throws {
        let home = try TemporaryDirectory()
        let machine = Machine(
            environment: ["HOME": home.root],
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        let layout = try machine.layout()
        try machine.files.makeDirectory(layout.home)
        try machine.files.write("\n\(String(repeating: "t", count: 6000))\n".utf8, to: layout.authToken)
        let token = try machine.files.authToken(of: layout)
        #expect(token?.utf8.count == 6000)
        #expect(try Access(machine: machine, layout: layout).token == token)
    }

    @Test("turned off, everybody is the local user")
    func disabled() {
        #expect(decide([:], disabled: true).principal == .local)
    }
}

@Suite("The names that the gateway goes by over HTTP")
struct HostTests {
    @Test(
        "are those of this machine and the one that it was told to listen on",
        arguments: [
            ("127.0.0.2", "127.0.0.2:3333", true), ("127.0.0.2", "localhost:3333", true),
            ("127.0.0.2", "127.0.0.3:3333", false), ("127.0.0.1", "127.0.0.2:3333", false),
            ("::1", "[::1]:3333", true), ("127.0.0.1", "evil.example", false),
        ]
    )
    func host(configured: String, asked: String, isServed: Bool) throws {
        let settings = try Settings(
            stored: JSONObject(),
            environment: ["LLM_GATEWAY_HTTP_HOST": configured]
        )
        let request = HTTPRequest("GET", "/healthz", fields: ["Host": asked])
        #expect(OriginPolicy(settings).refusal(of: request)?.status == (isServed ? nil : 421))
    }
}

@Suite("The gateway's command line")
struct GatewayArgumentsTests {
    @Test("the transport comes from the flag, else from the environment, else it is stdio")
    func transport() throws {
        #expect(try GatewayArguments([], environment: [:]) == .serve(.stdio))
        #expect(try GatewayArguments(["--transport=http"], environment: [:]) == .serve(.http))
        #expect(try GatewayArguments(["--transport", "http"], environment: [:]) == .serve(.http))
        #expect(try GatewayArguments([], environment: ["MCP_TRANSPORT": "http"]) == .serve(.http))
        let both = ["LLM_GATEWAY_TRANSPORT": "http", "MCP_TRANSPORT": "stdio"]
        #expect(try GatewayArguments([], environment: both) == .serve(.http))
        #expect(try GatewayArguments(["--transport=stdio"], environment: both) == .serve(.stdio))
    }

    @Test("a transport of other programs in MCP_TRANSPORT is none of ours")
    func foreignTransport() throws {
        for value in ["sse", "streamable-http", ""] {
            let environment = ["MCP_TRANSPORT": value]
            #expect(try GatewayArguments([], environment: environment) == .serve(.stdio))
            #expect(try GatewayArguments(["--version"], environment: environment) == .version)
            #expect(try GatewayArguments(["--transport=http"], environment: environment) == .serve(.http))
        }
        let own = ["LLM_GATEWAY_TRANSPORT": "sse"]
        let error = #expect(throws: GatewayError.self) { try GatewayArguments([], environment: own) }
        #expect(error?.message == "LLM_GATEWAY_TRANSPORT is 'sse', expected stdio or http")
        #expect(try GatewayArguments(["--version"], environment: own) == .version)
        #expect(try GatewayArguments(["--transport=http"], environment: own) == .serve(.http))
    }

    @Test(
        "what it does not know is named with the nearest it knows",
        arguments: [
            (["--transprt=http"], "llm-gateway does not know '--transprt=http'"),
            (["--transport=tcp"], "--transport is 'tcp', expected stdio or http"),
            (["--transport"], "--transport needs a value: stdio or http"),
            (["doctr"], "llm-gateway does not know 'doctr'"),
            (["doctor"], "only 'doctor --json' is known here"),
        ]
    )
    func unknown(arguments: [String], message: String) {
        let error = #expect(throws: GatewayError.self) { try GatewayArguments(arguments, environment: [:]) }
        #expect(error?.message == message)
        #expect(error?.exitCode == .usage)
    }
}
