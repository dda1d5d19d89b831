import Appliance
import Platform
import Synchronization

/// How far a download is, on standard error: one line that is drawn over on a terminal, a plain line every ten seconds
/// elsewhere; for a program an event twice a second.
final class ProgressLine: Sendable {
    private struct State {
        var shownAt: UInt64
        var isDrawn = false
        var rate = TransferRate()
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
            state.rate.measure(progress.received, at: now)
            let line = ProgressLine.wording(
                progress,
                rate: state.rate.bytesPerSecond,
                bar: terminal.errorIsTerminal
            )
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

    /// `downloaded 12.3 of 100.0 MB (12 %), 3.1 MB/s, 29 s left`, behind a bar where there is room for one.
    static func wording(_ progress: FetchProgress, rate: Double? = nil, bar: Bool = false) -> String {
        let speed = rate.map { ", \(megabytes(Int64($0))) MB/s" } ?? ""
        guard let total = progress.total, total > 0 else {
            return "downloaded \(megabytes(progress.received)) MB\(speed)"
        }
        let part = min(1, Double(progress.received) / Double(total))
        var line =
            "downloaded \(megabytes(progress.received)) of \(megabytes(total)) MB (\(Int(part * 100)) %)\(speed)"
        if let rate, rate > 0, progress.received < total {
            line += ", \(left(Double(total - progress.received) / rate)) left"
        }
        guard bar else { return line }
        let filled = Int(part * 20)
        return "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: 20 - filled) + "] "
            + line
    }

    /// Millions of bytes with one decimal.
    static func megabytes(_ bytes: Int64) -> String {
        let tenths = (bytes + 50_000) / 100_000
        return "\(tenths / 10).\(tenths % 10)"
    }

    private static func left(_ seconds: Double) -> String {
        let seconds = Int(min(seconds, 359_999).rounded(.up))
        if seconds < 60 { return "\(seconds) s" }
        let minutes = (seconds + 59) / 60
        return minutes < 60 ? "\(minutes) min" : "\(minutes / 60) h \(minutes % 60) min"
    }
}

/// How fast bytes come: a moving average over the last few seconds.
struct TransferRate: Sendable {
    /// Bytes a second; `nil` until there are two measurements.
    private(set) var bytesPerSecond: Double?
    private var last: (bytes: Int64, at: UInt64)?

    /// Takes how many bytes have come at an instant, in nanoseconds of a clock that never goes back.
    mutating func measure(_ bytes: Int64, at now: UInt64) {
        defer { last = (bytes, now) }
        // A download that starts over has fewer bytes than before, and no history.
        guard let last, bytes >= last.bytes, now > last.at else {
            if let last, bytes < last.bytes { bytesPerSecond = nil }
            return
        }
        let seconds = Double(now - last.at) / 1e9
        let current = Double(bytes - last.bytes) / seconds
        // A measurement counts for as much of the average as it lasted of three seconds.
        let weight = min(1, seconds / 3)
        bytesPerSecond = bytesPerSecond.map { $0 + (current - $0) * weight } ?? current
    }
}
