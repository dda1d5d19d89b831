package import Appliance
package import Platform
import SQL

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
        in source: RecordSource,
        since start: Timestamp,
        files: Files = Files()
    ) async throws(GatewayError) -> [CacheUse] {
        try await source.read(files: files, patience: patience) { connection throws(GatewayError) in
            guard try connection.columns(of: "requests").contains("cache_read_tokens") else { return [] }
            return try connection.all(
                """
                SELECT cli, model, COUNT(*), COUNT(CASE WHEN cache_read_tokens > 0 THEN 1 END),
                    CAST(SUM(COALESCE(cache_read_tokens, 0)) AS BIGINT)
                FROM requests WHERE datetime_utc >= ?1 GROUP BY cli, model ORDER BY cli, model
                """,
                [.text(start.iso8601)],
                CacheUse.init(row:)
            )
        } ?? []
    }
}

extension CacheUse {
    /// Reads `cli`, `model`, and the sums of requests, hits and tokens.
    fileprivate init(row: any Row) {
        self.init(
            provider: row.text(0) ?? "",
            model: row.text(1),
            requests: row.integer(2) ?? 0,
            hits: row.integer(3) ?? 0,
            readTokens: row.integer(4) ?? 0
        )
    }
}

/// How the requests of one conversation used its provider's prompt cache.
package struct ConversationCacheUse: Sendable, Equatable {
    /// One for each model; never empty.
    package var byModel: [CacheUse]
    /// Tokens that were added to a cache.
    package var creationTokens: Int
    /// Beginnings of prompts that differ, of those whose writer told.
    package var prefixes: Int
    /// When the last request began; `nil` where that cannot be read.
    package var lastRequest: Timestamp?
    /// Seconds that the last request asked the provider to keep its prefix; `nil` where that is the provider's choice.
    package var keptSeconds: Int?
}

extension FlightRecorder {
    /// The use of a conversation's requests, of those that the principal `owner` may see; `nil` when there are none.
    ///
    /// Throws what the database throws.
    package func cacheUse(
        ofConversation id: String,
        owner: String
    ) async throws(GatewayError) -> ConversationCacheUse? {
        guard let store else { return nil }
        let condition =
            "session_id = ?1 AND (owner_principal = ?2 OR (owner_principal IS NULL AND ?2 = '\(Ownership.local)'))"
        let values = [SQLValue.text(id), .text(owner)]
        return try await store.read { connection throws(GatewayError) in
            let byModel = try connection.all(
                """
                SELECT cli, model, COUNT(*), COUNT(CASE WHEN cache_read_tokens > 0 THEN 1 END),
                    CAST(SUM(COALESCE(cache_read_tokens, 0)) AS BIGINT)
                FROM requests WHERE \(condition) GROUP BY cli, model ORDER BY cli, model
                """,
                values,
                CacheUse.init(row:)
            )
            guard !byModel.isEmpty else { return nil }
            return try connection.first(
                """
                SELECT CAST(SUM(COALESCE(cache_creation_tokens, 0)) AS BIGINT), COUNT(DISTINCT stable_prefix_hash),
                    MAX(datetime_utc), (SELECT cache_control_ttl_seconds FROM requests WHERE \(condition)
                        ORDER BY datetime_utc DESC LIMIT 1)
                FROM requests WHERE \(condition)
                """,
                values
            ) { row in
                ConversationCacheUse(
                    byModel: byModel,
                    creationTokens: row.integer(0) ?? 0,
                    prefixes: row.integer(1) ?? 0,
                    lastRequest: row.text(2).flatMap(Timestamp.init(iso8601:)),
                    keptSeconds: row.integer(3)
                )
            }
        }
    }
}
