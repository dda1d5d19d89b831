/// What happens to a job, as a pure value: events in, actions out.
package struct JobStateMachine: Sendable, Equatable {
    /// Where a job is, as the scheduler sees it: finer than `JobStatus`, which callers see.
    package enum State: Sendable, Equatable {
        /// Accepted and written down, waiting for its turn.
        case queued
        /// Its runner was started or found alive.
        case running
        /// Its last attempt failed and another one was decided on, whose time has not come.
        case resting
        /// Its runner was told to end it.
        case canceling
        /// Its runner is gone without a word; what it started is being ended.
        case clearing(JobStatus)
        /// Over, with a final status.
        case ended(JobStatus)
    }

    /// What can happen to a job; the scheduler tells it, from its queue, its clock and the runner's
    /// descriptors.
    package enum Event: Sendable, Equatable {
        /// It is the job's turn.
        case turnCame
        /// It waited too long for its turn, or may not be tried again when its time has come.
        case turnMissed
        /// The runner could not be started.
        case startFailed
        /// The runner is gone, its attempt failed, and the next one is written down.
        case attemptFailed
        /// The time of the next attempt has come.
        case restOver
        /// A caller wants the job ended.
        case cancelRequested
        /// The runner is gone and left its record.
        case runnerEnded(ExitRecord.Verdict)
        /// The runner is gone and left no record.
        case runnerLost
        /// Nothing of what a lost runner started is left.
        case cleared
    }

    /// What the scheduler has to do next.
    package enum Action: Sendable, Equatable {
        /// Start the runner; what comes of it is `startFailed` or, later, `runnerEnded`.
        case startRunner
        /// Wait for the time of the next attempt.
        case rest
        /// Tell the runner to end the provider, SIGTERM first; it writes its record nevertheless.
        case signalRunner
        /// End what the lost runner started.
        case clear
        /// Write the final state, once.
        case commit(JobStatus)
    }

    /// Changed by `handle` alone.
    package private(set) var state: State

    /// A job that waits for its turn, unless it was found in another state.
    package init(_ state: State = .queued) { self.state = state }

    /// The status that callers see.
    package var status: JobStatus {
        switch state {
        case .queued: .queued
        case .running, .resting, .canceling, .clearing: .running
        case .ended(let status): status
        }
    }

    /// Takes an event and says what is to be done; one that does not fit the state changes nothing.
    package mutating func handle(_ event: Event) -> Action? {
        switch (state, event) {
        case (.queued, .turnCame), (.resting, .restOver):
            state = .running
            return .startRunner
        case (.running, .attemptFailed):
            state = .resting
            return .rest
        case (.queued, .cancelRequested), (.resting, .cancelRequested): return end(.canceled)
        case (.queued, .turnMissed), (.resting, .turnMissed), (.running, .startFailed),
            (.canceling, .startFailed):
            return end(.failed)
        case (.running, .cancelRequested):
            state = .canceling
            return .signalRunner
        case (.running, .runnerEnded(let verdict)), (.canceling, .runnerEnded(let verdict)):
            return end(verdict.status)
        case (.running, .runnerLost):
            state = .clearing(.orphaned)
            return .clear
        case (.canceling, .runnerLost):
            state = .clearing(.canceled)
            return .clear
        case (.clearing(let status), .cleared): return end(status)
        default: return nil
        }
    }

    private mutating func end(_ status: JobStatus) -> Action {
        state = .ended(status)
        return .commit(status)
    }
}
