import Synchronization

/// Why a call is to stop, for handlers that treat a client that gave up differently from a gateway that shuts down.
///
/// The handler notices by its task being cancelled; the reason is set before that.
package final class Cancellation: Sendable {
    /// Who ended the call.
    package enum Reason: Sendable, Hashable {
        /// `notifications/cancelled`, with the client's words.
        ///
        /// No answer is sent.
        case client(String?)
        /// The client of a stateless request closed its connection, or ended its session.
        ///
        /// Nobody reads the answer.
        case disconnected
        /// The gateway stops: the answer, usually the handle of a job that goes on, is still sent.
        case shutdown
    }

    private struct State {
        var reason: Reason?
        var task: Task<Void, Never>?
    }

    private let state = Mutex(State())

    /// A call that goes on.
    package init() {}

    /// Why the call is to stop; `nil` while it goes on.
    package var reason: Reason? { state.withLock(\.reason) }

    /// Stops the call; only the first reason counts.
    package func cancel(_ reason: Reason) {
        let task = state.withLock { state -> Task<Void, Never>? in
            guard state.reason == nil else { return nil }
            state.reason = reason
            return state.task
        }
        task?.cancel()
    }

    /// Ties the call to the task that runs it, which may have been cancelled before it was known.
    func attach(_ task: Task<Void, Never>) {
        let isCancelled = state.withLock { state in
            state.task = task
            return state.reason != nil
        }
        if isCancelled { task.cancel() }
    }
}
