package import Appliance
import Glibc
package import Platform

/// `exit.json`: how a provider run ended.
package struct ExitRecord: Sendable, Equatable {
    /// What ended the run if it was not the provider itself.
    package enum Intervention: String, Sendable, CaseIterable {
        /// The run took longer than `ProcessLimits.wall`.
        case wallTime = "wall-time"
        /// Nothing was written for `ProcessLimits.idle`.
        case idleTime = "idle-time"
        /// More was written than `ProcessLimits.output`.
        case outputLimit = "output-limit"
        /// The runner was told to end it.
        case canceled
    }

    /// What a record means for its job.
    package enum Verdict: Sendable, Equatable, CaseIterable {
        /// Exit code 0, no intervention, no error.
        case succeeded
        /// Anything else that nobody asked for.
        case failed
        /// The runner was told to end it, and did.
        case canceled

        /// The final status.
        package var status: JobStatus {
            switch self {
            case .succeeded: .completed
            case .failed: .failed
            case .canceled: .canceled
            }
        }
    }

    /// The contract's numbers: the provider's own, 124 wall clock, 125 silence, 126 not startable or too much output,
    /// 127 not found, 128+n signal n.
    package var exitCode: Int32
    /// The signal that ended the provider.
    package var signal: Int32?
    /// `nil` when the provider ended by itself or was never started.
    package var intervention: Intervention?
    /// When the runner took up the job, by the wall clock.
    package var started: Timestamp
    /// When the provider was collected and its output complete, by the wall clock; `durationMilliseconds` is
    /// the reliable one.
    package var finished: Timestamp
    /// By a clock that nobody sets.
    package var durationMilliseconds: Int
    /// Bytes in `stdout`.
    package var outputBytes: Int
    /// Bytes in `stderr`.
    package var errorBytes: Int
    /// Whether the provider wrote more than was kept.
    package var outputTruncated: Bool
    /// The largest resident size among the provider's processes, KiB.
    package var maximumResidentKilobytes: Int?
    /// User and system time of the provider's processes.
    package var processorMilliseconds: Int?
    /// Why the provider could not be started or its output not be kept.
    package var error: GatewayError?

    /// A record of a run that never came to be.
    package init(failure: GatewayError, at instant: Timestamp) {
        exitCode = ExitRecord.code(of: failure)
        started = instant
        finished = instant
        durationMilliseconds = 0
        outputBytes = 0
        errorBytes = 0
        outputTruncated = false
        error = failure
    }

    /// The contract's number for a program that could not be started: 127 when it is not there, else 126.
    package static func code(of failure: GatewayError) -> Int32 {
        failure.code == "command-not-found" ? 127 : 126
    }

    init(
        status: ProcessStatus,
        intervention: ProcessIntervention?,
        started: Timestamp,
        finished: Timestamp,
        durationMilliseconds: Int
    ) {
        switch intervention {
        case .wallTime: (self.intervention, exitCode) = (.wallTime, 124)
        case .idleTime: (self.intervention, exitCode) = (.idleTime, 125)
        case .outputLimit: (self.intervention, exitCode) = (.outputLimit, 126)
        case .cancelled: (self.intervention, exitCode) = (.canceled, status.code)
        case nil: (self.intervention, exitCode) = (nil, status.code)
        }
        if case .signalled(let number) = status { signal = number }
        self.started = started
        self.finished = finished
        self.durationMilliseconds = durationMilliseconds
        outputTruncated = intervention == .outputLimit
        outputBytes = 0
        errorBytes = 0
    }

    /// Says that the kernel has ended a process of the job because memory ran out.
    ///
    /// That ends a CLI by SIGKILL, and an older service manager then tells the whole scope to end, as if somebody had
    /// cancelled the job. A CLI that survived the end of a tool has its own say.
    mutating func blameMemory() {
        guard signal != nil, intervention == nil || intervention == .canceled, error == nil else { return }
        intervention = nil
        exitCode = 128 + SIGKILL
        error = GatewayError(
            "out-of-memory",
            "the kernel ended a process of the job because memory ran out",
            help: "give the machine more memory, or let fewer jobs run at once: max_running_jobs in [limits]"
        )
    }

    /// What the record means for the job.
    package var verdict: Verdict {
        if intervention == .canceled, error == nil { return .canceled }
        return exitCode == 0 && intervention == nil && error == nil ? .succeeded : .failed
    }

    /// The file's form.
    package var json: JSON {
        [
            "exitCode": .integer(exitCode), "signal": signal.map { .integer($0) } ?? .null,
            "intervention": .optional(intervention?.rawValue),
            "startedAt": .string(started.iso8601), "finishedAt": .string(finished.iso8601),
            "durationMs": .integer(durationMilliseconds), "stdoutBytes": .integer(outputBytes),
            "stderrBytes": .integer(errorBytes), "outputTruncated": .bool(outputTruncated),
            "maxRssKb": .optional(maximumResidentKilobytes), "cpuMs": .optional(processorMilliseconds),
            "error": error?.json["error"] ?? .null,
        ]
    }

    /// Reads an `exit.json`; `nil` when it is none.
    package init?(json: JSON) {
        guard let exitCode = json["exitCode"]?.int,
            let started = json["startedAt"]?.string.flatMap(Timestamp.init(iso8601:)),
            let finished = json["finishedAt"]?.string.flatMap(Timestamp.init(iso8601:)),
            let duration = json["durationMs"]?.int, let output = json["stdoutBytes"]?.int,
            let error = json["stderrBytes"]?.int
        else { return nil }
        self.exitCode = Int32(clamping: exitCode)
        signal = json["signal"]?.int.map { Int32(clamping: $0) }
        intervention = json["intervention"]?.string.flatMap(Intervention.init(rawValue:))
        self.started = started
        self.finished = finished
        durationMilliseconds = duration
        outputBytes = output
        errorBytes = error
        outputTruncated = json["outputTruncated"]?.bool ?? false
        maximumResidentKilobytes = json["maxRssKb"]?.int
        processorMilliseconds = json["cpuMs"]?.int
        self.error = json["error"].flatMap(GatewayError.init(body:))
    }

    /// Reads the `exit.json` of a job; `nil` when there is none that is whole.
    ///
    /// Throws what the file system throws when it cannot be told.
    package static func of(
        _ directory: JobDirectory,
        files: Files = Files()
    ) throws(GatewayError) -> ExitRecord? {
        try RecordFile.readIfWhole(directory.exit, files).flatMap(ExitRecord.init(json:))
    }
}

/// `runner.jsonl`: who runs a job.
///
/// The first line is written before the provider is started and tells of the runner. The second one is appended then, and tells of
/// the provider; a line without its line feed is not there yet.
package struct RunnerRecord: Sendable, Equatable {
    /// The `run-job` process, which outlives the gateway.
    package var runner: ProcessIdentity
    /// `nil` until the provider was started.
    package var provider: ProcessIdentity?
    /// When the runner took up the job, by the wall clock.
    package var started: Timestamp
    /// The control group of the job's scope, as /proc/PID/cgroup names it; `nil` where it has none.
    package var group: String?

    init(runner: ProcessIdentity, started: Timestamp) {
        self.runner = runner
        self.started = started
    }

    /// The scope's group, where it still is there: not after another boot, and not under the name of another job.
    func scope(of job: String) -> ControlGroup? {
        guard let group, runner.boot == ProcessTable.boot, !job.isEmpty,
            Files.name(of: group).hasSuffix(RunnerScope.suffix(of: job))
        else { return nil }
        return ControlGroup(path: group)
    }

    /// Writes the first line: from now on the job has begun.
    func begin(in directory: JobDirectory, _ files: Files) throws(GatewayError) {
        let line: JSON = [
            "runner": runner.json, "startedAt": .string(started.iso8601), "controlGroup": .optional(group),
        ]
        try files.write(line.compact + [0x0A], to: directory.runner, durable: false)
    }

    /// Appends the second line: from now on it is known whom to end should the runner be gone.
    mutating func add(
        provider: ProcessIdentity,
        in directory: JobDirectory,
        _ files: Files
    ) throws(GatewayError) {
        self.provider = provider
        let line: JSON = ["provider": provider.json]
        try files.append(line.compact + [0x0A], to: directory.runner)
    }

    /// Reads the `runner.jsonl` of a job; `nil` when there is none that is whole.
    ///
    /// Throws what the file system throws when it cannot be told.
    package static func of(
        _ directory: JobDirectory,
        files: Files = Files()
    ) throws(GatewayError) -> RunnerRecord? {
        guard let bytes = try files.readIfPresent(directory.runner) else { return nil }
        let lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false).dropLast().map { line in
            try? JSON.parse(Array(line))
        }
        guard let first = lines.first ?? nil, let runner = ProcessIdentity(json: first["runner"]),
            let started = first["startedAt"]?.string.flatMap(Timestamp.init(iso8601:))
        else { return nil }
        var record = RunnerRecord(runner: runner, started: started)
        record.group = first["controlGroup"]?.string
        if lines.count > 1 { record.provider = ProcessIdentity(json: lines[1]?["provider"]) }
        return record
    }
}
