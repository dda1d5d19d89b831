package import Appliance
import Platform

/// When a request may get the answer of a job that the same request has started.
package struct Sharing: Sendable {
    /// How long ago that job may have been accepted; nothing is shared for zero.
    package var window: Duration
    /// Whether the job may be over: a request that continues a conversation would change it a second time.
    package var includesFinished: Bool

    /// A rule.
    package init(window: Duration, includesFinished: Bool) {
        self.window = window
        self.includesFinished = includesFinished
    }
}

/// What became of a request.
package struct Submission: Sendable {
    /// The job that answers it.
    package let handle: JobHandle
    /// The record of the request that started the job; `nil` when this one did.
    package let leader: String?
    /// The job as it was at that moment; `nil` where it has to be looked for: it is over, or not here.
    package var snapshot: JobSnapshot?
}

/// A request that was taken in, with what is recorded of it.
package struct Reception: Sendable {
    /// The id of its record; `nil` where none was written.
    package let record: String?
    /// What became of it, or why nothing did.
    package let submission: Result<Submission, GatewayError>
}

/// A job of another gateway that somebody here waits for.
struct Elsewhere {
    let handle: JobHandle
    let row: SharedRow
    /// The request that waits, for what the store does not keep.
    let request: JobSpec
}

/// One run for the same request, whoever asks and however many at once.
///
/// 1. A job of this gateway with the request's key, or one that is being decided on just now, answers it.
/// 2. Otherwise the job is staged, and in one transaction the store writes the request down, finds the newest job with the key
///    or reserves the row: of several gateways on one file, one gets it.
/// 3. A found job that is over answers from the store. One that another gateway answers for is over when its directory goes,
///    which is seen (inotify(7)), or on another machine when that is announced; its row is final by then, or its gateway is
///    gone and adoption resolves it.
/// 4. A reserved one is started. When it cannot be, the reservation is taken back; when the gateway dies before the
///    directory has its name, adoption closes the row and with it the record of the request.
extension JobScheduler {
    /// Accepts a job, or finds the one that answers the same request; nothing is recorded of it.
    ///
    /// Throws what keeps `receive` from it.
    package func submit(_ request: JobRequest, sharing: Sharing?) async throws(GatewayError) -> Submission {
        try await receive(request, sharing: sharing).submission.get()
    }

    /// Accepts a job, or finds the one that answers the same request, and writes down that it starts.
    ///
    /// When this returns, the job is written down too, and runs now or when its turn comes. Without a `requestKey`, a rule, a
    /// store, or the wish that it be recorded in full, it is a job of its own. Fails as `saturated` when too many run and wait,
    /// `circuit-open`, `budget-exceeded`, `invalid-input` for a file name that leaves the job's directory, and with what the
    /// file system says; with a ceiling in the budget also with what the store says, because what was run is not known then.
    package func receive(
        _ request: JobRequest,
        sharing: Sharing?,
        noting entry: FlightEntry? = nil
    ) async -> Reception {
        await staying { await decide(on: request, sharing, entry) }
    }

    private func decide(on request: JobRequest, _ sharing: Sharing?, _ entry: FlightEntry?) async -> Reception
    {
        do throws(GatewayError) {
            try registry.enrol()
        } catch {
            return Reception(record: nil, submission: .failure(error))
        }
        guard let sharing, let key = request.requestKey, sharing.window > .zero, request.recording == .full,
            store != nil
        else { return await start(request, entry, nil) }
        if let job = shareable(key, sharing) {
            return await join(job.handle, of: job.spec.correlationID, request, entry)
        }
        if let decision = decisions[key] {
            switch await decision.value.submission {
            case .failure(let error): return Reception(record: nil, submission: .failure(error))
            case .success(let found):
                let leader = found.leader ?? jobs[found.handle.id]?.spec.correlationID ?? found.handle.id
                return await join(found.handle, of: leader, request, entry)
            }
        }
        let decision = Task { await staying { await start(request, entry, sharing) } }
        decisions[key] = decision
        let reception = await decision.value
        decisions[key] = nil
        return reception
    }

    /// A caller wants its job no more, which is ended unless somebody else waits for it; `false` when it goes on.
    @discardableResult
    package func leave(_ id: String, correlationID: String) async -> Bool {
        guard let job = jobs[id], job.callers.remove(correlationID) != nil, job.callers.isEmpty else {
            return false
        }
        forget(job)
        if job.spec.requestKey != nil {
            var isAlone = true
            await noting { store throws(GatewayError) in isAlone = try await store.keepToItself(id) }
            guard isAlone, job.callers.isEmpty else { return false }
        }
        job.isCancelWanted = true
        markCanceled(id)
        take(.cancelRequested, id)
        return true
    }

    private func shareable(_ key: String, _ sharing: Sharing) -> Job? {
        guard let job = keys[key].flatMap({ jobs[$0] }), !job.isCancelWanted,
            job.spec.submitted >= start(of: sharing)
        else { return nil }
        switch job.machine.status {
        case .queued, .running: return job
        case .completed, .failed, .canceled, .orphaned: return nil
        }
    }

    private func start(of sharing: Sharing) -> Timestamp {
        machine.clock.now().advanced(byMilliseconds: -Int64(sharing.window.milliseconds))
    }

    private func join(
        _ handle: JobHandle,
        of leader: String,
        _ request: JobRequest,
        _ entry: FlightEntry?
    ) async -> Reception {
        if request.isAwaited { prefer(handle.id) }
        // Its record has no id yet, and until then, too, somebody wants the job.
        jobs[handle.id]?.callers.insert(request.id)
        var record: String?
        await noting { store throws(GatewayError) in
            record = try await store.join(
                request.correlationID,
                noting: entry,
                to: handle.id,
                of: leader
            )
        }
        if let job = jobs[handle.id] {
            job.callers.insert(record ?? request.correlationID)
            job.callers.remove(request.id)
        }
        return received(handle, leader: leader, record)
    }

    /// The job as its callers see it, unless it is over: a moment later it is where everybody finds it.
    private func received(_ handle: JobHandle, leader: String?, _ record: String?) -> Reception {
        let job = jobs[handle.id].flatMap { $0.machine.status.isFinal ? nil : $0 }
        return Reception(
            record: record,
            submission: .success(
                Submission(handle: handle, leader: leader, snapshot: job.map { snapshot(of: $0) })
            )
        )
    }

    /// Stages a job, has the store decide what answers the request, and starts the job if nothing else does.
    private func start(_ request: JobRequest, _ entry: FlightEntry?, _ sharing: Sharing?) async -> Reception {
        var spec: JobSpec
        let staged: JobDirectory
        do throws(GatewayError) {
            (spec, staged) = try stage(request)
        } catch {
            return Reception(record: nil, submission: .failure(error))
        }
        var record: String?
        do throws(GatewayError) {
            var intake = try await takeIn(spec, entry, sharing)
            record = intake?.record
            if let record { spec.correlationID = record }
            if case .shared(let row) = intake?.decision {
                if let handle = await follow(row, spec) {
                    try? machine.files.removeTree(staged.path)
                    jobs[row.id]?.callers.insert(spec.correlationID)
                    return received(handle, leader: row.correlationID, record)
                }
                // It has gone since.
                intake = try await takeIn(spec, nil, nil)
            }
            if case .refused(let refusal) = intake?.decision { throw refusal }
            let handle = try await accept(spec, staged, request, isCounted: intake != nil)
            return received(handle, leader: nil, record)
        } catch {
            try? machine.files.removeTree(staged.path)
            return Reception(record: record, submission: .failure(error))
        }
    }

    /// What the store makes of a staged job; `nil` when there is none, or it cannot be written and no ceiling has to be kept.
    private func takeIn(
        _ spec: JobSpec,
        _ entry: FlightEntry?,
        _ sharing: Sharing?
    ) async throws(GatewayError) -> Intake? {
        guard let store else { return nil }
        do throws(GatewayError) {
            return try await store.takeIn(
                spec,
                noting: entry,
                directory: directory(of: spec.id).path,
                instance: registry.name,
                host: registry.host,
                budget: budget,
                sharing: sharing.map {
                    Intake.Rule(start: start(of: $0), includesFinished: $0.includesFinished)
                }
            )
        } catch {
            guard budget.isNone else { throw error }
            report(error)
            return nil
        }
    }

    /// Accepts a job that the store has taken in, which is taken back there when that is refused.
    private func accept(
        _ spec: JobSpec,
        _ staged: JobDirectory,
        _ request: JobRequest,
        isCounted: Bool
    ) async throws(GatewayError) -> JobHandle {
        do throws(GatewayError) {
            // An earlier request has the id that this one came with.
            if spec.correlationID != request.correlationID {
                try JobFiles.describe(spec, in: staged, files: machine.files)
            }
            let handle = try accept(spec, staged, request)
            // The directory is the promise; the row may be written while the runner starts, and adoption adds a missing one.
            if !isCounted { await note(spec, handle.directory) }
            return handle
        } catch {
            // Before the directory goes: who waits for it elsewhere looks into the store then.
            await noting { store throws(GatewayError) in
                try await store.withdraw(spec, isCounted: isCounted)
            }
            throw error
        }
    }

    // MARK: jobs of other gateways

    /// The handle of a job that was found in the store; `nil` when it has gone from there since.
    private func follow(_ row: SharedRow, _ request: JobSpec) async -> JobHandle? {
        if let job = jobs[row.id] { return job.handle }
        if let known = elsewhere[row.id] { return known.handle }
        let directory = JobDirectory(row.directory.isEmpty ? layout.job(row.id) : row.directory)
        let handle = JobHandle(directory, reactor: machine.reactor)
        if row.isFinal {
            var outcome: JobOutcome?
            await noting { store throws(GatewayError) in
                outcome = try await store.outcome(of: row.id, like: request, staging: layout.jobs)
            }
            guard let outcome else { return nil }
            handle.resolve(outcome)
            return handle
        }
        elsewhere[row.id] = Elsewhere(handle: handle, row: row, request: request)
        if isElsewhere(row.host) {
            // Its end is announced; it may have been before anybody here waited for it.
            attend()
            Task { await lookElsewhere([row.id]) }
            return handle
        }
        let parent = Files.parent(of: row.directory)
        if watched.insert(parent).inserted {
            Task { await watch(parent) }
        } else {
            Task { await lookElsewhere([row.id]) }
        }
        return handle
    }

    /// Waits for the ends of other gateways' jobs in a directory, for as long as somebody wants to know of one.
    private func watch(_ parent: String) async {
        let watch = await patiently { () async throws(GatewayError) in
            try EntryWatch(parent, reactor: machine.reactor)
        }
        var names: Set<String>?
        repeat {
            // All of them at first: some may have ended before it was watched.
            let concerned = elsewhere.filter { id, job in
                Files.parent(of: job.row.directory) == parent
                    && names.map { $0.contains { $0 == id || $0.hasSuffix("." + id) } } ?? true
            }
            await lookElsewhere(Array(concerned.keys))
            guard elsewhere.values.contains(where: { Files.parent(of: $0.row.directory) == parent }) else {
                break
            }
            names = await watch.next()
        } while names != nil
        watched.remove(parent)
    }

    /// Looks whether jobs of other gateways are over, all or some of them.
    func lookElsewhere(_ ids: [String]? = nil) async {
        for id in ids ?? Array(elsewhere.keys) {
            guard let job = elsewhere[id] else { continue }
            await patiently { () async throws(GatewayError) in
                guard let store, let outcome = try await ending(of: job, store) else { return }
                elsewhere[id] = nil
                job.handle.resolve(outcome)
            }
        }
    }

    /// How a job of another gateway ended; `nil` while it goes on.
    private func ending(of job: Elsewhere, _ store: Store) async throws(GatewayError) -> JobOutcome? {
        let id = job.row.id
        if let outcome = try await store.outcome(of: id, like: job.request, staging: layout.jobs) {
            return outcome
        }
        if let row = try await store.shared(id), !row.isFinal {
            if isElsewhere(row.host) { return nil }
            let staged = InstanceRegistry.staging(
                id,
                of: row.instance,
                in: Files.parent(of: row.directory)
            )
            if machine.files.exists(row.directory) || machine.files.exists(staged) { return nil }
            guard try await closeIfAbandoned(row, store) else { return nil }
            return try await store.outcome(of: id, like: job.request, staging: layout.jobs)
        }
        if let outcome = try await store.outcome(of: id, like: job.request, staging: layout.jobs) {
            return outcome
        }
        var spec = job.request
        spec.id = id
        spec.correlationID = job.row.correlationID
        let refusal = GatewayError(
            "saturated",
            "the gateway that was to run the same request had no room for it",
            help: "try again in a few seconds"
        )
        return JobOutcome(
            spec: spec,
            status: .failed,
            exit: nil,
            output: [],
            errorOutput: [],
            files: [:],
            message: refusal.description,
            refusal: refusal,
            hasBegun: false
        )
    }
}
