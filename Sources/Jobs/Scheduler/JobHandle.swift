package import Appliance
package import Platform

/// How a job ended and what it wrote.
package struct JobOutcome: Sendable {
    /// As it was accepted; also of a job that an earlier gateway accepted.
    package var spec: JobSpec
    /// Final.
    package var status: JobStatus
    /// `nil` when the job never ran or its runner left no record.
    package var exit: ExitRecord?
    /// Standard output, cut at the job's output limit.
    package var output: WrittenBytes
    /// Standard error, cut at the same limit.
    package var errorOutput: WrittenBytes
    /// What `JobRequest.collected` named and existed, by relative name.
    package var files: [String: [UInt8]]
    /// Why the job did not end by itself.
    package var message: String?
    /// Why the job was never given to a runner; `nil` when it was.
    package var refusal: GatewayError?
    /// Whether the provider may have been started, as far as its runner's record says.
    package var hasBegun = true
    /// Attempts after the first one.
    package var retryCount = 0
    /// The provider's circuit when the job ended: `closed`, `open`, `half_open`.
    package var circuit = "closed"
}

/// What the gateway made of a run's output.
package struct RunVerdict: Sendable, Equatable {
    /// The contract's `errorCategory`; `nil` for a run that answered.
    package var errorCategory: String?
    /// Whether the same request may succeed later without a change.
    package var isRetryable: Bool
    /// Whether what was made of it is written down; the job's end is not committed before.
    package var isRecorded: Bool

    /// A run that answered and is written down, unless something else is given.
    package init(errorCategory: String? = nil, isRetryable: Bool = false, isRecorded: Bool = true) {
        self.errorCategory = errorCategory
        self.isRetryable = isRetryable
        self.isRecorded = isRecorded
    }
}

/// A job that somebody may wait for.
package final class JobHandle: Sendable {
    private enum State {
        case waiting([UInt64: CheckedContinuation<JobOutcome?, Never>])
        case over(JobOutcome)
    }

    /// The job's id.
    package let id: String
    /// Its files, while it runs.
    package let directory: JobDirectory
    private let reactor: Reactor
    private let state = GuardedValue<(State, UInt64)>((.waiting([:]), 0))

    init(_ directory: JobDirectory, reactor: Reactor) {
        id = directory.id
        self.directory = directory
        self.reactor = reactor
    }

    /// Waits for the job's end; `nil` when the limit passed or the waiting task was cancelled first.
    ///
    /// Neither ends the job.
    package func outcome(within limit: Duration? = nil) async -> JobOutcome? {
        let token = state.withLock { state in
            state.1 += 1
            return state.1
        }
        var timer: UInt64?
        defer { if let timer { reactor.disarm(timer) } }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let known: JobOutcome?? = state.withLock { state in
                    switch state.0 {
                    case .over(let outcome): return .some(outcome)
                    case .waiting(var waiters):
                        waiters[token] = continuation
                        state.0 = .waiting(waiters)
                        return nil
                    }
                }
                if let known { return continuation.resume(returning: known) }
                if Task.isCancelled { return abandon(token) }
                // Only now: what is over at once finds whom it is to wake.
                timer = limit.map { limit in reactor.arm(after: limit) { self.abandon(token) } }
            }
        } onCancel: {
            abandon(token)
        }
    }

    /// What the job writes, from its first byte on, while it runs.
    ///
    /// Throws `file-not-found` when the job is over and its files are gone.
    package func output(
        _ stream: ChildProcess.Stream = .output
    ) throws(GatewayError) -> OutputFollower {
        try OutputFollower(directory, stream, reactor: reactor)
    }

    func resolve(_ outcome: JobOutcome) {
        let waiters = state.withLock { state -> [CheckedContinuation<JobOutcome?, Never>] in
            guard case .waiting(let waiters) = state.0 else { return [] }
            state.0 = .over(outcome)
            return Array(waiters.values)
        }
        for waiter in waiters { waiter.resume(returning: outcome) }
    }

    private func abandon(_ token: UInt64) {
        let waiter = state.withLock { state -> CheckedContinuation<JobOutcome?, Never>? in
            guard case .waiting(var waiters) = state.0 else { return nil }
            let waiter = waiters.removeValue(forKey: token)
            state.0 = .waiting(waiters)
            return waiter
        }
        waiter?.resume(returning: nil)
    }
}
