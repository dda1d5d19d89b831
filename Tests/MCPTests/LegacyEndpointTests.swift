import Appliance
import Platform
import Testing

@testable import MCP

@Suite("Serving legacy sessions over HTTP")
struct LegacyEndpointTests {
    @Test("opens a session and serves it")
    func session() async throws {
        let client = EndpointClient(try Fixture().server)
        let session = try await client.open()
        let accepted = await client.post(legacy("notifications/initialized", id: nil), session: session)
        #expect(accepted.status == 202)
        let response = await client.post(
            legacy("tools/call", ["name": "echo", "arguments": ["text": "hi"]], id: "x"),
            session: session
        )
        #expect(response.status == 200)
        #expect(response.fields["Content-Type"] == "application/json")
        let expected =
            #"{"jsonrpc":"2.0","id":"x","result":{"content":[{"type":"text","text":"hi"}],"structuredContent":{"said":"hi"}}}"#
        #expect(response.json == parsed(expected))
        #expect(client.endpoint.sessionCount == 1)
    }
}
