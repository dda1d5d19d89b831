package import Appliance

/// Who may run now and who waits: a pure value.
///
/// A turn goes to a job whose provider has room. Jobs that a caller waits for go before those in the background, but for every
/// fourth turn; among these the client that had no turn for the longest time is next, and each client's jobs go in the order
/// in which they came. So a client with a hundred jobs holds up another one for a turn and not for a hundred.
///
/// Instants are milliseconds of a clock that nobody sets.
package struct Admission: Sendable {
    /// A job that wants to run.
    package struct Applicant: Sendable, Equatable {
        /// The job's id.
        package var id: String
        /// Its provider.
        package var provider: String
        /// Whose turn it uses; one client's jobs wait for each other.
        package var client: String
        /// Whether a caller waits for it.
        package var isAwaited: Bool

        /// A job of a client.
        package init(_ id: String, provider: String, client: String = "", isAwaited: Bool = false) {
            self.id = id
            self.provider = provider
            self.client = client
            self.isAwaited = isAwaited
        }
    }

    private struct Running {
        var provider: String
        var since: Int64
    }

    /// Turns in a row that awaited jobs get while one in the background could have had it.
    private static let preference = 3
    /// Clients whose last turns are remembered; more than this many do not wait at one time.
    private static let memory = 4096

    private let limits: Configuration.Limits
    private var running: [String: Running] = [:]
    private var perProvider: [String: Int] = [:]
    private var queue: [Applicant] = []
    /// When each client had its last turn, counted in turns.
    private var lastTurns: [String: Int] = [:]
    private var turn = 0
    private var preferred = 0
    /// What a run takes, in milliseconds, the latest counting most; `nil` until one has ended.
    private var typical: Double?

    /// Nobody runs yet.
    package init(_ limits: Configuration.Limits) { self.limits = limits }

    /// Jobs that run.
    package var runningCount: Int { running.count }
    /// Jobs that wait.
    package var queuedCount: Int { queue.count }

    /// Takes a job in: `true` when it runs now, `false` when it waits.
    ///
    /// A client that waits for nothing yet may wait for one job also where others have taken all the room, up to twice the
    /// limit. Throws `saturated` when there is no room to wait either.
    package mutating func admit(_ applicant: Applicant, now: Int64) throws(GatewayError) -> Bool {
        // Who waits already goes first: what has room for a newcomer had none for them.
        if hasRoom(applicant.provider) {
            count(applicant.id, provider: applicant.provider, now: now)
            took(applicant.client)
            return true
        }
        let isFirst = !queue.contains { $0.client == applicant.client }
        let room = isFirst && !queue.isEmpty ? limits.maxQueuedJobs * 2 : limits.maxQueuedJobs
        guard queue.count < room else { throw refusal(now) }
        // At the end of the round: a newcomer goes before nobody who waits for a turn already.
        if isFirst { lastTurns[applicant.client] = turn }
        queue.append(applicant)
        return false
    }

    private func refusal(_ now: Int64) -> GatewayError {
        let wait = retryAfter(now)
        var error = GatewayError(
            "saturated",
            "\(running.count) \(running.count == 1 ? "job runs" : "jobs run") and \(queue.count) wait, which is the limit",
            help:
                "try again in about \((wait + 999) / 1000) s, or raise max_running_jobs or max_queued_jobs in [limits]"
        )
        error.retryAfter = .milliseconds(wait)
        return error
    }

    /// Milliseconds until one of those that run is likely to end, by what runs took so far: 1 s to 1 min.
    package func retryAfter(_ now: Int64) -> Int {
        guard !running.isEmpty else { return 1000 }
        let elapsed = running.values.reduce(0.0) { $0 + Double(max(0, now - $1.since)) }
        let estimate = typical ?? elapsed / Double(running.count)
        return Int(min(60_000, max(1000, estimate / Double(running.count))))
    }

    /// Counts a job that runs already, over the limits if need be.
    package mutating func count(_ id: String, provider: String, now: Int64) {
        guard running.updateValue(Running(provider: provider, since: now), forKey: id) == nil else { return }
        perProvider[provider, default: 0] += 1
    }

    /// A job that ran is over; the ids of those whose turn it is.
    package mutating func release(_ id: String, now: Int64) -> [String] {
        guard let ended = running.removeValue(forKey: id) else { return [] }
        perProvider[ended.provider, default: 1] -= 1
        let took = Double(max(0, now - ended.since))
        typical = typical.map { $0 * 0.8 + took * 0.2 } ?? took
        var turns: [String] = []
        while let index = next() {
            let applicant = queue.remove(at: index)
            count(applicant.id, provider: applicant.provider, now: now)
            self.took(applicant.client)
            turns.append(applicant.id)
        }
        if queue.isEmpty { lastTurns = [:] }
        return turns
    }

    /// A caller waits for a job from now on that waits for its turn.
    package mutating func prefer(_ id: String) {
        for index in queue.indices where queue[index].id == id { queue[index].isAwaited = true }
    }

    /// A job waits no more; `false` when it did not wait.
    @discardableResult
    package mutating func withdraw(_ id: String) -> Bool {
        let before = queue.count
        queue.removeAll { $0.id == id }
        return queue.count < before
    }

    /// Where in the queue the next turn goes.
    private mutating func next() -> Int? {
        let awaited = next { $0.isAwaited }
        let background = next { !$0.isAwaited }
        guard let awaited, let background else { return awaited ?? background }
        preferred += 1
        if preferred <= Admission.preference { return awaited }
        preferred = 0
        return background
    }

    private func next(_ isMeant: (Applicant) -> Bool) -> Int? {
        let eligible = queue.indices.filter { isMeant(queue[$0]) && hasRoom(queue[$0].provider) }
        // The first of those who are equal: they are in the order in which they came.
        return eligible.min { (lastTurns[queue[$0].client] ?? 0) < (lastTurns[queue[$1].client] ?? 0) }
    }

    private mutating func took(_ client: String) {
        turn += 1
        lastTurns[client] = turn
        if lastTurns.count > Admission.memory {
            lastTurns = lastTurns.filter { $0.value > turn - Admission.memory / 2 }
        }
    }

    private func hasRoom(_ provider: String) -> Bool {
        running.count < limits.maxRunningJobs
            && perProvider[provider, default: 0] < limits.maxRunningJobsPerProvider
    }
}
