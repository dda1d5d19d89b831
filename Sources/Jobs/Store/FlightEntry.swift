import Appliance
import Platform
import SQL

/// The start of a request as it is written down: in a transaction with whatever else its taking in changes.
///
/// Secrets are replaced when it is made, before anybody has to wait for the store's lock.
package struct FlightEntry: Sendable {
    private let flight: FlightStart
    private let prompt: String
    private let system: String?
    private let isFull: Bool

    init(_ flight: FlightStart, redacts: Bool) {
        // The reference's table takes no null for a prompt.
        isFull = flight.recording == .full
        prompt = isFull ? RecordedText.clean(flight.prompt, redacts) : ""
        system = isFull ? flight.system.map { RecordedText.clean($0, redacts) } : nil
        self.flight = flight
    }

    /// Writes the record, in a transaction of the caller's, and returns its id: `FlightRecorder.start` says which.
    func write(to connection: any DatabaseConnection, of store: Store) throws(GatewayError) -> String {
        let now = store.clock.now()
        let id = try FlightEntry.freeID(flight.correlationID, connection)
        try connection.execute(
            """
            INSERT INTO requests (id, cli, model, prompt, system, session_id, datetime_utc,
                stable_prefix_hash, stable_prefix_tokens, cache_control_blocks,
                cache_control_ttl_seconds, owner_principal, expires_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
            """,
            [
                .text(id), .text(flight.provider), .text(flight.model), .text(prompt), .optional(system),
                .optional(flight.sessionID), .text(now.iso8601),
                .optional(isFull ? flight.stablePrefixHash : nil),
                .optional(flight.stablePrefixTokens), .optional(flight.cacheControlBlocks),
                .optional(flight.cacheControlTTLSeconds), .optional(flight.owner),
                .text(store.expiry(from: now)),
            ]
        )
        // Left by a program that removed the request without it.
        try connection.execute("DELETE FROM gateway_metadata WHERE request_id = ?1", [.text(id)])
        try connection.execute(
            """
            INSERT INTO gateway_metadata (request_id, async_job_id, approval_decision, status)
            VALUES (?1, ?2, ?3, 'started')
            """,
            [.text(id), .optional(flight.jobID), .optional(flight.approvalDecision)]
        )
        return id
    }

    /// The id itself, or the next numbered one where it is taken; only in a transaction that writes.
    private static func freeID(
        _ wanted: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> String {
        let isTaken = try connection.first("SELECT 1 FROM requests WHERE id = ?1", [.text(wanted)]) { _ in
            true
        }
        guard isTaken != nil else { return wanted }
        // A range of the primary key, because a client may send the same id every time: ':' follows '9'.
        let latest = try connection.first(
            """
            SELECT MAX(CAST(substr(id, length(?1) + 1) AS INTEGER)) FROM requests
            WHERE id >= ?1 || '0' AND id < ?1 || ':' AND length(id) < length(?1) + 10
                AND ltrim(substr(id, length(?1) + 1), '0123456789') = ''
            """,
            [.text("\(wanted)~")]
        ) { $0.integer(0) ?? 1 }
        return "\(wanted)~\(max(latest ?? 1, 1) + 1)"
    }
}
