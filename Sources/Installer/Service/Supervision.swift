import Appliance
import Platform

/// What the supervising process does where there is no systemd: a pure value, events in, actions out.
///
/// A gateway that ends by itself is started again after a pause that doubles up to half a minute; one that has run
/// for a minute begins with the shortest pause again. Before it was ready for the first time, nothing is tried twice:
/// the person who started it is waiting for the answer.
struct Supervision: Sendable, Equatable {
    enum Event: Sendable, Equatable {
        /// The gateway process is there.
        case started
        /// It says that it serves.
        case ready
        /// It has ended, after so long.
        case ended(ProcessStatus, after: Duration)
        /// The time that was asked for is over.
        case timeUp
        /// Somebody wants it to stop for good.
        case stop
        /// Somebody wants it to be replaced by a new one.
        case replace
        /// It missed its watchdog time.
        case silent
    }

    enum Action: Sendable, Equatable {
        case start
        /// Say to the command that waits that the gateway serves.
        case reportReady
        /// Say to the command that waits why it does not.
        case reportFailure(String)
        /// Say to the command that waits that somebody has stopped it.
        case reportStopped
        /// Ask the gateway to end.
        case terminate
        /// End it by force.
        case kill
        /// Wake up after so long; replaces an earlier wish.
        case wake(after: Duration)
        /// Leave, with an exit code.
        case leave(Int32)
    }

    private enum Phase: Sendable, Equatable {
        case starting
        case serving
        /// Between two attempts.
        case pausing
        /// Asked to end; what comes after.
        case ending(thenStart: Bool)
        case over
    }

    private var phase = Phase.starting
    private var everReady = false
    /// How often it was started again by itself.
    private(set) var restarts = 0
    private var pause = Supervision.shortestPause

    static let shortestPause = Duration.seconds(1)
    static let longestPause = Duration.seconds(30)
    static let readyWithin = Duration.seconds(30)
    static let stopWithin = Duration.seconds(20)

    /// Whether a gateway was started and is not ready yet.
    var isStarting: Bool { phase == .starting }

    /// Whether somebody has stopped it for good.
    var isStopping: Bool { phase == .ending(thenStart: false) || phase == .over }

    /// What to do first; a start that fails at once asks for another time to wake up, so it comes last.
    var beginning: [Action] { [.wake(after: Supervision.readyWithin), .start] }

    /// What to do about an event.
    mutating func handle(_ event: Event) -> [Action] {
        switch (phase, event) {
        case (.over, _), (_, .started): return []
        case (.starting, .ready):
            phase = .serving
            everReady = true
            return [.reportReady]
        case (.starting, .timeUp):
            if everReady { return [.kill] }
            phase = .over
            return [
                .kill,
                .reportFailure(
                    "it did not become ready within \(Supervision.readyWithin.components.seconds) s"
                ),
                .leave(1),
            ]
        case (.starting, .ended(let status, _)) where !everReady:
            phase = .over
            return [.reportFailure("it ended before it was ready: \(status.wording)"), .leave(1)]
        case (.starting, .ended(_, let duration)), (.serving, .ended(_, let duration)):
            if duration >= .seconds(60) { pause = Supervision.shortestPause }
            let now = pause
            pause = min(pause * 2, Supervision.longestPause)
            phase = .pausing
            return [.wake(after: now)]
        case (.pausing, .timeUp):
            phase = .starting
            restarts += 1
            return [.wake(after: Supervision.readyWithin), .start]
        case (.pausing, .replace):
            phase = .starting
            return [.wake(after: Supervision.readyWithin), .start]
        case (.pausing, .stop):
            phase = .over
            return [.leave(0)]
        case (.starting, .stop), (.serving, .stop), (.ending, .stop):
            let wasEnding = phase == .ending(thenStart: true) || phase == .ending(thenStart: false)
            phase = .ending(thenStart: false)
            return (everReady ? [] : [.reportStopped])
                + (wasEnding ? [] : [.terminate, .wake(after: Supervision.stopWithin)])
        case (.starting, .replace), (.serving, .replace):
            phase = .ending(thenStart: true)
            return [.terminate, .wake(after: Supervision.stopWithin)]
        case (.ending, .timeUp): return [.kill]
        case (.ending(let thenStart), .ended):
            if thenStart {
                phase = .starting
                pause = Supervision.shortestPause
                return [.wake(after: Supervision.readyWithin), .start]
            }
            phase = .over
            return [.leave(0)]
        case (.serving, .silent), (.starting, .silent): return [.kill]
        case (.serving, .timeUp), (.serving, .ready), (.pausing, _), (.ending, _): return []
        }
    }
}

extension ProcessStatus {
    /// `exit code 3`, `signal 11`.
    var wording: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signalled(let signal): "signal \(signal)"
        }
    }
}
