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
/// 2. Otherwise the job is staged, and the store finds the newest job with the key or reserves the row in one transaction:
///    of several gateways on one file, one gets it.
/// 3. A found job that is over answers from the store. One that another gateway answers for is over when its directory goes,
///    which is seen (inotify(7)), or on another machine when that is announced; its row is final by then, or its gateway is
///    gone and adoption resolves it.
/// 4. A reserved one is started. When it cannot be, the reservation is taken back; when the gateway dies before the
///    directory has its name, adoption closes the row.
extension JobScheduler {
    /// Accepts a job, or finds the one that answers the same request.
    ///
    /// Without a `requestKey`, a rule, a store, or the wish that it be recorded in full, it is `submit`, and throws what that throws.
    package func submit(_ request: JobRequest, sharing: Sharing?) async throws(GatewayError) -> Submission {
        guard let sharing, let key = request.requestKey, sharing.window > .zero, request.recording == .full,
            let store
        else {
            return Submission(handle: try await submit(request), leader: nil)
        }
        try registry.enrol()
        if let job = shareable(key, sharing) {
            job.callers.insert(request.correlationID)
            return await link(request, to: job.handle, of: job.spec.correlationID)
        }
        if let decision = decisions[key] {
            let found = try await decision.value.get()
            let leader = found.leader ?? jobs[found.handle.id]?.spec.correlationID
            jobs[found.handle.id]?.callers.insert(request.correlationID)
            return await link(request, to: found.handle, of: leader ?? found.handle.id)
        }
        let decision = Task {
            do throws(GatewayError) {
                return Result<Submission, GatewayError>.success(try await decide(request, sharing, store))
            } catch {
                return .failure(error)
            }
        }
        decisions[key] = decision
        let result = await decision.value
        decisions[key] = nil
        return try result.get()
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

    private func link(_ request: JobRequest, to handle: JobHandle, of leader: String) async -> Submission {
        if request.isAwaited { prefer(handle.id) }
        await noting { store throws(GatewayError) in
            try await store.link(request.correlationID, to: handle.id, of: leader)
        }
        return Submission(handle: handle, leader: leader)
    }

    private func decide(
        _ request: JobRequest,
        _ sharing: Sharing,
        _ store: Store
    ) async throws(GatewayError) -> Submission {
        let (spec, staged) = try stage(request)
        var found: SharedRow?
        let isReserved = await noting { store throws(GatewayError) in
            found = try await store.reserve(
                spec,
                directory: directory(of: spec.id).path,
                instance: registry.name,
                host: registry.host,
                since: start(of: sharing),
                includesFinished: sharing.includesFinished
            )
        }
        if let found, let handle = await follow(found, spec) {
            try? machine.files.removeTree(staged.path)
            jobs[found.id]?.callers.insert(spec.correlationID)
            return Submission(handle: handle, leader: found.correlationID)
        }
        do throws(GatewayError) {
            let handle = try await acceptWithinBudget(spec, staged, request)
            if !isReserved || found != nil { await note(spec, handle.directory) }
            return Submission(handle: handle, leader: nil)
        } catch {
            // In this order: who waits for it elsewhere looks into the store when the directory goes.
            await noting { store throws(GatewayError) in try await store.withdraw(spec.id) }
            try? machine.files.removeTree(staged.path)
            throw error
        }
    }

    // MARK: jobs of other gateways

    /// The handle of a job that was found in the store; `nil` when it has gone from there since.
    private func follow(_ row: SharedRow, _ request: JobSpec) async -> JobHandle? {
        if let job = jobs[row.id] { return job.handle }
        if let known = elsewhere[row.id] { return known.handle }
        let directory = JobDirectory(row.directory.isEmpty ? layout.job(row.id) : row.directory)
        let handle = JobHandle(directory, clock: machine.clock, reactor: machine.reactor)
        if row.isFinal {
            var outcome: JobOutcome?
            await noting { store throws(GatewayError) in
                outcome = try await store.outcome(of: row.id, like: request)
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
        if let outcome = try await store.outcome(of: id, like: job.request) { return outcome }
        if let row = try await store.shared(id), !row.isFinal {
            if isElsewhere(row.host) { return nil }
            let staged = InstanceRegistry.staging(
                id,
                of: row.instance,
                in: Files.parent(of: row.directory)
            )
            if machine.files.exists(row.directory) || machine.files.exists(staged) { return nil }
            guard try await closeIfAbandoned(row, store) else { return nil }
            return try await store.outcome(of: id, like: job.request)
        }
        if let outcome = try await store.outcome(of: id, like: job.request) { return outcome }
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
