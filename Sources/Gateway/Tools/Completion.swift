import Appliance
import Jobs
import Platform
import Providers
import Synchronization

/// What becomes of a job's output: the same for a caller who waits and for a job that an earlier gateway started.
///
/// 1. Read the output as the provider's contract says, this run's part of running totals included.
/// 2. Keep the conversation and its new running total, with the total that this run was counted from. A run that ends
///    without a total leaves none: what it used is in the next one, and cannot be told apart there.
/// 3. Close the request's record.
///
/// After a crash the next gateway does it all again, whichever step was the last: a job whose total is kept already is
/// counted from where it was counted from before, and a record that is closed stays as it is.
///
/// The scheduler calls it before it commits a job. A caller that waits says so beforehand and takes the result afterwards,
/// so that each output is read once: a running total can be told apart only once.
final class Completion: Sendable {
    private let recorder: FlightRecorder
    private let conversations: Conversations
    private let log: Log
    /// Results of jobs that somebody waits for, by job id.
    private let expected = Mutex<[String: ProviderResult?]>([:])

    init(recorder: FlightRecorder, conversations: Conversations, log: Log) {
        self.recorder = recorder
        self.conversations = conversations
        self.log = log
    }

    /// Keeps the result of a job for `take`.
    func expect(_ job: String) { expected.withLock { $0[job] = .some(nil) } }

    /// The result of an expected job that is over; `nil` while it runs.
    ///
    /// Ends the expectation.
    func take(_ job: String) -> ProviderResult? { expected.withLock { $0.removeValue(forKey: job) ?? nil } }

    /// What a job carries from its start to its end, also across a restart.
    struct Context: Sendable {
        var reading: ReadingContext
        var owner: String
        var workspace: String?
        /// Whether the conversation can be continued later and is to be kept.
        var keepsConversation: Bool
        /// Whether the caller named the conversation, so that it may become the active one.
        var isNamed: Bool

        var json: JSON {
            [
                "reading": reading.json, "owner": .string(owner), "workspace": .optional(workspace),
                "keepsConversation": .bool(keepsConversation), "isNamed": .bool(isNamed),
            ]
        }

        init(
            reading: ReadingContext,
            owner: String,
            workspace: String?,
            keepsConversation: Bool,
            isNamed: Bool
        ) {
            self.reading = reading
            self.owner = owner
            self.workspace = workspace
            self.keepsConversation = keepsConversation
            self.isNamed = isNamed
        }

        /// Reads the stored form; `nil` when it is something else.
        init?(json: JSON) {
            guard let reading = json["reading"].flatMap(ReadingContext.init(json:)),
                let owner = json["owner"]?.string
            else { return nil }
            self.init(
                reading: reading,
                owner: owner,
                workspace: json["workspace"]?.string,
                keepsConversation: json["keepsConversation"]?.bool ?? false,
                isNamed: json["isNamed"]?.bool ?? false
            )
        }
    }

    /// Brings a finished job to its end, and says what became of it; one that no tool of ours started is left alone.
    @discardableResult
    func finish(_ outcome: JobOutcome) async -> RunVerdict {
        guard let context = Context(json: outcome.spec.context) else { return RunVerdict() }
        let run: OutputReader.Run
        do throws(GatewayError) {
            run = try await Completion.read(Completion.output(of: outcome), context.reading)
        } catch {
            log.error(error)
            // It is collected once more later.
            return RunVerdict(isRecorded: false)
        }
        let job = outcome.spec.id
        let began = Completion.beginning(of: outcome)
        var base: RunningTotal?
        var result = run.result { id in
            base = conversations.total(of: id, owner: context.owner, before: began)
            return base
        }
        if let step = run.sessionID.flatMap({ conversations.step(of: job, in: $0, owner: context.owner) }) {
            base = step.base
            result = run.result { _ in step.base }
        }
        if context.keepsConversation {
            do throws(GatewayError) {
                try await keep(result, context, outcome, base)
            } catch {
                log.error(error)
            }
        }
        let isRecorded = await record(result, outcome)
        expected.withLock { expected in
            if expected[job] != nil { expected[job] = .some(result) }
        }
        var verdict = Completion.verdict(on: result, outcome)
        verdict.isRecorded = isRecorded
        return verdict
    }

    /// What `finish` has made of a job, for another request that shares it; `nil` for a job that no tool of ours started.
    ///
    /// Changes nothing: the run's part of a running total is told apart as it was then. Throws what reading throws.
    func reread(_ outcome: JobOutcome) async throws(GatewayError) -> ProviderResult? {
        guard let context = Context(json: outcome.spec.context) else { return nil }
        let run = try await Completion.read(Completion.output(of: outcome), context.reading)
        guard let id = run.sessionID,
            let step = conversations.step(of: outcome.spec.id, in: id, owner: context.owner)
        else { return run.result() }
        return run.result { _ in step.base }
    }

    /// Whether a failed run may succeed at the next attempt, and what that would run.
    ///
    /// There is none where a tool may have been run, or a conversation would be told the same twice: one that is continued,
    /// and one that the caller has named.
    static func judge(_ outcome: JobOutcome, newSessionID: String) -> FailedAttempt {
        guard var context = Context(json: outcome.spec.context) else { return FailedAttempt() }
        // What cannot be read says nothing.
        guard let result = try? OutputReader.read(output(of: outcome), context.reading).result() else {
            return FailedAttempt()
        }
        var judgement = FailedAttempt(isTransient: result.isTransient)
        guard result.isTransient, result.hasRunNoTool, case .new(nil) = context.reading.session else {
            return judgement
        }
        var arguments = outcome.spec.arguments
        if let chosen = context.reading.chosenSessionID {
            arguments = arguments.map { $0 == chosen ? newSessionID : $0 }
            context.reading.chosenSessionID = newSessionID
        }
        judgement.next = FailedAttempt.Next(arguments: arguments, context: context.json)
        return judgement
    }

    /// Closes the record of a request that shared another one's run; its usage and cost are in the record of that one.
    func finishShared(_ correlationID: String, _ result: ProviderResult, _ outcome: JobOutcome) async {
        let end = Completion.ending(result, outcome)
        await recorder.complete(correlationID, end, job: outcome.spec.id)
    }

    /// Reads a run; long output on a thread of its own, which nobody waits for who has something else to do.
    private static func read(
        _ output: RunOutput,
        _ context: ReadingContext
    ) async throws(GatewayError) -> OutputReader.Run {
        guard output.standardOutput.isLong || output.standardError.isLong else {
            return try OutputReader.read(output, context)
        }
        return try await BlockingThread.run("output-reader") { () throws(GatewayError) in
            try OutputReader.read(output, context)
        }
    }

    private static func output(of outcome: JobOutcome) -> RunOutput {
        RunOutput(
            standardOutput: outcome.output,
            standardError: outcome.errorOutput,
            files: outcome.files,
            ending: ending(of: outcome)
        )
    }

    private static func verdict(on result: ProviderResult, _ outcome: JobOutcome) -> RunVerdict {
        guard result.isError else { return RunVerdict() }
        let category = result.category ?? .cliError
        return RunVerdict(errorCategory: category.rawValue, isRetryable: category.isRetryable)
    }

    /// Reads the output of a run for somebody who asks for it later, or before the run has ended; nothing is kept.
    ///
    /// `provider` and `outputFormat` are for a job of another program, which left no context. Throws what reading throws.
    func read(
        _ output: JobOutput,
        of job: JobSnapshot,
        provider: Provider,
        outputFormat: String,
        caller: String
    ) async throws(GatewayError) -> ProviderResult {
        let context =
            Context(json: output.context)?.reading
            ?? ReadingContext(provider: provider, outputFormat: outputFormat, session: .new(id: nil))
        let run = RunOutput(
            standardOutput: output.output,
            standardError: output.errorOutput,
            files: output.files,
            ending: .exited(Int32(clamping: job.exitCode ?? 0))
        )
        return try await Completion.read(run, context).result { id in
            conversations.step(of: job.id, in: id, owner: caller)?.base
        }
    }

    /// Keeps what a run has brought a conversation to; a failed run without a total may have brought it on as well.
    private func keep(
        _ result: ProviderResult,
        _ context: Context,
        _ outcome: JobOutcome,
        _ base: RunningTotal?
    ) async throws(GatewayError) {
        let ended = outcome.exit?.finished ?? conversations.now()
        let step = Conversations.Step(job: outcome.spec.id, base: base, ended: ended)
        if let id = result.sessionID, !result.isError || result.runningTotal != nil {
            let overlaps = conversations.hasMovedOn(
                id,
                owner: context.owner,
                since: Completion.beginning(of: outcome)
            )
            let total = overlaps ? nil : result.runningTotal
            try await conversations.keep(id, context, total: total, after: step)
        } else if outcome.hasBegun {
            try await conversations.loseTotal(of: result.sessionID, context, after: step)
        }
    }

    /// When the run itself began: what ended while it waited for its turn was not going on beside it.
    private static func beginning(of outcome: JobOutcome) -> Timestamp {
        outcome.exit?.started ?? outcome.spec.submitted
    }

    private func record(_ result: ProviderResult, _ outcome: JobOutcome) async -> Bool {
        var end = Completion.ending(result, outcome)
        end.inputTokens = result.usage?.input
        end.outputTokens = result.usage?.output
        end.cacheReadTokens = result.usage?.cacheRead
        end.cacheCreationTokens = result.usage?.cacheCreation
        end.costUSD = result.costUSD
        return await recorder.complete(outcome.spec.correlationID, end, job: outcome.spec.id)
    }

    /// How a run ended, without what it used.
    private static func ending(_ result: ProviderResult, _ outcome: JobOutcome) -> FlightEnd {
        let isCanceled = outcome.status == .canceled
        var end = FlightEnd(
            succeeded: !result.isError && !isCanceled,
            response: result.isError ? Completion.failureText(outcome, result) : result.reply,
            durationMilliseconds: outcome.exit?.durationMilliseconds ?? 0
        )
        end.exitCode = outcome.exit?.exitCode
        end.errorMessage =
            isCanceled ? "canceled by caller" : outcome.message ?? (result.isError ? result.errorText : nil)
        end.retryCount = outcome.retryCount
        end.circuitBreakerState = outcome.circuit
        end.model = result.model
        end.sessionID = result.sessionID
        end.thinking = result.thinking
        end.httpStatus = result.apiStatus
        end.recording = outcome.spec.recording
        end.provider = outcome.spec.provider
        return end
    }

    /// The contract's response of a failure: standard error, else standard output.
    private static func failureText(_ outcome: JobOutcome, _ result: ProviderResult) -> WrittenText {
        let error = WrittenText(outcome.errorOutput)
        // What cannot be read is not blank; who writes it down finds out.
        if (try? error.isBlank()) != true { return error }
        return result.reply.isEmpty ? WrittenText(outcome.output) : result.reply
    }

    private static func ending(of outcome: JobOutcome) -> RunEnding {
        if let refusal = outcome.refusal {
            return ErrorCategory(code: refusal.code) == .spawnError
                ? .launchFailed(refusal.description, code: ExitRecord.code(of: refusal)) : .refused(refusal)
        }
        guard let exit = outcome.exit else {
            return .launchFailed(outcome.message ?? "the job was lost", code: 126)
        }
        if let error = exit.error { return .launchFailed(error.description, code: exit.exitCode) }
        switch exit.intervention {
        case .wallTime: return .timedOut
        case .idleTime: return .idleTimeout
        case .outputLimit: return .outputOverflow(limit: outcome.spec.limits.output)
        case .canceled, nil: break
        }
        return exit.signal.map { .signalled($0) } ?? .exited(exit.exitCode)
    }
}
