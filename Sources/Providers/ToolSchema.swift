package import Appliance

/// The input schemas of the request tools (JSON Schema 2020-12), and their descriptions.
///
/// Every parameter of the reference is accepted; what a plan cannot serve it refuses by name, so that a misspelled
/// parameter is an error and a known one never is by its mere presence.
package enum ToolSchema {
    /// What a schema depends on.
    package struct Limits: Sendable {
        /// Characters.
        package let maximumPromptCharacters: Int

        /// Limits; the contract's unless given.
        package init(maximumPromptCharacters: Int = 100_000) {
            self.maximumPromptCharacters = maximumPromptCharacters
        }
    }

    /// The schema of `<provider>_request`.
    package static func request(for provider: Provider, limits: Limits = Limits()) -> JSON {
        let own =
            switch provider {
            case .claude: Claude.parameters
            case .codex: Codex.parameters
            case .gemini: Gemini.parameters
            case .grok: Grok.parameters
            case .mistral: Mistral.parameters
            }
        return schema(shared(provider, limits) + own)
    }

    /// What `<provider>_request` does, for a model that chooses a tool.
    package static func description(of provider: Provider) -> String {
        "Run \(provider.displayName) (\(provider.vendor)) with a prompt and wait for its reply. \(note(on: provider))"
    }

    /// What `<provider>_request_async` does.
    package static func asyncDescription(of provider: Provider) -> String {
        """
        Start \(provider.displayName) (\(provider.vendor)) with a prompt as a job and return at once: llm_job_watch waits for it, \
        llm_job_result has its reply. The job goes on whatever becomes of this connection. \(note(on: provider))
        """
    }

    private static func note(on provider: Provider) -> String {
        switch provider {
        case .claude:
            "It reads files of its working directory; permissionMode and allowedTools decide what else it may do."
        case .codex: "It works in a read-only sandbox unless sandboxMode says otherwise."
        case .gemini: "It answers in text; yolo lets it act without asking."
        case .grok: "permissionMode or alwaysApprove decide what it may do."
        case .mistral: "It approves its own tool calls unless permissionMode names another agent."
        }
    }

    /// An object schema without further members.
    static func schema(_ parameters: [Parameter], required: [String] = []) -> JSON {
        var properties = JSONObject()
        for parameter in parameters { properties[parameter.name] = parameter.schema }
        var schema: JSON = [
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": .object(properties), "additionalProperties": false,
        ]
        if !required.isEmpty { schema["required"] = .strings(required) }
        return schema
    }

    /// What all request tools take.
    private static func shared(_ provider: Provider, _ limits: Limits) -> [Parameter] {
        let limit = limits.maximumPromptCharacters
        var parameters: [Parameter] = [
            .text("prompt", "What to do or answer. Either this or promptParts.", length: 1...limit),
            promptParts,
            .text(
                "model",
                "Model name or alias; list_models shows them. Without it the CLI's own default runs."
            ),
            .text(
                "sessionId",
                "Conversation to continue, as the provider named it.",
                minimum: provider.takesBlankIDs ? 0 : 1
            ),
            .toggle(
                "createNewSession",
                "Start a new conversation, whatever else is said about sessions.",
                preset: false
            ),
            .choice(
                "approvalStrategy",
                ["legacy", "mcp_managed"],
                "Who decides about permissions: the parameters of this call (legacy), or the gateway's approval gate.",
                preset: "legacy"
            ),
            .choice(
                "approvalPolicy",
                ["strict", "balanced", "permissive"],
                "How strict the approval gate is; only with mcp_managed."
            ),
            .list("mcpServers", "Names of MCP servers that the run may use.", preset: []),
            .text(
                "correlationId",
                "Your own id for this request; llm_request_result finds it by that. An id that an earlier request has gets a number appended, and the answer says so."
            ),
            .toggle("optimizePrompt", "Shorten the prompt before it is sent.", preset: false),
            .toggle("optimizeResponse", "Shorten the reply before it is returned.", preset: false),
            .toggle("compressResponse", "Fold repetitions in the reply."),
            .integer(
                "idleTimeoutMs",
                "Milliseconds without any output after which the run is ended.",
                in: 30_000...3_600_000
            ),
            .toggle(
                "forceRefresh",
                "Run again although an equal request is running or was just answered.",
                preset: false
            ),
            .choice(
                "record",
                ["full", "metadata", "none"],
                "How much of this request is kept when it is over: prompt and answer (full), what it cost and how it ended (metadata), or nothing (none). Never more than the configuration allows; what is not kept in full is answered once and not shared with equal requests."
            ),
            .text("workspace", "Alias of a registered workspace to run in.", length: 1...64),
            worktree,
            .text("workingDir", "Directory to run in.", minimum: 1),
        ]
        if provider != .claude {
            parameters.append(
                .toggle("resumeLatest", "Continue the most recent conversation.", preset: false)
            )
        }
        return parameters
    }

    private static let promptParts = Parameter(
        "promptParts",
        [
            "type": "object",
            "description":
                "The prompt in parts that are joined by blank lines: what stays the same first, so that the provider can cache it.",
            "properties": [
                "system": ["type": "string", "description": "Standing instructions."],
                "tools": ["type": "string", "description": "How tools are to be used."],
                "context": ["type": "string", "description": "Material to work with."],
                "task": ["type": "string", "minLength": 1, "description": "What to do now."],
                "cacheControl": [
                    "type": "object",
                    "description": "Parts whose end is worth a cache mark (claude with stream-json only).",
                    "properties": ["system": [:], "tools": [:], "context": [:]],
                    "additionalProperties": false,
                ],
            ],
            "required": ["task"],
        ]
    )

    private static let worktree = Parameter(
        "worktree",
        [
            "description":
                "Run in a git worktree of its own: true, or its name and the commit to start from.",
            "anyOf": [
                ["type": "boolean"],
                [
                    "type": "object",
                    "properties": [
                        "name": ["type": "string", "minLength": 1, "maxLength": 64],
                        "ref": ["type": "string", "minLength": 1, "maxLength": 255],
                    ],
                    "additionalProperties": false,
                ],
            ],
        ]
    )
}

extension Provider {
    /// Whether the reference takes an empty `sessionId`, which means none.
    fileprivate var takesBlankIDs: Bool { self == .grok || self == .mistral }
}

/// One parameter of a tool.
struct Parameter: Sendable {
    let name: String
    let schema: JSON

    init(_ name: String, _ schema: JSON) {
        self.name = name
        self.schema = schema
    }

    private init(_ name: String, _ type: String, _ description: String, _ rest: [(String, JSON?)]) {
        var schema: JSON = ["type": .string(type), "description": .string(description)]
        for (key, value) in rest where value != nil { schema[key] = value }
        self.init(name, schema)
    }

    /// A text.
    static func text(_ name: String, _ description: String, minimum: Int = 0) -> Parameter {
        Parameter(name, "string", description, [("minLength", minimum > 0 ? .integer(minimum) : nil)])
    }

    /// A text of bounded length, in characters.
    static func text(_ name: String, _ description: String, length: ClosedRange<Int>) -> Parameter {
        Parameter(
            name,
            "string",
            description,
            [("minLength", .integer(length.lowerBound)), ("maxLength", .integer(length.upperBound))]
        )
    }

    /// One of some words.
    static func choice(
        _ name: String,
        _ words: [String],
        _ description: String,
        preset: String? = nil
    ) -> Parameter {
        Parameter(
            name,
            "string",
            description,
            [("enum", .strings(words)), ("default", preset.map { .string($0) })]
        )
    }

    /// A switch.
    static func toggle(_ name: String, _ description: String, preset: Bool? = nil) -> Parameter {
        Parameter(name, "boolean", description, [("default", preset.map { .bool($0) })])
    }

    /// An integer in a range.
    static func integer(_ name: String, _ description: String, in range: ClosedRange<Int>) -> Parameter {
        Parameter(
            name,
            "integer",
            description,
            [("minimum", .integer(range.lowerBound)), ("maximum", .integer(range.upperBound))]
        )
    }

    /// A list of texts.
    static func list(_ name: String, _ description: String, preset: [String]? = nil) -> Parameter {
        Parameter(
            name,
            "array",
            description,
            [("items", ["type": "string"]), ("default", preset.map { .strings($0) })]
        )
    }

    /// A value of one of several types.
    static func any(_ name: String, _ types: [String], _ description: String) -> Parameter {
        Parameter(name, ["description": .string(description), "type": .strings(types)])
    }
}
