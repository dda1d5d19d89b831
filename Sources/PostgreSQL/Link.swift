import Appliance
import CPostgreSQL
import Glibc
import SQL

/// One connection to a server, from its beginning to its loss.
///
/// libpq is used without blocking: every wait is poll(2) with a deadline. After a failure of the kind `lost` it is of no use any
/// more.
final class Link {
    /// A statement that the server has prepared, and the types that it expects.
    struct Prepared {
        var name: String
        var types: [UInt32]
    }

    private struct Key: Hashable {
        var sql: String
        var types: [UInt32]
    }

    let server: DatabaseServer
    private let handle: OpaquePointer
    private var statements: [Key: Prepared] = [:]
    private var statementCount = 0
    /// The longest value that went over it: libpq keeps the buffer for it as long as the connection lasts.
    private(set) var longest = 0
    private(set) var isLost = false

    /// The contract's bounds: to connect, and for one statement, in milliseconds.
    private static let connectPatience: Int64 = 5000
    static let statementPatience: Int64 = 10_000
    /// How much longer nothing may come: the server gives up at its own bound first, and says so.
    private static let margin: Int64 = 2000
    /// Milliseconds that one statement may take without a sign of its result.
    var patience = Link.statementPatience
    /// What one statement may take in all, however steadily its bytes come.
    private static let longestStatement: Int64 = 300_000
    private static let statementLimit = 128

    // MARK: connecting

    /// Connects; throws a failure of the kind `lost` when the server cannot be reached or refuses.
    init(_ server: DatabaseServer) throws(ServerFailure) {
        self.server = server
        // What comes later wins: the connection string may say otherwise, except how texts are encoded.
        let settings: [(String, String)] = [
            ("application_name", "llm-gateway"), ("keepalives_idle", "10"), ("keepalives_interval", "5"),
            ("keepalives_count", "3"), ("tcp_user_timeout", "20000"), ("dbname", server.dsn),
            ("client_encoding", "UTF8"),
        ]
        var texts: [UnsafeMutablePointer<CChar>?] = []
        defer { for text in texts { free(text) } }
        func list(_ values: [String]) -> [UnsafePointer<CChar>?] {
            values.map { value in
                let copy = strdup(value)
                texts.append(copy)
                return copy.map { UnsafePointer($0) }
            } + [nil]
        }
        guard let handle = shim_pq_connect(list(settings.map(\.0)), list(settings.map(\.1))) else {
            throw ServerFailure(unreachable: server, "out of memory")
        }
        self.handle = handle
        // What throws from here on ends the connection with this value.
        try finishConnecting()
        guard shim_pq_set_nonblocking(handle) == 0 else { throw lost("it cannot be used without blocking") }
        try configure()
    }

    deinit { shim_pq_finish(handle) }

    private var isConnected: Bool { Int(shim_pq_status(handle)) == SHIM_PQ_CONNECTION_OK }

    private func finishConnecting() throws(ServerFailure) {
        let deadline = Link.now() + Link.connectPatience
        var events = Int16(POLLOUT)
        if isConnected { return }
        while true {
            guard wait(for: events, until: deadline) else {
                throw ServerFailure(unreachable: server, "no answer within \(Link.connectPatience / 1000) s")
            }
            switch Int(shim_pq_connect_poll(handle)) {
            case SHIM_PQ_POLL_OK: return
            case SHIM_PQ_POLL_READING: events = Int16(POLLIN)
            case SHIM_PQ_POLL_WRITING: events = Int16(POLLOUT)
            default: throw ServerFailure(unreachable: server, String(cString: shim_pq_error(handle)))
            }
        }
    }

    /// How the session behaves.
    ///
    /// Whose machine is gone must not hold a lock for long. A transaction that goes through a whole table would seem to touch all
    /// of it, and get in every other one's way.
    private func configure() throws(ServerFailure) {
        let encoding = shim_pq_parameter(handle, "server_encoding").map { String(cString: $0) } ?? ""
        guard encoding == "UTF8" else {
            throw ServerFailure(
                .other,
                GatewayError(
                    "database-encoding",
                    "the database \(server.name) keeps texts in the encoding '\(encoding)', expected 'UTF8'",
                    help: "make one with: createdb --encoding=UTF8 --template=template0 NAME"
                )
            )
        }
        var script = """
            SET statement_timeout = \(Link.statementPatience); SET lock_timeout = 0;
            SET idle_in_transaction_session_timeout = 15000; SET enable_seqscan = off; SET jit = off;
            SET standard_conforming_strings = on; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;
            SET tcp_keepalives_count = 3
            """
        if let schema = server.schema { script += "; SET search_path = \(Link.quoted(schema))" }
        try self.script(script)
    }

    // MARK: statements

    /// Runs commands one after the other; the first value of the last row, and the last command's tag.
    @discardableResult
    func script(_ text: String) throws(ServerFailure) -> (value: String?, tag: String) {
        guard shim_pq_send_query(handle, text) == 1 else { throw lost() }
        var value: String?, tag = ""
        try results(of: text) { result in
            tag = String(cString: shim_pq_command(result))
            let isEmpty = shim_pq_rows(result) == 0 || shim_pq_is_null(result, 0, 0)
            value = isEmpty ? nil : String(cString: shim_pq_value(result, 0, 0))
            return true
        }
        return (value, tag)
    }

    /// Runs a statement and returns how many rows it changed; `body` gets each row until it wants no more.
    func run(
        _ sql: String,
        _ values: [SQLValue],
        _ body: (ResultRow) throws(ServerFailure) -> Bool
    ) throws(ServerFailure) -> Int {
        let prepared = try prepare(sql, values)
        var parameters = Parameters(values, types: prepared.types)
        longest = max(longest, parameters.longest)
        let isSent = parameters.withPointers { texts, lengths, formats in
            shim_pq_send_prepared(handle, prepared.name, Int32(values.count), texts, lengths, formats) == 1
        }
        guard isSent else { throw lost() }
        var changed = 0, wantsMore = true
        try results(of: sql) { (result) throws(ServerFailure) in
            if Int(shim_pq_result_status(result)) == SHIM_PQ_SINGLE_TUPLE {
                let row = ResultRow(result: result)
                for column in 0..<row.count {
                    longest = max(longest, Int(shim_pq_length(result, 0, Int32(column))))
                }
                if wantsMore { wantsMore = try body(row) }
            } else {
                changed = Int(String(cString: shim_pq_changed(result))) ?? 0
            }
            return true
        }
        return changed
    }

    private func prepare(_ sql: String, _ values: [SQLValue]) throws(ServerFailure) -> Prepared {
        let types = values.map(Parameters.type)
        let key = Key(sql: sql, types: types)
        if let prepared = statements[key] { return prepared }
        if statements.count >= Link.statementLimit {
            statements = [:]
            try script("DEALLOCATE ALL")
        }
        statementCount += 1
        let name = "s\(statementCount)"
        guard shim_pq_send_prepare(handle, name, Link.translated(sql), Int32(types.count), types) == 1 else {
            throw lost()
        }
        try results(of: sql) { _ in true }
        guard shim_pq_send_describe(handle, name) == 1 else { throw lost() }
        var prepared = Prepared(name: name, types: types)
        try results(of: sql) { result in
            prepared.types = (0..<shim_pq_parameter_count(result)).map { shim_pq_parameter_type(result, $0) }
            return true
        }
        statements[key] = prepared
        return prepared
    }

    /// Forgets what is prepared.
    func discardStatements() throws(ServerFailure) {
        statements = [:]
        try script("DEALLOCATE ALL")
    }

    /// `?1` as PostgreSQL has it.
    static func translated(_ sql: String) -> String {
        var bytes = Array(sql.utf8)
        for index in bytes.indices.dropLast() where bytes[index] == UInt8(ascii: "?") {
            if (UInt8(ascii: "1")...UInt8(ascii: "9")).contains(bytes[index + 1]) {
                bytes[index] = UInt8(ascii: "$")
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A name as SQL has it.
    static func quoted(_ name: String) -> String { "\"" + name.replacing("\"", with: "\"\"") + "\"" }

    // MARK: waiting

    /// Takes all results of what was sent; the first failure among them is thrown when the last has come.
    private func results(
        of sql: String,
        _ take: (OpaquePointer) throws(ServerFailure) -> Bool
    ) throws(ServerFailure) {
        let end = Link.now() + max(Link.longestStatement, patience + Link.margin)
        var failure: ServerFailure?
        while let result = try next(before: end) {
            defer { shim_pq_clear(result) }
            switch Int(shim_pq_result_status(result)) {
            case SHIM_PQ_COMMAND_OK, SHIM_PQ_TUPLES_OK, SHIM_PQ_SINGLE_TUPLE,
                SHIM_PQ_EMPTY_QUERY:
                guard failure == nil else { break }
                do throws(ServerFailure) {
                    _ = try take(result)
                } catch {
                    failure = error
                }
            default: failure = failure ?? ServerFailure(result, sql, server)
            }
        }
        guard let failure else {
            if !isConnected { throw lost() }
            return
        }
        if !isConnected || failure.kind == .lost {
            isLost = true
            throw failure.kind == .lost ? failure : lost()
        }
        throw failure
    }

    /// The next result; `nil` after the last one.
    private func next(before end: Int64) throws(ServerFailure) -> OpaquePointer? {
        while true {
            let unsent = shim_pq_flush(handle)
            guard unsent >= 0 else { throw lost() }
            if unsent == 0, shim_pq_is_busy(handle) == 0 { return shim_pq_result(handle) }
            let silence = patience + Link.margin
            let deadline = min(end, Link.now() + silence)
            guard wait(for: Int16(unsent == 0 ? POLLIN : POLLIN | POLLOUT), until: deadline) else {
                throw lost("no answer within \(silence / 1000) s")
            }
            // Of a connection that is gone the last result says so, and is there at once.
            if shim_pq_consume(handle) == 0 { return shim_pq_result(handle) }
        }
    }

    private func lost(_ reason: String? = nil) -> ServerFailure {
        isLost = true
        return ServerFailure(lost: server, reason ?? String(cString: shim_pq_error(handle)))
    }

    /// `false` when the deadline passed first.
    private func wait(for events: Int16, until deadline: Int64) -> Bool {
        while true {
            var entry = pollfd(fd: shim_pq_socket(handle), events: events, revents: 0)
            let left = deadline - Link.now()
            guard left > 0 else { return false }
            let count = poll(&entry, 1, Int32(clamping: left))
            if count > 0 || (count < 0 && errno != EINTR) { return true }
        }
    }

    /// Milliseconds of a clock that nobody sets.
    static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    // MARK: messages of other sessions

    /// What becomes readable when something comes.
    var descriptor: Int32 { shim_pq_socket(handle) }

    /// The texts that other sessions have sent since the last call; throws when the connection is gone.
    func messages() throws(ServerFailure) -> [String] {
        guard shim_pq_consume(handle) == 1 else { throw lost() }
        var texts: [String] = []
        while let notice = shim_pq_notice(handle) {
            texts.append(String(cString: notice.pointee.payload))
            shim_pq_notice_free(notice)
        }
        if !isConnected { throw lost() }
        return texts
    }
}
