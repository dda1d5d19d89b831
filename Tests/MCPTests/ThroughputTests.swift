import Appliance
import Platform
import TestSupport
import Testing

@testable import MCP

@Suite("Answering cheap requests on the server's thread")
struct ThroughputTests {
    @Test("answers at once what needs no waiting, and leaves the rest untouched")
    func immediate() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        func immediately(_ message: JSON) -> HTTPResponse? {
            client.immediately(client.request(message))
        }
        #expect(immediately(modern("tools/list"))?.status == 200)
        #expect(immediately(modern("tools/call", ["name": "who"]))?.status == 200)
        #expect(immediately(modern("server/discover"))?.status == 200)
        #expect(immediately(initialize())?.fields["Mcp-Session-Id"] != nil)
        #expect(immediately(modern("tools/call", ["name": "wait"])) == nil)
        #expect(fixture.journal.all.isEmpty)
        #expect(client.endpoint.callCount == 0)
        let large = modern(
            "tools/call",
            ["name": "echo", "arguments": ["text": .string(String(repeating: "x", count: 1 << 17))]]
        )
        #expect(immediately(large) == nil)
        #expect(await client.post(large).json["result"]?["isError"] == true)
    }

    @Test("keeps up with a client in a hurry")
    func rate() async throws {
        let client = EndpointClient(try Fixture().server)
        let session = try await client.open()
        let call = legacy("tools/call", ["name": "echo", "arguments": ["text": "hi", "times": 2]])
        let request = client.request(call, session: session)
        let count = 2000
        let elapsed = ContinuousClock().measure {
            for _ in 0..<count { _ = client.immediately(request) }
        }
        let rate =
            Double(count)
            / (Double(elapsed.components.attoseconds) / 1e18 + Double(elapsed.components.seconds))
        print("tools/call on one thread, without HTTP: \(Int(rate)) per second")
        // An unoptimized build on a busy machine: the bar only catches what went wrong by an order of magnitude.
        #expect(rate > 500)
    }
}
