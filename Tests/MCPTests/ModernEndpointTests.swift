import Appliance
import Platform
import TestSupport
import Testing

@testable import MCP

@Suite("Serving stateless requests over HTTP")
struct ModernEndpointTests {
    private func client() throws -> EndpointClient { EndpointClient(try Fixture().server) }

    @Test("serves a request that carries its own envelope, and mints no session")
    func stateless() async throws {
        let client = try client()
        let response = await client.post(modern("tools/call", ["name": "who"], id: "q")) {
            $0["Mcp-Session-Id"] = "made-up"
        }
        #expect(response.status == 200)
        #expect(response.json["id"] == "q")
        #expect(response.json["result"]?["content"]?[0]?["text"] == "alice http 2026-07-28")
        #expect(response.fields["Mcp-Session-Id"] == nil)
        #expect(client.endpoint.sessionCount == 0)
    }

    /// One rung: what is sent, and what comes back.
    struct Rung: Sendable, CustomTestStringConvertible {
        let name: String
        let message: JSON
        var fields: [(String, String?)] = []
        let status: Int
        let code: Int?

        var testDescription: String { name }
    }

    static let rungs: [Rung] = {
        var headless = modern("tools/list")
        headless["params"]?["_meta"]?["io.modelcontextprotocol/clientCapabilities"] = nil
        var number = modern("tools/list")
        number["params"]?["_meta"]?["io.modelcontextprotocol/protocolVersion"] = 1
        let call = modern("tools/call", ["name": "who"])
        let region = modern("tools/call", ["name": "region", "arguments": ["region": "eu"]])
        let sized = modern("tools/call", ["name": "region", "arguments": ["size": ["n": 7]]])
        return [
            Rung(name: "no capabilities", message: headless, status: 400, code: -32602),
            Rung(name: "version is a number", message: number, status: 400, code: -32602),
            Rung(
                name: "no envelope but a modern header",
                message: legacy("tools/list"),
                fields: [("MCP-Protocol-Version", "2026-07-28")],
                status: 400,
                code: -32602
            ),
            Rung(
                name: "initialize with an unknown header",
                message: initialize(),
                fields: [("MCP-Protocol-Version", "1999-01-01")],
                status: 400,
                code: -32602
            ),
            Rung(
                name: "no version header",
                message: call,
                fields: [("MCP-Protocol-Version", nil)],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "another version in the header",
                message: call,
                fields: [("MCP-Protocol-Version", "2025-11-25")],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "no method header",
                message: call,
                fields: [("Mcp-Method", nil)],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "another method in the header",
                message: call,
                fields: [("Mcp-Method", "Tools/Call")],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "no name header",
                message: call,
                fields: [("Mcp-Name", nil)],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "another name in the header",
                message: call,
                fields: [("Mcp-Name", "echo")],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "name in base 64, with white space",
                message: call,
                fields: [("Mcp-Name", " =?base64?d2hv?= ")],
                status: 200,
                code: nil
            ),
            Rung(
                name: "broken base 64",
                message: call,
                fields: [("Mcp-Name", "=?base64?d2h?=")],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "a name header without a name",
                message: modern("tools/call"),
                fields: [("Mcp-Name", "who")],
                status: 400,
                code: -32020
            ),
            Rung(name: "no name at all", message: modern("tools/call"), status: 200, code: -32602),
            Rung(
                name: "unsupported version everywhere",
                message: modern("tools/list", version: "2027-01-01"),
                status: 400,
                code: -32022
            ),
            Rung(
                name: "legacy version in envelope and header",
                message: modern("tools/list", version: "2025-11-25"),
                status: 400,
                code: -32022
            ),
            Rung(name: "unknown method", message: modern("tools/none"), status: 404, code: -32601),
            Rung(name: "initialize", message: modern("initialize"), status: 404, code: -32601),
            Rung(name: "ping", message: modern("ping"), status: 404, code: -32601),
            Rung(name: "an undeclared feature", message: modern("resources/list"), status: 404, code: -32601),
            Rung(
                name: "unknown tool",
                message: modern("tools/call", ["name": "nil"]),
                status: 200,
                code: -32602
            ),
            Rung(name: "parameter header missing", message: region, status: 400, code: -32020),
            Rung(
                name: "parameter header differs",
                message: region,
                fields: [("Mcp-Param-Region", "us")],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "parameter header fits",
                message: region,
                fields: [("mcp-param-region", "eu")],
                status: 200,
                code: nil
            ),
            Rung(
                name: "numbers in parameter headers compare as numbers",
                message: sized,
                fields: [("Mcp-Param-N", "7.0")],
                status: 200,
                code: nil
            ),
            Rung(
                name: "parameter header without a parameter",
                message: sized,
                fields: [("Mcp-Param-N", "7"), ("Mcp-Param-Region", "eu")],
                status: 400,
                code: -32020
            ),
            Rung(
                name: "a capability that the client lacks",
                message: modern("tools/call", ["name": "fail", "arguments": ["how": "capability"]]),
                status: 400,
                code: -32021
            ),
            Rung(
                name: "an error of the tool's protocol",
                message: modern("tools/call", ["name": "fail", "arguments": ["how": "protocol"]]),
                status: 200,
                code: -32602
            ),
        ]
    }()

    @Test("climbs the ladder; the first rung that breaks answers", arguments: rungs)
    func ladder(_ rung: Rung) async throws {
        let response = try await client().post(rung.message) { fields in
            for (name, value) in rung.fields { fields[name] = value }
        }
        #expect(response.status == rung.status)
        #expect(response.errorCode == rung.code)
        #expect(response.json["id"] == rung.message["id"])
    }

    @Test("refuses a routing header that is repeated")
    func repeated() async throws {
        for name in ["Mcp-Method", "Mcp-Name", "MCP-Protocol-Version"] {
            let response = try await client().post(modern("tools/call", ["name": "who"])) {
                $0.add(name, $0[name] ?? "")
            }
            #expect(response.status == 400)
            #expect(response.errorCode == -32020)
        }
    }

    @Test("accepts and drops notifications, unless their version is unknown")
    func notifications() async throws {
        let client = try client()
        let cancelled = modern("notifications/cancelled", ["requestId": 1], id: nil)
        let accepted = await client.post(cancelled)
        #expect(accepted.status == 202)
        guard case .bytes(let bytes) = accepted.body else { return #expect(Bool(false)) }
        #expect(bytes.isEmpty)
        let byHeader = await client.post(legacy("notifications/x", id: nil)) {
            $0["MCP-Protocol-Version"] = "2026-07-28"
        }
        #expect(byHeader.status == 202)
        let unknown = await client.post(legacy("notifications/x", id: nil)) {
            $0["MCP-Protocol-Version"] = "2027-01-01"
        }
        #expect(unknown.status == 400)
        #expect(unknown.errorCode == -32022)
    }

    @Test("knows no session operations", arguments: ["GET", "DELETE"])
    func sessionOperations(_ method: String) async throws {
        let client = try client()
        let request = HTTPRequest(method, "/mcp", fields: ["MCP-Protocol-Version": "2026-07-28"])
        let response = await client.answer(request)
        #expect(response.status == 405)
        #expect(response.fields["Allow"] == "POST")
    }

    @Test("shows every violation of the arguments to the model")
    func violations() async throws {
        let arguments: JSON = ["text": 5, "times": 9, "stile": "x"]
        let response = try await client().post(
            modern("tools/call", ["name": "echo", "arguments": arguments])
        )
        #expect(response.status == 200)
        #expect(response.json["result"]?["isError"] == true)
        let expected = """
            Invalid arguments for tool 'echo':
            /text: expected string, got integer
            /times: expected at most 3, got 9
            /stile: is unknown, did you mean 'style'?
            """
        #expect(response.json["result"]?["content"]?[0]?["text"]?.string == expected)
    }

    @Test("suggests the tool that was meant")
    func unknownTool() async throws {
        let response = try await client().post(modern("tools/call", ["name": "ecco"]))
        #expect(response.json["error"]?["message"] == "Unknown tool: 'ecco', did you mean 'echo'?")
    }

    @Test("words a failure of ours with its help")
    func failure() async throws {
        let response = try await client().post(modern("tools/call", ["name": "fail"]))
        #expect(response.json["result"]?["content"]?[0]?["text"] == "there is no '/x'\nmake one")
        #expect(response.json["result"]?["isError"] == true)
    }

    @Test("lists tools in their order, with schemas byte for byte, the same every time")
    func list() async throws {
        let client = try client()
        let first = await client.post(modern("tools/list"))
        guard case .bytes(let bytes) = first.body else { return #expect(Bool(false)) }
        #expect(String(decoding: bytes, as: UTF8.self).contains("\"inputSchema\":\(Fixture.echoSchema)"))
        let names = first.json["result"]?["tools"]?.array?.map { $0["name"]?.string }
        #expect(names == ["echo", "wait", "count", "fail", "region", "who"])
        #expect(
            first.json["result"]?["tools"]?[0]?["annotations"] == [
                "title": "Echo", "readOnlyHint": true, "openWorldHint": false,
            ]
        )
        #expect(first.json["result"]?["tools"]?[3]?["outputSchema"] == ["type": "array"])
        guard case .bytes(let again) = await client.post(modern("tools/list")).body else { return }
        #expect(again == bytes)
    }

    @Test("streams progress and then the answer")
    func progress() async throws {
        let response = try await client().post(modern("tools/call", ["name": "count"], token: 9))
        #expect(response.status == 200)
        #expect(response.fields["Content-Type"] == "text/event-stream")
        #expect(response.fields["X-Accel-Buffering"] == "no")
        let messages = await response.streamed().messages
        #expect(messages.count == 4)
        #expect(messages.dropLast().map { $0["params"]?["progress"] } == [0, 1, 2])
        #expect(messages.last?["result"]?["content"]?[0]?["text"] == "counted")
    }

    @Test("answers with JSON where no stream is accepted, and in a stream where nothing else is")
    func acceptance() async throws {
        let call = modern("tools/call", ["name": "count"], token: 9)
        let json = try await client().post(call) { $0["Accept"] = "application/json" }
        #expect(json.json["result"]?["content"]?[0]?["text"] == "counted")
        let bare = try await client().post(call) { $0["Accept"] = nil }
        #expect(bare.fields["Content-Type"] == "application/json")
        let stream = try await client().post(modern("tools/list")) {
            $0["Accept"] = "text/event-stream;q=0.9"
        }
        #expect(stream.fields["Content-Type"] == "text/event-stream")
        guard case .bytes(let bytes) = stream.body else { return #expect(Bool(false)) }
        #expect(String(decoding: bytes.prefix(22), as: UTF8.self) == "event: message\ndata: {")
        #expect(try await client().post(call) { $0["Accept"] = "image/png" }.status == 406)
        #expect(try await client().post(call) { $0["Content-Type"] = "text/plain" }.status == 415)
    }

    @Test("turns a long answer into a stream that shows that it lives")
    func keepAlive() async throws {
        var limits = MCPEndpoint.Limits()
        limits.streamAfter = .milliseconds(5)
        limits.keepAlive = .milliseconds(5)
        let fixture = try Fixture()
        let response = await EndpointClient(fixture.server, limits).post(
            modern("tools/call", ["name": "wait"])
        )
        #expect(response.fields["Content-Type"] == "text/event-stream")
        // The answer comes only once the stream has shown that it lives.
        let collected = await response.streamed { if $0.contains("still working") { fixture.gate.open() } }
        #expect(collected.text.hasPrefix(": still working\n\n"))
        #expect(collected.messages.map { $0["result"]?["content"]?[0]?["text"] } == ["waited"])
    }

    @Test("cancels the call of a client that leaves before the answer")
    func leavesEarly() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        let asking = Task { await client.post(modern("tools/call", ["name": "wait"])) }
        #expect(await fixture.journal.wait(for: "started 1"))
        asking.cancel()
        #expect(await fixture.journal.wait(for: "cancelled disconnected"))
        _ = await asking.value
    }

    @Test("cancels the call of a client that leaves in the middle of the stream")
    func leavesLate() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        let response = await client.post(modern("tools/call", ["name": "wait"], token: 1))
        #expect(response.fields["Content-Type"] == "text/event-stream")
        let reading = Task { await response.streamed() }
        reading.cancel()
        #expect(await fixture.journal.wait(for: "cancelled disconnected"))
        #expect(await reading.value.messages.allSatisfy { $0["result"] == nil })
    }

    @Test("lets two clients use the same id at the same time")
    func sameIDs() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        async let first = client.post(modern("tools/call", ["name": "wait"]))
        async let second = client.post(modern("tools/call", ["name": "wait"]))
        #expect(await fixture.journal.wait(for: "started 1"))
        fixture.gate.open()
        #expect(await first.status == 200)
        #expect(await second.status == 200)
    }

    @Test("ends by cancelling calls, whose last words are still sent")
    func shutdown() async throws {
        let fixture = try Fixture()
        let client = EndpointClient(fixture.server)
        let asking = Task { await client.post(modern("tools/call", ["name": "wait"])) }
        #expect(await fixture.journal.wait(for: "started 1"))
        #expect(await client.endpoint.finish(within: .seconds(10)))
        #expect(await asking.value.json["result"]?["content"]?[0]?["text"] == "goes on without you")
        let late = await client.post(modern("tools/call", ["name": "wait"]))
        #expect(late.status == 503)
        #expect(late.json["error"]?["message"] == "the gateway is shutting down")
    }

    @Test("retires: calls that only wait are answered now, running and new ones; others are left to end")
    func retirement() async throws {
        func yielding(_ id: JSON) -> JSON {
            modern("tools/call", ["name": "wait", "arguments": ["yields": true]], id: id)
        }
        func text(_ response: HTTPResponse) -> JSON? { response.json["result"]?["content"]?[0]?["text"] }
        let first = try Fixture()
        let waiter = EndpointClient(first.server)
        let waiting = Task { await waiter.post(yielding(1)) }
        #expect(await first.journal.wait(for: "started 1"))
        waiter.endpoint.retire()
        #expect(text(await waiting.value) == "goes on without you")
        let second = try Fixture()
        let worker = EndpointClient(second.server)
        let working = Task { await worker.post(modern("tools/call", ["name": "wait"], id: 2)) }
        #expect(await second.journal.wait(for: "started 2"))
        worker.endpoint.retire()
        #expect(await worker.post(modern("tools/call", ["name": "who"])).status == 200)
        #expect(worker.endpoint.callCount == 1)
        #expect(text(await worker.post(yielding(3))) == "goes on without you")
        second.gate.open()
        #expect(text(await working.value) == "waited")
        #expect(await worker.endpoint.finish(within: .seconds(10)))
    }
}
