import Glibc
import Synchronization

/// The request to stop, from the thread that waits for signals to the tasks that serve.
///
/// A second signal while stopping ends the process at once: whoever presses Ctrl-C twice means it.
final class StopSignal: Sendable {
    private struct State {
        var isRaised = false
        var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var next: UInt64 = 0
    }

    private let state = Mutex(State())

    /// Asks for the stop.
    func raise(_ signal: Int32) {
        let waiting = state.withLock { state -> [CheckedContinuation<Void, Never>]? in
            guard !state.isRaised else { return nil }
            state.isRaised = true
            defer { state.waiting = [:] }
            return Array(state.waiting.values)
        }
        guard let waiting else { exit(128 + signal) }
        for continuation in waiting { continuation.resume() }
    }

    /// Returns when the stop was asked for, or when the task is cancelled.
    func wait() async {
        let token = state.withLock { state in
            state.next += 1
            return state.next
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.isRaised || Task.isCancelled { return true }
                    state.waiting[token] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: token) }?.resume()
        }
    }
}
