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
    func changeSessions<Value: Sendable>(
        _ change: @Sendable (inout SessionDocument) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> (value: Value, document: SessionDocument, revision: Int) {
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                var document = try Store.sessions(connection)
                let before = document.json
                let value = try change(&document)
                let after = document.json
                var revision = try Store.sessionRevision(connection)
                if after != before {
                    revision += 1
                    try Store.write(after, over: before, revision, connection)
                }
                return (value, document, revision)
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
        _ after: JSON,
        over before: JSON,
        _ revision: Int,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        func members(_ json: JSON) -> [(name: String, value: JSON)] {
            json["sessions"]?.object?.members ?? []
        }
        let old = Dictionary(members(before).map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
        let new = Dictionary(members(after).map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
        for id in old.keys where new[id] == nil {
            try connection.execute("DELETE FROM sessions WHERE id = ?1", [.text(id)])
        }
        for (id, record) in members(after) where old[id] != record {
            try connection.execute(
                """
                INSERT INTO sessions (id, cli, owner_principal, last_used_at, place, record)
                VALUES (?1, ?2, ?3, ?4, (SELECT COALESCE(MAX(place), 0) + 1 FROM sessions), ?5)
                ON CONFLICT (id) DO UPDATE SET cli = excluded.cli, owner_principal = excluded.owner_principal,
                    last_used_at = excluded.last_used_at, record = excluded.record
                """,
                [
                    .text(id), .text(record["cli"]?.string ?? ""),
                    .optional(record["ownerPrincipal"]?.string),
                    .text(record["lastUsedAt"]?.string ?? ""), .text(record.compactText),
                ]
            )
        }
        var state = after
        state["sessions"] = nil
        try connection.execute(
            """
            INSERT INTO session_state (name, revision, state) VALUES (?1, ?2, ?3)
            ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, state = excluded.state
            """,
            [.text(document), .integer(Int64(revision)), .text(state.compactText)]
        )
    }
}
