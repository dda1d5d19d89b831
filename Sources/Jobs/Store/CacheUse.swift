package import Appliance
package import Platform
import SQLite

/// How the requests of a time used the providers' prompt caches, one row for each provider and model.
package struct CacheUse: Sendable, Equatable {
    /// The column `cli`: `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// As recorded; `nil` in rows whose writer did not know it.
    package var model: String?
    /// Requests of the time, with or without a hit.
    package var requests: Int
    /// Requests that read something from a cache.
    package var hits: Int
    /// Tokens that were read from a cache.
    package var readTokens: Int

    /// Milliseconds that another program's lock is waited for: a report must not wait long for a busy database.
    private static let patience: Int32 = 1000

    /// Reads a database without changing it or making one; empty when there is none, or it has no requests yet.
    ///
    /// Throws what opening or reading throws.
    package static func recorded(
        in path: String,
        since start: Timestamp,
        files: Files = Files()
    ) async throws(GatewayError) -> [CacheUse] {
        // SQLite puts its log beside the real file.
        guard let path = files.realPath(path) else { return [] }
        // Without a log beside it the file is complete and nobody has it open; a plain reader would make the log.
        let mode = files.exists(path + "-wal") ? Connection.Mode.readOnly : .immutable
        let database = Database(thread: "cache-use") { () throws(GatewayError) in
            try Connection(path, mode: mode, busyMilliseconds: patience)
        }
        return try await database.run { connection throws(GatewayError) in
            guard try connection.columns(of: "requests").contains("cache_read_tokens") else { return [] }
            return try connection.all(
                """
                SELECT cli, model, COUNT(*), SUM(CASE WHEN cache_read_tokens > 0 THEN 1 ELSE 0 END),
                    SUM(COALESCE(cache_read_tokens, 0))
                FROM requests WHERE datetime_utc >= ?1 GROUP BY cli, model ORDER BY cli, model
                """,
                [.text(start.iso8601)]
            ) { row in
                CacheUse(
                    provider: row.text(0) ?? "",
                    model: row.text(1),
                    requests: Int(row.integer(2) ?? 0),
                    hits: Int(row.integer(3) ?? 0),
                    readTokens: Int(row.integer(4) ?? 0)
                )
            }
        }
    }
}
