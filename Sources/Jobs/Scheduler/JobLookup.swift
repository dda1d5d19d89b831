package import Appliance
import Glibc
package import Platform

/// A job as its callers see it, wherever it is.
package struct FoundJob: Sendable {
    /// What can be said of it now.
    package var snapshot: JobSnapshot
    /// What the request left for whoever reads the output; `nil` where only the store has it.
    package var context: JSON?
    /// Its files; `nil` when what is left of it is in the store.
    var directory: JobDirectory?
    /// Relative names of files that belong to the output.
    var collected: [String] = []
    /// Bytes that one of its files may have.
    var limit = 0

    /// A number that rises with everything that happens to the job: 0 while it waits, then the bytes that it has written, and
    /// 1 more for its start and for its end.
    package var progress: Int {
        guard snapshot.status != .queued else { return 0 }
        return 1 + snapshot.outputBytes + snapshot.errorBytes + (snapshot.status.isFinal ? 1 : 0)
    }
}

/// Everything that a job has written.
package struct JobOutput: Sendable {
    /// Standard output.
    package var output: WrittenBytes
    /// Standard error.
    package var errorOutput: WrittenBytes
    /// What `JobRequest.collected` named and existed, by relative name.
    package var files: [String: [UInt8]]
    /// What the request left for whoever reads this.
    package var context: JSON
}

extension JobScheduler {
    /// How long the end of a job may take to be written down before it is told as running.
    private static let commitPatience = Duration.seconds(5)
    /// How long after a runner has written its end this gateway may take to hear of it, or to decide on another attempt.
    private static let noticePatience = Duration.milliseconds(500)

    /// Finds a job of the caller's: one that waits or runs here, one of another gateway of this home, or a finished one.
    ///
    /// What belongs to somebody else is not there (`nil`). Throws what the file system and the store throw.
    package func find(_ id: String, for caller: String) async throws(GatewayError) -> FoundJob? {
        guard JobFiles.isPlain(id) else { return nil }
        if let job = jobs[id] {
            guard Ownership.admits(job.spec.owner, caller) else { return nil }
            let isOver = job.machine.status.isFinal
            // Other gateways read the end from its files before this one hears of it: all are to say the same.
            if !isOver, !job.isFoundOver, !machine.files.exists(job.directory.exit) { return found(job) }
            // A moment later it is where everybody finds it.
            let isSoon = !isOver || job.isFoundOver
            let patience = isSoon ? JobScheduler.noticePatience : JobScheduler.commitPatience
            if await job.handle.outcome(within: patience) == nil, !job.isFoundOver {
                // Others read it from its files.
                if isOver, let end = try inDirectory(job.directory, caller), end.snapshot.status.isFinal {
                    return end
                }
                var late = found(job)
                late.snapshot.status = .running
                return late
            }
        }
        if let found = try inDirectory(directory(of: id), caller) {
            if found.snapshot.status.isFinal || machine.files.exists(directory(of: id).runner) {
                return found
            }
            // It may have ended before it began, and there was no room to write that down beside it.
            guard let row = (try? await store?.job(id)) ?? nil, row.status.isFinal, row.status != .orphaned
            else { return found }
        }
        let kept = try inDirectory(keptDirectory(of: id), caller)
        guard let store, var snapshot = try await store.job(id) else { return kept }
        guard Ownership.admits(snapshot.owner, caller) else { return nil }
        if isElsewhere(snapshot.host) {
            // Somebody wants to know what becomes of it, should its machine be gone.
            if snapshot.host != nil { attend() }
        } else {
            snapshot.host = nil
        }
        // The store has its end, and what is kept aside its output.
        guard var kept else { return FoundJob(snapshot: snapshot) }
        snapshot.outputFormat = kept.snapshot.outputFormat
        kept.snapshot = snapshot
        return kept
    }

    private func found(_ job: Job) -> FoundJob {
        FoundJob(
            snapshot: snapshot(of: job),
            context: job.spec.context,
            directory: job.directory,
            collected: job.spec.collected,
            limit: JobScheduler.fileLimit(job.spec)
        )
    }

    /// The runner keeps to the limit, and writes a piece at most beyond it.
    private static func fileLimit(_ spec: JobSpec) -> Int { spec.limits.output + (1 << 20) }

    /// A job of another gateway, one whose end could not be written to the store, or one that is not recorded in full and kept
    /// aside for its caller.
    private func inDirectory(
        _ directory: JobDirectory,
        _ caller: String
    ) throws(GatewayError) -> FoundJob? {
        let spec: JobSpec
        do throws(GatewayError) {
            guard try machine.files.status(directory.spec) != nil else { return nil }
            spec = try JobSpec(directory, files: machine.files)
        } catch {
            // Removed in this moment: the store has it.
            guard error.code == "file-not-found" else { throw error }
            return nil
        }
        let id = spec.id
        let isKept = directory == keptDirectory(of: id)
        guard isKept || directory.id == id, Ownership.admits(spec.owner, caller) else { return nil }
        let end = try end(of: directory)
        var exit = try ExitRecord.of(directory, files: machine.files)
        let hasBegun = machine.files.exists(directory.runner) || machine.files.exists(directory.retry)
        var status =
            end?.status ?? exit?.verdict.status ?? (isKept ? .orphaned : hasBegun ? .running : .queued)
        if end == nil, !isKept, status == .failed, try mayBeTriedAgain(spec, directory) {
            (status, exit) = (.running, nil)
        }
        let message =
            end != nil
            ? end?.message
            : status == .canceled && isCancelMarked(id)
                ? JobScheduler.canceledByCaller : exit.flatMap { JobFiles.message($0, status, spec) }
        // Removed while it was read: the store has it.
        guard try isThere(directory) else { return nil }
        return FoundJob(
            snapshot: JobSnapshot(
                id: id,
                provider: spec.provider,
                status: status,
                started: spec.submitted.iso8601,
                finished: (end?.finished ?? exit?.finished)?.iso8601,
                exitCode: exit.map { Int($0.exitCode) },
                correlationID: spec.correlationID,
                outputTruncated: exit?.outputTruncated ?? false,
                outputBytes: exit?.outputBytes ?? size(directory.standardOutput),
                errorBytes: exit?.errorBytes ?? size(directory.standardError),
                error: message,
                owner: spec.owner,
                outputFormat: spec.outputFormat
            ),
            context: spec.context,
            directory: directory,
            collected: spec.collected,
            limit: JobScheduler.fileLimit(spec)
        )
    }

    /// Whether a job whose runner has failed may go on: another gateway decides on that, or the next one does where it is gone, or
    /// a decision of an earlier one is to be carried out.
    private func mayBeTriedAgain(_ spec: JobSpec, _ directory: JobDirectory) throws(GatewayError) -> Bool {
        let gateway = try directory.adopted(machine.files) ?? spec.instance
        if gateway != registry.name { return true }
        return try !directory.isOver(machine.files)
    }

    /// Jobs that run under other gateways of this home, or for which this one did not know yet that they do; what is damaged or
    /// somebody else's is left out, as an adoption tells of it.
    ///
    /// Throws what the file system throws when it cannot be told.
    func runningElsewhere() throws(GatewayError) -> [(JobSpec, JobDirectory)] {
        var found: [(JobSpec, JobDirectory)] = []
        for name in try machine.files.list(layout.jobs) where JobFiles.isPlain(name) {
            guard jobs[name]?.machine.status ?? .queued == .queued else { continue }
            let directory = directory(of: name)
            do throws(GatewayError) {
                guard try machine.files.status(directory.runner) != nil,
                    try machine.files.status(directory.exit) == nil, try end(of: directory) == nil
                else { continue }
                found.append((try JobSpec(directory, files: machine.files), directory))
            } catch {
                // It was removed meanwhile, or is none that can run here.
                let own: Set = ["file-not-found", "job-damaged", "permission-denied", "file-too-large"]
                guard own.contains(error.code) else { throw error }
            }
        }
        return found
    }

    // MARK: output

    /// Everything that a job has written so far; `nil` when it has been removed meanwhile.
    package func output(of found: FoundJob) async throws(GatewayError) -> JobOutput? {
        if let directory = found.directory {
            let files = machine.files
            let read = try await BlockingThread.run("job-output") { () throws(GatewayError) in
                JobOutput(
                    output: try JobFiles.written(directory.standardOutput, limit: found.limit),
                    errorOutput: try JobFiles.written(directory.standardError, limit: found.limit),
                    files: try JobFiles.collect(
                        found.collected,
                        from: directory,
                        limit: found.limit,
                        files: files
                    ),
                    context: found.context ?? .null
                )
            }
            if try isThere(directory) { return read }
            if let kept = keptSince(found) { return try await self.output(of: kept) }
        }
        return try await store?.output(of: found.snapshot.id, staging: layout.jobs)
    }

    /// Parts of the two streams of a job; `nil` when it has been removed meanwhile.
    ///
    /// Of a job that runs, no more is read than what is shown.
    package func windows(
        of found: FoundJob,
        _ output: TextWindow,
        _ errors: TextWindow
    ) async throws(GatewayError) -> (output: TextWindow, errors: TextWindow)? {
        if let directory = found.directory {
            let isOver = found.snapshot.status.isFinal
            let read = try await BlockingThread.run("job-output") {
                () throws(GatewayError) -> (output: TextWindow, errors: TextWindow) in
                (
                    try output.over(file: directory.standardOutput, isComplete: isOver),
                    try errors.over(file: directory.standardError, isComplete: isOver)
                )
            }
            if try isThere(directory) { return read }
            if let kept = keptSince(found) { return try await windows(of: kept, output, errors) }
        }
        return try await store?.windows(of: found.snapshot.id, output, errors)
    }

    /// Whether what was just read was there while it was read: a directory goes as a whole.
    private func isThere(_ directory: JobDirectory) throws(GatewayError) -> Bool {
        try machine.files.status(directory.spec) != nil
    }

    /// The job where it is kept aside, if it was brought there since it was found.
    private func keptSince(_ found: FoundJob) -> FoundJob? {
        let kept = keptDirectory(of: found.snapshot.id)
        guard found.directory != kept, machine.files.exists(kept.spec) else { return nil }
        var moved = found
        moved.directory = kept
        return moved
    }

    // MARK: ending

    /// What became of the wish to end a job.
    package enum CancelAnswer: Sendable, Equatable {
        /// It is being ended; its outcome follows.
        case accepted
        /// There is no such job of the caller's.
        case notFound
        /// It is over already.
        case over(JobStatus)
        /// The store says that it runs, and it does not run in this home.
        case unreachable
    }

    static let canceledByCaller = "canceled by caller"

    /// Ends a job of the caller's, here or under another gateway of this home, or asks a gateway of another machine to.
    ///
    /// 1. Leave the mark of the wish, which the job's gateway notices, and whoever adopts the job should it be gone.
    /// 2. Here: as `cancel` does it. Elsewhere: end its provider by the identity of its runner, should its gateway be gone or hang.
    package func cancel(_ id: String, for caller: String) async throws(GatewayError) -> CancelAnswer {
        guard let found = try await find(id, for: caller) else { return .notFound }
        let status = found.snapshot.status
        if status.isFinal { return .over(status) }
        if knows(id) {
            markCanceled(id)
            try cancel(id)
            return .accepted
        }
        guard let directory = found.directory else {
            guard let store, found.snapshot.host != nil else { return .unreachable }
            try await store.want(ended: id)
            return .accepted
        }
        try machine.files.append([], to: registry.cancelMark(id))
        if let runner = try RunnerRecord.of(directory, files: machine.files)?.runner {
            ProcessTable.signal(runner, SIGTERM)
        }
        return .accepted
    }

    /// Leaves the mark of the wish to end a job of this gateway, for the next one should this one end before the job has.
    ///
    /// Where nothing can be written, the job is ended all the same.
    func markCanceled(_ id: String) {
        do throws(GatewayError) {
            try machine.files.append([], to: registry.cancelMark(id))
        } catch {
            report(error)
        }
    }

    /// Whether somebody wants the job ended, as another gateway may have left it.
    func isCancelMarked(_ id: String) -> Bool { machine.files.exists(registry.cancelMark(id)) }
}
