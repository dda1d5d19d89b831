package import Appliance
package import Platform
package import SQL

/// One connection on a thread of its own.
///
/// It is opened by the first call. An opening that failed is tried again after a while, because the file may have been
/// busy, or its disk full; until then every call throws what it threw, so that nobody waits for it twice.
package actor Database {
    private enum State {
        case closed
        case open(any DatabaseConnection)
        /// Failed at this value of the clock.
        case failed(GatewayError, UInt64)
        case closedForGood
    }

    private let executor: ThreadExecutor
    private let clock: WallClock
    private let patience: Duration
    private let open: @Sendable () throws(GatewayError) -> any DatabaseConnection
    private var state = State.closed
    /// What waits for the next transaction, in the order in which it came.
    private let pending = GuardedValue<[any PendingCommit]>([])

    /// How many calls share a transaction at most: it holds the lock that other gateways wait for.
    private static let commitLimit = 64
    /// How many bytes those may prepare together that are in one transaction; one that prepares more has its own.
    static let byteLimit = 1 << 20

    /// The database's own thread: SQLite blocks, which the cooperative pool must not.
    package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// A database that `open` opens, on the thread; after a failure again once `patience` has passed.
    package init(
        thread: String,
        clock: WallClock = .system,
        patience: Duration = .seconds(10),
        open: @escaping @Sendable () throws(GatewayError) -> any DatabaseConnection
    ) {
        executor = ThreadExecutor(thread)
        self.clock = clock
        self.patience = patience
        self.open = open
    }

    /// Runs calls on the connection.
    package func run<Value: Sendable>(
        _ body: @Sendable (any DatabaseConnection) throws(GatewayError) -> Value
    ) throws(GatewayError) -> Value {
        try body(connection())
    }

    /// Runs calls in a transaction, together with what others want committed at the same time: it costs hardly more than one.
    ///
    /// `prepare` is run first, on the same thread, while nobody has to wait for the database's lock; it makes about so many
    /// `bytes`, which are in memory until the commit. `body` may be run again after it was undone. Of those who wait, one asks the thread for the transaction, and each goes on where it came from: the way
    /// through the thread's queue and back would cost as much as the calls.
    package nonisolated func commit<Prepared, Value: Sendable>(
        bytes: Int = 0,
        preparing prepare: @escaping @Sendable () throws(GatewayError) -> Prepared,
        _ body: @escaping @Sendable (any DatabaseConnection, Prepared) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        let result = await withCheckedContinuation { continuation in
            let commit = WaitingCommit(
                bytes: bytes,
                preparing: prepare,
                body: body,
                continuation: continuation
            )
            let isFirst = pending.withLock { pending in
                pending.append(commit)
                return pending.count == 1
            }
            if isFirst { Task.immediate { await commitPending() } }
        }
        return try result.get()
    }

    private func commitPending() {
        let (commits, isRest) = pending.withLock { pending in
            var bytes = 0
            let rest = pending.prefix(Database.commitLimit).firstIndex { commit in
                bytes += commit.bytes
                return bytes > Database.byteLimit
            }
            let commits = Array(pending.prefix(max(1, rest ?? Database.commitLimit)))
            pending.removeFirst(commits.count)
            return (commits, !pending.isEmpty)
        }
        if isRest { Task { commitPending() } }
        let batch = commits.filter { $0.isPrepared() }
        do throws(GatewayError) {
            let connection = try connection()
            guard batch.count > 1, connection.dialect.sharesCommits else {
                for commit in batch { commit.run(on: connection) }
                return
            }
            do throws(GatewayError) {
                try connection.transaction { () throws(GatewayError) in
                    for commit in batch { try commit.attempt(on: connection) }
                }
                for commit in batch { commit.succeed() }
            } catch {
                // One of them has failed, and undone what the others did.
                for commit in batch { commit.run(on: connection) }
            }
        } catch {
            for commit in batch { commit.fail(error) }
        }
    }

    /// Closes the connection for good.
    package func close() {
        state = .closedForGood
    }

    private func connection() throws(GatewayError) -> any DatabaseConnection {
        switch state {
        case .open(let connection): return connection
        case .closedForGood: throw GatewayError("database-closed", "the database is closed")
        case .failed(let error, let instant) where clock.uptime() &- instant < patience.nanoseconds:
            throw error
        case .failed, .closed:
            do throws(GatewayError) {
                let connection = try open()
                state = .open(connection)
                return connection
            } catch {
                state = .failed(error, clock.uptime())
                throw error
            }
        }
    }
}

/// Calls whose caller waits for their commit.
private protocol PendingCommit: AnyObject, Sendable {
    /// About how many their preparation makes.
    var bytes: Int { get }
    /// Prepares them; `false` when that has failed, which ends them.
    func isPrepared() -> Bool
    /// Runs them in a transaction that is committed later.
    func attempt(on connection: any DatabaseConnection) throws(GatewayError)
    /// The transaction of the attempt is committed.
    func succeed()
    /// Runs them in a transaction of their own.
    func run(on connection: any DatabaseConnection)
    func fail(_ error: GatewayError)
}

/// `@unchecked Sendable`: what is variable belongs to the thread that commits it, which got it through the lock of `pending`.
private final class WaitingCommit<Prepared, Value: Sendable>: PendingCommit, @unchecked Sendable {
    let bytes: Int
    private let prepare: @Sendable () throws(GatewayError) -> Prepared
    private let body: @Sendable (any DatabaseConnection, Prepared) throws(GatewayError) -> Value
    private let continuation: CheckedContinuation<Result<Value, GatewayError>, Never>
    private var prepared: Prepared?
    private var value: Value?

    init(
        bytes: Int,
        preparing prepare: @escaping @Sendable () throws(GatewayError) -> Prepared,
        body: @escaping @Sendable (any DatabaseConnection, Prepared) throws(GatewayError) -> Value,
        continuation: CheckedContinuation<Result<Value, GatewayError>, Never>
    ) {
        self.bytes = bytes
        self.prepare = prepare
        self.body = body
        self.continuation = continuation
    }

    func isPrepared() -> Bool {
        do throws(GatewayError) {
            prepared = try prepare()
            return true
        } catch {
            fail(error)
            return false
        }
    }

    func attempt(on connection: any DatabaseConnection) throws(GatewayError) {
        guard let prepared else { return }
        value = try body(connection, prepared)
    }

    func succeed() {
        guard let value else { return fail(GatewayError("internal-error", "a commit has no result")) }
        continuation.resume(returning: .success(value))
    }

    func run(on connection: any DatabaseConnection) {
        do throws(GatewayError) {
            try connection.transaction { () throws(GatewayError) in try attempt(on: connection) }
            succeed()
        } catch {
            fail(error)
        }
    }

    func fail(_ error: GatewayError) { continuation.resume(returning: .failure(error)) }
}
