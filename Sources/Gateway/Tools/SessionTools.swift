import Appliance
import Jobs
import MCP
import Platform
import Providers

/// The conversations that a caller held before.
struct SessionTools: Sendable {
    let services: Services

    var tools: [Tool] { [create, list, activate, get, delete, clear] }

    /// The providers of the contract that sessions are kept for.
    static let providers = Provider.allCases.map(\.rawValue) + ["grok-api"]

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
            handler: .asynchronous { call in
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
                session["cacheState"] = await cacheState(of: record, caller: call.principal.id)
                return .json(["success": true, "session": session])
            }
        )
    }

    /// How a conversation used its provider's prompt cache; `nil` when nothing is recorded of it.
    private func cacheState(of record: SessionRecord, caller: String) async -> JSON? {
        let found: ConversationCacheUse?
        do throws(GatewayError) {
            found = try await services.recorder.cacheUse(ofConversation: record.id, owner: caller)
        } catch {
            // The record of requests is a part of the answer, and no reason for not giving the rest.
            services.log.error(error)
            return nil
        }
        guard let use = found else { return nil }
        let requests = use.byModel.reduce(0) { $0 + $1.requests }
        let hits = use.byModel.reduce(0) { $0 + $1.hits }
        let savings = use.byModel.reduce(0) {
            $0 + CachePrices.savings(provider: $1.provider, model: $1.model, tokens: $1.readTokens)
        }
        return [
            "cli": .string(record.provider), "prefixDistinct": .integer(use.prefixes),
            "totalCacheReadTokens": .integer(use.byModel.reduce(0) { $0 + $1.readTokens }),
            "totalCacheCreationTokens": .integer(use.creationTokens), "requestCount": .integer(requests),
            "hitCount": .integer(hits), "hitRate": .double(Double(hits) / Double(requests)),
            "estimatedSavingsUsd": .double(savings),
            "ttlRemainingMs": .optional(record.provider == Provider.claude.rawValue ? remaining(use) : nil),
        ]
    }

    /// Milliseconds for which claude's provider still keeps the prompt of the last request.
    private func remaining(_ use: ConversationCacheUse) -> Int? {
        guard let last = use.lastRequest else { return nil }
        let kept = use.keptSeconds ?? services.configuration.cacheAwareness.anthropicTTLSeconds
        let elapsed = services.machine.clock.now().milliseconds - last.milliseconds
        return max(0, kept * 1000 - Int(elapsed))
    }
}
