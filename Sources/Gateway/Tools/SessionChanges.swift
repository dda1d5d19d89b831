import Appliance
import Jobs
import MCP

/// The tools that change which conversations are remembered; each sees and changes its caller's own only.
extension SessionTools {
    private static func provider(_ description: String) -> JSON {
        ["type": "string", "enum": .strings(providers), "description": .string(description)]
    }

    private static let sessionID: JSON = [
        "type": "string", "description": "The id that session_list shows.",
    ]

    var create: Tool {
        Tool(
            name: "session_create",
            title: "Create session record",
            description:
                "Remember a new conversation with a provider under an id of the gateway's; it begins with the first request that names it.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "cli": SessionTools.provider("The provider."),
                    "description": ["type": "string", "description": "Words by which you know it again."],
                    "setAsActive": [
                        "type": "boolean", "default": true,
                        "description":
                            "Whether it becomes the active one of its provider. The first one does in any case.",
                    ],
                ],
                "required": ["cli"], "additionalProperties": false,
            ],
            annotations: ToolAnnotations(
                readOnly: false,
                destructive: false,
                idempotent: false,
                openWorld: false
            ),
            handler: .asynchronous { call in
                let caller = call.principal.id
                let provider = call.arguments["cli"]?.string ?? ""
                let session = try await services.sessions.create(
                    provider,
                    description: call.arguments["description"]?.string.flatMap { $0.isEmpty ? nil : $0 },
                    caller: caller,
                    activation: call.arguments["setAsActive"]?.bool == false ? .whenFirst : .always
                )
                let active = services.sessions.active(provider, caller: caller)
                return .json(
                    [
                        "success": true,
                        "session": [
                            "id": .string(session.id), "cli": .string(session.provider),
                            "description": .string(session.description),
                            "createdAt": .string(session.created),
                            "isActive": .bool(active?.id == session.id),
                        ],
                    ]
                )
            }
        )
    }

    var activate: Tool {
        Tool(
            name: "session_set_active",
            title: "Set active session",
            description:
                "Make one of your conversations the active one of its provider, or none with sessionId null. A claude request that says nothing about sessions continues the active one.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "cli": SessionTools.provider("The provider."),
                    "sessionId": [
                        "type": ["string", "null"],
                        "description": "The id that session_list shows; null for none.",
                    ],
                ],
                "required": ["cli", "sessionId"], "additionalProperties": false,
            ],
            annotations: ToolAnnotations(
                readOnly: false,
                destructive: false,
                idempotent: true,
                openWorld: false
            ),
            handler: .asynchronous { call in
                let provider = call.arguments["cli"]?.string ?? ""
                let id = call.arguments["sessionId"]?.string
                let isSet = try await services.sessions.setActive(id, of: provider, caller: call.principal.id)
                guard isSet else {
                    return .json(
                        [
                            "success": false,
                            "error": "Session not found or does not belong to the specified provider",
                        ],
                        isError: true
                    )
                }
                return .json(["success": true, "cli": .string(provider), "activeSessionId": .optional(id)])
            }
        )
    }

    var delete: Tool {
        Tool(
            name: "session_delete",
            title: "Delete session",
            description:
                "Forget one of your conversations. What the provider itself keeps of it stays, and so do the records of its requests.",
            inputSchema: [
                "type": "object", "properties": ["sessionId": SessionTools.sessionID],
                "required": ["sessionId"], "additionalProperties": false,
            ],
            annotations: .forgetting,
            handler: .asynchronous { call in
                let id = call.arguments["sessionId"]?.string ?? ""
                guard let gone = try await services.sessions.delete(id, caller: call.principal.id) else {
                    return .json(
                        ["success": false, "error": "Session not found", "sessionId": .string(id)],
                        isError: true
                    )
                }
                return .json(
                    [
                        "success": true,
                        "deletedSession": [
                            "id": .string(gone.id), "cli": .string(gone.provider),
                            "description": .string(gone.description),
                        ],
                    ]
                )
            }
        )
    }

    var clear: Tool {
        Tool(
            name: "session_clear_all",
            title: "Clear sessions",
            description: "Forget all of your conversations, with one provider or with all of them.",
            inputSchema: [
                "type": "object",
                "properties": ["cli": SessionTools.provider("One provider; all when absent.")],
                "additionalProperties": false,
            ],
            annotations: .forgetting,
            handler: .asynchronous { call in
                let provider = call.arguments["cli"]?.string
                let gone = try await services.sessions.clear(caller: call.principal.id, provider: provider)
                return .json(
                    [
                        "success": true, "deletedCount": .integer(gone.count),
                        "cli": .string(provider ?? "all"),
                    ]
                )
            }
        )
    }
}

extension ToolAnnotations {
    /// What is forgotten does not come back, and a second call forgets nothing more.
    fileprivate static let forgetting = ToolAnnotations(
        readOnly: false,
        destructive: true,
        idempotent: true,
        openWorld: false
    )
}
