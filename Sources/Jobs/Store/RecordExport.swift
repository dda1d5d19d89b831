package import Appliance
package import Platform
import SQL

/// Every record of a database as JSON, one object for each request and for each finished job, with the columns as they are.
///
/// `{"type":"request","id":…,…,"metadata":{…}}` and `{"type":"job","id":…,…}`; output that is kept in pieces is put together. Nothing is changed, made or locked: what is
/// written while it goes on may be in it or not.
package enum RecordExport {
    /// Rows that are looked up at once; each is read by itself, because one may hold 50 MB.
    private static let page = 500

    /// Gives the records that a selection holds to `take`, requests first, in the order of their ids.
    ///
    /// Returns how many requests and how many jobs there were; none where there is no database. Throws what reading throws, and
    /// what `take` throws.
    package static func run(
        _ source: RecordSource,
        _ selection: RecordSelection,
        files: Files,
        take: @escaping @Sendable (JSON) throws(GatewayError) -> Void
    ) async throws(GatewayError) -> (requests: Int, jobs: Int) {
        try await source.read(files: files) { connection throws(GatewayError) in
            let requests = try each("requests", selection.requests, connection) { row throws(GatewayError) in
                var record: JSON = ["type": "request"]
                for member in row.members { record[member.name] = member.value }
                let metadata = try object(
                    "SELECT * FROM gateway_metadata WHERE request_id = ?1",
                    [.text(row["id"]?.string ?? "")],
                    connection
                )
                record["metadata"] = metadata.map { .object($0) } ?? .null
                try take(record)
                return true
            }
            let jobs = try each("jobs", selection.jobs, connection) { row throws(GatewayError) in
                if row["status"]?.string == JobStatus.running.rawValue { return false }
                var record: JSON = ["type": "job"]
                for member in row.members where !StoredStream.columns.contains(member.name) {
                    record[member.name] = member.value
                }
                for (column, text) in try longStreams(of: row, connection) { record[column] = .string(text) }
                try take(record)
                return true
            }
            return (requests, jobs)
        } ?? (0, 0)
    }

    /// The streams of a job that are kept in pieces, as their columns would have them.
    private static func longStreams(
        of row: JSONObject,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> [(String, String)] {
        var streams: [(String, String)] = []
        for stream in StoredStream.Stream.allCases {
            guard let pieces = row[stream.countColumn]?.int, let id = row["id"]?.string else { continue }
            var bytes: [UInt8] = []
            for number in 0..<pieces {
                // Removed meanwhile: what there is of it.
                bytes += try Store.piece(number, of: stream, id, connection) ?? []
            }
            streams.append((stream.column, String(decoding: bytes, as: UTF8.self)))
        }
        return streams
    }

    /// Calls `body` for every row; returns for how many it said `true`.
    private static func each(
        _ table: String,
        _ condition: RecordSelection.Condition,
        _ connection: any DatabaseConnection,
        _ body: (JSONObject) throws(GatewayError) -> Bool
    ) throws(GatewayError) -> Int {
        guard try !connection.columns(of: table).isEmpty else { return 0 }
        var count = 0
        var last = ""
        while true {
            let start = condition.values.count
            let ids = try connection.all(
                """
                SELECT id FROM \(table) WHERE \(condition.text) AND id > ?\(start + 1) ORDER BY id
                LIMIT \(page)
                """,
                condition.values + [.text(last)]
            ) { $0.text(0) ?? "" }
            guard let end = ids.last else { return count }
            for id in ids {
                // Removed meanwhile, which is no fault.
                guard
                    let row = try object("SELECT * FROM \(table) WHERE id = ?1", [.text(id)], connection)
                else { continue }
                if try body(row) { count += 1 }
            }
            last = end
        }
    }

    private static func object(
        _ query: String,
        _ values: [SQLValue],
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> JSONObject? {
        try connection.first(query, values) { row in
            JSONObject(
                (0..<row.count).map { column in
                    let value: JSON =
                        switch row.value(column) {
                        case .null: .null
                        case .integer(let number): .int(number)
                        case .real(let number): .double(number)
                        case .text(let text): .string(text)
                        case .blob(let bytes): .string(String(decoding: bytes, as: UTF8.self))
                        }
                    return (name: row.name(column), value: value)
                }
            )
        }
    }
}
