import Appliance
import Jobs
import MCP
import Platform
import Providers

/// What becomes of runs that nobody waits for: their state, their output, news of them, and their end.
///
/// A job is found wherever it is: here, under another gateway of this home, on another machine that shares the database, or
/// finished in the store. Whoever does not own it
/// gets the answer of a job that does not exist.
struct JobTools: Sendable {
    let services: Services

    var tools: [Tool] { [status, result, cancel, watch] }

    private static let jobID: JSON = [
        "type": "string", "description": "The id that the start of the job answered with.",
    ]

    private static func notFound(_ id: String) -> ToolResult {
        .json(["success": false, "error": "Job not found", "jobId": .string(id)], isError: true)
    }

    private func id(_ call: ToolCall) -> String { call.arguments["jobId"]?.string ?? "" }

    // MARK: state

    private var status: Tool {
        Tool(
            name: "llm_job_status",
            title: "Async job status",
            description:
                "Show the state of a job of yours: queued, running, completed, failed, canceled or orphaned, with how much it has written. llm_job_watch waits for news instead.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "jobId": JobTools.jobID, "afterProgressSeq": JobTools.afterProgress,
                    "progressLimit": JobTools.progressLimit,
                ],
                "required": ["jobId"], "additionalProperties": false,
            ],
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in
                guard let found = try await services.jobs.find(id(call), for: call.principal.id) else {
                    return JobTools.notFound(id(call))
                }
                return .json(JobTools.state(found, call))
            }
        )
    }

    private static let afterProgress: JSON = [
        "type": "integer", "minimum": 0,
        "description":
            "The progressSeq of an earlier answer: what has happened since counts. Without it, what happens from now on.",
    ]

    /// The reference's bound on the events that it repeats; here what has happened is one number.
    private static let progressLimit: JSON = [
        "type": "integer", "minimum": 1, "maximum": 64, "default": 32,
        "description": "Without effect: progress is told as one number, progressSeq.",
    ]

    private static func state(_ found: FoundJob, _ call: ToolCall) -> JSON {
        var body: JSON = [
            "success": true, "job": found.snapshot.json, "progressSeq": .integer(found.progress),
        ]
        if let seen = call.arguments["afterProgressSeq"]?.int {
            body["hasProgressed"] = .bool(found.progress > seen)
        }
        return body
    }

    // MARK: news

    private var watch: Tool {
        Tool(
            name: "llm_job_watch",
            title: "Watch async job progress",
            description:
                "Wait until something happens to a job of yours: another state or more output, or with until 'end' its end. Answers with its state, at the latest after waitMs; while it waits, what the job writes is told as progress.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "jobId": JobTools.jobID,
                    "waitMs": [
                        "type": "integer", "minimum": 0, "maximum": 30_000, "default": 30_000,
                        "description": "How long to wait at most, in milliseconds.",
                    ],
                    "until": [
                        "type": "string", "enum": .strings(JobScheduler.WatchEnd.allCases.map(\.rawValue)),
                        "default": "change",
                        "description": "What to wait for: any change, or the end of the job.",
                    ],
                    "afterProgressSeq": JobTools.afterProgress, "progressLimit": JobTools.progressLimit,
                ],
                "required": ["jobId"], "additionalProperties": false,
            ],
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in try await news(call) }
        )
    }

    private func news(_ call: ToolCall) async throws -> ToolResult {
        // The job goes on without us; whoever waits here shall not hold up a gateway that stops.
        call.cancellation.yieldToShutdown()
        let found = try await services.jobs.watch(
            id(call),
            for: call.principal.id,
            until: call.arguments["until"]?.string.flatMap(JobScheduler.WatchEnd.init(rawValue:)) ?? .change,
            after: call.arguments["afterProgressSeq"]?.int,
            within: .milliseconds(call.arguments["waitMs"]?.int ?? 30_000)
        ) { job in
            let bytes = job.outputBytes + job.errorBytes
            call.progress.report(
                Double(bytes),
                job.status == .queued
                    ? "the job waits for its turn" : "\(job.provider) has written \(bytes) bytes"
            )
        }
        guard let found else { return JobTools.notFound(id(call)) }
        return .json(JobTools.state(found, call))
    }

    // MARK: output

    private var result: Tool {
        Tool(
            name: "llm_job_result",
            title: "Async job result",
            description:
                "Show what a job of yours has written, also while it runs: its reply, or the stream of a streaming outputFormat, and its standard error. Long output is read in parts, by the offsets that the answer gives.",
            inputSchema: [
                "type": "object",
                "properties": [
                    "jobId": JobTools.jobID,
                    "maxChars": [
                        "type": "integer", "minimum": 1000, "maximum": 2_000_000, "default": 200_000,
                        "description": "The most characters to return of each stream.",
                    ],
                    "stdoutOffsetChars": [
                        "type": "integer", "minimum": 0, "default": 0,
                        "description":
                            "Characters of stdout to leave out: the stdoutNextOffsetChars of the part before.",
                    ],
                    "stderrOffsetChars": [
                        "type": "integer", "minimum": 0, "default": 0,
                        "description": "The same for stderr.",
                    ],
                    "rawOutput": [
                        "type": "boolean", "default": false,
                        "description": "Return stdout as the CLI wrote it, in place of the reply in it.",
                    ],
                ],
                "required": ["jobId"], "additionalProperties": false,
            ],
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in try await output(call) }
        )
    }

    private func output(_ call: ToolCall) async throws -> ToolResult {
        guard let found = try await services.jobs.find(id(call), for: call.principal.id),
            let shown = try await shown(found, call)
        else { return JobTools.notFound(id(call)) }
        var body = found.snapshot.json
        body["stdout"] = .string(shown.output.text)
        body["stderr"] = .string(shown.errors.text)
        body["stdoutTruncated"] = .bool(shown.output.isTruncated)
        body["stderrTruncated"] = .bool(shown.errors.isTruncated)
        body["stdoutNextOffsetChars"] = .integer(shown.output.next)
        body["stderrNextOffsetChars"] = .integer(shown.errors.next)
        var answer: JSON = ["success": true, "result": body]
        answer["parsed"] = shown.parsed
        if let host = found.snapshot.host {
            answer["message"] = .string(
                "The job runs on '\(host)': what it has written so far can be read there, and here once it is over."
            )
        }
        if !shown.warnings.isEmpty { answer["warnings"] = .array(shown.warnings.map(\.json)) }
        return .json(answer)
    }

    private struct Shown: Sendable {
        var output: TextWindow
        var errors: TextWindow
        var parsed: JSON?
        /// Of a finished run, such as that it failed though it ended with status 0.
        var warnings: [RequestWarning] = []
    }

    /// The parts that are asked for; `nil` when the job was removed meanwhile.
    ///
    /// A reply is read from everything that was written, the stream of a run that goes on only as far as it is shown.
    private func shown(_ found: FoundJob, _ call: ToolCall) async throws -> Shown? {
        let limit = call.arguments["maxChars"]?.int ?? 200_000
        let output = TextWindow(offset: call.arguments["stdoutOffsetChars"]?.int ?? 0, limit: limit)
        let errors = TextWindow(offset: call.arguments["stderrOffsetChars"]?.int ?? 0, limit: limit)
        let form = OutputForm(found.snapshot)
        let showsReply = form.holdsReply && call.arguments["rawOutput"]?.bool != true
        let isOver = found.snapshot.status.isFinal
        guard showsReply || isOver, let provider = form.provider else {
            guard let windows = try await services.jobs.windows(of: found, output, errors) else { return nil }
            return Shown(output: windows.output, errors: windows.errors)
        }
        guard let written = try await services.jobs.output(of: found) else { return nil }
        let reading = try await services.completion.read(
            written,
            of: found.snapshot,
            provider: provider,
            outputFormat: form.name,
            caller: call.principal.id
        )
        // Much is read on a thread of its own.
        let isLong = written.output.isLong || written.errorOutput.isLong
        let window: @Sendable () throws(GatewayError) -> Shown = { () throws(GatewayError) in
            Shown(
                output: showsReply ? try output.over(reading.reply) : try output.over(written.output),
                errors: try errors.over(written.errorOutput)
            )
        }
        var shown = isLong ? try await BlockingThread.run("job-output", window) : try window()
        if isOver { shown.warnings = reading.warnings }
        if isOver, form.isParsed {
            shown.parsed = try await parsed(reading, found.snapshot, call.principal.id)
        }
        return shown
    }

    /// What the stream of a finished run says; usage and cost are those of the run, as its record has them.
    private func parsed(_ reading: ProviderResult, _ job: JobSnapshot, _ caller: String) async throws -> JSON
    {
        var record: JSON?
        if reading.costUSD == nil || reading.usage == nil, let correlation = job.correlationID {
            record = try await services.recorder.record(of: correlation, owner: caller, maximumCharacters: 0)
            if record?["asyncJobId"]?.string != job.id { record = nil }
        }
        let input = reading.usage?.input ?? record?["inputTokens"]?.int
        let usage: JSON =
            input == nil
            ? .null
            : [
                "inputTokens": .optional(input),
                "outputTokens": .optional(reading.usage?.output ?? record?["outputTokens"]?.int),
                "cacheReadInputTokens": .optional(
                    reading.usage?.cacheRead ?? record?["cacheReadTokens"]?.int
                ),
                "cacheCreationInputTokens": .optional(
                    reading.usage?.cacheCreation ?? record?["cacheCreationTokens"]?.int
                ),
            ]
        return [
            "text": .string(try await reading.reply.read()),
            "costUsd": .optional(reading.costUSD ?? record?["costUsd"]?.number),
            "usage": usage, "model": .optional(reading.model ?? record?["model"]?.string),
            "numTurns": .optional(reading.turns),
        ]
    }

    // MARK: end

    private var cancel: Tool {
        Tool(
            name: "llm_job_cancel",
            title: "Cancel async job",
            description:
                "End a job of yours that waits or runs, with everything that it has started; what it wrote stays.",
            inputSchema: [
                "type": "object", "properties": ["jobId": JobTools.jobID], "required": ["jobId"],
                "additionalProperties": false,
            ],
            annotations: ToolAnnotations(
                readOnly: false,
                destructive: true,
                idempotent: true,
                openWorld: false
            ),
            handler: .asynchronous { call in
                let id = id(call)
                let reason: String
                switch try await services.jobs.cancel(id, for: call.principal.id) {
                case .accepted: return .json(["success": true, "jobId": .string(id)])
                case .notFound: reason = "Job not found"
                case .over(let status): reason = "Job is already \(status.rawValue)"
                case .unreachable:
                    reason = "Job has no live process (orphaned from prior gateway run)"
                }
                return .json(
                    ["success": false, "jobId": .string(id), "reason": .string(reason)],
                    isError: true
                )
            }
        )
    }
}

/// In which form a job's output was asked for, and what its standard output therefore is.
private struct OutputForm {
    /// `nil` for a row of another program.
    let provider: Provider?
    /// The tool's `outputFormat`.
    let name: String

    init(_ job: JobSnapshot) {
        provider = Provider(rawValue: job.provider)
        name = job.outputFormat ?? (provider == .claude ? "stream-json" : "text")
    }

    /// Whether the reply is wrapped in what the CLI writes, though the caller asked for no stream.
    var holdsReply: Bool {
        switch provider {
        case .gemini, nil: false
        case .claude, .codex, .mistral: !isStream
        case .grok: !isStream && name != "plain"
        }
    }

    private var isStream: Bool { name.hasPrefix("stream") }

    /// Whether the contract has what the stream says beside it.
    var isParsed: Bool { name == "stream-json" }
}
