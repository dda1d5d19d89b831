import Appliance
import Platform
import Synchronization

/// Reads the small files of a release source: indexes, manifests, checksums, signatures.
struct ReleaseDocuments: Sendable {
    var transport: any BundleTransport
    var files: Files
    var clock: WallClock
    var policy = DownloadState.Policy(patience: 4, total: .seconds(120))
    /// From 0 to 1: how much of the longest wait is waited.
    var jitter: @Sendable () -> Double = { Double.random(in: 0...1) }
    /// Gets a sentence when something goes wrong that is tried again.
    var say: @Sendable (String) -> Void = { _ in }

    /// A file's bytes; `nil` when there is none.
    ///
    /// Throws `file-too-large`, `answer-too-large`, and what the transport throws once it is no use to try again.
    func read(_ location: BundleRequest.Location, limit: Int) async throws(GatewayError) -> [UInt8]? {
        switch location {
        case .file(let path):
            let files = files
            return try await BlockingThread.run("release-read") { () throws(GatewayError) in
                try files.readIfPresent(path, limit: limit)
            }
        case .web(let url): return try await fetch(url, limit)
        }
    }

    private func fetch(_ url: String, _ limit: Int) async throws(GatewayError) -> [UInt8]? {
        var state = DownloadState(policy: policy)
        let deadline = clock.uptime() + policy.total.wholeNanoseconds
        while true {
            let (result, reply) = await attempt(url, limit, until: deadline)
            let failure: GatewayError
            switch result {
            case .success(let bytes): return bytes
            case .failure(let error): failure = error
            }
            if reply?.status == 404 || reply?.status == 410 { return nil }
            let action =
                if let reply, reply.status != 200 {
                    state.handle(.answered(reply))
                } else {
                    state.handle(.failed(isTemporary: failure.code == "network", jitter: jitter()))
                }
            guard case .wait(let pause) = action, clock.uptime() + pause.wholeNanoseconds < deadline else {
                throw failure
            }
            say("\(failure); trying again in \(pause.rounded)")
            do {
                try await clock.sleep(pause)
            } catch {
                throw GatewayError("cancelled", "the command was cancelled")
            }
        }
    }

    private func attempt(
        _ url: String,
        _ limit: Int,
        until deadline: UInt64
    ) async -> (Result<[UInt8], GatewayError>, DownloadState.Reply?) {
        let answer = Answer()
        let now = clock.uptime()
        let transfer = BundleTransfer(
            url: url,
            offset: 0,
            validator: nil,
            limit: Int64(limit),
            isPinned: false,
            total: .nanoseconds(Int64(max(deadline, now + 1) - now))
        )
        do throws(GatewayError) {
            try await transport.transfer(transfer) { (head) throws(GatewayError) in
                answer.reply.withLock { $0 = DownloadState.Reply(head) }
                guard head.status == 200 else { throw HTTPClient.unexpectedStatus(head) }
            } sink: { (bytes) throws(GatewayError) in
                answer.bytes.withLock { $0.append(contentsOf: bytes) }
            }
            return (.success(answer.bytes.withLock { $0 }), nil)
        } catch {
            return (.failure(error), answer.reply.withLock { $0 })
        }
    }

    // Leaves: the transfer's thread fills them, the caller reads them after.
    private final class Answer: Sendable {
        let reply = Mutex<DownloadState.Reply?>(nil)
        let bytes = Mutex<[UInt8]>([])
    }
}
