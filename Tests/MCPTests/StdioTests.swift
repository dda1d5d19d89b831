import Appliance
import Testing

@testable import MCP

@Suite("Speaking MCP on standard input and output")
struct StdioTests {
    @Test("serves discovery first, then the handshake, then modern requests again")
    func bothEras() async throws {
        let client = try StdioClient(Fixture().server)
        let discovered = await client.ask(modern("server/discover", id: "d"))
        #expect(discovered["id"] == "d")
        #expect(discovered["result"]?["supportedVersions"] == ["2026-07-28"])
        let agreed = await client.ask(initialize())
        #expect(agreed["result"]?["protocolVersion"] == "2025-11-25")
        client.send(legacy("notifications/initialized", id: nil))
        let listed = await client.ask(legacy("tools/list", id: 2))
        #expect(listed["result"]?["resultType"] == nil)
        #expect(listed["result"]?["tools"]?.array?.count == 6)
        let called = await client.ask(modern("tools/call", ["name": "who"], id: 3))
        #expect(called["result"]?["resultType"] == "complete")
        #expect(called["result"]?["content"]?[0]?["text"] == "local stdio 2026-07-28")
        let legacyCalled = await client.ask(legacy("tools/call", ["name": "who"], id: 4))
        #expect(legacyCalled["result"]?["content"]?[0]?["text"] == "local stdio 2025-11-25")
        #expect(await client.finish().isEmpty)
    }
}
