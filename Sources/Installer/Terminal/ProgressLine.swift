import Appliance
import Platform
import Synchronization

/// How far a download is, on standard error: one line that is drawn over on a terminal, a plain line every ten seconds
/// elsewhere; for a program an event twice a second.
final class ProgressLine: Sendable {
    private struct State {
        var shownAt: UInt64
        var isDrawn = false
    }

    private let terminal: Terminal
    private let clock: WallClock
    private let isQuiet: Bool
    private let event: (@Sendable (FetchProgress) -> Void)?
    // A leaf: held while one line is written.
    private let state: Mutex<State>

    /// Says nothing when quiet; with `event` that is called in place of writing.
    init(
        _ terminal: Terminal,
        clock: WallClock,
        isQuiet: Bool,
        event: (@Sendable (FetchProgress) -> Void)? = nil
    ) {
        self.terminal = terminal
        self.clock = clock
        self.isQuiet = isQuiet
        self.event = event
        state = Mutex(State(shownAt: clock.uptime()))
    }

    /// Shows it when it is time to.
    func show(_ progress: FetchProgress) {
        guard !isQuiet else { return }
        let interval: UInt64 =
            event != nil ? 500_000_000 : terminal.errorIsTerminal ? 100_000_000 : 10_000_000_000
        state.withLock { state in
            let now = clock.uptime()
            // A program is told of the end, however fast it came.
            let isLast = event != nil && progress.received == progress.total
            guard isLast || now &- state.shownAt >= interval else { return }
            state.shownAt = now
            if let event { return event(progress) }
            let line = ProgressLine.wording(progress)
            if terminal.errorIsTerminal {
                terminal.writeError("\r\u{1B}[K\(line)")
                state.isDrawn = true
            } else {
                terminal.writeError(line + "\n")
            }
        }
    }

    /// Clears a drawn line.
    func finish() {
        state.withLock { state in
            if state.isDrawn { terminal.writeError("\r\u{1B}[K") }
            state.isDrawn = false
        }
    }

    /// `downloaded 12.3 of 100.0 MB (12 %)`.
    static func wording(_ progress: FetchProgress) -> String {
        func megabytes(_ bytes: Int64) -> String {
            let tenths = (bytes + 50_000) / 100_000
            return "\(tenths / 10).\(tenths % 10)"
        }
        guard let total = progress.total, total > 0 else {
            return "downloaded \(megabytes(progress.received)) MB"
        }
        return "downloaded \(megabytes(progress.received)) of \(megabytes(total)) MB"
            + " (\(min(100, progress.received * 100 / total)) %)"
    }
}
