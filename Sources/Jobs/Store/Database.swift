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
