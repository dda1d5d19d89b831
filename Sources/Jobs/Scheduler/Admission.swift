package import Appliance

/// Who may run now and who waits: a pure value.
///
/// First come, first served; a job whose provider is at its limit lets those of other providers pass.
package struct Admission: Sendable {
    private let limits: Configuration.Limits
    private var running: [String: Int] = [:]
    /// Jobs that run.
    package private(set) var runningCount = 0
    private var queue: [(id: String, provider: String)] = []

    /// Nobody runs yet.
    package init(_ limits: Configuration.Limits) { self.limits = limits }

    /// Jobs that wait.
    package var queuedCount: Int { queue.count }

    /// Takes a job in: `true` when it runs now, `false` when it waits.
    ///
    /// Throws `saturated` when there is no room to wait either.
    package mutating func admit(_ id: String, provider: String) throws(GatewayError) -> Bool {
        if hasRoom(provider) {
            count(provider)
            return true
        }
        guard queue.count < limits.maxQueuedJobs else {
            throw GatewayError(
                "saturated",
                "\(runningCount) jobs run and \(queue.count) wait, which is the limit",
                help: "try again in a few seconds, or raise max_running_jobs or max_queued_jobs in [limits]"
            )
        }
        queue.append((id, provider))
        return false
    }

    /// Counts a job that runs already, over the limits if need be.
    package mutating func count(_ provider: String) {
        running[provider, default: 0] += 1
        runningCount += 1
    }

    /// A job that ran is over; the ids of those whose turn it is.
    package mutating func release(_ provider: String) -> [String] {
        running[provider, default: 1] -= 1
        runningCount -= 1
        var turns: [String] = []
        var index = 0
        while index < queue.count, runningCount < limits.maxRunningJobs {
            if hasRoom(queue[index].provider) {
                let next = queue.remove(at: index)
                count(next.provider)
                turns.append(next.id)
            } else {
                index += 1
            }
        }
        return turns
    }

    /// A job waits no more; `false` when it did not wait.
    @discardableResult
    package mutating func withdraw(_ id: String) -> Bool {
        let before = queue.count
        queue.removeAll { $0.id == id }
        return queue.count < before
    }

    private func hasRoom(_ provider: String) -> Bool {
        runningCount < limits.maxRunningJobs
            && running[provider, default: 0] < limits.maxRunningJobsPerProvider
    }
}
