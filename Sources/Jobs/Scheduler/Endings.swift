import Appliance
import Platform

/// How a job's end becomes known: read, told, committed and cleared away, in this order.
extension JobScheduler {
    func commit(_ job: Job, _ status: JobStatus) async {
        // Its trial is over, if it had the one that a half-open circuit allows.
        settleCircuit(job.spec.provider, .other)
        let outcome = await patiently { () async throws(GatewayError) in try await collect(job, status) }
        let end = job.end ?? EndRecord(outcome, at: outcome.exit?.finished ?? machine.clock.now())
        writeDown(end, outcome, of: job)
        // Beside the reading: neither needs the other.
        let keeping = keepLongOutput(of: outcome, in: job.directory)
        let verdict = await onEnd(outcome)
        let isOutputKept = await keeping?.value ?? false
        var files: JSON = [:]
        for (name, bytes) in outcome.files.sorted(by: { $0.key < $1.key }) {
            files[name] = .string(String(decoding: bytes, as: UTF8.self))
        }
        let ending = JobEnding(
            status: status,
            exitCode: outcome.exit?.exitCode,
            output: outcome.output,
            errorOutput: outcome.errorOutput,
            outputTruncated: outcome.exit?.outputTruncated ?? false,
            error: outcome.message,
            finished: end.finished,
            hasBegun: outcome.hasBegun,
            payload: [
                "context": job.spec.context, "files": files, "exit": outcome.exit?.json ?? .null,
                "refusal": outcome.refusal?.json["error"] ?? .null, "hasBegun": .bool(outcome.hasBegun),
                "retryCount": .integer(outcome.retryCount), "circuit": .string(outcome.circuit),
            ],
            verdict: verdict,
            isOutputKept: isOutputKept
        )
        // A job whose end is committed is never looked at again: its record would stay open.
        var isCommitted = verdict.isRecorded
        if isCommitted {
            isCommitted = await noting { store throws(GatewayError) in
                try await store.finish(
                    job.spec,
                    ending,
                    directory: job.directory.path,
                    instance: registry.name,
                    host: registry.host
                )
            }
        }
        // Aside before anybody hears of the end, who then has it removed.
        if job.spec.recording != .full, isCommitted {
            leave(job.directory) { (directory) throws(GatewayError) in
                if told[directory.id] != nil {
                    try RecordFile.write(end.json, to: directory.end, machine.files)
                }
                try keep(directory)
            }
        }
        if keeping != nil { Task { [store] in await store?.settleLog() } }
        if isCommitted {
            commitPause = JobScheduler.firstPause
        } else {
            commitLater()
        }
        job.handle.resolve(outcome)
        if isCommitted, job.spec.recording == .full { leave(job.directory, by: remove) }
        jobs[job.spec.id] = nil
        forget(job)
        noteOutput(outcome.output.count + outcome.errorOutput.count)
    }

    /// Writes down how a job ended whose runner's record does not say so, which failed and might have been tried again, or whose
    /// directory is kept: whoever finds it without starts it, or says something else of it.
    ///
    /// Where that cannot be done, it is kept in mind until it can.
    private func writeDown(_ end: EndRecord, _ outcome: JobOutcome, of job: Job) {
        let isSaid = outcome.exit?.verdict.status == outcome.status && outcome.status != .failed
        if isSaid && job.spec.recording == .full || job.end != nil && told[job.spec.id] == nil { return }
        do throws(GatewayError) {
            try RecordFile.write(end.json, to: job.directory.end, machine.files)
            told[job.spec.id] = nil
        } catch {
            // Of a directory that has gone nothing is started; one that cannot be looked at has not.
            let isGone = Result { () throws(GatewayError) in
                try machine.files.status(job.directory.path) == nil
            }
            if case .success(true) = isGone { return }
            if told.updateValue(end, forKey: job.spec.id) == nil { report(error) }
        }
    }

    /// How a job is over that lies here: as it was written down, or could not be so far; `nil` where only its runner's record
    /// says it, or it is not over.
    func end(of directory: JobDirectory) throws(GatewayError) -> EndRecord? {
        try EndRecord.of(directory, files: machine.files) ?? told[directory.id]
    }

    /// Begins to write long output down, which counts once the end is committed; `nil` where there is none to be written.
    ///
    /// Gives whether it could be; what could not is tried once more with the end.
    private func keepLongOutput(of outcome: JobOutcome, in directory: JobDirectory) -> Task<Bool, Never>? {
        guard store != nil, outcome.spec.recording == .full,
            outcome.output.isLong || outcome.errorOutput.isLong
        else { return nil }
        return Task {
            await noting { store throws(GatewayError) in
                try await store.keepLongOutput(
                    outcome.spec,
                    outcome.output,
                    outcome.errorOutput,
                    directory: directory.path,
                    instance: registry.name,
                    host: registry.host
                )
            }
        }
    }

    /// Looks again for ended jobs whose end could not be committed, once for all of them.
    ///
    /// A service runs for weeks: the next start would be too late for who asks for such a job.
    private func commitLater() {
        guard !isCommitAwaited else { return }
        isCommitAwaited = true
        let pause = commitPause
        commitPause = JobScheduler.longer(pause)
        Task {
            try? await machine.clock.sleep(pause)
            isCommitAwaited = false
            _ = await adopt()
        }
    }

    /// Nobody shares a job any more who does not yet.
    func forget(_ job: Job) {
        if let key = job.spec.requestKey, keys[key] == job.spec.id { keys[key] = nil }
    }

    private func leave(
        _ directory: JobDirectory,
        by leaving: (JobDirectory) throws(GatewayError) -> Void
    ) {
        do throws(GatewayError) {
            try leaving(directory)
            told[directory.id] = nil
            try machine.files.removeFile(registry.cancelMark(directory.id))
        } catch {
            report(error)
        }
    }

    /// Removes a job's directory, which goes as a whole before any of its files does.
    ///
    /// A directory that had lost its record and still had its `spec.json` would look like a job that was never run.
    private func remove(_ directory: JobDirectory) throws(GatewayError) {
        let staged = registry.staging(directory.id)
        try machine.files.rename(directory.path, to: staged, durable: false)
        try machine.files.removeTree(staged)
    }

    /// Reads what a job left in its directory.
    func collect(_ job: Job, _ status: JobStatus) async throws(GatewayError) -> JobOutcome {
        let exit: ExitRecord? =
            if let known = job.exit { known } else {
                try ExitRecord.of(job.directory, files: machine.files)
            }
        let directory = job.directory
        let spec = job.spec
        let files = machine.files
        let limit = spec.limits.output + (1 << 20)
        let end = job.end
        let refusal = end?.refusal ?? job.refusal
        let isCanceled = status == .canceled && (job.isCancelWanted || isCancelMarked(spec.id))
        let message =
            end != nil
            ? end?.message
            : isCanceled
                ? JobScheduler.canceledByCaller
                : refusal?.description ?? job.message ?? JobFiles.message(exit, status, spec)
        let provider = try RunnerRecord.of(job.directory, files: machine.files)?.provider
        let retryCount = end?.retryCount ?? job.attempt - 1
        let circuit = end?.circuit ?? circuit(spec.provider).state.name
        // An attempt before this one has begun, or there would be none.
        let isOfRunner = job.isTaken && (exit?.error == nil || provider != nil)
        let hasBegun = end?.hasBegun ?? (job.attempt > 1 || isOfRunner)
        let read: @Sendable () throws(GatewayError) -> JobOutcome = { () throws(GatewayError) in
            JobOutcome(
                spec: spec,
                status: status,
                exit: exit,
                output: try JobFiles.written(directory.standardOutput, limit: limit),
                errorOutput: try JobFiles.written(directory.standardError, limit: limit),
                files: try JobFiles.collect(spec.collected, from: directory, limit: limit, files: files),
                message: message,
                refusal: refusal,
                hasBegun: hasBegun,
                retryCount: retryCount,
                circuit: circuit
            )
        }
        // Much output would hold up this thread, which starts the other jobs.
        guard exit.map({ $0.outputBytes + $0.errorBytes > 1 << 20 }) ?? true else { return try read() }
        return try await BlockingThread.run("collect", read)
    }
}
