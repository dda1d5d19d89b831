import Appliance
import Glibc
import Platform
import TestSupport
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
        #expect(discovered["result"]?["capabilities"] == ["tools": [:]])
        #expect(discovered["result"]?["instructions"] == "Be kind.")
        let agreed = await client.ask(initialize())
        #expect(agreed["result"]?["protocolVersion"] == "2025-11-25")
        await client.send(legacy("notifications/initialized", id: nil))
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

    @Test(
        "agrees on a legacy revision only",
        arguments: [
            ("2025-06-18", "2025-06-18"), ("2025-11-25", "2025-11-25"), ("2026-07-28", "2025-11-25"),
            ("2024-11-05", "2025-11-25"), ("tomorrow", "2025-11-25"),
        ]
    )
    func negotiation(_ asked: String, _ agreed: String) async throws {
        let client = try StdioClient(Fixture().server)
        let result = await client.ask(initialize(.string(asked)))["result"]
        #expect(result?["protocolVersion"]?.string == agreed)
        #expect(result?["serverInfo"]?["name"] == "fixture")
        #expect((result?["serverInfo"]?["description"] != nil) == (agreed == "2025-11-25"))
        #expect(result?["_meta"] == nil)
        let called = await client.ask(legacy("tools/call", ["name": "who"]))
        #expect(called["result"]?["content"]?[0]?["text"]?.string == "local stdio \(agreed)")
        _ = await client.finish()
    }

    @Test("tells a client that forgot the handshake, but answers its ping")
    func beforeHandshake() async throws {
        let client = try StdioClient(Fixture().server)
        let refused = await client.ask(legacy("tools/list", id: "early"))
        #expect(refused["id"] == "early")
        #expect(refused["error"]?["code"] == -32600)
        #expect(refused["error"]?["message"] == "First request must be initialize")
        #expect(await client.ask(legacy("ping", id: 2))["result"] == [:])
        #expect(await client.ask(legacy("initialize", [:]))["error"]?["code"] == -32602)
        #expect(await client.ask(legacy("tools/list"))["error"]?["code"] == -32600)
        _ = await client.finish()
    }

    @Test("climbs the ladder of a modern request")
    func ladder() async throws {
        let client = try StdioClient(Fixture().server)
        var half = modern("tools/list")
        half["params"] = ["_meta": ["io.modelcontextprotocol/protocolVersion": "1900-01-01"]]
        let incomplete = await client.ask(half)
        #expect(incomplete["error"]?["code"] == -32602)
        #expect(
            incomplete["error"]?["message"]?.string?.contains("clientCapabilities' must be an object") == true
        )
        let unsupported = await client.ask(modern("initialize", version: "2025-11-25"))
        #expect(unsupported["error"]?["code"] == -32022)
        #expect(unsupported["error"]?["data"] == ["supported": ["2026-07-28"], "requested": "2025-11-25"])
        #expect(await client.ask(modern("initialize"))["error"]?["code"] == -32601)
        #expect(await client.ask(modern("ping"))["error"]?["code"] == -32601)
        #expect(await client.ask(modern("subscriptions/listen"))["error"]?["code"] == -32601)
        var loud = modern("tools/list")
        loud["params"]?["_meta"]?["io.modelcontextprotocol/logLevel"] = "loud"
        #expect(await client.ask(loud)["error"]?["code"] == -32602)
        _ = await client.finish()
    }

    @Test(
        "survives what is no message",
        arguments: [
            ("{", -32700), ("[]", -32600), ("1", -32600),
            (#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
            (#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
            (#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600),
            (#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600), (#"{"jsonrpc":"2.0","id":1}"#, -32600),
            (#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, -32600),
            ("[\(initialize().compactText)]", -32600),
        ]
    )
    func garbage(_ line: String, _ code: Int) async throws {
        let client = try StdioClient(Fixture().server)
        #expect(await client.ask(line: line)["error"]?["code"]?.int == code)
        #expect(await client.ask(legacy("ping", id: "still here"))["id"] == "still here")
        _ = await client.finish()
    }

    @Test("refuses a message that is nested too deeply")
    func deep() async throws {
        let client = try StdioClient(Fixture().server)
        let answer = await client.ask(line: String(repeating: "[", count: 500_000))
        #expect(answer["error"]?["message"] == "Parse error: invalid JSON at byte 64: nested too deeply")
        #expect(await client.ask(legacy("ping", id: 2))["id"] == 2)
        _ = await client.finish()
    }

    @Test("ignores empty lines, notifications and answers; reads lines that end with CR LF")
    func quiet() async throws {
        let client = try StdioClient(Fixture().server)
        await client.send(line: "")
        await client.send(line: "  ")
        await client.send(line: "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}\r")
        await client.send(legacy("notifications/unheard", id: nil))
        await client.send(legacy("notifications/cancelled", ["requestId": 77], id: nil))
        await client.send(line: legacy("ping", id: 5).compactText + "\r")
        #expect(await client.receive() == ["jsonrpc": "2.0", "id": 5, "result": [:]])
        #expect(await client.finish().isEmpty)
    }

    @Test("refuses a line beyond the limit and reads on")
    func longLine() async throws {
        var limits = StdioTransport.Limits()
        limits.line = 1000
        let client = try StdioClient(Fixture().server, limits)
        let answer = await client.ask(line: String(repeating: "x", count: 200_000))
        #expect(answer["error"]?["message"] == "a message may have at most 1000 bytes")
        #expect(await client.ask(legacy("ping", id: 2))["id"] == 2)
        _ = await client.finish()
    }

    @Test("echoes ids exactly", arguments: ["0", "-7", "9223372036854775807", #""""#, #""a\"é""#])
    func ids(_ id: String) async throws {
        let client = try StdioClient(Fixture().server)
        #expect(await client.ask(modern("tools/list", id: parsed(id)))["id"] == parsed(id))
        _ = await client.finish()
    }

    @Test("reports rising progress before the answer, with the client's token")
    func progress() async throws {
        let client = try StdioClient(Fixture().server)
        await client.send(modern("tools/call", ["name": "count"], id: 1, token: "tok"))
        var values: [Double] = []
        var message = await client.receive()
        while message["method"] == "notifications/progress" {
            #expect(message["params"]?["progressToken"] == "tok")
            #expect(message["params"]?["total"] == 2)
            #expect(message["params"]?["message"] == "step")
            values.append(message["params"]?["progress"]?.number ?? -1)
            message = await client.receive()
        }
        #expect(values == [0, 1, 2])
        #expect(message["result"]?["content"]?[0]?["text"] == "counted")
        #expect(message["result"]?["structuredContent"] == [1, 2])
        #expect(message["result"]?["_meta"]?["own"] == 1)
        let silent = await client.ask(modern("tools/call", ["name": "count"], id: 2))
        #expect(silent["id"] == 2)
        _ = await client.finish()
    }

    @Test("stops a cancelled call and answers it with silence", arguments: [true, false])
    func cancellation(_ isModern: Bool) async throws {
        let fixture = try Fixture()
        let client = try StdioClient(fixture.server)
        if !isModern { _ = await client.ask(initialize()) }
        let call =
            isModern
            ? modern("tools/call", ["name": "wait"], id: "w")
            : legacy("tools/call", ["name": "wait"], id: "w")
        await client.send(call)
        #expect(await fixture.journal.wait(for: #"started "w""#))
        await client.send(legacy("notifications/cancelled", ["requestId": "w", "reason": "bored"], id: nil))
        #expect(await fixture.journal.wait(for: #"cancelled client(Optional("bored"))"#))
        #expect(await client.ask(legacy("ping", id: 2))["id"] == 2)
        #expect(await client.finish().isEmpty)
    }

    @Test("serves other requests while one takes long, and refuses its id twice")
    func concurrency() async throws {
        let fixture = try Fixture()
        let client = try StdioClient(fixture.server)
        await client.send(modern("tools/call", ["name": "wait"], id: 1))
        #expect(await fixture.journal.wait(for: "started 1"))
        let again = await client.ask(modern("tools/call", ["name": "wait"], id: 1))
        #expect(again["error"]?["message"] == "a request with this id is still being worked on")
        #expect(await client.ask(modern("tools/call", ["name": "who"], id: 2))["id"] == 2)
        fixture.gate.open()
        #expect(await client.receive()["result"]?["content"]?[0]?["text"] == "waited")
        #expect(await client.ask(modern("tools/call", ["name": "wait"], id: 1))["id"] == 1)
        _ = await client.finish()
    }

    @Test("limits the calls at once")
    func callLimit() async throws {
        var limits = StdioTransport.Limits()
        limits.calls = 1
        let fixture = try Fixture()
        let client = try StdioClient(fixture.server, limits)
        await client.send(modern("tools/call", ["name": "wait"], id: 1))
        let second = await client.ask(modern("tools/call", ["name": "wait"], id: 2))
        #expect(second["error"]?["message"] == "too many requests are being worked on")
        fixture.gate.open()
        _ = await client.finish()
    }

    @Test("lets a call end after the input did, and answers it")
    func graceAtTheEnd() async throws {
        var limits = StdioTransport.Limits()
        limits.grace = .seconds(30)
        let fixture = try Fixture()
        let client = try StdioClient(fixture.server, limits)
        await client.send(modern("tools/call", ["name": "wait"], id: 1))
        #expect(await fixture.journal.wait(for: "started 1"))
        Task { fixture.gate.open() }
        #expect(await client.finish().map { $0["result"]?["content"]?[0]?["text"] } == ["waited"])
    }

    @Test("cancels what is left at the end of the input, and still says what it says")
    func endOfInput() async throws {
        var limits = StdioTransport.Limits()
        limits.grace = .milliseconds(10)
        let fixture = try Fixture()
        let client = try StdioClient(fixture.server, limits)
        await client.send(modern("tools/call", ["name": "wait"], id: 1))
        #expect(await fixture.journal.wait(for: "started 1"))
        let rest = await client.finish()
        #expect(rest.map { $0["result"]?["content"]?[0]?["text"] } == ["goes on without you"])
        #expect(fixture.journal.all.contains("cancelled shutdown"))
    }

    @Test("ends when asked to, like at the end of the input")
    func stop() async throws {
        let client = try StdioClient(Fixture().server)
        #expect(await client.ask(modern("tools/list"))["result"] != nil)
        client.transport.stop()
        await client.running.value
        _ = await client.finish()
    }

    @Test("ends when asked to, although the client reads nothing of what it asked for")
    func stopUnread() async throws {
        var limits = StdioTransport.Limits()
        limits.grace = .milliseconds(50)
        limits.deadline = .milliseconds(200)
        let client = try StdioClient(Fixture().server, limits)
        // An answer repeats the id, and this one is more than waits before no more is read.
        let id = String(repeating: "x", count: 5 << 20)
        await client.send(modern("tools/list", id: .string(id)))
        #expect(try await client.reads())
        client.transport.stop()
        let (over, continuation) = AsyncStream.makeStream(of: Bool.self)
        let waiting = Task {
            await client.running.value
            continuation.yield(true)
        }
        let alarm = Task {
            if (try? await Task.sleep(for: .seconds(20))) != nil { continuation.yield(false) }
        }
        #expect(await over.first { _ in true } == true)
        alarm.cancel()
        close(client.fromServer)
        await waiting.value
    }

    @Test("answers a burst of a thousand requests, each once")
    func burst() async throws {
        let client = try StdioClient(Fixture().server)
        let sender = Task {
            for id in 0..<1000 { await client.send(modern("tools/call", ["name": "who"], id: .integer(id))) }
        }
        var seen: Set<Int> = []
        for _ in 0..<1000 { seen.insert(await client.receive()["id"]?.int ?? -1) }
        await sender.value
        #expect(seen == Set(0..<1000))
        #expect(await client.finish().isEmpty)
    }

    @Test("does not wait for ever for a client that is gone")
    func brokenPipe() async throws {
        let client = try StdioClient(Fixture().server)
        #expect(await client.ask(modern("tools/list"))["result"] != nil)
        close(client.fromServer)
        await client.send(modern("tools/list"))
        await client.send(modern("tools/list"))
        close(client.toServer)
        await client.running.value
    }
}
