package import Appliance
import Glibc
package import SQL

/// A connection to a database of a PostgreSQL server, which outlives the server's restarts.
///
/// A transaction is serializable. One that others got in the way of is run again, after a few times with all others waiting.
/// When the connection is lost, what was under way is undone and run again on a new one; when it is lost while a transaction
/// is being committed, the new one tells whether it was. Errors are `database-unreachable`, `database-busy`,
/// `database-read-only`, `database-refused`, `database-encoding`, `disk-full` or `database-error`; they name the database and the
/// statement, never a bound value or a password. Calls block, none for longer than its bound.
package final class ServerConnection: DatabaseConnection {
    /// What a connection is for.
    package enum Mode: Sendable {
        /// Serializable transactions that take part in the order of all writers.
        case readWrite
        /// The server refuses every change.
        case readOnly
    }

    private enum Beginning {
        /// Beside other writers.
        case beside
        /// With all other writers waiting.
        case alone
        /// Before there are tables: with all others waiting that do the same.
        case founding
    }

    /// The database.
    package let server: DatabaseServer
    private let mode: Mode
    /// What this connection's transactions are counted under, in `writers`.
    private let writer: String
    private var serial: Int64 = 0
    private var isEnlisted = false
    private var link: Link?
    private var wasOpen = false
    /// Why there was no connection, and until when nobody tries again, since the server has been away for longer than anybody waits.
    private var absence: (failure: ServerFailure, until: Int64)?
    private var depth = 0
    private var isStepping = false
    /// The failure that has made the present transaction useless.
    private var failure: ServerFailure?

    /// The table with a row for each writer: it says which of its transactions was committed last.
    package static let writers = "gateway_writers"
    /// How long a server that was there is waited for, in milliseconds.
    private static let reopening: Int64 = 10_000
    /// How long nobody tries after that, in milliseconds.
    private static let rest: Int64 = 1000
    /// How often a transaction is tried, and how often of these beside others.
    private static let attempts = 12, attemptsBeside = 4
    /// A connection that has carried a value of so many bytes is given up when nothing is under way, with its buffers.
    private static let longestKept = 4 << 20
    /// Which lock is that of those who make tables: any number that is always the same.
    private static let foundingLock: Int64 = 0x6C6C_6D67_7763_6C69

    /// Connects; throws as every call does.
    package init(_ server: DatabaseServer, mode: Mode = .readWrite) throws(GatewayError) {
        self.server = server
        self.mode = mode
        let number = UInt128.random(in: .min ... .max)
        writer = String(number, radix: 16)
        do throws(ServerFailure) {
            _ = try opened()
        } catch {
            throw error.error
        }
    }

    /// PostgreSQL's.
    package var dialect: Dialect { .postgreSQL }

    // MARK: connecting

    /// The connection, made anew when there is none.
    ///
    /// A server that was there is waited for: a restart takes a moment, and nothing tells when it is over.
    private func opened() throws(ServerFailure) -> Link {
        if let link, !link.isLost { return link }
        link = nil
        isEnlisted = false
        // Those who wait behind each other would each wait for a server that does not even refuse.
        if let absence, Link.now() < absence.until { throw absence.failure }
        let deadline = Link.now() + (wasOpen && absence == nil ? ServerConnection.reopening : 0)
        var pause: Int64 = 20
        while true {
            do throws(ServerFailure) {
                let made = try Link(server)
                if mode == .readOnly { try made.script("SET default_transaction_read_only = on") }
                link = made
                wasOpen = true
                absence = nil
                return made
            } catch {
                guard error.kind == .lost, Link.now() + pause < deadline else {
                    absence = (error, Link.now() + ServerConnection.rest)
                    throw error
                }
                ServerConnection.sleep(Int64.random(in: pause / 2...pause))
                pause = min(pause * 2, 1000)
            }
        }
    }

    private static func sleep(_ milliseconds: Int64) {
        usleep(useconds_t(clamping: milliseconds * 1000))
    }

    /// Large values have left large buffers.
    private func letGo() {
        if depth == 0, let link, link.longest > ServerConnection.longestKept { self.link = nil }
    }

    // MARK: statements

    /// Runs a statement that may change something, in a transaction.
    @discardableResult
    package func execute(_ sql: String, _ values: [SQLValue]) throws(GatewayError) -> Int {
        if depth > 0 { return try run(sql, values) { _ throws(GatewayError) in true } }
        return try transaction { () throws(GatewayError) in
            try run(sql, values) { _ throws(GatewayError) in true }
        }
    }

    /// Goes through the rows of the result for as long as `body` wants another one.
    package func step(
        _ sql: String,
        _ values: [SQLValue],
        _ body: (any Row) throws(GatewayError) -> Bool
    ) throws(GatewayError) {
        _ = try run(sql, values, body)
    }

    /// Runs a command that no transaction may be around, and that may take `seconds`.
    package func command(_ sql: String, seconds: Int) throws(GatewayError) {
        defer { letGo() }
        do throws(ServerFailure) {
            let link = try opened()
            try link.script("SET statement_timeout = \(seconds * 1000)")
            link.patience = Int64(seconds) * 1000
            defer { link.patience = Link.statementPatience }
            try link.script(sql)
            try link.script("SET statement_timeout = \(Link.statementPatience)")
        } catch {
            throw error.error
        }
    }

    private func run(
        _ sql: String,
        _ values: [SQLValue],
        _ body: (any Row) throws(GatewayError) -> Bool
    ) throws(GatewayError) -> Int {
        guard !isStepping else {
            throw GatewayError("database-error", "a statement was begun while the rows of another were read")
        }
        // Nothing can be done any more in a transaction that a failure has ended.
        if depth > 0, let failure { throw failure.error }
        var isFirstTry = true
        while true {
            var hasBegun = false
            let outcome: Result<Int, GatewayError>
            do throws(ServerFailure) {
                outcome = try run(sql, values, &hasBegun, body)
            } catch {
                if depth > 0 {
                    failure = error
                    throw error.error
                }
                guard isFirstTry, !hasBegun, error.kind == .lost || error.kind == .stale, absence == nil
                else {
                    throw error.error
                }
                isFirstTry = false
                if error.kind == .stale { try discardStatements() }
                continue
            }
            return try outcome.get()
        }
    }

    /// One try; the failure in the result is that of `body`.
    private func run(
        _ sql: String,
        _ values: [SQLValue],
        _ hasBegun: inout Bool,
        _ body: (any Row) throws(GatewayError) -> Bool
    ) throws(ServerFailure) -> Result<Int, GatewayError> {
        let link = depth > 0 ? try present() : try opened()
        isStepping = true
        defer {
            isStepping = false
            letGo()
        }
        var refusal: GatewayError?
        let changed = try link.run(sql, values) { row in
            hasBegun = true
            do throws(GatewayError) {
                return try body(row)
            } catch {
                refusal = error
                return false
            }
        }
        return refusal.map { .failure($0) } ?? .success(changed)
    }

    /// The connection of the transaction that is under way.
    private func present() throws(ServerFailure) -> Link {
        guard let link, !link.isLost else { throw ServerFailure(lost: server, "in a transaction") }
        return link
    }

    private func discardStatements() throws(GatewayError) {
        do throws(ServerFailure) {
            try link?.discardStatements()
        } catch {
            throw error.error
        }
    }

    // MARK: transactions

    /// Runs `body` in one serializable transaction, again when others got in the way or the connection was lost; inside another
    /// one, as a part of it.
    package func transaction<Value>(_ body: () throws(GatewayError) -> Value) throws(GatewayError) -> Value {
        if depth > 0 { return try part(body) }
        return try attempt(body) { $0 > ServerConnection.attemptsBeside ? .alone : .beside }
    }

    /// Runs `body` while nobody else makes tables.
    package func founding<Value>(_ body: () throws(GatewayError) -> Value) throws(GatewayError) -> Value {
        try attempt(body) { _ in .founding }
    }

    private func attempt<Value>(
        _ body: () throws(GatewayError) -> Value,
        _ beginning: (Int) -> Beginning
    ) throws(GatewayError) -> Value {
        var attempt = 1
        while true {
            let trouble: ServerFailure
            do throws(ServerFailure) {
                return try once(body, beginning(attempt))
            } catch {
                trouble = error
            }
            if trouble.kind == .stale { try discardStatements() }
            guard trouble.kind != .other, attempt < ServerConnection.attempts, absence == nil else {
                throw trouble.error
            }
            if trouble.kind == .conflict {
                ServerConnection.sleep(Int64.random(in: 1...(4 * Int64(attempt))))
            }
            attempt += 1
        }
    }

    /// One attempt; what `body` throws by itself is a failure of the kind `other`.
    private func once<Value>(
        _ body: () throws(GatewayError) -> Value,
        _ beginning: Beginning
    ) throws(ServerFailure) -> Value {
        let link = try opened()
        try begin(link, beginning)
        depth = 1
        failure = nil
        defer {
            depth = 0
            letGo()
        }
        let value: Value
        do throws(GatewayError) {
            value = try body()
        } catch {
            let reason = failure
            if !link.isLost { _ = try? link.script("ROLLBACK") }
            throw reason ?? ServerFailure(.other, error)
        }
        if let failure {
            if !link.isLost { _ = try? link.script("ROLLBACK") }
            throw failure
        }
        try commit(link, beginning)
        return value
    }

    private func begin(_ link: Link, _ beginning: Beginning) throws(ServerFailure) {
        // A lock by itself takes no snapshot: what is seen is what was committed until the lock was had.
        let script =
            switch beginning {
            case .beside:
                "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE \(ServerConnection.writers) IN ROW EXCLUSIVE MODE"
            case .alone:
                "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE \(ServerConnection.writers) IN EXCLUSIVE MODE"
            case .founding: "BEGIN; SELECT pg_advisory_xact_lock(\(ServerConnection.foundingLock))"
            }
        do throws(ServerFailure) {
            if beginning != .founding { try enlist(link) }
            try link.script(script)
        } catch {
            if !link.isLost { _ = try? link.script("ROLLBACK") }
            throw error
        }
    }

    /// Makes the row of this writer, and forgets those who have written nothing for long.
    private func enlist(_ link: Link) throws(ServerFailure) {
        if isEnlisted { return }
        try link.script(
            """
            INSERT INTO \(ServerConnection.writers) (name, serial, written_at) VALUES ('\(writer)', \(serial), now())
            ON CONFLICT (name) DO NOTHING;
            DELETE FROM \(ServerConnection.writers) WHERE written_at < now() - interval '30 days'
            """
        )
        isEnlisted = true
    }

    /// Commits, and finds out what became of it when the connection is lost meanwhile.
    private func commit(_ link: Link, _ beginning: Beginning) throws(ServerFailure) {
        guard beginning != .founding else {
            try link.script("COMMIT")
            return
        }
        serial += 1
        do throws(ServerFailure) {
            let tag = try link.script(
                """
                UPDATE \(ServerConnection.writers) SET serial = \(serial), written_at = now() WHERE name = '\(writer)';
                COMMIT
                """
            ).tag
            guard tag == "COMMIT" else {
                throw ServerFailure(
                    .conflict,
                    GatewayError("database-busy", "a change of the database \(server.name) was undone")
                )
            }
        } catch {
            guard error.kind == .lost else {
                _ = try? link.script("ROLLBACK")
                throw error
            }
            if try wasCommitted() { return }
            throw error
        }
    }

    /// Whether the last transaction was committed whose connection is gone.
    ///
    /// Changing the writer's row waits for the end of a transaction that has changed it; one that has not yet can't any more,
    /// because it saw the row as it was before.
    private func wasCommitted() throws(ServerFailure) -> Bool {
        let question =
            "UPDATE \(ServerConnection.writers) SET written_at = now() WHERE name = '\(writer)' RETURNING serial"
        var reason = "nothing there tells it"
        do throws(ServerFailure) {
            if let last = try opened().script(question).value.flatMap({ Int64($0) }) { return last == serial }
        } catch {
            reason = error.error.message
        }
        // Not to be run again: it may have been committed.
        throw ServerFailure(
            .other,
            GatewayError(
                "database-unreachable",
                "the connection to the database \(server.name) was lost while a change was committed, and whether it was is not known: \(reason)"
            )
        )
    }

    private func part<Value>(_ body: () throws(GatewayError) -> Value) throws(GatewayError) -> Value {
        let name = "level\(depth)"
        try command("SAVEPOINT \(name)")
        depth += 1
        defer { depth -= 1 }
        do throws(GatewayError) {
            let value = try body()
            try command("RELEASE \(name)")
            return value
        } catch {
            // What a lost connection or another transaction has ended, ends as a whole.
            if failure.map({ $0.kind == .other }) ?? true {
                failure = nil
                try command("ROLLBACK TO \(name); RELEASE \(name)")
            }
            throw error
        }
    }

    private func command(_ text: String) throws(GatewayError) {
        if let failure { throw failure.error }
        do throws(ServerFailure) {
            try present().script(text)
        } catch {
            failure = error
            throw error.error
        }
    }

    // MARK: questions

    /// The names of a table's columns; empty when there is no such table.
    package func columns(of table: String) throws(GatewayError) -> [String] {
        try all(
            """
            SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(?1) AND attnum > 0 AND NOT attisdropped
            ORDER BY attnum
            """,
            [.text(table)]
        ) { $0.text(0) ?? "" }
    }

    /// The schema in which tables are made and found; one that does not exist is made.
    ///
    /// Only in `founding`.
    package func makeSchema() throws(GatewayError) {
        let path = try first("SELECT current_setting('search_path'), current_user::text") {
            ($0.text(0) ?? "", $0.text(1) ?? "")
        }
        let (names, user) = path ?? ("", "")
        let first = names.split(separator: ",").first.map { String($0).trimmingSpaces.unquoted } ?? ""
        let name = first == "$user" ? user : first
        guard !name.isEmpty else {
            throw GatewayError(
                "database-refused",
                "the 'search_path' of the database \(server.name) names no schema",
                help: "leave it out of 'dsn', or name one: options=-csearch_path%3DNAME"
            )
        }
        let exists = try self.first("SELECT 1 FROM pg_namespace WHERE nspname = ?1", [.text(name)]) { _ in
            true
        }
        if exists == nil { try execute("CREATE SCHEMA \(Link.quoted(name))") }
    }

    /// Tells whoever listens on `channel`, once the transaction is done.
    package func announce(_ text: String) throws(GatewayError) {
        try each("SELECT pg_notify(current_schema()::text, ?1)", [.text(text)]) { _ throws(GatewayError) in }
    }
}

extension String {
    fileprivate var trimmingSpaces: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    /// An identifier without its quotation marks.
    fileprivate var unquoted: String {
        guard count > 1, first == "\"", last == "\"" else { return self }
        return String(dropFirst().dropLast()).replacing("\"\"", with: "\"")
    }
}
