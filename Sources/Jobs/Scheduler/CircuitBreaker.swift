package import Appliance

/// Whether a provider is worth trying, by how its last runs ended: a pure value.
///
/// After five transient failures in a row nothing is tried for a minute; then one trial is, and what becomes of it decides.
/// A failure of another kind shows that the provider answers, and counts for nothing.
///
/// Instants are milliseconds of a clock that nobody sets.
package struct CircuitBreaker: Sendable, Equatable {
    /// Where it is.
    package enum State: Sendable, Equatable {
        /// Everything is tried; so many transient failures in a row came before.
        case closed(failures: Int)
        /// Nothing is tried until then.
        case open(until: Int64)
        /// The time is over: one trial is made, or is going on.
        case halfOpen(isTrying: Bool)

        /// The contract's word.
        package var name: String {
            switch self {
            case .closed: "closed"
            case .open: "open"
            case .halfOpen: "half_open"
            }
        }
    }

    /// How a run ended.
    package enum Ending: Sendable, Equatable, CaseIterable {
        /// With an answer.
        case answered
        /// In a way that may be gone at the next attempt.
        case failedTransiently
        /// In a way that says nothing of the provider: refused, canceled, never started.
        case other
    }

    /// Transient failures in a row after which it opens, and attempts of one run.
    package static let threshold = 5
    /// Milliseconds that it stays open.
    package static let reset: Int64 = 60_000

    /// Changed by the functions alone.
    package private(set) var state = State.closed(failures: 0)

    /// Nothing has failed yet.
    package init() {}

    /// Whether a run may begin now; throws `circuit-open` with the time until the next trial.
    package mutating func begin(now: Int64) throws(GatewayError) {
        settle(now: now)
        switch state {
        case .closed: return
        case .halfOpen(false): state = .halfOpen(isTrying: true)
        case .halfOpen(true): throw CircuitBreaker.refusal(1000)
        case .open(let until): throw CircuitBreaker.refusal(until - now)
        }
    }

    /// A run that began has ended, or never came to be.
    package mutating func end(_ ending: Ending, now: Int64) {
        settle(now: now)
        switch (state, ending) {
        case (_, .answered): state = .closed(failures: 0)
        case (.closed(let failures), .failedTransiently):
            state =
                failures + 1 >= CircuitBreaker.threshold
                ? .open(until: now + CircuitBreaker.reset) : .closed(failures: failures + 1)
        case (.halfOpen, .failedTransiently): state = .open(until: now + CircuitBreaker.reset)
        case (.halfOpen, .other): state = .halfOpen(isTrying: false)
        case (.open, _), (.closed, .other): break
        }
    }

    /// The state at an instant: what was open long enough is half open.
    package mutating func settle(now: Int64) {
        if case .open(let until) = state, now >= until { state = .halfOpen(isTrying: false) }
    }

    /// Transient failures in a row, as long as it is closed.
    package var failures: Int {
        if case .closed(let failures) = state { failures } else { CircuitBreaker.threshold }
    }

    private static func refusal(_ wait: Int64) -> GatewayError {
        let seconds = max(1, (wait + 999) / 1000)
        var error = GatewayError(
            "circuit-open",
            "[CircuitBreaker] Circuit is open. Failing fast. Will not try for another \(seconds)s.",
            help:
                "its last runs failed for reasons that may pass; llm_process_health shows when it is tried again"
        )
        error.retryAfter = .milliseconds(max(1000, wait))
        return error
    }
}

/// How long to wait before an attempt: 1 s, doubled with each, 30 s at most, and less by chance, so that runs that failed
/// together are not tried again together.
package enum Backoff {
    /// The pause before the attempt of a number, 2 or more; `chance` is one random byte.
    package static func pause(before attempt: Int, chance: UInt8) -> Duration {
        let full = min(30_000, 1000 << min(max(0, attempt - 2), 5))
        return .milliseconds(full / 2 + full / 2 * Int(chance) / 255)
    }
}
