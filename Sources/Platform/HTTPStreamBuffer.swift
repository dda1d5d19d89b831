import Appliance
import CShims
import Glibc
import Synchronization

/// Bytes on their way from a handler's task to the server's thread: bounded, with back-pressure.
///
/// When the buffer runs dry the connection is suspended inside the reader, and resumed by the next write. Suspending
/// and resuming happen under the lock, so that neither can overtake the other.
final class HTTPStreamBuffer: HTTPStreamWriter, @unchecked Sendable {
    /// Bytes above which a writer waits; the buffer holds at most this and one write.
    static let limit = 128 << 10

    private struct State {
        var bytes: [UInt8] = []
        var start = 0
        var isSuspended = false
        var isFinished = false
        var isAborted = false
        var writers: [CheckedContinuation<Void, Never>] = []

        var pending: Int { bytes.count - start }

        mutating func wakeWriters() -> [CheckedContinuation<Void, Never>] {
            defer { writers = [] }
            return writers
        }
    }

    // Unchecked for the pointer alone: it is used only under the lock of `state` while the connection is suspended,
    // and a suspended connection is never freed.
    private let connection: OpaquePointer
    private let state = Mutex(State())

    init(_ connection: OpaquePointer) { self.connection = connection }

    func write(_ bytes: [UInt8]) async throws {
        while true {
            try Task.checkCancellation()
            let isTaken = try state.withLock { state in
                if state.isAborted || state.isFinished { throw CancellationError() }
                guard state.pending <= HTTPStreamBuffer.limit else { return false }
                state.bytes.append(contentsOf: bytes)
                resume(&state)
                return true
            }
            if isTaken { return }
            await waitForSpace()
        }
    }

    /// No more bytes will come; what is queued is still sent.
    func finish() {
        state.withLock { state in
            state.isFinished = true
            resume(&state)
        }
    }

    /// The connection is over or is to be cut; writers are released.
    func abort() {
        let writers = state.withLock { state in
            state.isAborted = true
            resume(&state)
            return state.wakeWriters()
        }
        for writer in writers { writer.resume() }
    }

    /// Fills the server's buffer; called on its thread.
    ///
    /// Returns as `shim_mhd_response_of_stream` says.
    func read(into buffer: UnsafeMutableRawPointer, size: Int) -> Int {
        let (count, writers) = state.withLock { state -> (Int, [CheckedContinuation<Void, Never>]) in
            if state.isAborted { return (-2, []) }
            let count = min(size, state.pending)
            guard count > 0 else {
                if state.isFinished { return (-1, []) }
                state.isSuspended = true
                shim_mhd_suspend(connection)
                return (0, [])
            }
            state.bytes.withUnsafeBytes { bytes in
                UnsafeMutableRawBufferPointer(start: buffer, count: count)
                    .copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: bytes[state.start..<state.start + count])
                    )
            }
            state.start += count
            if state.pending == 0 {
                // An idle stream must not hold the memory of its largest burst.
                state.bytes.removeAll(keepingCapacity: state.bytes.capacity <= 4096)
                state.start = 0
            } else if state.start >= HTTPStreamBuffer.limit {
                // A reader that never catches up must not make it keep what was sent.
                state.bytes.removeFirst(state.start)
                state.start = 0
            }
            return (count, state.pending <= HTTPStreamBuffer.limit ? state.wakeWriters() : [])
        }
        for writer in writers { writer.resume() }
        return count
    }

    private func resume(_ state: inout State) {
        guard state.isSuspended else { return }
        state.isSuspended = false
        shim_mhd_resume(connection)
    }

    private func waitForSpace() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mustWait = state.withLock { state in
                    // Cancellation is set before its handler runs, so either it is seen here or the handler sees us.
                    if Task.isCancelled || state.isAborted || state.pending <= HTTPStreamBuffer.limit {
                        return false
                    }
                    state.writers.append(continuation)
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            // Every writer looks again; those that were not cancelled wait on.
            for writer in state.withLock({ $0.wakeWriters() }) { writer.resume() }
        }
    }
}
