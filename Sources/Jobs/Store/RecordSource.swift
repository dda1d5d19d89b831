package import Appliance
import Platform
import PostgreSQL
import SQL
import SQLite

/// Where records are, for who only reads them; nothing is made there.
package enum RecordSource: Sendable {
    /// A file, which need not exist.
    case file(String)
    /// A connection string.
    case server(String)

    /// Where a configuration keeps its records; `nil` where it keeps none that anybody else can read.
    package init?(_ persistence: Configuration.Persistence, layout: Layout) {
        switch persistence.backend {
        case .sqlite: self = .file(persistence.databaseFile(layout) ?? layout.database)
        case .postgres: self = .server(persistence.dsn ?? "")
        case .memory, .none: return nil
        }
    }

    /// Runs calls that read, on a thread of their own; `nil` where there is no database.
    ///
    /// Another program's lock is waited for at most `patience` milliseconds, a server for its usual time.
    func read<Value: Sendable>(
        files: Files,
        patience: Int32 = 5000,
        _ body: @Sendable (any DatabaseConnection) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value? {
        let database: Database
        switch self {
        case .file(let path):
            // SQLite puts its log beside the real file.
            guard let path = files.realPath(path) else { return nil }
            // Without a log beside it the file is complete and nobody has it open; a plain reader would make the log.
            let mode = files.exists(path + "-wal") ? Connection.Mode.readOnly : .immutable
            database = Database(thread: "records") { () throws(GatewayError) in
                try Connection(path, mode: mode, busyMilliseconds: patience)
            }
        case .server(let dsn):
            let server = try DatabaseServer(dsn)
            database = Database(thread: "records") { () throws(GatewayError) in
                try ServerConnection(server, mode: .readOnly)
            }
        }
        do throws(GatewayError) {
            let value = try await database.run(body)
            await database.close()
            return value
        } catch {
            await database.close()
            throw error
        }
    }
}
