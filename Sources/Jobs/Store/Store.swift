package import Appliance
package import Platform
package import PostgreSQL
package import SQL
import SQLite
import Synchronization

/// Where jobs and requests are kept: one writer, and a reader that the engine keeps from writing; in a file, in memory, or in a
/// database of a server that gateways of several machines share.
package struct Store: Sendable {
    private let writer: Database
    private let reader: Database
    /// For what goes through many rows, which nobody shall wait for.
    private let surveyor: Database
    /// Empties a file's log beside those who write; `nil` where there is none.
    private let logger: Database?
    private let readiness = Readiness()
    let clock: WallClock
    /// How long a finished job is kept.
    let retention: Duration
    /// The file; `nil` in memory and on a server.
    package let path: String?
    /// The database of a server; `nil` in a file and in memory.
    package let server: DatabaseServer?

    /// The store of a configuration; `nil` when it wants none.
    ///
    /// Nothing is opened yet. Throws `libpq-missing` and `dsn-malformed`, only where a server is asked for.
    package init?(
        _ persistence: Configuration.Persistence,
        layout: Layout,
        clock: WallClock,
        files: Files = Files()
    ) throws(GatewayError) {
        let retention = Duration.seconds(persistence.retentionDays * 86_400)
        switch persistence.backend {
        case .none: return nil
        case .postgres:
            let server = try DatabaseServer(persistence.dsn ?? "")
            self.init(server: server, retention: retention, clock: clock)
        case .memory: self.init(path: nil, retention: retention, clock: clock, files: files)
        case .sqlite:
            let path = persistence.databaseFile(layout) ?? layout.database
            self.init(path: path, retention: retention, clock: clock, files: files)
        }
    }

    /// A store in a file, or in memory for `nil`.
    package init(
        path: String?,
        retention: Duration = .seconds(30 * 86_400),
        clock: WallClock,
        files: Files = Files()
    ) {
        self.path = path
        server = nil
        self.clock = clock
        self.retention = retention
        writer = Database(thread: "store", clock: clock) { () throws(GatewayError) in
            // Gateways that start together would refuse each other the change to WAL, which SQLite does not wait for.
            let lock = try path.map { path throws(GatewayError) in try Store.prepare(path, files) }
            defer { withExtendedLifetime(lock) {} }
            let connection = try Connection(path ?? ":memory:")
            // What was removed is overwritten: a freed page or cell keeps no text.
            try connection.execute("PRAGMA secure_delete = ON")
            try Migration.apply(Schema.migrations, to: connection, appliedAt: clock.now().iso8601)
            return connection
        }
        func reading(_ thread: String) -> Database? {
            path.map { path in
                Database(thread: thread, clock: clock) { () throws(GatewayError) in
                    try Connection(path, mode: .readOnly)
                }
            }
        }
        reader = reading("store-reader") ?? writer
        surveyor = reading("store-survey") ?? writer
        logger = path.map { path in
            Database(thread: "store-log", clock: clock) { () throws(GatewayError) in try Connection(path) }
        }
    }

    /// A store in a database of a server.
    package init(
        server: DatabaseServer,
        retention: Duration = .seconds(30 * 86_400),
        clock: WallClock
    ) {
        path = nil
        self.server = server
        self.clock = clock
        self.retention = retention
        // A server may be back at any moment, and one that is away refuses at once.
        let patience = Duration.seconds(1)
        writer = Database(thread: "store", clock: clock, patience: patience) { () throws(GatewayError) in
            let connection = try ServerConnection(server)
            try connection.founding { () throws(GatewayError) in
                try connection.makeSchema()
                let now = clock.now().iso8601
                try Migration.apply(ServerSchema.migrations, to: connection, appliedAt: now)
            }
            return connection
        }
        func reading(_ thread: String) -> Database {
            Database(thread: thread, clock: clock, patience: patience) { () throws(GatewayError) in
                try ServerConnection(server, mode: .readOnly)
            }
        }
        reader = reading("store-reader")
        surveyor = reading("store-survey")
        logger = nil
    }

    /// The file must be the user's alone, and SQLite gives its log files the mode of the file.
    ///
    /// Returns the lock under which it is to be opened; a file of its own, because closing any descriptor of the database
    /// would drop SQLite's locks.
    private static func prepare(_ path: String, _ files: Files) throws(GatewayError) -> FileLock {
        try files.makeDirectory(Files.parent(of: path))
        let lock = try FileLock.wait(path + ".lock", within: .seconds(30))
        if let status = try files.target(path) {
            if status.mode & 0o077 != 0 { try files.changeMode(files.realPath(path) ?? path, to: 0o600) }
        } else {
            try files.append([], to: path)
        }
        return lock
    }

    /// Opens the database and brings its schema up to date; a store that nobody calls stays closed.
    package func open() async throws(GatewayError) { try await write { _ throws(GatewayError) in } }

    /// Runs calls that may change the database.
    @discardableResult
    package func write<Value: Sendable>(
        _ body: @Sendable (any DatabaseConnection) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        try await writer.run(body)
    }

    /// Runs calls in a transaction that others may share; when this returns, it is committed.
    ///
    /// `body` may be run again after it was undone: it touches nothing but the database and what is its own.
    func commit<Value: Sendable>(
        _ body: @escaping @Sendable (any DatabaseConnection) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        try await writer.commit(
            preparing: { () },
            { connection, _ throws(GatewayError) in try body(connection) }
        )
    }

    /// The same with what is prepared for it before anybody has to wait for the store's lock.
    @discardableResult
    func commit<Prepared, Value: Sendable>(
        bytes: Int = 0,
        preparing prepare: @escaping @Sendable () throws(GatewayError) -> Prepared,
        _ body: @escaping @Sendable (any DatabaseConnection, Prepared) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        try await writer.commit(bytes: bytes, preparing: prepare, body)
    }

    /// Runs calls that only read.
    package func read<Value: Sendable>(
        _ body: @Sendable (any DatabaseConnection) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        try await beReady()
        return try await reader.run(body)
    }

    /// Runs calls that read many rows.
    func survey<Value: Sendable>(
        _ body: @Sendable (any DatabaseConnection) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        try await beReady()
        return try await surveyor.run(body)
    }

    /// Not behind what is being written: only the first call needs the file and its tables to be made.
    private func beReady() async throws(GatewayError) {
        if readiness.isReady.load(ordering: .acquiring) { return }
        try await open()
        readiness.isReady.store(true, ordering: .releasing)
    }

    /// Until when a row is kept whose request or job was over at an instant; ISO 8601.
    func expiry(from end: Timestamp) -> String {
        end.advanced(byMilliseconds: Int64(retention.milliseconds)).iso8601
    }

    /// Empties the log into the file after long output was written, without holding up who writes; from then on commits do it again.
    ///
    /// What fails here is done by them.
    func settleLog() async {
        guard let logger else { return }
        _ = try? await logger.run { connection throws(GatewayError) in
            try connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        }
        _ = try? await write { connection throws(GatewayError) in
            try connection.execute("PRAGMA wal_autocheckpoint = 1000")
        }
    }

    /// Closes all connections; a later call throws `database-closed`.
    package func close() async {
        await reader.close()
        await surveyor.close()
        await logger?.close()
        await writer.close()
    }

    /// Whether the database has been opened and is up to date.
    private final class Readiness: Sendable {
        let isReady = Atomic(false)
    }
}
