import Appliance
import Jobs
import MCP
import Platform
import Providers

/// The asynchronous form of a request tool: the same way up to the job, and an answer as soon as it is written down.
extension RequestTool {
    var asyncTool: Tool {
        tool(
            provider.asyncRequestTool,
            title: "\(RequestTool.title(provider)) (async job)",
            description: ToolSchema.asyncDescription(of: provider)
        ) { call in await start(call) }
    }

    private func start(_ call: ToolCall) async -> ToolResult {
        let correlation = correlation(call)
        let prepared: Prepared
        do throws(GatewayError) {
            prepared = try prepare(call, correlation)
        } catch {
            return Answer.refusal(provider, error, correlation)
        }
        let taken = await take(prepared, call, isAwaited: false)
        do throws(GatewayError) {
            let begun = try taken.begun.get()
            return .json(started(await snapshot(of: begun, call), begun, prepared, call))
        } catch {
            return Answer.refusal(provider, error, taken.correlation, taken.warnings)
        }
    }

    /// The job as it is now; what cannot be told, because it is over and the store does not answer, is left out.
    private func snapshot(of begun: Begun, _ call: ToolCall) async -> JSON {
        if let snapshot = begun.snapshot { return snapshot.json }
        do throws(GatewayError) {
            if let found = try await services.jobs.find(begun.handle.id, for: call.principal.id) {
                return found.snapshot.json
            }
        } catch {
            services.log.error(error)
        }
        return [
            "id": .string(begun.handle.id), "cli": .string(provider.rawValue),
            "correlationId": .string(begun.correlation),
        ]
    }

    /// The contract's answer to an asynchronous start (section 1.6).
    private func started(
        _ job: JSON,
        _ begun: Begun,
        _ prepared: Prepared,
        _ call: ToolCall
    ) -> JSON {
        var body: JSON = [
            "success": true, "job": job, "sessionId": .optional(begun.sessionID),
        ]
        // With claude and codex every conversation that has an id can be resumed.
        if provider != .claude, provider != .codex { body["resumable"] = .bool(begun.sessionID != nil) }
        body["approval"] = .null
        body["mcpServers"] = ["requested": call.arguments["mcpServers"] ?? []]
        if !begun.warnings.isEmpty { body["warnings"] = .array(begun.warnings.map(\.json)) }
        return body
    }
}
