import Synchronization

/// The calls that are being worked on: so that they can be cancelled by their id, counted, and waited for at the end.
final class CallTable: Sendable {
    /// A request id is unique among the running calls of one session, or of one stdio process.
    struct Key: Sendable, Hashable {
        let session: String
        let id: RequestID
    }

    /// Why a call did not start.
    enum Refusal: Error, Sendable {
        /// Another call with this key is still running.
        case idInUse
        /// The limit is reached.
        case full
        /// The server is shutting down.
        case closed

        var error: ProtocolError {
            switch self {
            case .idInUse: .invalidRequest("a request with this id is still being worked on")
            case .full: .internalError("too many requests are being worked on")
            case .closed: .internalError("the gateway is shutting down")
            }
        }
    }

    private struct Running {
        let key: Key?
        let cancellation: Cancellation
    }

    private struct State {
        var next: UInt64 = 0
        var running: [UInt64: Running] = [:]
        var numbers: [Key: UInt64] = [:]
        var isRetired = false
        var isClosed = false
        /// Finished when the last call is over.
        var waiting: [AsyncStream<Never>.Continuation] = []
    }

    private let limit: Int
    private let state = Mutex(State())

    /// A table for at most so many calls at once.
    init(limit: Int) { self.limit = limit }

    /// Calls that are running.
    var count: Int { state.withLock(\.running.count) }

    /// Runs a call in a task of its own until it returns, whatever becomes of the caller, and then what it returns, which gives the
    /// answer.
    ///
    /// The key is free before: who has the answer may use the id again at once.
    ///
    /// `isAlone`: the caller has nothing to do but to wait for it, so that it begins on the caller's thread and no other one has to
    /// be woken for it.
    func start(
        _ key: Key?,
        _ cancellation: Cancellation,
        isAlone: Bool = false,
        _ body: @escaping @Sendable () async -> @Sendable () -> Void
    ) throws(Refusal) {
        let entered = state.withLock { state -> Result<(UInt64, Bool), Refusal> in
            guard !state.isClosed else { return .failure(.closed) }
            guard state.running.count < limit else { return .failure(.full) }
            if let key, state.numbers[key] != nil { return .failure(.idInUse) }
            state.next += 1
            state.running[state.next] = Running(key: key, cancellation: cancellation)
            if let key { state.numbers[key] = state.next }
            return .success((state.next, state.isRetired))
        }
        let (number, isRetired) = try entered.get()
        if isRetired { cancellation.retire() }
        @Sendable func run() async {
            let answer = await body()
            release(number)
            answer()
            finished(number)
        }
        cancellation.attach(isAlone ? Task.immediate { await run() } : Task { await run() })
    }

    private func release(_ number: UInt64) {
        state.withLock { state in
            if let key = state.running[number]?.key { state.numbers[key] = nil }
        }
    }

    private func finished(_ number: UInt64) {
        let waiting = state.withLock { state -> [AsyncStream<Never>.Continuation] in
            state.running[number] = nil
            guard state.running.isEmpty else { return [] }
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.finish() }
    }

    /// Cancels the call with this key, if there is one: a cancellation may cross its answer.
    func cancel(_ key: Key, _ reason: Cancellation.Reason) {
        let cancellation = state.withLock { state in
            state.numbers[key].flatMap { state.running[$0]?.cancellation }
        }
        cancellation?.cancel(reason)
    }

    /// Cancels every call of a session.
    func cancelAll(of session: String, _ reason: Cancellation.Reason) {
        let cancellations = state.withLock { state in
            state.running.values.filter { $0.key?.session == session }.map(\.cancellation)
        }
        for cancellation in cancellations { cancellation.cancel(reason) }
    }

    /// The gateway stops: calls that only wait end now, running ones and those still to come.
    func retire() {
        let cancellations = state.withLock { state in
            state.isRetired = true
            return state.running.values.map(\.cancellation)
        }
        for cancellation in cancellations { cancellation.retire() }
    }

    /// Lets no call start any more, gives the running ones `grace` to end by themselves, cancels the rest and
    /// waits for them at most `deadline`.
    ///
    /// Whether all have ended.
    func finish(grace: Duration, deadline: Duration) async -> Bool {
        state.withLock { $0.isClosed = true }
        if await isEmpty(within: grace) { return true }
        let cancellations = state.withLock { $0.running.values.map(\.cancellation) }
        for cancellation in cancellations { cancellation.cancel(.shutdown) }
        return await isEmpty(within: deadline)
    }

    private func isEmpty(within limit: Duration) async -> Bool {
        let (ended, continuation) = AsyncStream.makeStream(of: Never.self)
        state.withLock { state in
            if state.running.isEmpty { continuation.finish() } else { state.waiting.append(continuation) }
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in ended {} }
            group.addTask { try? await Task.sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
        return count == 0
    }
}
