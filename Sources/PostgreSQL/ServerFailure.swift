import Appliance
import CPostgreSQL

/// What went wrong on a connection, and what can be done about it.
struct ServerFailure: Error {
    enum Kind {
        /// The connection is gone, or cannot be had: what was not committed is undone.
        case lost
        /// Another transaction got in the way: it is undone, and may work the next time.
        case conflict
        /// A prepared statement is no longer good.
        case stale
        case other
    }

    var kind: Kind
    var error: GatewayError

    init(_ kind: Kind, _ error: GatewayError) {
        self.kind = kind
        self.error = error
    }

    /// The connection to `server` is gone.
    init(lost server: DatabaseServer, _ reason: String) {
        kind = .lost
        error = GatewayError(
            "database-unreachable",
            "the connection to the database \(server.name) was lost: \(server.clean(reason))",
            help: "see whether the server runs; what could not be written is written as soon as it does"
        )
    }

    /// There is no connection to `server`.
    init(unreachable server: DatabaseServer, _ reason: String) {
        kind = .lost
        error = GatewayError(
            "database-unreachable",
            "the database \(server.name) cannot be reached: \(server.clean(reason))",
            help: "see whether the server runs, and whether 'dsn' in [persistence] of config.toml is right"
        )
    }

    /// What the server answered to `sql`.
    ///
    /// Only the first line of it is told: the details hold values (https://www.postgresql.org/docs/current/errcodes-appendix.html).
    init(_ result: OpaquePointer, _ sql: String, _ server: DatabaseServer) {
        func field(_ letter: Character) -> String {
            let code = Int32(letter.asciiValue ?? 0)
            return shim_pq_result_field(result, code).map { String(cString: $0) } ?? ""
        }
        let state = field("C"), severity = field("V")
        let statement = sql.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        let shown = statement.count > 120 ? statement.prefix(119) + "…" : statement[...]
        // What is wrong with a value is said with the value.
        let reason = state.hasPrefix("22") ? "a value is not as it has to be" : server.clean(field("M"))
        let message =
            "cannot run '\(shown)' on the database \(server.name): \(reason) (PostgreSQL \(state))"
        if severity == "FATAL" || severity == "PANIC" || state.hasPrefix("08") || state.hasPrefix("57P") {
            self.init(lost: server, reason)
            return
        }
        switch state {
        case "40001", "40P01": self.init(.conflict, GatewayError("database-busy", message))
        // A plan that a change of the schema has made wrong, and a name that a pooler has forgotten.
        case "0A000" where field("M").contains("cached plan"), "26000":
            self.init(.stale, GatewayError("database-error", message))
        case "57014", "55P03", "53300":
            let help = "another program holds a lock for long, or the server has too much to do"
            self.init(.other, GatewayError("database-busy", message, help: help))
        case "53100":
            self.init(.other, GatewayError("disk-full", message, help: "free some space on the server"))
        case "25006":
            let help = "it is a standby, or set to read only: name the server that takes changes in 'dsn'"
            self.init(.other, GatewayError("database-read-only", message, help: help))
        case "42501":
            let help =
                "give the user of 'dsn' the right to create a schema in the database, or a schema of its own"
            self.init(.other, GatewayError("database-refused", message, help: help))
        default: self.init(.other, GatewayError("database-error", message))
        }
    }
}
