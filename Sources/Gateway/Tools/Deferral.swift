import Appliance
import Jobs
import MCP
import Providers

/// The answer of a call that waited for its run no longer: the run's handle, in the contract's form (section 1.6).
struct Deferral: Sendable {
    /// Why nobody waits any more.
    enum Cause: Sendable {
        /// The deadline of synchronous calls.
        case deadline
        /// The gateway stops.
        case shutdown
    }

    private let provider: Provider
    private let begun: RequestTool.Begun
    private let cause: Cause
    /// Whether there are tools for jobs.
    private let hasJobTools: Bool
    /// Whether the answer will be found later.
    private let isRecorded: Bool

    init(_ provider: Provider, _ begun: RequestTool.Begun, _ cause: Cause, _ services: Services) {
        self.provider = provider
        self.begun = begun
        self.cause = cause
        hasJobTools = services.asyncJobsEnabled
        isRecorded = services.store != nil
    }

    var toolResult: ToolResult {
        var body: JSON = [
            "status": "deferred", "jobId": .string(begun.handle.id), "cli": .string(provider.rawValue),
            "correlationId": .string(begun.correlation), "message": .string(message),
            "sessionId": .optional(begun.sessionID),
        ]
        if hasJobTools {
            body["pollWith"] = "llm_job_status"
            body["collectWith"] = "llm_job_result"
            body["cancelWith"] = "llm_job_cancel"
        } else if isRecorded {
            body["collectWith"] = "llm_request_result"
        }
        if !begun.warnings.isEmpty { body["warnings"] = .array(begun.warnings.map(\.json)) }
        return .json(body)
    }

    private var message: String {
        switch cause {
        case .deadline:
            """
            \(provider.executable) is still working and goes on. llm_job_watch waits for it, llm_job_result has what it \
            wrote, and llm_request_result finds its answer by the correlationId.
            """
        case .shutdown where !isRecorded:
            """
            The gateway is stopping and \(provider.executable) goes on without it. Its answer is lost: config.toml says \
            [persistence] backend = "none", so nothing is kept.
            """
        case .shutdown:
            """
            The gateway is stopping and \(provider.executable) goes on without it. Ask llm_request_result for \
            correlationId '\(begun.correlation)' once the gateway is back.
            """
        }
    }
}
