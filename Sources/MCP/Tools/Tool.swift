package import Appliance

/// A call of a tool, whose arguments fit the tool's input schema.
package struct ToolCall: Sendable {
    /// The tool's name.
    package let tool: String
    /// As the client sent them: who reads them knows the defaults of absent ones.
    package let arguments: JSONObject
    /// Who the call is made for: the owner of whatever it creates.
    package let principal: Principal
    /// How the call came in; what came over HTTP is confined to workspaces.
    package let transport: Transport
    /// Tells clients of one principal apart, for nothing but a fair order; `nil` where nothing does.
    ///
    /// It is a secret of the client's.
    package var connection: String?
    /// The revision of the protocol that the request is served in.
    package let version: ProtocolVersion
    /// Unique among the running calls of one client, not beyond.
    package let requestID: RequestID
    /// `{name, version, …}` of the client, when it said so.
    package let clientInfo: JSON?
    /// What the client can do, in the shape of `ClientCapabilities`.
    package let clientCapabilities: JSONObject
    /// The request's `_meta`, which may carry a trace context.
    package let meta: JSONObject
    /// Where to report how far the call is.
    ///
    /// Silent in an immediate handler.
    package let progress: ProgressReporter
    /// Why the task was cancelled, when it was.
    package let cancellation: Cancellation

    /// How the revision is spoken.
    package var era: Era { version.era }
}

/// What a tool does to the world, for clients that ask before they call (all are hints).
package struct ToolAnnotations: Sendable, Hashable {
    /// Whether it changes nothing.
    package var readOnly: Bool?
    /// Whether what it changes may be lost.
    package var destructive: Bool?
    /// Whether a second call with the same arguments changes nothing more.
    package var idempotent: Bool?
    /// Whether it reaches beyond this machine.
    package var openWorld: Bool?

    /// Hints; what is not said takes the protocol's default.
    package init(
        readOnly: Bool? = nil,
        destructive: Bool? = nil,
        idempotent: Bool? = nil,
        openWorld: Bool? = nil
    ) {
        self.readOnly = readOnly
        self.destructive = destructive
        self.idempotent = idempotent
        self.openWorld = openWorld
    }

    /// As clients see them, with the tool's title, which older ones look for here.
    func json(_ title: String?) -> JSON? {
        let hints = [
            ("readOnlyHint", readOnly), ("destructiveHint", destructive),
            ("idempotentHint", idempotent), ("openWorldHint", openWorld),
        ]
        let given = hints.compactMap { name, value in value.map { (name: name, value: JSON.bool($0)) } }
        let named = title.map { [(name: "title", value: JSON.string($0))] } ?? []
        return given.isEmpty && named.isEmpty ? nil : .object(JSONObject(named + given))
    }
}

/// A tool: what clients see of it, and what it does.
package struct Tool: Sendable {
    /// What is run for a call.
    ///
    /// A thrown `ProtocolError` becomes a JSON-RPC error, a thrown `GatewayError` a result with `isError`.
    package enum Handler: Sendable {
        /// Takes microseconds and never blocks: it runs on the thread that read the request.
        case immediate(@Sendable (ToolCall) throws -> ToolResult)
        /// Runs in a task of its own, which is cancelled with the call.
        case asynchronous(@Sendable (ToolCall) async throws -> ToolResult)
    }

    /// 1 to 128 letters, digits, `_`, `-` or `.`.
    package let name: String
    /// For people.
    package let title: String?
    /// For models: what the tool does and when to use it.
    package let description: String
    /// JSON Schema 2020-12 with `type: "object"` at its root; shown to clients exactly as it is.
    package let inputSchema: JSON
    /// JSON Schema of `structuredContent`.
    ///
    /// Legacy clients see it only when its root is an object.
    package let outputSchema: JSON?
    /// Hints for clients.
    package let annotations: ToolAnnotations
    /// The tool's own words for a violation of its schema, where clients know them; `nil` keeps ours.
    package let rewording: (@Sendable (Violation) -> String?)?
    /// What is run for a call.
    package let handler: Handler

    /// A tool.
    package init(
        name: String,
        title: String? = nil,
        description: String,
        inputSchema: JSON,
        outputSchema: JSON? = nil,
        annotations: ToolAnnotations = ToolAnnotations(),
        rewording: (@Sendable (Violation) -> String?)? = nil,
        handler: Handler
    ) {
        self.name = name
        self.title = title
        self.description = description
        self.inputSchema = inputSchema
        self.outputSchema = outputSchema
        self.annotations = annotations
        self.rewording = rewording
        self.handler = handler
    }

    /// The same tool, for which something is done before each call.
    package func preceded(by preparation: @escaping @Sendable () async -> Void) -> Tool {
        let handler = handler
        return Tool(
            name: name,
            title: title,
            description: description,
            inputSchema: inputSchema,
            outputSchema: outputSchema,
            annotations: annotations,
            rewording: rewording,
            handler: .asynchronous { call in
                await preparation()
                switch handler {
                case .immediate(let answer): return try answer(call)
                case .asynchronous(let answer): return try await answer(call)
                }
            }
        )
    }

    /// The entry of `tools/list`.
    func listing(for era: Era) -> JSON {
        var entry: JSON = ["name": .string(name)]
        if let title { entry["title"] = .string(title) }
        entry["description"] = .string(description)
        entry["inputSchema"] = inputSchema
        if let outputSchema, era == .modern || outputSchema["type"]?.string == "object" {
            entry["outputSchema"] = outputSchema
        }
        if let annotations = annotations.json(title) { entry["annotations"] = annotations }
        return entry
    }
}
