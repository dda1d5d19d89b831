import Appliance
import Jobs
import MCP
import Platform

/// What was asked before, and what runs now.
struct RecordTools: Sendable {
    let services: Services

    var tools: [Tool] { [requestResult, processHealth] }

    private var requestResult: Tool {
        Tool(
            name: "llm_request_result",
            title: "Persisted request lookup",
            description:
                "Find an earlier request of yours by its correlation id: status, reply, usage, cost and timing. Works after a lost connection and after a restart.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "correlationId": [
                        "type": "string", "minLength": 1,
                        "description": "The id that the request's answer carried.",
                    ],
                    "maxChars": [
                        "type": "integer", "minimum": 1000, "maximum": 2_000_000, "default": 200_000,
                        "description":
                            "The most characters of the reply to return; llm_job_result reads a longer one in parts.",
                    ],
                    "includePrompt": [
                        "type": "boolean", "default": false,
                        "description": "Whether to return the prompt too.",
                    ],
                ],
                "required": ["correlationId"], "additionalProperties": false,
            ],
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in try await find(call) }
        )
    }

    private func find(_ call: ToolCall) async throws -> ToolResult {
        let correlation = call.arguments["correlationId"]?.string ?? ""
        let record = try await services.recorder.record(
            of: correlation,
            owner: call.principal.id,
            maximumCharacters: call.arguments["maxChars"]?.int ?? 200_000,
            includePrompt: call.arguments["includePrompt"]?.bool ?? false
        )
        if let record { return .json(["success": true, "request": record]) }
        return .json(
            [
                "success": false, "error": "No persisted request found for this correlation id",
                "correlationId": .string(correlation),
                "hint": .string(
                    services.store == nil
                        ? "config.toml says [persistence] backend = \"none\", so nothing is kept"
                        : "only your own requests are found, and only since records are kept"
                ),
            ],
            isError: true
        )
    }

    private var processHealth: Tool {
        Tool(
            name: "llm_process_health",
            title: "Gateway process health",
            description:
                "Show the jobs that run now with the state, memory and processor use of their processes, which providers are not tried for now, and where records are kept.",
            inputSchema: ["type": "object", "properties": [:], "additionalProperties": false],
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in
                let health = try await services.jobs.health()
                let visible = health.jobs.filter { Ownership.admits($0.owner, call.principal.id) }
                return .json(
                    [
                        "success": true, "runningJobs": .integer(health.running),
                        "queuedJobs": .integer(await services.jobs.counts.queued),
                        "deadJobs": .integer(health.dead),
                        "zombieJobs": .integer(health.zombies), "jobs": .array(visible.map(\.json)),
                        "circuitBreakers": await services.jobs.circuitReport(),
                        "persistence": persistence, "outboundProviders": outboundProviders,
                    ]
                )
            }
        )
    }

    private var persistence: JSON {
        let persistence = services.configuration.persistence
        let sources = services.configuration.sources
        let path = services.store?.path
        return [
            "backend": .string(persistence.backend.rawValue), "path": .optional(path),
            "dbPath": .optional(path),
            "dsn": persistence.dsn == nil ? .null : "[redacted]",
            "retentionDays": .double(persistence.retentionDays),
            "dedupWindowMs": .integer(persistence.dedupWindowMilliseconds),
            "asyncJobsEnabled": .bool(services.asyncJobsEnabled),
            "acknowledgeEphemeral": .bool(persistence.acknowledgeEphemeral),
            "sources": [
                "configFile": .optional(sources.configFile), "envOverrides": .strings(sources.envOverrides),
            ],
            "warning": persistence.backend == .memory ? "records are lost when the gateway ends" : .null,
        ]
    }

    /// The contract's entry for xAI's own interface, which this version does not call.
    private var outboundProviders: JSON {
        let entry = services.configuration.providers.first { $0.name == "xai" }
        let key = entry?.apiKeyEnvironment ?? "XAI_API_KEY"
        return [
            "xai": [
                "configured": .bool(entry != nil), "enabled": false, "apiKeyEnv": .string(key),
                "apiKeyPresent": .bool(
                    services.machine.environment[key].map { !$0.trimmed.isEmpty } ?? false
                ),
                "baseUrl": .optional(entry?.baseURL), "defaultModel": .optional(entry?.defaultModel),
                "mode": "disabled",
            ],
            "sources": ["configFile": .optional(services.configuration.sources.configFile)],
        ]
    }
}

extension ToolResult {
    /// An answer whose text is the JSON, indented, for clients that show text, and the same for programs.
    static func json(_ value: JSON, isError: Bool = false) -> ToolResult {
        ToolResult([.text(value.prettyText)], structuredContent: value, isError: isError)
    }
}
