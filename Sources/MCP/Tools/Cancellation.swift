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
        /// The gateway stops, and the call is to end once it only waits.
        var isRetired = false
        /// The call only waits for something that goes on without the gateway.
        var waits = false
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

    /// From now on the call only waits for something that goes on without the gateway: when that stops, or is stopping
    /// already, the call is cancelled with `.shutdown` at once.
    ///
    /// A call that never says so is given time to end by itself.
    package func yieldToShutdown() {
        let isOver = state.withLock { state in
            state.waits = true
            return state.isRetired
        }
        if isOver { cancel(.shutdown) }
    }

    /// The gateway stops.
    func retire() {
        let isOver = state.withLock { state in
            state.isRetired = true
            return state.waits
        }
        if isOver { cancel(.shutdown) }
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
