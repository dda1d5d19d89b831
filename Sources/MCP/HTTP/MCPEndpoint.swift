import Appliance
package import Platform
import Synchronization

/// Streamable HTTP of both eras at one path.
///
/// Origin, Host and authentication have been checked before.
///
/// 1. GET and DELETE are operations of legacy sessions; no stream of its own is offered.
/// 2. A posted message is routed by its body first, then by its headers (`HTTPRoute`).
/// 3. What can be answered at once is; a call that takes time is answered with JSON when it ends soon and nothing is
///    reported before, else with an event stream.
package final class MCPEndpoint: Sendable {
    /// The limits of an endpoint.
    package struct Limits: Sendable {
        /// Legacy sessions that are kept in mind; the least recently used one makes room for another.
        package var sessions = 100
        /// How long a legacy session may be unused.
        package var sessionIdle = Duration.seconds(1800)
        /// Calls at once.
        package var calls = 1024
        /// When an unfinished call's answer becomes a stream: clients give up on an answer that never starts.
        package var streamAfter = Duration.seconds(2)
        /// How often a silent stream says that it lives; it also shows that a client has left.
        package var keepAlive = Duration.seconds(15)
        /// Larger bodies are not parsed on the server's own thread.
        package var immediateBody = 64 << 10

        /// The defaults.
        package init() {}
    }

    private let server: Server
    private let tokens: SessionTokens
    private let limits: Limits
    private let clock: WallClock
    private let calls: CallTable
    private let silence: SilenceMarks
    private let sessions: Mutex<SessionTable>
    private let memory: SessionMemory?

    /// An endpoint that knows the sessions in `memory`; without one, it believes in any whose id was made with the
    /// same key.
    package init(
        server: Server,
        tokens: SessionTokens,
        memory: SessionMemory? = nil,
        limits: Limits = Limits(),
        clock: WallClock = .system
    ) {
        self.server = server
        self.tokens = tokens
        self.limits = limits
        self.clock = clock
        calls = CallTable(limit: limits.calls)
        silence = SilenceMarks(first: limits.streamAfter, later: limits.keepAlive, clock: clock)
        self.memory = memory
        let now = clock.now().milliseconds
        let past = memory?.begin(now: now) ?? SessionPast(unknownUntil: now)
        sessions = Mutex(SessionTable(limit: limits.sessions, idle: limits.sessionIdle, past: past))
    }

    private var now: Int64 { clock.now().milliseconds }

    /// Legacy sessions that are open.
    package var sessionCount: Int { sessions.withLock { $0.count(now: now) } }
    /// Calls that are being worked on.
    package var callCount: Int { calls.count }

    /// The answer to a request that needs no waiting, given on the caller's thread; of any other, what makes it.
    ///
    /// The cancellation of the task in which it is made means that the client has left: that cancels a modern call, and does
    /// nothing to a legacy one. Nothing has happened before there is that task.
    package func receive(_ request: HTTPRequest, principal: Principal) -> HTTPReception {
        guard request.body.count <= limits.immediateBody else {
            return .pending { [self] in
                switch begin(request, principal) {
                case .answer(let response): response
                case .pending(let call): await answer(call)
                }
            }
        }
        switch begin(request, principal) {
        case .answer(let response): return .answered(response)
        case .pending(let call): return .pending { [self] in await answer(call) }
        }
    }

    /// The gateway stops: calls that wait for something that goes on without it are answered now, with a handle; so are
    /// those that come to wait.
    ///
    /// Everything else is answered as ever.
    package func retire() { calls.retire() }

    /// Ends the endpoint: new calls are refused, running ones are cancelled with `.shutdown` and answered with what
    /// they return by then; what is known of the sessions is left to the next gateway.
    ///
    /// Whether all calls have ended within the deadline.
    package func finish(within deadline: Duration) async -> Bool {
        let isFinished = await calls.finish(grace: .zero, deadline: deadline)
        memory?.end(sessions.withLock { $0.known(now: now) })
        return isFinished
    }

    // MARK: deciding

    private enum Beginning {
        case answer(HTTPResponse)
        case pending(PendingCall)
    }

    private struct PendingCall {
        let work: Work
        let acceptance: Acceptance
        /// The session of a legacy call.
        let session: String?
        let principal: Principal
    }

    private func begin(_ request: HTTPRequest, _ principal: Principal) -> Beginning {
        let version = request.fields["MCP-Protocol-Version"].map(RoutingHeader.trimmed)
        guard request.method == "POST" else {
            return .answer(operate(request, principal, version))
        }
        if let type = request.fields["Content-Type"], !MCPEndpoint.isJSON(type) {
            return .answer(
                .json(
                    415,
                    ["error": .string("Content-Type must be application/json, got '\(type.prefix(200))'")]
                )
            )
        }
        let acceptance = Acceptance(request.fields["Accept"])
        guard acceptance != .neither else {
            return .answer(.json(406, ["error": "Accept must allow application/json or text/event-stream"]))
        }
        let value: JSON
        do throws(JSONSyntaxError) {
            value = try JSON.parse(request.body, maximumDepth: MessageLimit.depth)
        } catch {
            return .answer(MCPEndpoint.response(.failure(nil, .parse(error), status: 400), .json))
        }
        let caller = Caller(principal: principal, transport: .http)
        switch HTTPRoute.of(Message(value), header: version) {
        case .refused(let reply): return .answer(MCPEndpoint.response(reply, .json))
        case .dropped: return .answer(HTTPResponse(status: 202))
        case .modern(let message):
            let plan = server.planModern(message, from: caller, fields: request.fields)
            return carryOut(plan, acceptance, session: nil, principal)
        case .initialize(let message):
            return .answer(initialize(message, request, principal))
        case .legacy(let message):
            return withSession(request, principal, message.id) { session, token in
                var caller = caller
                caller.connection = token
                return carryOut(
                    server.plan(message, in: session, from: caller),
                    acceptance,
                    session: token,
                    principal
                )
            }
        case .legacyNotification(let method, let params):
            return withSession(request, principal, nil) { _, token in
                notice(method, params, session: token)
                return .answer(HTTPResponse(status: 202))
            }
        case .legacyResponse:
            return withSession(request, principal, nil) { _, _ in .answer(HTTPResponse(status: 202)) }
        }
    }

    private func carryOut(
        _ plan: Plan,
        _ acceptance: Acceptance,
        session: String?,
        _ principal: Principal
    ) -> Beginning {
        switch plan {
        case .reply(let reply): .answer(MCPEndpoint.response(reply, acceptance))
        case .work(let work):
            .pending(
                PendingCall(work: work, acceptance: acceptance, session: session, principal: principal)
            )
        }
    }

    // MARK: legacy sessions

    /// GET, DELETE and whatever else is not a message.
    private func operate(_ request: HTTPRequest, _ principal: Principal, _ version: String?) -> HTTPResponse {
        let isModern = version.map { ProtocolVersion.modern.contains($0) } ?? false
        let token = request.fields["Mcp-Session-Id"].map(RoutingHeader.trimmed)
        guard request.method == "DELETE", !isModern else {
            return HTTPResponse(status: 405, fields: ["Allow": isModern ? "POST" : "POST, DELETE"])
        }
        guard let token else { return .json(400, ["error": "Missing mcp-session-id"]) }
        let name = sessions.withLock { table in
            table.close(token, by: principal, now: now) { tokens.read($0, of: principal) }
        }
        if let name {
            memory?.ended(name, now: now) { sessions.withLock { $0.known(now: now) } }
            calls.cancelAll(of: token, .disconnected)
        }
        return HTTPResponse(status: 204)
    }

    private func initialize(
        _ message: RequestMessage,
        _ request: HTTPRequest,
        _ principal: Principal
    ) -> HTTPResponse {
        let acceptance = Acceptance(request.fields["Accept"])
        let session: LegacySession
        do throws(ProtocolError) {
            session = try LegacySession(agreeingOn: message)
        } catch {
            return MCPEndpoint.response(.failure(message.id, error), acceptance)
        }
        if let token = request.fields["Mcp-Session-Id"], case .found = look(token, principal) {
            let error = ProtocolError.invalidRequest("the session is initialized already")
            return MCPEndpoint.response(.failure(message.id, error, status: 400), .json)
        }
        let (token, contents) = tokens.issue(session.version, to: principal, now: now)
        guard sessions.withLock({ $0.open(token, contents, session, of: principal, now: now) }) else {
            return MCPEndpoint.full(message.id)
        }
        var response = MCPEndpoint.response(server.answerInitialize(message, session), acceptance)
        response.fields["Mcp-Session-Id"] = token
        return response
    }

    private func look(_ token: String, _ principal: Principal) -> SessionTable.Lookup {
        sessions.withLock { table in
            table.use(token, by: principal, now: now) { tokens.read($0, of: principal) }
        }
    }

    private func withSession(
        _ request: HTTPRequest,
        _ principal: Principal,
        _ id: RequestID?,
        _ body: (LegacySession, String) -> Beginning
    ) -> Beginning {
        guard let token = request.fields["Mcp-Session-Id"].map(RoutingHeader.trimmed) else {
            let error = ProtocolError.invalidRequest("First request must be initialize")
            return .answer(MCPEndpoint.response(.failure(id, error, status: 400), .json))
        }
        switch look(token, principal) {
        case .found(let session): return body(session, token)
        case .unknown: return .answer(MCPEndpoint.unknownSession(id))
        case .full: return .answer(MCPEndpoint.full(id))
        }
    }

    private func notice(_ method: String, _ params: JSON?, session: String) {
        guard let cancelled = CancelledNotice(method, params) else { return }
        calls.cancel(CallTable.Key(session: session, id: cancelled.id), .client(cancelled.reason))
    }

    private static func unknownSession(_ id: RequestID?) -> HTTPResponse {
        let error = ProtocolError.invalidRequest("Unknown MCP session")
        return response(.failure(id, error, status: 404), .json)
    }

    private static func full(_ id: RequestID?) -> HTTPResponse {
        let error = ProtocolError.internalError("Too many MCP sessions with running calls")
        var response = response(.failure(id, error, status: 503), .json)
        response.fields["Retry-After"] = "60"
        return response
    }

    // MARK: answering

    private static func isJSON(_ type: String) -> Bool {
        let essence = type.prefix { $0 != ";" }
        return RoutingHeader.trimmed(String(essence)).lowercased() == "application/json"
    }

    private static func response(_ reply: Reply, _ acceptance: Acceptance) -> HTTPResponse {
        guard acceptance == .streamOnly, reply.status == 200 else {
            return HTTPResponse(
                status: reply.status,
                fields: ["Content-Type": "application/json"],
                body: .bytes(reply.bytes)
            )
        }
        return HTTPResponse(
            status: 200,
            fields: EventStream.fields,
            body: .bytes(EventStream.event(reply.bytes))
        )
    }

    private func answer(_ pending: PendingCall) async -> HTTPResponse {
        let id = pending.work.id
        // It may have been deleted while this waited for a thread, and what runs in a deleted session is cancelled by nobody.
        if let session = pending.session, case .unknown = look(session, pending.principal) {
            return MCPEndpoint.unknownSession(id)
        }
        let cancellation = Cancellation()
        let events: AsyncStream<CallEvent>
        do throws(CallTable.Refusal) {
            events = try start(pending, cancellation)
        } catch {
            let status = if case .idInUse = error { 400 } else { 503 }
            return MCPEndpoint.response(.failure(id, error.error, status: status), .json)
        }
        for await event in events {
            switch event {
            case .finished(let reply?):
                return MCPEndpoint.response(reply, pending.acceptance)
            case .finished(nil):
                let error = ProtocolError.internalError("the request was cancelled")
                return MCPEndpoint.response(.failure(id, error), pending.acceptance)
            case .notification, .silence:
                guard pending.acceptance.allowsStream else { continue }
                return MCPEndpoint.stream(event, then: events) {
                    if pending.session == nil { cancellation.cancel(.disconnected) }
                }
            }
        }
        // The client left before anything was said. Nobody reads this.
        return HTTPResponse(status: 503)
    }

    /// A stream of the events; `abandoned` is called when the client left before its end.
    private static func stream(
        _ first: CallEvent,
        then events: AsyncStream<CallEvent>,
        abandoned: @escaping @Sendable () -> Void
    ) -> HTTPResponse {
        HTTPResponse(
            status: 200,
            fields: EventStream.fields,
            body: .stream { writer in
                do {
                    try await writer.write(EventStream.bytes(for: first))
                    for await event in events {
                        try await writer.write(EventStream.bytes(for: event))
                        if case .finished = event { return }
                    }
                    abandoned()
                } catch {
                    abandoned()
                }
            }
        )
    }

    /// Starts the work in a task of its own.
    ///
    /// Nobody listening to its events any more cancels it in the modern era.
    private func start(
        _ pending: PendingCall,
        _ cancellation: Cancellation
    ) throws(CallTable.Refusal) -> AsyncStream<CallEvent> {
        // The answer is the last event, so that dropping the oldest ones for a slow client never loses it.
        let (events, continuation) = AsyncStream.makeStream(
            of: CallEvent.self,
            bufferingPolicy: .bufferingNewest(256)
        )
        let work = pending.work
        let session = pending.session
        let progress = ProgressReporter(token: pending.acceptance.allowsStream ? work.progressToken : nil) {
            continuation.yield(.notification($0))
        }
        // Counted before there is a task that counts it off again.
        if let session { sessions.withLock { $0.callStarted(session) } }
        var isStarted = false
        defer {
            if !isStarted, let session { sessions.withLock { $0.callEnded(session, now: now) } }
        }
        let key = session.map { CallTable.Key(session: $0, id: work.id) }
        try calls.start(key, cancellation, isAlone: true) { [self] in
            let marks = pending.acceptance.allowsStream ? silence.begin { continuation.yield(.silence) } : nil
            let reply = await work.run(progress, cancellation)
            if let marks { silence.end(marks) }
            progress.close()
            if let session { sessions.withLock { $0.callEnded(session, now: now) } }
            return {
                continuation.yield(.finished(reply))
                continuation.finish()
            }
        }
        isStarted = true
        if session == nil {
            continuation.onTermination = { termination in
                if case .cancelled = termination { cancellation.cancel(.disconnected) }
            }
        }
        return events
    }
}

/// The forms of an answer that a client takes (RFC 9110 section 12.5.1, without weights).
enum Acceptance: Sendable, Equatable {
    case json
    case both
    case streamOnly
    case neither

    /// Reads an Accept header; anything may be sent without one.
    init(_ header: String?) {
        guard let header else {
            self = .json
            return
        }
        var json = false, stream = false
        for range in header.split(separator: ",") {
            switch RoutingHeader.trimmed(String(range.prefix { $0 != ";" })).lowercased() {
            case "application/json", "application/*", "*/*": json = true
            case "text/event-stream", "text/*": stream = true
            default: break
            }
        }
        self =
            switch (json, stream) {
            case (true, true): .both
            case (true, false): .json
            case (false, true): .streamOnly
            case (false, false): .neither
            }
    }

    var allowsStream: Bool { self == .both || self == .streamOnly }
}
