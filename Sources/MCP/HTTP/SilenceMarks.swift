import Platform

/// Marks calls that are still silent after a while, and again and again from then on.
///
/// One timer for all of them: nearly every call is over long before it is due, and a timer of its own would cost more than many a
/// call itself.
final class SilenceMarks: Sendable {
    private struct Call {
        var due: UInt64
        let mark: @Sendable () -> Void
    }

    private struct State {
        var calls: [UInt64: Call] = [:]
        var next: UInt64 = 0
        /// When the timer comes; the largest number when there is none.
        var alarm = UInt64.max
    }

    private let first: Duration
    private let later: Duration
    private let clock: WallClock
    private let state = GuardedValue(State())

    /// Marks that come for the first time after `first`, and every `later` from then on.
    init(first: Duration, later: Duration, clock: WallClock) {
        self.first = first
        self.later = later
        self.clock = clock
    }

    /// Begins to look after a call, which is marked by calling `mark`; gives what ends that.
    func begin(_ mark: @escaping @Sendable () -> Void) -> UInt64 {
        let due = clock.uptime() &+ first.nanoseconds
        let (token, isFirst) = state.withLock { state in
            state.next += 1
            state.calls[state.next] = Call(due: due, mark: mark)
            // A timer that comes later finds that another one has taken its place.
            let isFirst = due < state.alarm
            if isFirst { state.alarm = due }
            return (state.next, isFirst)
        }
        if isFirst { Task { await wake(at: due) } }
        return token
    }

    /// The call is over; one mark may still be on its way.
    func end(_ token: UInt64) {
        state.withLock { state in state.calls[token] = nil }
    }

    private func wake(at first: UInt64) async {
        var alarm = first
        while alarm != .max {
            let now = clock.uptime()
            if alarm > now { try? await clock.sleep(.nanoseconds(Int64(clamping: alarm - now))) }
            let expected = alarm
            let (marks, next) = state.withLock { state in due(&state, expected) }
            for mark in marks { mark() }
            alarm = next
        }
    }

    /// What is to be marked now, and when the timer comes again.
    private func due(_ state: inout State, _ alarm: UInt64) -> ([@Sendable () -> Void], UInt64) {
        guard state.alarm == alarm else { return ([], .max) }
        let now = clock.uptime()
        var marks: [@Sendable () -> Void] = []
        for (token, call) in state.calls where call.due <= now {
            marks.append(call.mark)
            state.calls[token]?.due = now &+ later.nanoseconds
        }
        state.alarm = state.calls.values.map(\.due).min() ?? .max
        return (marks, state.alarm)
    }
}
