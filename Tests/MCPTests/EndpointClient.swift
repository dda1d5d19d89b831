import Appliance
import MCP
import Platform
import Synchronization
import Testing

/// An endpoint in this process, asked as the HTTP server would.
struct EndpointClient: Sendable {
    let endpoint: MCPEndpoint
    let principal: Principal

    init(_ endpoint: MCPEndpoint, as principal: Principal = Principal(id: "alice", kind: .bearer)) {
        self.endpoint = endpoint
        self.principal = principal
    }

    init(
        _ server: Server,
        _ limits: MCPEndpoint.Limits = MCPEndpoint.Limits(),
        clock: WallClock = .system
    ) {
        let tokens = SessionTokens(key: Array(repeating: 7, count: 32), random: .system)
        self.init(MCPEndpoint(server: server, tokens: tokens, limits: limits, clock: clock))
    }

    /// A POST as a client of the message's era would make it, changed by `edit`.
    func request(
        _ message: JSON,
        session: String? = nil,
        _ edit: (inout HTTPFields) -> Void = { _ in }
    ) -> HTTPRequest {
        var fields: HTTPFields = [
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
        ]
        let meta = message["params"]?["_meta"]
        if let version = meta?["io.modelcontextprotocol/protocolVersion"]?.string {
            fields["MCP-Protocol-Version"] = version
            fields["Mcp-Method"] = message["method"]?.string
            fields["Mcp-Name"] = message["params"]?["name"]?.string ?? message["params"]?["uri"]?.string
        }
        if let session {
            fields["Mcp-Session-Id"] = session
            fields["MCP-Protocol-Version"] = "2025-11-25"
        }
        edit(&fields)
        return HTTPRequest("POST", "/mcp", fields: fields, body: message.compact)
    }

    func post(
        _ message: JSON,
        session: String? = nil,
        _ edit: (inout HTTPFields) -> Void = { _ in }
    ) async -> HTTPResponse {
        await answer(request(message, session: session, edit))
    }

    /// The answer to any request.
    func answer(_ request: HTTPRequest) async -> HTTPResponse {
        switch endpoint.receive(request, principal: principal) {
        case .answered(let response): response
        case .pending(let answer): await answer()
        }
    }

    /// The answer to a request that needs no waiting.
    func immediately(_ request: HTTPRequest) -> HTTPResponse? {
        if case .answered(let response) = endpoint.receive(request, principal: principal) {
            response
        } else {
            nil
        }
    }

    /// The id of a session after its handshake.
    func open(_ version: JSON = "2025-11-25") async throws -> String {
        try #require(await post(initialize(version)).fields["Mcp-Session-Id"])
    }
}

/// Collects what a stream writes.
final class Collector: HTTPStreamWriter {
    private let bytes = Mutex<[UInt8]>([])
    private let wrote: @Sendable (String) -> Void

    /// `wrote` is told the text so far after each write.
    init(_ wrote: @escaping @Sendable (String) -> Void) { self.wrote = wrote }

    func write(_ more: [UInt8]) async throws {
        try Task.checkCancellation()
        bytes.withLock { $0 += more }
        wrote(text)
    }

    var text: String { String(decoding: bytes.withLock { $0 }, as: UTF8.self) }

    /// The messages of the events so far.
    var messages: [JSON] {
        text.split(separator: "\n").filter { $0.hasPrefix("data: ") }.map { parsed(String($0.dropFirst(6))) }
    }
}

extension HTTPResponse {
    /// The JSON body, or `null` when there is none.
    var json: JSON {
        guard case .bytes(let bytes) = body else { return .null }
        return (try? JSON.parse(bytes)) ?? .null
    }

    /// The error's code.
    var errorCode: Int? { json["error"]?["code"]?.int }

    /// The text of an event stream, once it has ended.
    func streamed(_ wrote: @escaping @Sendable (String) -> Void = { _ in }) async -> Collector {
        let collector = Collector(wrote)
        if case .stream(let run) = body { await run(collector) }
        return collector
    }
}
