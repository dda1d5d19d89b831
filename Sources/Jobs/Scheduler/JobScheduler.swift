package import Appliance
import Glibc
package import Platform

/// Takes jobs in, starts their runners, watches them and commits how they ended.
///
/// 1. Write the job's directory under a hidden name, and in one transaction the record of the request and the row of the job,
///    or find the job that the same request has already (`SharedJobs.swift`).
/// 2. Admission: run now, wait, or be refused as `saturated`. Rename the directory: a job that can be seen is whole.
/// 3. When its turn comes, start the runner with the job's lock, and watch it by pid descriptor.
/// 4. When it is gone, read its record and output, tell the gateway, commit, remove the directory.
///
/// A store that cannot be written is a finding and never stops a job: the directory is kept until its end is
/// committed, which is tried again and again, also by a later gateway.
package actor JobScheduler {
    final class Job {
        var spec: JobSpec
        let handle: JobHandle
        var machine: JobStateMachine
        var runner: ProcessIdentity?
        /// Why it is over although it never had a runner.
        var refusal: GatewayError?
        /// What the outcome says in place of what follows from the record.
        var message: String?
        /// The decision on its present attempt; `nil` in the first one.
        var retry: RetryRecord?
        /// What its runner has left, where that is the last word and was read to know so.
        var exit: ExitRecord?
        /// How it ended, where it was found with its end written down.
        var end: EndRecord?
        /// Whether it was over when it was found: others may have said so, and what follows is its commit alone.
        var isFoundOver = false
        /// Whether it has or had a runner.
        var isTaken = false
        var isCancelWanted = false
        /// The requests whose callers want it, by the ids of their records; those of another gateway are in the store.
        var callers: Set<String> = []

        init(_ spec: JobSpec, _ handle: JobHandle, _ state: JobStateMachine.State) {
            self.spec = spec
            self.handle = handle
            machine = JobStateMachine(state)
        }

        var directory: JobDirectory { handle.directory }
        /// 1 for the first one.
        var attempt: Int { retry?.attempt ?? 1 }
    }

    /// What is done with an outcome before it is committed, and what is thought of it; it may be called again for the same
    /// job after a crash.
    package typealias EndHook = @Sendable (JobOutcome) async -> RunVerdict
    /// What is thought of an attempt that failed; changes nothing.
    package typealias Judge = @Sendable (JobOutcome) -> FailedAttempt

    let layout: Layout
    let store: Store?
    let machine: Machine
    let report: @Sendable (GatewayError) -> Void
    let registry: InstanceRegistry
    let limits: Configuration.Limits
    let budget: Configuration.Budget
    /// What is known of the gateways of other homes that share the store.
    var leases = LeaseWatch()
    /// Whether a timer runs until the next look after leases and kept output.
    var isAttended = false
    private let runnerExecutable: String
    private let runnerName: String
    private let scopes: UserScopes?
    let judge: Judge
    let onEnd: EndHook
    private let executor = ThreadExecutor("jobs")
    private var admission: Admission
    var jobs: [String: Job] = [:]
    /// The newest job here of each request key.
    var keys: [String: String] = [:]
    /// Requests that are looked for in the store just now, by their keys.
    var decisions: [String: Task<Reception, Never>] = [:]
    /// Jobs of other gateways that somebody here waits for, by their ids.
    var elsewhere: [String: Elsewhere] = [:]
    /// `jobs` directories that are watched for the ends of such jobs.
    var watched: Set<String> = []
    /// Waits for the ends of jobs on other machines, by the jobs' ids.
    var bells: [String: EndBell] = [:]
    /// Of every provider that was tried.
    var circuits: [String: CircuitBreaker] = [:]
    /// Bytes that finished jobs have added since the stored output was last held to its limit.
    var writtenSinceTrim = 0
    /// Whether jobs are looked for again that have ended and could not be committed, and how long after the next failure.
    var isCommitAwaited = false
    var commitPause = JobScheduler.firstPause
    /// Ends that were told and could not be written down in their jobs' directories so far, by the jobs' ids.
    var told: [String: EndRecord] = [:]
    /// Whether an adoption follows that tries again what the last one could not do.
    var isAdoptionAwaited = false
    /// The adoption that is going on, or was the last.
    var adoption: Task<AdoptionReport, Never>?
    /// Other gateways whose end is being waited for.
    var endings: Set<String> = []

    /// The thread of this actor: its calls read and write files, which the cooperative pool must not.
    package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// A scheduler that starts `runnerExecutable run-job DIRECTORY` for each job, under the name `runnerName` in its
    /// arguments.
    ///
    /// `store` is `nil` where the configuration wants none; where `scopes` can be had, each runner gets one; `report` gets what went wrong beside the jobs.
    package init(
        layout: Layout,
        store: Store?,
        limits: Configuration.Limits = Configuration.Limits(),
        budget: Configuration.Budget = Configuration.Budget(),
        machine: Machine,
        runnerExecutable: String,
        runnerName: String? = nil,
        scopes: UserScopes? = nil,
        report: @escaping @Sendable (GatewayError) -> Void,
        judge: @escaping Judge = { _ in FailedAttempt() },
        onEnd: @escaping EndHook = { _ in RunVerdict() }
    ) {
        self.layout = layout
        self.store = store
        self.limits = limits
        self.budget = budget
        self.machine = machine
        self.runnerExecutable = runnerExecutable
        self.runnerName = runnerName ?? runnerExecutable
        self.scopes = scopes
        self.report = report
        self.judge = judge
        self.onEnd = onEnd
        admission = Admission(limits)
        registry = InstanceRegistry(directory: layout.jobs, machine: machine)
    }

    /// Where the files of a job will be; absolute.
    package nonisolated func directory(of id: String) -> JobDirectory { JobDirectory(layout.job(id)) }

    // MARK: for callers

    /// Accepts a job of its own; nothing is recorded of its request.
    ///
    /// Throws what keeps `receive` from it.
    package func submit(_ request: JobRequest) async throws(GatewayError) -> JobHandle {
        try await submit(request, sharing: nil).handle
    }

    /// Writes a job's directory under a name that nobody takes for a job's.
    func stage(_ request: JobRequest) throws(GatewayError) -> (JobSpec, JobDirectory) {
        var spec = JobSpec(
            request,
            submitted: machine.clock.now(),
            uptime: uptime,
            boot: registry.boot,
            instance: registry.name
        )
        spec.environment[Leftovers.variable] = request.id
        spec.limits.output = min(spec.limits.output, limits.maxJobOutputBytes)
        guard jobs[request.id] == nil else {
            throw GatewayError("invalid-input", "there is a job '\(request.id)' already")
        }
        let staged = JobDirectory(registry.staging(request.id))
        try JobFiles.stage(
            request,
            spec,
            as: staged,
            for: directory(of: request.id),
            files: machine.files
        )
        return (spec, staged)
    }

    /// Gives a staged job its place among those that run and wait, and its name; from then on it is promised.
    ///
    /// What is staged stays when there is no room for it.
    func accept(
        _ spec: JobSpec,
        _ staged: JobDirectory,
        _ request: JobRequest
    ) throws(GatewayError) -> JobHandle {
        let directory = directory(of: spec.id)
        let applicant = Admission.Applicant(
            spec.id,
            provider: spec.provider,
            client: request.client,
            isAwaited: request.isAwaited
        )
        try beginCircuit(spec.provider)
        let startsNow: Bool
        do throws(GatewayError) {
            startsNow = try admission.admit(applicant, now: uptime)
        } catch {
            settleCircuit(spec.provider, .other)
            throw error
        }
        do throws(GatewayError) {
            try JobFiles.publish(staged, as: directory, files: machine.files)
        } catch {
            settleCircuit(spec.provider, .other)
            if startsNow { release(spec.id) } else { admission.withdraw(spec.id) }
            throw error
        }
        let handle = JobHandle(directory, reactor: machine.reactor)
        let job = Job(spec, handle, .queued)
        job.callers = [spec.correlationID]
        register(job)
        if startsNow { take(.turnCame, spec.id) } else { expireTurn(of: spec.id, after: patience) }
        return handle
    }

    private func register(_ job: Job) {
        jobs[job.spec.id] = job
        if let key = job.spec.requestKey, !job.isFoundOver { keys[key] = job.spec.id }
        attend()
    }

    func note(_ spec: JobSpec, _ directory: JobDirectory) async {
        await noting { store throws(GatewayError) in
            try await store.insert(
                spec,
                directory: directory.path,
                instance: registry.name,
                host: registry.host
            )
        }
    }

    /// The handle of a job that waits or runs here; `nil` for any other.
    package func handle(_ id: String) -> JobHandle? { jobs[id]?.handle }

    /// Jobs that run, and jobs that wait for their turn.
    package var counts: (running: Int, queued: Int) { (admission.runningCount, admission.queuedCount) }

    /// A job that waits or runs here, as its callers see it; `nil` for any other.
    package func snapshot(_ id: String) -> JobSnapshot? { jobs[id].map { snapshot(of: $0) } }

    func snapshot(of job: Job) -> JobSnapshot {
        JobSnapshot(
            id: job.spec.id,
            provider: job.spec.provider,
            status: job.machine.status,
            started: job.spec.submitted.iso8601,
            finished: nil,
            exitCode: nil,
            correlationID: job.spec.correlationID,
            outputTruncated: false,
            // Without a runner nobody has written anything.
            outputBytes: job.isTaken ? size(job.directory.standardOutput) : 0,
            errorBytes: job.isTaken ? size(job.directory.standardError) : 0,
            error: nil,
            owner: job.spec.owner,
            outputFormat: job.spec.outputFormat
        )
    }

    /// Bytes of a file; 0 where there is none.
    func size(_ path: String) -> Int { Int(((try? machine.files.status(path)) ?? nil)?.size ?? 0) }

    /// Ends a job; its outcome follows when it is gone.
    ///
    /// Throws `job-not-found` for one that does not wait or run here.
    package func cancel(_ id: String) throws(GatewayError) {
        guard let job = jobs[id] else {
            throw GatewayError("job-not-found", "there is no running job '\(id)'")
        }
        job.isCancelWanted = true
        forget(job)
        if job.spec.requestKey != nil {
            Task { await noting { store throws(GatewayError) in try await store.stopSharing(id) } }
        }
        take(.cancelRequested, id)
    }

    /// The processes of all running jobs of this home, other gateways' included.
    ///
    /// Throws what the file system throws when it cannot be told which there are.
    package func health() throws(GatewayError) -> JobHealthReport {
        let own = jobs.values.filter { $0.machine.status == .running && !$0.isFoundOver }
            .map { ($0.spec, $0.directory) }
        return JobHealthReport(
            jobs: try (own + runningElsewhere()).map { health(of: $0, in: $1) }.sorted { $0.id < $1.id }
        )
    }

    private func health(of spec: JobSpec, in directory: JobDirectory) -> JobHealth {
        let record = (try? RunnerRecord.of(directory, files: machine.files)) ?? nil
        let runner = record?.runner
        let isOfThisBoot = runner.map { $0.boot == ProcessTable.boot } ?? false
        return JobHealth(
            id: spec.id,
            provider: spec.provider,
            owner: spec.owner,
            status: .running,
            process: record?.provider.map { JobHealth.Process($0, clock: machine.clock) },
            runningForMilliseconds: runner.flatMap { isOfThisBoot ? Int($0.age * 1000) : nil }
                ?? Int(waited(spec))
        )
    }

    // MARK: for adoption

    /// Takes in a job that was found in its directory; of one that is over, `exit` or `end` says how.
    func adopt(
        _ spec: JobSpec,
        _ directory: JobDirectory,
        as state: JobStateMachine.State,
        exit: ExitRecord? = nil,
        end: EndRecord? = nil
    ) async -> Job {
        let handle = JobHandle(directory, reactor: machine.reactor)
        let job = Job(spec, handle, state)
        job.isTaken = state != .queued
        (job.exit, job.end) = (exit, end)
        job.isFoundOver = exit != nil || end != nil
        register(job)
        // Counted before anything else can happen to the job, which may give its place back.
        if state == .queued {
            queueAgain(job)
        } else {
            admission.count(spec.id, provider: spec.provider, now: uptime)
        }
        // The commit of an end writes the row, too.
        if !job.isFoundOver { await note(spec, directory) }
        return job
    }

    /// Gives an adopted job what is left of the time that it may wait.
    private func queueAgain(_ job: Job) {
        let spec = job.spec
        if isCancelMarked(spec.id) {
            // As if its turn had come, too: its end gives a turn back.
            admission.count(spec.id, provider: spec.provider, now: uptime)
            job.isCancelWanted = true
            return take(.cancelRequested, spec.id)
        }
        let rest = patience - .milliseconds(waited(spec))
        guard rest > .zero else {
            // As if its turn had come: it is not in the queue, so that its end gives a turn back.
            admission.count(spec.id, provider: spec.provider, now: uptime)
            return missTurn(job)
        }
        do throws(GatewayError) {
            let applicant = Admission.Applicant(
                spec.id,
                provider: spec.provider,
                client: spec.owner ?? Ownership.local
            )
            if try admission.admit(applicant, now: uptime) {
                take(.turnCame, spec.id)
            } else {
                expireTurn(of: spec.id, after: rest)
            }
        } catch {
            // It was accepted once, so it is not refused now.
            admission.count(spec.id, provider: spec.provider, now: uptime)
            take(.turnCame, spec.id)
        }
    }

    /// Milliseconds since a job was accepted; where the clock was set meanwhile, that counts only after another boot.
    func waited(_ spec: JobSpec) -> Int64 {
        if let then = spec.submittedUptime, let boot = spec.boot, boot == registry.boot {
            return max(0, uptime - then)
        }
        return max(0, machine.clock.now().milliseconds - spec.submitted.milliseconds)
    }

    /// Whether a job that has no runner yet may still get one.
    func mayWait(_ spec: JobSpec) -> Bool { .milliseconds(waited(spec)) < patience }

    func knows(_ id: String) -> Bool { jobs[id] != nil }

    // MARK: events and actions

    /// Gives an event to a job and does what follows from it.
    func take(_ event: JobStateMachine.Event, _ id: String) {
        guard let job = jobs[id], let action = job.machine.handle(event) else { return }
        switch action {
        case .startRunner: startRunner(job)
        case .rest: Task { await rest(job) }
        case .signalRunner: signalRunner(job)
        case .clear: Task { await clear(job) }
        case .commit(let status):
            if !admission.withdraw(id) { release(id) }
            Task { await staying { await commit(job, status) } }
        }
    }

    private func release(_ id: String) {
        for next in admission.release(id, now: uptime) { take(.turnCame, next) }
    }

    /// Somebody waits for a job that was to run in the background.
    func prefer(_ id: String) { admission.prefer(id) }

    var uptime: Int64 { Int64(machine.clock.uptime() / 1_000_000) }

    /// How long a job may wait for its turn.
    private var patience: Duration { .milliseconds(limits.queueTimeoutMilliseconds) }

    private func expireTurn(of id: String, after rest: Duration) {
        _ = machine.reactor.arm(after: rest) { [weak self] in
            guard let self else { return }
            Task { await self.expireTurn(of: id) }
        }
    }

    private func expireTurn(of id: String) {
        guard let job = jobs[id], job.machine.state == .queued else { return }
        missTurn(job)
    }

    private func missTurn(_ job: Job) {
        let wait = admission.retryAfter(uptime)
        var refusal = GatewayError(
            "turn-missed",
            "the job waited \(patience) for its turn",
            help:
                "try again in about \((wait + 999) / 1000) s, or raise max_running_jobs or queue_timeout_ms in [limits]"
        )
        refusal.retryAfter = .milliseconds(wait)
        job.refusal = refusal
        take(.turnMissed, job.spec.id)
    }

    /// Spares a runner what its libraries do before it starts, a tenth of its time: the Swift runtime looks for a program that
    /// explains crashes, and OpenSSL, of which a runner uses nothing, asks what the processor can do.
    private static let runnerEnvironment = [
        "SWIFT_BACKTRACE": "enable=no,swift-backtrace=/", "OPENSSL_ia32cap": "0",
    ]

    private func startRunner(_ job: Job) {
        // The notice of it may have been missed, where the kernel had none to give.
        if isCancelMarked(job.spec.id) {
            job.isCancelWanted = true
            return take(.runnerEnded(.canceled), job.spec.id)
        }
        do throws(GatewayError) {
            // Held by the runner from its first instant on: there is no moment in which a job that is being started
            // looks like one that nobody runs.
            // Who asks whether it is held has it for a moment.
            let lock = try FileLock.wait(job.directory.running, within: .seconds(5))
            var command = Command(
                runnerExecutable,
                ["run-job", job.directory.path],
                environment: JobScheduler.runnerEnvironment,
                directory: "/"
            )
            command.name = runnerName
            // It starts while the manager makes its scope, and waits for that before it starts anything itself.
            let scope = scopes.flatMap { RunnerScope(job.spec, layout, $0) }
            if let scope { command.input = .descriptor(scope.announcement) }
            let runner = try machine.processes.launch(command, extra: lock.descriptor)
            withExtendedLifetime(lock) {}
            scope?.place(runner)
            job.runner = runner
            watch(job, runner)
        } catch {
            job.refusal = error
            take(.startFailed, job.spec.id)
        }
    }

    /// Waits for the end of a runner; without an identity, by the lock that it holds.
    func watch(_ job: Job, _ runner: ProcessIdentity?) {
        job.runner = runner
        job.isTaken = true
        Task {
            await staying { await followRunner(of: job, runner) }
        }
    }

    private func followRunner(of job: Job, _ runner: ProcessIdentity?) async {
        let record = await patiently { () async throws(GatewayError) -> ExitRecord? in
            if let runner { _ = await machine.processes.waitForEnd(of: runner) }
            guard try machine.files.status(job.directory.path) != nil else { return nil }
            let lock = job.directory.running
            // The lock is the last word on whether the runner lives; it is free by now unless there was nothing to
            // wait with, and then a thread waits for it.
            if try FileLock.isTaken(lock) {
                try await BlockingThread.run("runner-end") { () throws(GatewayError) in
                    try FileLock.waitWhileHeld(lock)
                }
            }
            return try RunningFile.record(of: job.directory, machine.files)
        }
        await runnerEnded(job, record)
    }

    /// What follows from the record of a runner that is gone; `nil`: it left none.
    ///
    /// Only who has watched its end may decide that the run is tried again.
    func runnerEnded(_ job: Job, _ record: ExitRecord?, mayRetry: Bool = true) async {
        if let record, record.verdict == .failed, mayRetry, job.machine.state == .running {
            return await attemptFailed(job, record)
        }
        if record?.verdict == .succeeded { settleCircuit(job.spec.provider, .answered) }
        job.exit = record
        take(record.map { .runnerEnded($0.verdict) } ?? .runnerLost, job.spec.id)
    }

    /// Does it until it works, with longer and longer pauses.
    ///
    /// What cannot be read for want of descriptors, or because the disk fails, is not absent: to take it so would end a run
    /// that goes on, or lose the output of one that is done. Only the first failure is reported.
    @discardableResult
    func patiently<Value>(_ body: () async throws(GatewayError) -> Value) async -> Value {
        var pause = JobScheduler.firstPause
        while true {
            do throws(GatewayError) {
                return try await body()
            } catch {
                if pause == JobScheduler.firstPause { report(error) }
                try? await machine.clock.sleep(pause)
                pause = JobScheduler.longer(pause)
            }
        }
    }

    static let firstPause = Duration.seconds(1)

    static func longer(_ pause: Duration) -> Duration { min(pause * 2, .seconds(60)) }

    private func signalRunner(_ job: Job) {
        let record = (try? RunnerRecord.of(job.directory, files: machine.files)) ?? nil
        guard let runner = job.runner ?? record?.runner else { return }
        ProcessTable.signal(runner, SIGTERM)
        // The runner ends the provider within its grace; one that does not is ended itself.
        let patience = job.spec.limits.grace + .seconds(15)
        Task {
            if !(await machine.processes.waitForEnd(of: runner, within: patience)) {
                ProcessTable.signal(runner, SIGKILL)
            }
        }
    }

    private func clear(_ job: Job) async {
        let record = await patiently { () async throws(GatewayError) in
            try RunnerRecord.of(job.directory, files: machine.files)
        }
        await Leftovers.end(
            of: job.spec.id,
            record,
            grace: job.spec.limits.grace,
            processes: machine.processes
        )
        take(.cleared, job.spec.id)
    }

    /// Does what waits for other threads, and goes on with this actor's own after each of them.
    func staying<Value>(_ body: () async -> Value) async -> Value {
        await withTaskExecutorPreference(executor) { await body() }
    }

    /// Uses the store; `false` when it could not be written.
    ///
    /// Without a store there is nothing that could fail.
    @discardableResult
    func noting(_ body: (Store) async throws(GatewayError) -> Void) async -> Bool {
        guard let store else { return true }
        do throws(GatewayError) {
            try await body(store)
            return true
        } catch {
            report(error)
            return false
        }
    }
}
