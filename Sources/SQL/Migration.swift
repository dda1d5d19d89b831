package import Appliance

/// One change of a schema, known by its name for ever.
///
/// `apply` must be repeatable, because a file may come from another program that made the same change.
package struct Migration {
    /// Never reused and never changed.
    package let name: String
    /// Makes the change, inside the transaction that also notes its name.
    package let apply: (any DatabaseConnection) throws(GatewayError) -> Void

    /// A named change.
    package init(_ name: String, _ apply: @escaping (any DatabaseConnection) throws(GatewayError) -> Void) {
        self.name = name
        self.apply = apply
    }

    /// Where the names of applied migrations are kept.
    static let table = "gateway_migrations"

    /// Applies, in order, what a database lacks; one that lacks nothing is only read.
    ///
    /// `appliedAt` is what is written beside each name.
    package static func apply(
        _ migrations: [Migration],
        to connection: any DatabaseConnection,
        appliedAt: String
    ) throws(GatewayError) {
        guard try !missing(migrations, connection).isEmpty else { return }
        try connection.transaction { () throws(GatewayError) in
            try connection.execute(
                "CREATE TABLE IF NOT EXISTS \(table) (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"
            )
            // Another process may have done them while this one waited for the lock.
            for migration in try missing(migrations, connection) {
                try migration.apply(connection)
                try connection.execute(
                    "INSERT INTO \(table) (name, applied_at) VALUES (?1, ?2)",
                    [.text(migration.name), .text(appliedAt)]
                )
            }
        }
    }

    /// The names of changes that a database has and this list does not: a newer program made them.
    package static func unknown(
        to migrations: [Migration],
        in connection: any DatabaseConnection
    ) throws(GatewayError) -> [String] {
        guard try !connection.columns(of: table).isEmpty else { return [] }
        let known = Set(migrations.map(\.name))
        return try connection.all("SELECT name FROM \(table) ORDER BY name") { $0.text(0) ?? "" }
            .filter { !known.contains($0) }
    }

    private static func missing(
        _ migrations: [Migration],
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> [Migration] {
        guard try !connection.columns(of: table).isEmpty else { return migrations }
        let done = Set(try connection.all("SELECT name FROM \(table)") { $0.text(0) ?? "" })
        return migrations.filter { !done.contains($0.name) }
    }
}

extension DatabaseConnection {
    /// Adds the columns that a table lacks; a definition starts with the column's name.
    package func addColumns(_ definitions: [String], to table: String) throws(GatewayError) {
        let present = Set(try columns(of: table))
        for definition in definitions where !present.contains(String(definition.prefix { $0 != " " })) {
            try execute("ALTER TABLE \(table) ADD COLUMN \(definition)")
        }
    }
}
