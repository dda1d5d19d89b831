import Appliance
import Platform
import TestSupport
import Testing

@testable import MCP

@Suite("Serving legacy sessions over HTTP")
struct LegacyEndpointTests {
    @Test("opens a session and serves it")
    func session() async throws {
        let client = EndpointClient(try Fixture().server)
        let session = try await client.open()
        #expect(session.utf8.allSatisfy { (0x21...0x7E).contains($0) })
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

    @Test("agrees on 2025-06-18 and answers in its shapes")
    func oldest() async throws {
        let client = EndpointClient(try Fixture().server)
        let agreed = await client.post(initialize("2025-06-18"))
        #expect(agreed.json["result"]?["protocolVersion"] == "2025-06-18")
        #expect(
            agreed.json["result"]?["serverInfo"] == [
                "name": "fixture", "title": "Fixture", "version": "1.2.3",
            ]
        )
        let session = try #require(agreed.fields["Mcp-Session-Id"])
        let bad = legacy("tools/call", ["name": "echo", "arguments": ["text": 1, "times": 0]])
        let response = await client.post(bad, session: session) { $0["MCP-Protocol-Version"] = "2025-06-18" }
        #expect(response.status == 200)
        #expect(response.errorCode == -32602)
        let violations: JSON = [
            ["path": "/text", "message": "expected string, got integer"],
            ["path": "/times", "message": "expected at least 1, got 0"],
        ]
        #expect(response.json["error"]?["data"]?["violations"] == violations)
        let list = await client.post(legacy("tools/list"), session: session)
        #expect(list.json["result"]?["tools"]?[0]?["outputSchema"] != nil)
        #expect(list.json["result"]?["tools"]?[3]?["outputSchema"] == nil)
    }

    @Test("never agrees on a modern revision")
    func modernVersion() async throws {
        let client = EndpointClient(try Fixture().server)
        let agreed = await client.post(initialize("2026-07-28"))
        #expect(agreed.json["result"]?["protocolVersion"] == "2025-11-25")
        let header = await client.post(initialize()) { $0["MCP-Protocol-Version"] = "2025-06-18" }
        #expect(header.status == 200)
        #expect(await client.post(initialize(1)).errorCode == -32602)
    }

    /// What is sent to a fresh endpoint, and what comes back.
    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        let body: String
        var fields: [(String, String?)] = []
        let status: Int
        let code: Int?
        var message: String?

        var testDescription: String { name }
    }

    static let cases = [
        Case(
            name: "no session",
            body: legacy("tools/list").compactText,
            status: 400,
            code: -32600,
            message: "First request must be initialize"
        ),
        Case(
            name: "unknown session",
            body: legacy("tools/list").compactText,
            fields: [("Mcp-Session-Id", "nobody")],
            status: 404,
            code: -32600,
            message: "Unknown MCP session"
        ),
        Case(
            name: "notification without session",
            body: legacy("notifications/initialized", id: nil).compactText,
            status: 400,
            code: -32600
        ),
        Case(
            name: "unsupported header",
            body: legacy("tools/list").compactText,
            fields: [("MCP-Protocol-Version", "2020-01-01")],
            status: 400,
            code: -32602
        ),
        Case(
            name: "response without session",
            body: #"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            status: 400,
            code: -32600
        ),
        Case(
            name: "response with a modern header",
            body: #"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            fields: [("MCP-Protocol-Version", "2026-07-28")],
            status: 400,
            code: -32600
        ),
        Case(
            name: "batch",
            body: "[\(initialize().compactText)]",
            status: 400,
            code: -32600,
            message: "batches are not supported"
        ),
        Case(
            name: "modern batch",
            body: "[]",
            fields: [("MCP-Protocol-Version", "2026-07-28")],
            status: 400,
            code: -32600
        ),
        Case(name: "no JSON", body: "{", status: 400, code: -32700),
        Case(name: "no body", body: "", status: 400, code: -32700),
        Case(name: "no message", body: #"{"jsonrpc":"2.0"}"#, status: 400, code: -32600),
        Case(
            name: "id null",
            body: #"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            status: 400,
            code: -32600
        ),
    ]

    @Test("refuses what does not belong to a session", arguments: cases)
    func refused(_ example: Case) async throws {
        let client = EndpointClient(try Fixture().server)
        var request = client.request(.null) { fields in
            for (name, value) in example.fields { fields[name] = value }
        }
        request.body = Array(example.body.utf8)
        let response = await client.answer(request)
        #expect(response.status == example.status)
        #expect(response.errorCode == example.code)
        if let message = example.message { #expect(response.json["error"]?["message"]?.string == message) }
    }

    @Test("answers an unknown method in band")
    func unknownMethod() async throws {
        let client = EndpointClient(try Fixture().server)
        let session = try await client.open()
        let response = await client.post(legacy("logging/setLevel", ["level": "info"]), session: session)
        #expect(response.status == 200)
        #expect(response.errorCode == -32601)
        #expect(await client.post(legacy("ping", []), session: session).errorCode == -32602)
        #expect(await client.post(legacy("ping"), session: session).json["result"] == [:])
        let posted = await client.post(["jsonrpc": "2.0", "id": 3, "result": [:]], session: session)
        #expect(posted.status == 202)
        #expect(await client.post(initialize(), session: session).status == 400)
    }

    @Test("ends a session by DELETE, once and for all")
    func delete() async throws {
        let client = EndpointClient(try Fixture().server)
        let session = try await client.open()
        func operate(_ method: String, _ session: String?) async -> HTTPResponse {
            var request = HTTPRequest(method, "/mcp")
            request.fields["Mcp-Session-Id"] = session
            return await client.answer(request)
        }
        #expect(await operate("GET", session).status == 405)
        #expect(await operate("GET", nil).fields["Allow"] == "POST, DELETE")
        #expect(await operate("PUT", session).status == 405)
        #expect(await operate("DELETE", nil).json == ["error": "Missing mcp-session-id"])
        #expect(await operate("DELETE", nil).status == 400)
        #expect(await operate("DELETE", session).status == 204)
        #expect(await operate("DELETE", session).status == 204)
        #expect(await client.post(legacy("ping"), session: session).status == 404)
        #expect(client.endpoint.sessionCount == 0)
    }

    @Test("shows a session to nobody but its principal")
    func foreign() async throws {
        let client = EndpointClient(try Fixture().server)
        let session = try await client.open()
        for other in [Principal(id: "bob", kind: .bearer), Principal(id: "alice", kind: .oauth)] {
            let stranger = EndpointClient(client.endpoint, as: other)
            #expect(await stranger.post(legacy("ping"), session: session).status == 404)
            var request = HTTPRequest("DELETE", "/mcp")
            request.fields["Mcp-Session-Id"] = session
            #expect(await stranger.answer(request).status == 204)
        }
        #expect(await client.post(legacy("ping"), session: session).status == 200)
    }

    @Test("has room for another session as long as one is without a call, and says when to come back")
    func full() async throws {
        var limits = MCPEndpoint.Limits()
        limits.sessions = 2
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server, limits)
        let first = try await client.open(), second = try await client.open(), third = try await client.open()
        #expect(client.endpoint.sessionCount == 2)
        var sessions = [first, second, third]
        for session in sessions { #expect(await client.post(legacy("ping"), session: session).status == 200) }
        let calls = sessions.suffix(2).enumerated().map { (index, session) -> Task<HTTPResponse, Never> in
            let call = legacy("tools/call", ["name": "wait"], id: .integer(index + 5))
            return Task { await client.post(call, session: session) }
        }
        for id in [5, 6] { #expect(await fixture.journal.wait(for: "started \(id)")) }
        let refused = await client.post(initialize())
        #expect(refused.status == 503)
        #expect(refused.json["error"]?["message"] == "Too many MCP sessions with running calls")
        #expect(refused.fields["Retry-After"] == "60")
        #expect(await client.post(legacy("ping"), session: sessions.removeFirst()).status == 503)
        for (index, session) in sessions.enumerated() {
            let cancel = legacy("notifications/cancelled", ["requestId": .integer(index + 5)], id: nil)
            #expect(await client.post(cancel, session: session).status == 202)
        }
        for call in calls { _ = await call.value }
        #expect(await client.post(initialize()).status == 200)
    }

    @Test("takes sessions over from an earlier gateway with the same key")
    func restart() async throws {
        let server = try Fixture().server
        let key = Array(repeating: UInt8(9), count: 32)
        func gateway(_ key: [UInt8]) -> EndpointClient {
            EndpointClient(MCPEndpoint(server: server, tokens: SessionTokens(key: key, random: .system)))
        }
        let session = try await gateway(key).open("2025-06-18")
        let next = gateway(key)
        let call = legacy("tools/call", ["name": "who"])
        let response = await next.post(call, session: session)
        #expect(response.json["result"]?["content"]?[0]?["text"] == "alice http 2025-06-18")
        let bob = EndpointClient(next.endpoint, as: Principal(id: "bob", kind: .bearer))
        #expect(await bob.post(call, session: session).status == 404)
        #expect(await gateway(Array(repeating: 8, count: 32)).post(call, session: session).status == 404)
    }

    @Test("keeps deleted sessions deleted when the next gateway takes over, and the others open")
    func handover() async throws {
        let folder = try TemporaryDirectory()
        let server = try Fixture().server
        func gateway() -> EndpointClient {
            let tokens = SessionTokens(key: Array(repeating: 9, count: 32), random: .system)
            let memory = SessionMemory(path: folder.path("sessions"), files: Files()) {
                Issue.record("\($0)")
            }
            return EndpointClient(MCPEndpoint(server: server, tokens: tokens, memory: memory))
        }
        func delete(_ session: String, _ client: EndpointClient) async -> Int {
            let fields: HTTPFields = ["Mcp-Session-Id": session]
            let request = HTTPRequest("DELETE", "/mcp", fields: fields, body: [])
            return await client.answer(request).status
        }
        let first = gateway()
        let kept = try await first.open("2025-06-18"), deleted = try await first.open()
        #expect(await delete(deleted, first) == 204)
        #expect(await first.endpoint.finish(within: .seconds(5)))
        let second = gateway()
        #expect(second.endpoint.sessionCount == 1)
        #expect(await second.post(legacy("ping"), session: deleted).status == 404)
        #expect(await second.post(legacy("ping"), session: kept).status == 200)
        #expect(await delete(kept, second) == 204)
        // It crashes, and what was deleted stays so all the same.
        let third = gateway()
        for session in [kept, deleted] {
            #expect(await third.post(legacy("ping"), session: session).status == 404)
        }
    }

    @Test("cancels a call by notification, but not because its client left")
    func cancellation() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        let session = try await client.open()
        let call = legacy("tools/call", ["name": "wait", "_meta": ["progressToken": "t"]], id: 5)
        let response = await client.post(call, session: session)
        #expect(response.fields["Content-Type"] == "text/event-stream")
        let reading = Task { await response.streamed() }
        reading.cancel()
        #expect(await reading.value.messages.allSatisfy { $0["result"] == nil })
        #expect(client.endpoint.callCount == 1)
        let again = await client.post(call, session: session)
        #expect(again.json["error"]?["message"] == "a request with this id is still being worked on")
        let cancel = legacy("notifications/cancelled", ["requestId": 5, "reason": "no"], id: nil)
        let other = try await client.open()
        #expect(await client.post(cancel, session: other).status == 202)
        #expect(!fixture.journal.all.contains { $0.hasPrefix("cancelled") })
        #expect(await client.post(cancel, session: session).status == 202)
        #expect(await fixture.journal.wait(for: #"cancelled client(Optional("no"))"#))
    }

    @Test("ends the answer of a cancelled call without a result")
    func cancelledAnswer() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        let session = try await client.open()
        let asking = Task {
            await client.post(legacy("tools/call", ["name": "wait"], id: 5), session: session) {
                $0["Accept"] = "application/json"
            }
        }
        #expect(await fixture.journal.wait(for: "started 5"))
        _ = await client.post(legacy("notifications/cancelled", ["requestId": 5], id: nil), session: session)
        #expect(await asking.value.json["error"]?["message"] == "the request was cancelled")
    }
}
