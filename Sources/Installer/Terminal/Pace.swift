import Platform
import Synchronization

/// Lets through what is worth telling: the first of a phase, its end, and in between two a second.
final class Pace: Sendable {
    private struct State {
        var phase = ""
        /// By the clock, nanoseconds.
        var toldAt: UInt64 = 0
    }

    private let clock: WallClock
    // A leaf: nothing is called while it is held.
    private let state = Mutex(State())

    init(clock: WallClock) { self.clock = clock }

    /// Whether it is time to tell of this phase.
    func allows(_ phase: String, isLast: Bool) -> Bool {
        let now = clock.uptime()
        return state.withLock { state in
            guard isLast || state.phase != phase || now &- state.toldAt >= 500_000_000 else { return false }
            state.phase = phase
            state.toldAt = now
            return true
        }
    }
}
