package import Appliance
package import Platform

/// What a run produced, in one shape for every provider.
package struct ProviderResult: Sendable, Equatable {
    /// The reply in the format that the caller asked for; may be partial when `isError`.
    ///
    /// Where it is what the CLI wrote as it stands, and that is long, it refers to it.
    package var reply: WrittenText = ""
    /// The conversation, as the CLI names it.
    package var sessionID: String?
    /// The model that answered, where the CLI says.
    package var model: String?
    /// What this run used; `nil` where the CLI does not say or its running total cannot be differenced.
    package var usage: Usage?
    /// US dollars of this run; `nil` where unknown.
    package var costUSD: Double?
    /// Whether the run failed; an exit-0 run without an answer has failed too.
    package var isError = false
    /// Why it failed.
    package var category: ErrorCategory?
    /// The whole text of an error answer: "Error executing codex CLI (exit code 1):\n…".
    package var errorText: String?
    /// Whether the same request may succeed at the next attempt: the network failed, or the wall clock ran out.
    package var isTransient = false
    /// Whether the output shows that no tool was run; `false` also where it does not show tools.
    package var hasRunNoTool = false
    /// The HTTP status of the provider's API that ended the run.
    package var apiStatus: Int?
    /// Turns of the model in this run.
    package var turns: Int?
    /// What the caller should know.
    package var warnings: [RequestWarning] = []
    /// The model's visible reasoning, in order.
    package var thinking: [String] = []
    /// The conversation's total after this run, to be stored with the session for the next one.
    package var runningTotal: RunningTotal?
    /// What the process ended with, in the contract's numbers.
    package var exitCode: Int32 = 0
}

/// Tokens of one run.
///
/// `input` is what the CLI calls input: claude's excludes what came from its cache, codex's and vibe's includes it.
package struct Usage: Sendable, Equatable {
    /// Tokens; see above for what the CLIs count in.
    package var input: Int
    /// Tokens of the reply, reasoning included where the CLI counts it.
    package var output: Int
    /// Tokens that came from the provider's cache; `nil` where the CLI does not say, 0 where it says none.
    package var cacheRead: Int?
    /// Tokens that were added to the provider's cache; `nil` where the CLI does not say.
    package var cacheCreation: Int?

    /// Tokens of a run, or of a conversation so far.
    package init(input: Int, output: Int, cacheRead: Int? = nil, cacheCreation: Int? = nil) {
        self.input = input
        self.output = output
        self.cacheRead = cacheRead
        self.cacheCreation = cacheCreation
    }
}

/// What a CLI says that a whole conversation has used so far.
package struct RunningTotal: Sendable, Equatable {
    /// Tokens; `nil` where the CLI counts only money (claude).
    package var usage: Usage?
    /// US dollars; `nil` where the CLI counts only tokens (codex).
    package var costUSD: Double?

    /// A total of tokens, of money or of both.
    package init(usage: Usage? = nil, costUSD: Double? = nil) {
        self.usage = usage
        self.costUSD = costUSD
    }

    /// The form in which a session keeps it.
    package var json: JSON {
        var json: JSON = [:]
        if let usage {
            json["inputTokens"] = .integer(usage.input)
            json["outputTokens"] = .integer(usage.output)
            json["cacheReadTokens"] = .optional(usage.cacheRead)
            json["cacheCreationTokens"] = .optional(usage.cacheCreation)
        }
        if let costUSD { json["costUsd"] = .double(costUSD) }
        return json
    }

    /// Reads the stored form; `nil` when it says nothing.
    package init?(json: JSON) {
        if let input = json["inputTokens"]?.int, let output = json["outputTokens"]?.int {
            usage = Usage(
                input: input,
                output: output,
                cacheRead: json["cacheReadTokens"]?.int,
                cacheCreation: json["cacheCreationTokens"]?.int
            )
        }
        costUSD = json["costUsd"]?.number
        if usage == nil, costUSD == nil { return nil }
    }
}

/// How a run's process came to its end.
package enum RunEnding: Sendable, Equatable {
    /// Ended by itself with this code, 0 to 255.
    case exited(Int32)
    /// Ended by this signal.
    case signalled(Int32)
    /// The wall clock ran out.
    case timedOut
    /// It was silent for too long.
    case idleTimeout
    /// It wrote more than the limit, in bytes.
    case outputOverflow(limit: Int)
    /// It could not be started; with the contract's number, 127 for a program that is not there and 126 for another reason.
    case launchFailed(String, code: Int32 = 127)
    /// It was never to be started: nobody had room for it in time, or what was asked for was refused.
    case refused(GatewayError)

    /// The contract's number: 124 wall clock, 125 idle, 126 overflow or not startable, 127 not there, 128+n signal, and 1
    /// where nothing was to be started.
    package var exitCode: Int32 {
        switch self {
        case .exited(let status): status
        case .signalled(let signal): 128 + signal
        case .timedOut: 124
        case .idleTimeout: 125
        case .outputOverflow: 126
        case .launchFailed(_, let code): code
        case .refused: 1
        }
    }
}

/// Everything that a run left behind.
package struct RunOutput: Sendable {
    /// As written, at most the job's output limit.
    package var standardOutput: WrittenBytes
    /// As written; together with standard output at most the job's output limit.
    package var standardError: WrittenBytes
    /// The files that `ReadingContext.collected` named and that exist.
    package var files: [String: [UInt8]]
    /// How the process ended, which decides between an answer and an error.
    package var ending: RunEnding

    /// What a run left; what is left out is empty.
    package init(
        standardOutput: WrittenBytes = [],
        standardError: WrittenBytes = [],
        files: [String: [UInt8]] = [:],
        ending: RunEnding
    ) {
        self.standardOutput = standardOutput
        self.standardError = standardError
        self.files = files
        self.ending = ending
    }
}

/// The kinds of failure that a tool reports.
package enum ErrorCategory: String, Sendable, CaseIterable {
    /// The wall clock ran out.
    case timeout
    /// The CLI was silent for longer than the idle timeout.
    case idleTimeout = "idle_timeout"
    /// The CLI is not there or could not be started.
    case spawnError = "spawn_error"
    /// The CLI ran and failed, for whatever reason that is not one of the others.
    case cliError = "cli_error"
    /// The CLI's words name a missing or expired login.
    case authError = "auth_error"
    /// The CLI wrote more than the job's output limit.
    case outputOverflow = "output_overflow"
    /// The prompt is longer than the configuration allows; nothing was started.
    case inputTooLarge = "input_too_large"
    /// The request is not one that the CLI's contract or the registered workspaces allow; nothing was started.
    case invalidInput = "invalid_input"
    /// No room for another job, or none in time; nothing was started.
    case saturated
    /// What may be run or spent on one day is used up; nothing was started.
    case budgetExceeded = "budget_exceeded"

    /// The kind of an error that kept a request from starting.
    package init(code: String) {
        switch code {
        case "input-too-large": self = .inputTooLarge
        case "invalid-input", "unsupported-parameter", "contract-violation", "unknown-model",
            "session-refused",
            "workspace-required", "unknown-workspace", "provider-not-allowed", "workspace-missing",
            "path-refused",
            "directory-not-found":
            self = .invalidInput
        case "saturated", "turn-missed", "circuit-open": self = .saturated
        case "budget-exceeded": self = .budgetExceeded
        case "canceled": self = .cliError
        default: self = .spawnError
        }
    }

    /// Whether the same request may succeed later without a change.
    package var isRetryable: Bool {
        switch self {
        case .timeout, .idleTimeout, .saturated, .budgetExceeded: true
        default: false
        }
    }
}
