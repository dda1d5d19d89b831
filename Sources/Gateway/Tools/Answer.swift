import Appliance
import Jobs
import MCP
import Platform
import Providers

/// The answer of a request tool, in the contract's forms (section 1.6).
///
/// What the contract has beside `structuredContent` is there, and inside as well, where programs look that only see that.
struct Answer: Sendable {
    let provider: Provider
    let correlation: String
    /// The model that answered or was asked for; `nil` where the CLI chose and does not say.
    let model: String?
    let warnings: [RequestWarning]

    /// The answer for a run that came to its end; throws what reading a long reply throws.
    func toolResult(
        _ result: ProviderResult,
        _ outcome: JobOutcome
    ) async throws(GatewayError) -> ToolResult {
        let text = try await result.reply.read()
        if result.isError || outcome.status == .canceled { return failure(result, outcome, text) }
        var body: JSON = [
            "response": .string(text), "model": .string(model ?? "default"),
            "cli": .string(provider.rawValue), "correlationId": .string(correlation),
            "sessionId": .optional(result.sessionID),
            "durationMs": .integer(outcome.exit?.durationMilliseconds ?? 0),
        ]
        if let usage = result.usage {
            body["inputTokens"] = .integer(usage.input)
            body["outputTokens"] = .integer(usage.output)
            body["cacheReadTokens"] = usage.cacheRead.map { .integer($0) }
            body["cacheCreationTokens"] = usage.cacheCreation.map { .integer($0) }
        }
        body["costUsd"] = result.costUSD.map { .double($0) }
        body["exitCode"] = 0
        body["retryCount"] = .integer(outcome.retryCount)
        if let turns = result.turns { body["numTurns"] = .integer(turns) }
        if isResumptionTold { body["resumable"] = .bool(result.sessionID != nil) }
        addWarnings(&body)
        return Answer.completed(.text(text, structuredContent: body))
    }

    /// With claude and codex every conversation that has an id can be resumed.
    private var isResumptionTold: Bool { provider != .claude && provider != .codex }

    /// Puts what callers may look for beside `structuredContent` there.
    private static func completed(_ result: ToolResult) -> ToolResult {
        var result = result
        for name in ["sessionId", "resumable", "warnings"] {
            if let value = result.structuredContent?[name], !value.isNull { result.beside[name] = value }
        }
        return result
    }

    private func failure(_ result: ProviderResult, _ outcome: JobOutcome, _ partial: String) -> ToolResult {
        let text = result.errorText ?? "Error executing \(provider.rawValue) CLI: the run was canceled"
        var body: JSON = [
            "response": .string(text), "correlationId": .string(correlation),
            "cli": .string(provider.rawValue),
            "exitCode": .integer(result.exitCode),
            "errorCategory": .string((result.category ?? .cliError).rawValue),
            "retryable": .bool(result.category?.isRetryable ?? false),
            "sessionId": .optional(result.sessionID),
            "durationMs": .integer(outcome.exit?.durationMilliseconds ?? 0),
        ]
        if let wait = outcome.refusal?.retryAfter { body["retryAfterMs"] = .integer(wait.milliseconds) }
        body["retryCount"] = .integer(outcome.retryCount)
        body["circuitBreakerState"] = .string(outcome.circuit)
        if let status = result.apiStatus { body["httpStatus"] = .integer(status) }
        if !partial.isEmpty { body["partialResponse"] = .string(partial) }
        addWarnings(&body)
        return Answer.completed(.failure(text, structuredContent: body))
    }

    private func addWarnings(_ body: inout JSON) { Answer.add(warnings, to: &body) }

    private static func add(_ warnings: [RequestWarning], to body: inout JSON) {
        if !warnings.isEmpty { body["warnings"] = .array(warnings.map(\.json)) }
    }

    /// The answer for a request without a run: refused before anything started, or its caller did not wait.
    static func refusal(
        _ provider: Provider,
        _ error: GatewayError,
        _ correlation: String,
        _ warnings: [RequestWarning] = []
    ) -> ToolResult {
        let category = ErrorCategory(code: error.code)
        let text = FailureWording.text(provider, notStarted: error)
        var body: JSON = [
            "response": .string(text), "correlationId": .string(correlation),
            "cli": .string(provider.rawValue),
            "exitCode": .integer(category == .spawnError ? ExitRecord.code(of: error) : 1),
            "errorCategory": .string(category.rawValue), "retryable": .bool(category.isRetryable),
        ]
        if let retryAfter = error.retryAfter { body["retryAfterMs"] = .integer(retryAfter.milliseconds) }
        add(warnings, to: &body)
        return completed(.failure(text, structuredContent: body))
    }
}
