package import Appliance
import Glibc
package import Platform

/// A job that is not over, as its directory tells.
package struct UnfinishedJob: Sendable, Equatable {
    /// How far it has come.
    package enum State: String, Sendable, CaseIterable {
        /// Its runner lives.
        case running
        /// It was accepted, and nobody runs it yet.
        case waiting
        /// Its runner is gone without a word; what the runner had started may go on.
        case lost
    }

    /// The job's UUID.
    package var id: String
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// How far it has come.
    package var state: State
    /// When its runner took it up; of one that waits, when it was accepted.
    package var since: Timestamp

    /// `{"id","provider","state","since"}`.
    package var json: JSON {
        [
            "id": .string(id), "provider": .string(provider), "state": .string(state.rawValue),
            "since": .string(since.iso8601),
        ]
    }

    /// `claude, running since 2026-11-21T10:11:00.497Z, ID`.
    package var wording: String { "\(provider), \(state.rawValue) since \(since.iso8601), \(id)" }
}

/// The jobs of a home that are not over, whichever gateways answer for them: for who has none to ask.
///
/// Nothing is locked for the question: a lock that is tried for a moment would be in the way of the gateway that starts the job.
package struct UnfinishedJobs: Sendable {
    /// What cancelling came to.
    package struct Cancellation: Sendable, Equatable {
        /// Jobs that ran or waited and are over now.
        package var canceled: [UnfinishedJob] = []
        /// Jobs that are not.
        package var left: [UnfinishedJob] = []

        /// Nothing was cancelled yet.
        package init() {}
    }

    private struct Found {
        var job: UnfinishedJob
        var spec: JobSpec
        var record: RunnerRecord?
        var directory: JobDirectory
    }

    private let layout: Layout
    private let machine: Machine

    /// The jobs of a home.
    package init(layout: Layout, machine: Machine) {
        self.layout = layout
        self.machine = machine
    }

    /// Those that are there now, ordered by id; what is damaged is the gateway's to report.
    package func list() throws(GatewayError) -> [UnfinishedJob] { try find().map(\.job) }

    /// How far those that are there now have come, for who only counts them: a description may hold a long prompt.
    package func states() throws(GatewayError) -> [UnfinishedJob.State] {
        try each { (directory) throws(GatewayError) in try standing(directory)?.state }
    }

    private func find() throws(GatewayError) -> [Found] {
        try each { (directory) throws(GatewayError) in
            guard let (state, record) = try standing(directory) else { return nil }
            let spec = try JobSpec(directory, files: machine.files)
            let job = UnfinishedJob(
                id: spec.id,
                provider: spec.provider,
                state: state,
                since: record?.started ?? spec.submitted
            )
            return Found(job: job, spec: spec, record: record, directory: directory)
        }
    }

    private func each<Value>(
        _ look: (JobDirectory) throws(GatewayError) -> Value?
    ) throws(GatewayError) -> [Value] {
        var found: [Value] = []
        for name in try machine.files.list(layout.jobs) where !name.hasPrefix(".") {
            do throws(GatewayError) {
                if let value = try look(JobDirectory(layout.job(name))) { found.append(value) }
            } catch {
                // It was just removed, or is no job.
                guard ["file-not-found", "job-damaged"].contains(error.code) else { throw error }
            }
        }
        return found
    }

    /// `nil` for a job that is over, and for what is no job.
    private func standing(
        _ directory: JobDirectory
    ) throws(GatewayError) -> (state: UnfinishedJob.State, record: RunnerRecord?)? {
        let files = machine.files
        guard try files.status(directory.spec) != nil else { return nil }
        let record = try RunnerRecord.of(directory, files: files)
        var state = UnfinishedJob.State.waiting
        if let record {
            state = ProcessTable.isRunning(record.runner) ? .running : .lost
        }
        // A runner that has written how it ended is about to end itself.
        if state != .running, try directory.isOver(files) { return nil }
        // Tried again, but by nobody yet.
        if state == .lost, try files.status(directory.exit) != nil { state = .waiting }
        return (state, record)
    }

    // MARK: cancelling

    /// Ends every job that runs, and what lost ones have left, and waits until they are gone or the time is up.
    ///
    /// Jobs that a gateway starts meanwhile are ended as well. One that waits is cancelled when no gateway answers for it any
    /// more; any other one is left to its gateway. How a job ended is in its directory, for the gateway that collects it.
    package func cancel(within limit: Duration) async throws(GatewayError) -> Cancellation {
        let deadline = machine.clock.uptime() &+ limit.nanoseconds
        var ended: [String: UnfinishedJob] = [:]
        while machine.clock.uptime() < deadline {
            // One whose run has failed meanwhile may wait for another attempt.
            let found = try find().filter { ended[$0.job.id] == nil || $0.job.state == .waiting }
            let begun = found.filter { $0.job.state != .waiting }
            var isDone = true
            await withTaskGroup(of: Void.self) { group in
                for each in begun { group.addTask { await end(each, before: deadline) } }
            }
            for each in begun {
                ended[each.job.id] = each.job
                isDone = false
            }
            for each in found where each.job.state == .waiting {
                if try await withdraw(each, before: deadline) {
                    ended[each.job.id] = each.job
                    isDone = false
                }
            }
            if isDone { break }
        }
        var result = Cancellation()
        result.left = try find().filter { each in
            // What was lost has no record, also when nothing of it is left.
            ended[each.job.id] == nil || each.job.state != .lost
        }.map(\.job)
        let left = Set(result.left.map(\.id))
        result.canceled = ended.values.filter { $0.state != .lost && !left.contains($0.id) }.sorted {
            $0.id < $1.id
        }
        return result
    }

    private func end(_ found: Found, before deadline: UInt64) async {
        let processes = machine.processes
        if let runner = found.record?.runner, found.job.state == .running {
            ProcessTable.signal(runner, SIGTERM)
            // The runner ends the provider within its grace; one that does not is ended itself.
            let now = machine.clock.uptime()
            let rest = Duration.nanoseconds(Int64(clamping: max(deadline, now) - now))
            let patience = min(found.spec.limits.grace + .seconds(15), rest)
            if await processes.waitForEnd(of: runner, within: patience) { return }
            ProcessTable.signal(runner, SIGKILL)
            _ = await processes.waitForEnd(of: runner, within: .seconds(5))
        }
        await Leftovers.end(
            of: found.job.id,
            (try? RunnerRecord.of(found.directory, files: machine.files)) ?? found.record,
            grace: found.spec.limits.grace,
            processes: processes
        )
    }

    /// Writes for a job without a runner that it was cancelled; `false` when a gateway answers for it, which may be starting
    /// it.
    private func withdraw(_ found: Found, before deadline: UInt64) async throws(GatewayError) -> Bool {
        let registry = InstanceRegistry(directory: layout.jobs, machine: machine)
        let lock = try await BlockingThread.run("adoption") { () throws(GatewayError) in
            try registry.guardChanges()
        }
        defer { withExtendedLifetime(lock) {} }
        let files = machine.files
        guard let gateway = try found.directory.gateway(files), !registry.isAlive(gateway) else {
            return false
        }
        var claim = try FileLock.attempt(found.directory.running)
        // The gateway has died just after it had started the runner, which has not said so yet.
        if claim == nil, let runner = starting(found.directory) {
            ProcessTable.signal(runner, SIGTERM)
            _ = await machine.processes.waitForEnd(of: runner, within: .seconds(5))
            claim = try FileLock.attempt(found.directory.running)
        }
        defer { withExtendedLifetime(claim) {} }
        guard claim != nil, try standing(found.directory)?.state == .waiting else { return false }
        var end = EndRecord(.canceled, at: machine.clock.now(), message: JobScheduler.canceledByCaller)
        if let retry = try RetryRecord(found.directory, files: files) {
            (end.hasBegun, end.retryCount) = (true, retry.attempt - 1)
        }
        try RecordFile.write(end.json, to: found.directory.end, files)
        return true
    }

    /// The runner of a job that has not written yet who it is.
    private func starting(_ directory: JobDirectory) -> ProcessIdentity? {
        ProcessTable.all().first { entry in
            ProcessTable.arguments(entry.identity.pid).suffix(2) == ["run-job", directory.path]
        }?.identity
    }
}
