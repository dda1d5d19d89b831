import Appliance
import Platform

/// An MCP server of both eras, without any transport: a request goes in, an answer or the work for one comes out.
///
/// It keeps no state between requests. What the legacy era remembers belongs to the transports.
package struct Server: Sendable {
    /// What the server says of itself.
    package let information: Implementation
    /// How a model should use the tools; shown at the start of a conversation.
    package let instructions: String?
    /// What `tools/list` shows and `tools/call` runs.
    package let tools: ToolRegistry
    /// Declared as a capability only when there are some.
    package let resources: ResourceRegistry?

    private let serverInfo: [UInt8]
    private let modernTools: [UInt8]
    private let legacyTools: [UInt8]
    private let discovery: [UInt8]

    /// A server of these tools; answers that never change are serialized here, once.
    package init(
        information: Implementation,
        instructions: String? = nil,
        tools: ToolRegistry,
        resources: ResourceRegistry? = nil
    ) {
        self.information = information
        self.instructions = instructions
        self.tools = tools
        self.resources = resources
        let identity = information.json(for: .july2026)
        serverInfo = identity.compact
        modernTools =
            Server.cacheable([("tools", .array(tools.tools.map { $0.listing(for: .modern) }))], identity)
            .compact
        legacyTools =
            (["tools": .array(tools.tools.map { $0.listing(for: .legacy) })] as JSON).compact
        var members: [(name: String, value: JSON)] = [
            ("supportedVersions", .strings(ProtocolVersion.modern)),
            ("capabilities", Server.capabilities(resources: resources)),
        ]
        if let instructions { members.append(("instructions", .string(instructions))) }
        discovery = Server.cacheable(members, identity).compact
    }

    /// Exactly what works, nothing that is only planned.
    private static func capabilities(resources: ResourceRegistry?) -> JSON {
        var capabilities: JSON = ["tools": [:]]
        if resources != nil { capabilities["resources"] = [:] }
        return capabilities
    }

    /// A complete modern result that clients may keep.
    ///
    /// It is never said to be fresh or shared: the safe choice.
    private static func cacheable(_ members: [(name: String, value: JSON)], _ identity: JSON) -> JSON {
        .object(
            JSONObject(
                [(name: "resultType", value: "complete")] + members + [
                    (name: "ttlMs", value: 0), (name: "cacheScope", value: "private"),
                    (name: "_meta", value: .object(JSONObject([(EnvelopeKey.serverInfo, identity)]))),
                ]
            )
        )
    }

    // MARK: legacy era

    /// The answer to `initialize`, for a session that was agreed on.
    func answerInitialize(_ request: RequestMessage, _ session: LegacySession) -> Reply {
        var result: JSON = [
            "protocolVersion": .string(session.version.rawValue),
            "capabilities": Server.capabilities(resources: resources),
            "serverInfo": information.json(for: session.version),
        ]
        if let instructions { result["instructions"] = .string(instructions) }
        return .result(request.id, result.compact)
    }

    /// A request within a session.
    ///
    /// Errors travel in band: their HTTP status is 200.
    func plan(_ request: RequestMessage, in session: LegacySession, from caller: Caller) -> Plan {
        let context = RequestContext(
            caller: caller,
            version: session.version,
            clientInfo: session.clientInfo,
            clientCapabilities: session.clientCapabilities,
            meta: request.meta ?? JSONObject()
        )
        if let params = request.params, params.object == nil {
            return .reply(
                .failure(request.id, .invalidParams("'params' must be an object, got \(params.typeName)"))
            )
        }
        switch request.method {
        case "ping": return .reply(.result(request.id, Array("{}".utf8)))
        default: return planCommon(request, context)
        }
    }

    // MARK: modern era

    /// A request with its own envelope, up the ladder: the first step that fails answers.
    ///
    /// Headers are compared only where there are any (`fields`), so stdio skips those steps.
    func planModern(_ request: RequestMessage, from caller: Caller, fields: HTTPFields?) -> Plan {
        let envelope: Envelope
        do throws(ProtocolError) {
            envelope = try Envelope(request)
        } catch {
            return .reply(.failure(request.id, error, status: 400))
        }
        if let fields,
            let error = RoutingHeader.mismatch(request, version: envelope.version, fields: fields)
        {
            return .reply(.failure(request.id, error, status: 400))
        }
        guard let version = ProtocolVersion(rawValue: envelope.version), version.era == .modern else {
            return .reply(.failure(request.id, .unsupportedVersion(envelope.version), status: 400))
        }
        guard knowsModern(request.method) else {
            return .reply(.failure(request.id, .unknownMethod(request.method), status: 404))
        }
        if let fields, request.method == "tools/call", let name = request.members["name"]?.string {
            for parameter in tools[name]?.headers ?? [] {
                guard let error = parameter.mismatch(fields: fields, arguments: request.members["arguments"])
                else { continue }
                return .reply(.failure(request.id, error, status: 400))
            }
        }
        let context = RequestContext(
            caller: caller,
            version: version,
            clientInfo: envelope.clientInfo,
            clientCapabilities: envelope.clientCapabilities,
            meta: envelope.meta
        )
        if request.method == "server/discover" { return .reply(.result(request.id, discovery)) }
        return planCommon(request, context)
    }

    private func knowsModern(_ method: String) -> Bool {
        switch method {
        case "server/discover", "tools/list", "tools/call": true
        case "resources/list", "resources/templates/list", "resources/read": resources != nil
        default: false
        }
    }

    // MARK: both eras

    private func planCommon(_ request: RequestMessage, _ context: RequestContext) -> Plan {
        switch request.method {
        case "tools/list":
            return planList(request, context.version.era == .modern ? modernTools : legacyTools)
        case "tools/call":
            return planCall(request, context)
        case "resources/list", "resources/templates/list", "resources/read":
            guard let resources else {
                return .reply(.failure(request.id, .unknownMethod(request.method)))
            }
            return resources.plan(request, context) { members in
                self.frame(members, for: context.version.era)
            }
        default:
            return .reply(.failure(request.id, .unknownMethod(request.method)))
        }
    }

    /// Lists come in one page, so every cursor is one that we never gave out.
    private func planList(_ request: RequestMessage, _ list: [UInt8]) -> Plan {
        guard request.members["cursor"] == nil else {
            return .reply(.failure(request.id, .invalidParams("'cursor' is not one of this list")))
        }
        return .reply(.result(request.id, list))
    }

    private func frame(_ members: JSONObject, for era: Era) -> [UInt8] {
        guard era == .modern else { return JSON.object(members).compact }
        return Server.cacheable(members.members, information.json(for: .july2026)).compact
    }

    private func planCall(_ request: RequestMessage, _ context: RequestContext) -> Plan {
        let members = request.members
        guard let name = members["name"]?.string else {
            return .reply(.failure(request.id, .invalidParams("'name' is required and must be a string")))
        }
        guard let entry = tools[name] else {
            let near = Suggestion.nearest(to: String(name.prefix(128)), among: tools.tools.map(\.name))
            let hint = near.map { ", did you mean '\($0)'?" } ?? ""
            let text = "Unknown tool: '\(name.prefix(128))'\(hint)"
            return .reply(.failure(request.id, .invalidParams(text)))
        }
        let arguments: JSONObject
        switch members["arguments"] {
        case nil, .null: arguments = JSONObject()
        case .object(let object): arguments = object
        case .some(let other):
            let violation = Violation(path: "/", message: "expected object, got \(other.typeName)")
            return .reply(refuse([violation], of: name, request.id, context.version))
        }
        let violations = entry.schema.violations(of: .object(arguments)).map { violation in
            entry.tool.rewording?(violation).map { Violation(path: violation.path, message: $0) } ?? violation
        }
        guard violations.isEmpty else {
            return .reply(refuse(violations, of: name, request.id, context.version))
        }
        let prepare: @Sendable (ProgressReporter, Cancellation) -> ToolCall = { progress, cancellation in
            ToolCall(
                tool: name,
                arguments: arguments,
                principal: context.caller.principal,
                transport: context.caller.transport,
                connection: context.caller.connection,
                version: context.version,
                requestID: request.id,
                clientInfo: context.clientInfo,
                clientCapabilities: context.clientCapabilities,
                meta: context.meta,
                progress: progress,
                cancellation: cancellation
            )
        }
        switch entry.tool.handler {
        case .immediate(let handler):
            let call = prepare(.silent(), Cancellation())
            return .reply(
                answer(call, Result { try handler(call) })
                    ?? .failure(request.id, .internalError("cancelled"))
            )
        case .asynchronous(let handler):
            let token = RequestID(context.meta["progressToken"])
            return .work(
                Work(id: request.id, progressToken: token) { progress, cancellation in
                    let call = prepare(progress, cancellation)
                    do {
                        let result = try await handler(call)
                        return self.answer(call, .success(result))
                    } catch {
                        return self.answer(call, .failure(error))
                    }
                }
            )
        }
    }

    /// Wrong arguments are something a model can mend, so it should see them: as a result since 2025-11-25, as a
    /// protocol error before.
    private func refuse(
        _ violations: [Violation],
        of tool: String,
        _ id: RequestID,
        _ version: ProtocolVersion
    ) -> Reply {
        let lines = violations.map(\.description)
        let text = "Invalid arguments for tool '\(tool)':\n\(lines.joined(separator: "\n"))"
        guard version >= .november2025 else {
            let list = violations.map { violation -> JSON in
                ["path": .string(violation.path), "message": .string(violation.message)]
            }
            return .failure(id, .invalidParams(text, data: ["violations": .array(list)]))
        }
        return .result(id, ToolResult.failure(text).serialized(for: version.era, serverInfo: serverInfo))
    }

    /// The answer for what a handler did; none when its client cancelled it.
    private func answer(_ call: ToolCall, _ outcome: Result<ToolResult, any Error>) -> Reply? {
        if case .client = call.cancellation.reason { return nil }
        let result: ToolResult
        switch outcome {
        case .success(let value): result = value
        case .failure(let error as ProtocolError):
            let status = call.era == .modern && error.code == -32021 ? 400 : 200
            return .failure(call.requestID, error, status: status)
        case .failure(let error as GatewayError): result = .failure(error)
        case .failure(is CancellationError): result = .failure("The call was cancelled.")
        case .failure(let error): result = .failure("\(error)")
        }
        return .result(call.requestID, result.serialized(for: call.era, serverInfo: serverInfo))
    }
}

/// Who sent a request, and through what.
struct Caller: Sendable {
    let principal: Principal
    let transport: Transport
    /// The session of a legacy client over HTTP.
    var connection: String?
}

/// What a method knows of its request, whatever the era.
struct RequestContext: Sendable {
    let caller: Caller
    let version: ProtocolVersion
    let clientInfo: JSON?
    let clientCapabilities: JSONObject
    let meta: JSONObject
}
