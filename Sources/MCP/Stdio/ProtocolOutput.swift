package import Appliance
import CShims
import Glibc
import Platform

/// The one way to a client on stdio: whole lines in the order in which they were given, written by a thread of its own,
/// so that a client that reads slowly holds up nobody but its own requests.
package final class ProtocolOutput: @unchecked Sendable {
    // Unchecked: everything mutable is guarded by `lock`, a pthread mutex, because a condition goes with it.
    private let descriptor: Int32
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [[UInt8]] = []
    private var queuedBytes = 0
    private var isWriting = false
    private var isClosed = false
    /// Whether nobody is to wait for room any more: the transport stops.
    private var isStopping = false
    private var hasFailed = false
    private var ended: [CheckedContinuation<Void, Never>] = []

    /// Bytes that may wait before reading more requests does.
    private static let highWater = 4 << 20
    /// Bytes that may wait before notifications are left out.
    private static let notificationWater = 256 << 10

    /// Output to a descriptor, which stays open.
    package init(descriptor: Int32) {
        self.descriptor = descriptor
        lock = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        pthread_cond_init(changed, nil)
        BlockingThread.start("mcp-output") { [self] in write() }
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(lock)
        changed.deallocate()
        lock.deallocate()
    }

    /// Takes standard output for the protocol alone: whatever else this process prints goes to standard error from now on.
    ///
    /// Throws `output-unavailable` when standard output is closed.
    package static func claimingStandardOutput() throws(GatewayError) -> ProtocolOutput {
        let copy = shim_dup_above(STDOUT_FILENO, 3)
        guard copy >= 0, dup2(STDERR_FILENO, STDOUT_FILENO) >= 0 else {
            throw GatewayError(
                "output-unavailable",
                "cannot take over the standard output: \(String(cString: strerror(copy < 0 ? -copy : errno)))",
                help: "run the gateway with its standard output connected to the MCP client"
            )
        }
        return ProtocolOutput(descriptor: copy)
    }

    /// Queues a message, which must be serialized JSON without line breaks.
    func send(_ message: [UInt8]) { append(message, limit: .max) }

    /// Queues a notification, or drops it when the client is far behind: the next one says more.
    func sendNotification(_ message: [UInt8]) { append(message, limit: ProtocolOutput.notificationWater) }

    private func append(_ message: [UInt8], limit: Int) {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        guard !isClosed, !hasFailed, queuedBytes <= limit else { return }
        queue.append(message)
        queuedBytes += message.count
        pthread_cond_broadcast(changed)
    }

    /// Blocks the calling thread while too much waits: whoever does not read answers gets no more requests
    /// read, until `stopWaiting`.
    ///
    /// Not for tasks.
    func waitForRoom() {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while queuedBytes > ProtocolOutput.highWater, !hasFailed, !isClosed, !isStopping {
            pthread_cond_wait(changed, lock)
        }
    }

    /// Ends `waitForRoom`, now and from now on.
    func stopWaiting() {
        pthread_mutex_lock(lock)
        isStopping = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(lock)
    }

    /// Whether the client has closed its end.
    var isBroken: Bool {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return hasFailed
    }

    /// Takes nothing more, and returns when all that was queued is written, or `limit` has passed.
    package func close(within limit: Duration) async {
        let (done, continuation) = AsyncStream.makeStream(of: Never.self)
        let flush = Task {
            await flushed()
            continuation.finish()
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in done {} }
            group.addTask { try? await Task.sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
        flush.cancel()
    }

    private func flushed() async {
        await withCheckedContinuation { continuation in
            pthread_mutex_lock(lock)
            isClosed = true
            let isOver = hasFailed || queue.isEmpty && !isWriting
            if !isOver { ended.append(continuation) }
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(lock)
            if isOver { continuation.resume() }
        }
    }

    // MARK: the thread

    private func write() {
        // A client that is gone is an error number here, not the end of the process.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        while let batch = next() {
            var bytes: [UInt8] = []
            bytes.reserveCapacity(batch.reduce(0) { $0 + $1.count + 1 })
            for message in batch {
                bytes.append(contentsOf: message)
                bytes.append(UInt8(ascii: "\n"))
            }
            finished(batch, isWritten: writeAll(bytes))
        }
    }

    /// Everything that waits; `nil` at the end.
    private func next() -> [[UInt8]]? {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while queue.isEmpty, !isClosed, !hasFailed { pthread_cond_wait(changed, lock) }
        guard !queue.isEmpty, !hasFailed else { return nil }
        defer { queue = [] }
        isWriting = true
        return queue
    }

    private func finished(_ batch: [[UInt8]], isWritten: Bool) {
        pthread_mutex_lock(lock)
        isWriting = false
        queuedBytes -= batch.reduce(0) { $0 + $1.count }
        if !isWritten { hasFailed = true }
        var waiting: [CheckedContinuation<Void, Never>] = []
        if hasFailed || queue.isEmpty { swap(&waiting, &ended) }
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(lock)
        for continuation in waiting { continuation.resume() }
    }

    private func writeAll(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let part = UnsafeRawBufferPointer(rebasing: rest)
                let count = Glibc.write(descriptor, part.baseAddress, part.count)
                if count > 0 {
                    rest = rest.dropFirst(count)
                } else if errno == EAGAIN {
                    var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    poll(&wait, 1, -1)
                } else if errno != EINTR {
                    return false
                }
            }
            return true
        }
    }
}
