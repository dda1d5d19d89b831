package import Appliance
import CSQLite
package import SQL

/// A connection to a database.
///
/// Its calls block, so it belongs to an actor with a thread of its own. Errors are `database-busy`,
/// `database-corrupt`, `database-read-only`, `disk-full` or `database-error`; they name the file and the statement, never
/// the bound values.
package final class Connection: DatabaseConnection {
    /// How a database is opened.
    package enum Mode: Sendable {
        /// Made when missing; WAL; one writer at a time.
        case readWrite
        /// The engine refuses every change.
        case readOnly
        /// Not even a lock file is made: for a file that nobody writes to while it is read.
        case immutable
    }

    /// The file, or `:memory:`.
    package let path: String
    let handle: OpaquePointer
    private var statements: [StatementText: Statement] = [:]
    private var depth = 0

    /// Prepared statements that are kept; a program has fewer different ones than this.
    private static let statementLimit = 128

    /// Opens a database; another connection's lock is waited for at most `busyMilliseconds`.
    package init(_ path: String, mode: Mode = .readWrite, busyMilliseconds: Int32 = 5000) throws(GatewayError)
    {
        let flags =
            switch mode {
            case .readWrite: SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
            case .readOnly: SQLITE_OPEN_READONLY
            case .immutable: SQLITE_OPEN_READONLY | SQLITE_OPEN_URI
            }
        let name = mode == .immutable ? Connection.immutableAddress(path) : path
        var opened: OpaquePointer?
        // One thread uses a connection at a time, so SQLite need not lock it.
        let code = sqlite3_open_v2(name, &opened, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nil)
        guard code == SQLITE_OK, let opened else {
            let error = Connection.failure(code, opened, path, action: "open")
            sqlite3_close_v2(opened)
            throw error
        }
        self.path = path
        handle = opened
        sqlite3_busy_timeout(handle, busyMilliseconds)
        try execute("PRAGMA foreign_keys = ON")
        switch mode {
        case .readOnly, .immutable: try execute("PRAGMA query_only = ON")
        case .readWrite:
            // In WAL mode a commit needs no sync to survive a crash of the process; NORMAL syncs at checkpoints.
            try execute("PRAGMA journal_mode = WAL")
            try execute("PRAGMA synchronous = NORMAL")
            // A log that one large transaction blew up is cut back.
            try execute("PRAGMA journal_size_limit = 67108864")
        }
    }

    deinit {
        statements = [:]
        sqlite3_close_v2(handle)
    }

    /// SQLite's.
    package var dialect: Dialect { .sqlite }

    /// Runs a statement whose rows, if any, are not wanted; returns how many rows it changed.
    @discardableResult
    package func execute(_ sql: String, _ values: [SQLValue]) throws(GatewayError) -> Int {
        try each(sql, values) { _ throws(GatewayError) in }
        return Int(sqlite3_changes64(handle))
    }

    /// Goes through the rows of the result for as long as `body` wants another one.
    package func step(
        _ sql: String,
        _ values: [SQLValue],
        _ body: (any Row) throws(GatewayError) -> Bool
    ) throws(GatewayError) {
        let statement = try prepared(sql)
        statement.isInUse = true
        defer {
            statement.reset()
            statement.isInUse = false
        }
        var code = statement.bind(values)
        guard code == SQLITE_OK else { throw failure(code, sql) }
        while true {
            code = sqlite3_step(statement.handle)
            if code == SQLITE_DONE { return }
            guard code == SQLITE_ROW else { throw failure(code, sql) }
            guard try body(StatementRow(handle: statement.handle)) else { return }
        }
    }

    /// Runs `body` in one transaction that is undone when it throws; inside another one, as a part of it.
    ///
    /// The write lock is taken at the start, because taking it later cannot be waited for.
    package func transaction<Value>(_ body: () throws(GatewayError) -> Value) throws(GatewayError) -> Value {
        let name = "level\(depth)"
        try execute(depth == 0 ? "BEGIN IMMEDIATE" : "SAVEPOINT \(name)")
        depth += 1
        defer { depth -= 1 }
        do throws(GatewayError) {
            let value = try body()
            try execute(depth == 1 ? "COMMIT" : "RELEASE \(name)")
            return value
        } catch {
            // Some errors have rolled back already; then there is nothing to undo.
            if depth == 1 {
                if sqlite3_get_autocommit(handle) == 0 { _ = try? execute("ROLLBACK") }
            } else {
                _ = try? execute("ROLLBACK TO \(name)")
                _ = try? execute("RELEASE \(name)")
            }
            throw error
        }
    }

    /// The names of a table's columns; empty when there is no such table.
    package func columns(of table: String) throws(GatewayError) -> [String] {
        try all("SELECT name FROM pragma_table_info(?1)", [.text(table)]) { $0.text(0) ?? "" }
    }

    /// Gateways on one file see each other in the directories beside it.
    package func announce(_ text: String) throws(GatewayError) {}

    /// The texts of the statements that are kept prepared: a test asks how each is carried out.
    package var preparedTexts: [String] { statements.keys.map(\.text).sorted() }

    // MARK: below

    /// A file as https://www.sqlite.org/uri.html has it.
    private static func immutableAddress(_ path: String) -> String {
        var address = "file:"
        for byte in path.utf8 {
            let isPlain =
                (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
                || "/._-".utf8.contains(byte)
            address += isPlain ? String(UnicodeScalar(byte)) : "%" + Hex.encode([byte])
        }
        return address + "?immutable=1"
    }

    private func prepared(_ sql: String) throws(GatewayError) -> Statement {
        let text = StatementText(text: sql)
        if let statement = statements[text], !statement.isInUse { return statement }
        var made: OpaquePointer?
        let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &made, nil)
        guard code == SQLITE_OK else { throw failure(code, sql) }
        guard let made else {
            throw GatewayError("database-error", "an empty statement was given to '\(path)'")
        }
        let statement = Statement(made)
        // A statement that is in use, by a query inside its own query, keeps its place.
        if statements[text] == nil {
            if statements.count >= Connection.statementLimit {
                statements = statements.filter(\.value.isInUse)
            }
            statements[text] = statement
        }
        return statement
    }

    private func failure(_ code: Int32, _ sql: String) -> GatewayError {
        let statement = sql.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        let shown = statement.count > 120 ? statement.prefix(119) + "…" : statement[...]
        return Connection.failure(code, handle, path, action: "run '\(shown)' on")
    }

    static func failure(
        _ code: Int32,
        _ handle: OpaquePointer?,
        _ path: String,
        action: String
    ) -> GatewayError {
        let reason =
            handle.map { String(cString: sqlite3_errmsg($0)) } ?? String(cString: sqlite3_errstr(code))
        let message = "cannot \(action) '\(path)': \(reason) (SQLite \(code))"
        switch code & 0xFF {
        case SQLITE_BUSY, SQLITE_LOCKED:
            return GatewayError(
                "database-busy",
                message,
                help: "another program holds the database; see who with: fuser -v '\(path)'"
            )
        case SQLITE_CORRUPT, SQLITE_NOTADB:
            return GatewayError(
                "database-corrupt",
                message,
                help: "move '\(path)' aside; the gateway makes a new one"
            )
        case SQLITE_FULL: return GatewayError("disk-full", message, help: "free some space")
        case SQLITE_READONLY, SQLITE_PERM: return GatewayError("database-read-only", message)
        default: return GatewayError("database-error", message)
        }
    }
}
