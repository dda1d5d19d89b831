package import Appliance

/// A connection to a database of either engine, as the store uses it.
///
/// Statements are written once for both, with `?1`, `?2` and so on for what is bound; where the engines differ, `dialect` has the
/// words. Calls block, so a connection belongs to an actor with a thread of its own. Errors name the database and the statement,
/// never the bound values.
package protocol DatabaseConnection: AnyObject {
    /// What the engine says in its own way.
    var dialect: Dialect { get }

    /// Runs a statement whose rows, if any, are not wanted; returns how many rows it changed.
    @discardableResult
    func execute(_ sql: String, _ values: [SQLValue]) throws(GatewayError) -> Int

    /// Goes through the rows of the result for as long as `body` wants another one.
    ///
    /// `body` may not use the connection.
    func step(
        _ sql: String,
        _ values: [SQLValue],
        _ body: (any Row) throws(GatewayError) -> Bool
    ) throws(GatewayError)

    /// Runs `body` in one transaction that is undone when it throws; inside another one, as a part of it.
    ///
    /// Of all transactions that change a database, one seems to run after the other. For that, `body` may be run again after it
    /// was undone: it touches nothing but the database and what is its own.
    func transaction<Value>(_ body: () throws(GatewayError) -> Value) throws(GatewayError) -> Value

    /// The names of a table's columns; empty when there is no such table.
    func columns(of table: String) throws(GatewayError) -> [String]

    /// Tells other gateways on the database something as soon as the transaction is done; nothing where they see it in files.
    func announce(_ text: String) throws(GatewayError)
}

/// What the engines say in their own ways.
package enum Dialect: Sendable {
    case sqlite
    case postgreSQL

    /// The number of bytes of a column.
    package func bytes(of column: String) -> String {
        switch self {
        case .sqlite: "length(CAST(\(column) AS BLOB))"
        case .postgreSQL: "octet_length(\(column))"
        }
    }

    /// Whether several changes in one transaction cost less than one transaction each.
    package var sharesCommits: Bool {
        switch self {
        case .sqlite: true
        // Its server brings commits of different gateways together, and runs one again that another one has met.
        case .postgreSQL: false
        }
    }

    /// The end of a query for rows that are about to be changed: those that somebody else is changing are left out.
    package var unlessTaken: String {
        switch self {
        // Who writes is alone.
        case .sqlite: ""
        case .postgreSQL: "FOR UPDATE SKIP LOCKED"
        }
    }
}

extension DatabaseConnection {
    /// Runs a statement without bound values.
    @discardableResult
    package func execute(_ sql: String) throws(GatewayError) -> Int { try execute(sql, []) }

    /// Calls `body` for every row of the result.
    package func each(
        _ sql: String,
        _ values: [SQLValue] = [],
        _ body: (any Row) throws(GatewayError) -> Void
    ) throws(GatewayError) {
        try step(sql, values) { row throws(GatewayError) in
            try body(row)
            return true
        }
    }

    /// Every row of the result, as `body` reads it.
    package func all<Value>(
        _ sql: String,
        _ values: [SQLValue] = [],
        _ body: (any Row) throws(GatewayError) -> Value
    ) throws(GatewayError) -> [Value] {
        var result: [Value] = []
        try each(sql, values) { row throws(GatewayError) in result.append(try body(row)) }
        return result
    }

    /// The first row of the result, as `body` reads it; `nil` when there is none.
    package func first<Value>(
        _ sql: String,
        _ values: [SQLValue] = [],
        _ body: (any Row) throws(GatewayError) -> Value
    ) throws(GatewayError) -> Value? {
        var value: Value?
        try step(sql, values) { row throws(GatewayError) in
            value = try body(row)
            return false
        }
        return value
    }
}
