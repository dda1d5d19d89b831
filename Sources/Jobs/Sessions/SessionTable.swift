import Appliance
import Platform
import SQL

/// The sessions of a server's database, shared by the gateways of all its machines.
///
/// A row for each, and one for what `sessions.json` has beside them; it counts the changes, so that who has read them all sees by
/// one number whether there is anything new.
extension Store {
    private static let document = "document"

    /// All sessions with the number of the last change; `nil` when that is still `known`.
    func sessions(unless known: Int?) async throws(GatewayError) -> (SessionDocument, Int)? {
        try await read { connection throws(GatewayError) in
            let revision = try Store.sessionRevision(connection)
            if revision == known { return nil }
            return (try Store.sessions(connection), revision)
        }
    }

    /// Changes the sessions; gives them back with the number of the change.
    ///
    /// They are not read where `known` is what they are.
    func changeSessions<Value: Sendable>(
        from known: (document: SessionDocument, revision: Int)?,
        _ change: @Sendable (inout SessionDocument) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> (value: Value, document: SessionDocument, revision: Int) {
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                let revision = try Store.sessionRevision(connection)
                let before =
                    if let known, known.revision == revision { known.document } else {
                        try Store.sessions(connection)
                    }
                var document = before
                let value = try change(&document)
                guard document.differs(from: before) else { return (value, before, revision) }
                try Store.write(document, over: before, revision + 1, connection)
                return (value, document, revision + 1)
            }
        }
    }

    private static func sessionRevision(_ connection: any DatabaseConnection) throws(GatewayError) -> Int {
        try connection.first("SELECT revision FROM session_state WHERE name = ?1", [.text(document)]) {
            $0.integer(0) ?? 0
        } ?? 0
    }

    private static func sessions(_ connection: any DatabaseConnection) throws(GatewayError) -> SessionDocument
    {
        func parsed(_ text: String?) -> JSON { text.flatMap { try? JSON.parse($0) } ?? [:] }
        var json =
            try connection.first("SELECT state FROM session_state WHERE name = ?1", [.text(document)]) {
                parsed($0.text(0))
            } ?? [:]
        let members = try connection.all("SELECT id, record FROM sessions ORDER BY place") { row in
            (name: row.text(0) ?? "", value: parsed(row.text(1)))
        }
        json["sessions"] = .object(JSONObject(members))
        return SessionDocument(json.object ?? JSONObject())
    }

    private static func write(
        _ after: SessionDocument,
        over before: SessionDocument,
        _ revision: Int,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        func records(_ document: SessionDocument) -> [String: SessionRecord] {
            Dictionary(document.sessions.map { ($0.record.id, $0.record) }, uniquingKeysWith: { $1 })
        }
        let old = records(before), new = records(after)
        for id in old.keys where new[id] == nil {
            try connection.execute("DELETE FROM sessions WHERE id = ?1", [.text(id)])
        }
        for entry in after.sessions where old[entry.record.id] != entry.record {
            let record = entry.record
            try connection.execute(
                """
                INSERT INTO sessions (id, cli, owner_principal, last_used_at, place, record)
                VALUES (?1, ?2, ?3, ?4, (SELECT COALESCE(MAX(place), 0) + 1 FROM sessions), ?5)
                ON CONFLICT (id) DO UPDATE SET cli = excluded.cli, owner_principal = excluded.owner_principal,
                    last_used_at = excluded.last_used_at, record = excluded.record
                """,
                [
                    .text(record.id), .text(record.provider), .optional(record.owner),
                    .text(record.lastUsed), .text(record.json.compactText),
                ]
            )
        }
        try connection.execute(
            """
            INSERT INTO session_state (name, revision, state) VALUES (?1, ?2, ?3)
            ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, state = excluded.state
            """,
            [.text(document), .integer(Int64(revision)), .text(after.state.compactText)]
        )
    }
}
