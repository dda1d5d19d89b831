import Appliance
import Jobs
import MCP
import Providers

/// The conversations that a caller held before.
struct SessionTools: Sendable {
    let services: Services

    var tools: [Tool] { [list, get] }

    /// The providers of the contract that sessions are kept for.
    private static let providers = Provider.allCases.map(\.rawValue) + ["grok-api"]

    private var list: Tool {
        Tool(
            name: "session_list",
            title: "List sessions",
            description:
                "List your conversations with the providers, of one provider or of all, and which of them is active.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "cli": [
                        "type": "string", "enum": .strings(SessionTools.providers),
                        "description": "One provider; all when absent.",
                    ]
                ],
                "additionalProperties": false,
            ],
            annotations: .readOnlyLookup,
            handler: .immediate { call in
                let caller = call.principal.id
                let records = services.sessions.list(caller: caller, provider: call.arguments["cli"]?.string)
                var active = JSONObject()
                for provider in SessionTools.providers {
                    active[provider] = .optional(services.sessions.active(provider, caller: caller)?.id)
                }
                return .json(
                    [
                        "total": .integer(records.count),
                        "sessions": .array(
                            records.map { record in
                                [
                                    "id": .string(record.id), "cli": .string(record.provider),
                                    "description": .string(record.description),
                                    "createdAt": .string(record.created),
                                    "lastUsedAt": .string(record.lastUsed),
                                    "isActive": .bool(active[record.provider]?.string == record.id),
                                ]
                            }
                        ),
                        "activeSessions": .object(active),
                    ]
                )
            }
        )
    }

    private var get: Tool {
        Tool(
            name: "session_get",
            title: "Get session",
            description: "Show one of your conversations with everything that the gateway keeps of it.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "sessionId": ["type": "string", "description": "The id that session_list shows."]
                ],
                "required": ["sessionId"], "additionalProperties": false,
            ],
            annotations: .readOnlyLookup,
            handler: .immediate { call in
                let id = call.arguments["sessionId"]?.string ?? ""
                guard let record = services.sessions.session(id, caller: call.principal.id) else {
                    return .json(
                        ["success": false, "error": "Session not found", "sessionId": .string(id)],
                        isError: true
                    )
                }
                var session = record.json
                let active = services.sessions.active(record.provider, caller: call.principal.id)
                session["isActive"] = .bool(active?.id == record.id)
                return .json(["success": true, "session": session])
            }
        )
    }
}
