import Appliance
import Platform
import Testing

@testable import MCP

@Suite("Keeping foreign web pages out")
struct OriginTests {
    private func status(
        _ fields: HTTPFields,
        _ policy: OriginPolicy = OriginPolicy(isLoopback: true)
    ) -> Int? {
        policy.refusal(of: HTTPRequest("POST", "/mcp", fields: fields))?.status
    }

    @Test(
        "serves only local names on loopback",
        arguments: [
            ("localhost", nil), ("localhost:3333", nil), ("127.0.0.1:1", nil), ("[::1]", nil),
            ("[::1]:3333", nil),
            ("LOCALHOST", nil), ("evil.example", 421), ("evil.example:3333", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example", 421), ("localhost:x", 421), ("localhost:99999", 421), ("", 421),
            ("[::1", 421), ("user@localhost", 421),
        ] as [(String, Int?)]
    )
    func hosts(_ host: String, _ expected: Int?) {
        #expect(status(["Host": host]) == expected)
    }

    @Test(
        "lets only local pages in on loopback",
        arguments: [
            ("http://localhost", nil), ("http://localhost:6274", nil), ("https://127.0.0.1:1", nil),
            ("http://[::1]:3", nil), ("https://evil.example", 403), ("http://localhost.evil.example", 403),
            ("null", 403), ("", 403), ("localhost", 403), ("ftp://localhost", 403),
            ("http://localhost@evil.example", 403), ("http://localhost/x", 403),
        ] as [(String, Int?)]
    )
    func origins(_ origin: String, _ expected: Int?) {
        #expect(status(["Host": "localhost", "Origin": origin]) == expected)
    }

    @Test("judges Host and Origin each on its own")
    func alone() {
        #expect(status(["Host": "localhost", "Origin": "https://evil.example"]) == 403)
        #expect(status(["Host": "evil.example"]) == 421)
        #expect(status(["Host": "evil.example", "Origin": "http://localhost"]) == 421)
        #expect(status([:]) == 421)
        #expect(status(HTTPFields([("Host", "localhost"), ("Host", "localhost")])) == 421)
        let twice = HTTPFields([
            ("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", "http://localhost"),
        ])
        #expect(status(twice) == 403)
        let refusal = OriginPolicy(isLoopback: true).refusal(
            of: HTTPRequest("GET", "/", fields: ["Host": "localhost", "Origin": "https://evil.example"])
        )
        #expect(refusal?.json == ["error": "Origin 'https://evil.example' is not allowed"])
    }

    @Test("serves what is configured beyond this machine")
    func configured() {
        let tunnel = OriginPolicy(
            isLoopback: true,
            allowedOrigins: ["https://Chat.example"],
            allowedHosts: ["gw.example"]
        )
        #expect(status(["Host": "gw.example", "Origin": "https://chat.example"], tunnel) == nil)
        #expect(status(["Host": "gw.example:443", "Origin": "https://chat.example:444"], tunnel) == 403)
        let open = OriginPolicy(isLoopback: false)
        #expect(status(["Host": "anything.example"], open) == nil)
        #expect(status(["Host": "anything.example", "Origin": "http://localhost"], open) == 403)
    }

    @Test("answers a browser's question, and lets the page read the answer")
    func preflight() {
        let policy = OriginPolicy(isLoopback: true)
        let question = HTTPRequest(
            "OPTIONS",
            "/mcp",
            fields: [
                "Host": "localhost", "Origin": "http://localhost:6274",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, mcp-param-region",
            ]
        )
        let answer = policy.preflight(question)
        #expect(answer?.status == 204)
        #expect(answer?.fields["Access-Control-Allow-Origin"] == "http://localhost:6274")
        #expect(answer?.fields["Access-Control-Allow-Headers"]?.contains("Mcp-Session-Id") == true)
        #expect(answer?.fields["Access-Control-Allow-Headers"]?.contains("mcp-param-region") == true)
        #expect(policy.preflight(HTTPRequest("OPTIONS", "/mcp")) == nil)
        let read = policy.allowing(question, .json(200, [:]))
        #expect(read.fields["Access-Control-Expose-Headers"] == "Mcp-Session-Id, WWW-Authenticate")
        #expect(policy.allowing(HTTPRequest("POST", "/mcp"), .json(200, [:])).fields["Vary"] == nil)
    }
}
