import Appliance
import Platform
import Synchronization

/// Fetches a file of a known digest over HTTP, from wherever an earlier attempt or command stopped.
///
/// 1. What is in `cache/<sha256>.part` is digested and unpacked first, as if it came now.
/// 2. The rest is asked for; `DownloadState` decides what an answer, a failure and an end mean.
/// 3. When it must start over, `pass` ends: nothing of what it handed over may be used.
struct Download: Sendable {
    var request: BundleRequest
    var url: String
    var partial: PartialDownload
    var files: Files
    var transport: any BundleTransport
    var clock: WallClock
    var policy = DownloadState.Policy()
    /// From 0 to 1: how much of the longest wait is waited.
    var jitter: @Sendable () -> Double = { Double.random(in: 0...1) }
    /// Gets a sentence when something goes wrong that is tried again.
    var say: @Sendable (String) -> Void = { _ in }
    var progress: @Sendable (FetchProgress) -> Void = { _ in }
    /// The largest file that is fetched, in bytes.
    var limit: Int64
    /// Called before bytes are written, with how many are still to come.
    var makeRoom: @Sendable (Int64) throws(GatewayError) -> Void = { _ throws(GatewayError) in }

    /// How a pass ended.
    enum Ending: Sendable, Equatable {
        /// Everything came, and has this digest.
        case complete(String)
        /// What was handed over is no beginning of the file.
        case startOver
    }

    /// The state before the first pass: what an earlier command left.
    func begin() throws(GatewayError) -> DownloadState {
        var state = DownloadState(expected: request.size, policy: policy)
        let size = try partial.size()
        guard size > 0, size <= request.size ?? limit else { return state }
        let note = try partial.note(of: url)
        state.resume(size, size: note?.size, validator: note?.validator)
        if state.received < (note?.size ?? .max) {
            say("going on with the \(ProgressLine.megabytes(size)) MB that an earlier command downloaded")
        }
        return state
    }

    /// Hands over the whole file in order, and keeps it.
    ///
    /// Throws what the transport throws, `http-status`, `download-failed`, `wrong-size`, `cancelled`, `disk-full`.
    func pass(
        _ state: inout DownloadState,
        into feed: ByteFeed,
        until deadline: UInt64
    ) async throws(GatewayError) -> Ending {
        let sink = ByteSink(feed: feed, progress: progress)
        let resumed = state.received
        let path = partial.path, files = files
        try await BlockingThread.run("bundle-resume") { () throws(GatewayError) in
            try sink.keep(in: path, resuming: resumed > 0, files: files)
        }
        // Somebody may have cut it short between two looks.
        guard sink.received == resumed else { return .startOver }
        sink.expect(request.size ?? state.size)
        let shared = Shared(state)
        defer { state = shared.state }
        while true {
            let action = shared.state.next()
            guard case .ask(let offset, let validator) = action else { return .complete(sink.finish()) }
            let (verdict, failure) = await attempt(offset, validator, shared, sink, until: deadline)
            switch verdict {
            case .check, .accept: return .complete(sink.finish())
            case .startOver: return .startOver
            case .giveUp(let reason): throw wording(of: reason, failure, shared)
            case .wait(let pause):
                guard clock.uptime() &+ pause.wholeNanoseconds < deadline else {
                    throw wording(of: .failure, timeUp, shared)
                }
                if let failure { say("\(failure); trying again in \(pause.rounded)") }
                do {
                    try await clock.sleep(pause)
                } catch {
                    throw GatewayError("cancelled", "the download was cancelled")
                }
            case .take, .ask: break
            }
        }
    }

    /// One transfer, and what follows from its end.
    private func attempt(
        _ offset: Int64,
        _ validator: String?,
        _ shared: Shared,
        _ sink: ByteSink,
        until deadline: UInt64
    ) async -> (DownloadState.Action, GatewayError?) {
        let now = clock.uptime()
        guard now < deadline else { return (.giveUp(.failure), timeUp) }
        let transfer = BundleTransfer(
            url: url,
            offset: offset,
            validator: validator,
            limit: (request.size ?? limit) - offset,
            isPinned: request.trust == .pinnedChecksum,
            total: .nanoseconds(Int64(deadline - now))
        )
        let expected = request.size
        do throws(GatewayError) {
            try await transport.transfer(transfer) { (answer) throws(GatewayError) in
                let action = shared.handle(.answered(DownloadState.Reply(answer)))
                guard action == .take else {
                    shared.stop(action)
                    throw HTTPClient.unexpectedStatus(answer)
                }
                let state = shared.state
                if let size = expected ?? state.size { try makeRoom(size - state.received) }
                sink.expect(expected ?? state.size)
                try partial.write(size: state.size, validator: state.validator, url: url)
            } sink: { (bytes) throws(GatewayError) in
                try sink.take(bytes)
                _ = shared.handle(.received(bytes.count))
            }
            let action = shared.handle(.ended(jitter: jitter()))
            guard action != .check else { return (.check, nil) }
            return (
                action,
                GatewayError(
                    "network",
                    "'\(request.shown)' ended after \(shared.state.received) of \(expected ?? shared.state.size ?? 0) bytes"
                )
            )
        } catch {
            if let stopped = shared.takeStop() { return (stopped, error) }
            let isTemporary = error.code == "network"
            return (shared.handle(.failed(isTemporary: isTemporary, jitter: jitter())), error)
        }
    }

    private var timeUp: GatewayError {
        GatewayError("network", "the download of '\(request.shown)' took longer than \(policy.total.rounded)")
    }

    /// The error of a download that ends.
    private func wording(
        of reason: DownloadState.Reason,
        _ failure: GatewayError?,
        _ shared: Shared
    ) -> GatewayError {
        let state = shared.state
        switch reason {
        case .busy(let wanted):
            return GatewayError(
                "http-status",
                "the server of '\(request.shown)' is busy and wants to be asked again in \(wanted.rounded)",
                help: "run the command again then"
            )
        case .size(let size):
            return GatewayError(
                "wrong-size",
                "'\(request.shown)' has \(size) bytes on the server, but \(state.expected ?? 0) in the release",
                help: "the server does not have what was released; use another one"
            )
        case .unsteady:
            return GatewayError(
                "download-failed",
                "'\(request.shown)' changed while it was downloaded, \(policy.restarts + 1) times",
                help: "try again later"
            )
        case .failure, .status, .cutOff, .digest:
            var error =
                failure ?? GatewayError("download-failed", "'\(request.shown)' could not be downloaded")
            if state.received > 0, Download.leavesBytesUsable(error) {
                error.help =
                    "what came (\(ProgressLine.megabytes(state.received)) MB) is kept; run the command again to go on"
            }
            return error
        }
    }

    /// Whether what came is still the beginning of the file after this error.
    static func leavesBytesUsable(_ error: GatewayError) -> Bool {
        switch error.code {
        case "network", "http-status", "certificate-refused", "proxy-refused", "cancelled", "insecure-url",
            "libcurl-missing":
            true
        default: false
        }
    }

    /// The state, as the transfer's thread and the task that waits for it share it.
    private final class Shared: Sendable {
        private struct Contents {
            var state: DownloadState
            /// Why the transfer was ended from here.
            var stop: DownloadState.Action?
        }

        // A leaf: held while the state takes one event.
        private let contents: Mutex<Contents>

        init(_ state: DownloadState) { contents = Mutex(Contents(state: state)) }

        var state: DownloadState { contents.withLock { $0.state } }

        func handle(_ event: DownloadState.Event) -> DownloadState.Action {
            contents.withLock { $0.state.handle(event) }
        }

        func stop(_ action: DownloadState.Action) { contents.withLock { $0.stop = action } }

        func takeStop() -> DownloadState.Action? {
            contents.withLock { contents in
                defer { contents.stop = nil }
                return contents.stop
            }
        }
    }
}

extension DownloadState.Reply {
    /// What matters of an answer.
    init(_ answer: HTTPClient.Answer) {
        self.init(
            status: answer.status,
            offset: answer.offset,
            size: answer.fileSize,
            validator: answer.validator,
            retryAfter: answer.retryAfter
        )
    }
}

extension Duration {
    /// `2 s`, `3 min`, `4 h`, rounded up.
    var rounded: String {
        let parts = components
        let seconds = parts.seconds + (parts.attoseconds > 0 ? 1 : 0)
        if seconds < 120 { return "\(seconds) s" }
        return seconds < 7200 ? "\((seconds + 59) / 60) min" : "\((seconds + 3599) / 3600) h"
    }

    /// Nanoseconds; none for what is negative.
    var wholeNanoseconds: UInt64 {
        let parts = components
        return UInt64(max(0, parts.seconds)) * 1_000_000_000
            + UInt64(max(0, parts.attoseconds) / 1_000_000_000)
    }
}
