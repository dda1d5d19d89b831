package import Appliance
import Platform
package import SQLite

/// One connection on a thread of its own.
///
/// It is opened by the first call. An opening that failed is not tried again: every call throws what it threw.
package actor Database {
    private enum State {
        case closed
        case open(Connection)
        case failed(GatewayError)
    }

    private let executor: ThreadExecutor
    private let open: @Sendable () throws(GatewayError) -> Connection
    private var state = State.closed

    package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// A database that `open` opens, on the thread.
    package init(thread: String, open: @escaping @Sendable () throws(GatewayError) -> Connection) {
        executor = ThreadExecutor(thread)
        self.open = open
    }

    /// Runs calls on the connection.
    package func run<Value: Sendable>(
        _ body: @Sendable (Connection) throws(GatewayError) -> Value
    ) throws(GatewayError) -> Value {
        try body(connection())
    }

    /// Closes the connection for good.
    package func close() {
        state = .failed(GatewayError("database-closed", "the database is closed"))
    }

    private func connection() throws(GatewayError) -> Connection {
        switch state {
        case .open(let connection): return connection
        case .failed(let error): throw error
        case .closed:
            do throws(GatewayError) {
                let connection = try open()
                state = .open(connection)
                return connection
            } catch {
                state = .failed(error)
                throw error
            }
        }
    }
}
