package import Appliance
import Platform
import SQL

/// One stream of a finished job as its row has it: everything, or the beginning of what is kept in pieces.
struct StoredStream: Sendable {
    /// A stream of a process, by its descriptor.
    enum Stream: Int64, CaseIterable {
        case output = 1
        case error = 2

        /// The column of `jobs` with its text.
        var column: String { self == .output ? "stdout" : "stderr" }
        /// The column that says how many pieces there are.
        var countColumn: String { "\(column)_pieces" }
    }

    /// What only says how the rest is kept.
    static let columns = Set(Stream.allCases.map(\.countColumn))
    /// Bytes of a piece: as much as is read or written at once.
    static let pieceSize = WrittenBytes.usualPiece
    /// Bytes of long output that its row has, for who looks at the row alone.
    private static let beginning = 64 << 10

    let stream: Stream
    /// What is written into its column.
    let column: String
    /// How many pieces there are; `nil` when the column has everything.
    let pieces: Int?

    /// What is kept of `bytes`; nothing unless they are kept at all.
    init(_ stream: Stream, _ bytes: WrittenBytes, isKept: Bool) throws(GatewayError) {
        self.stream = stream
        guard isKept, bytes.isLong else {
            column = isKept ? String(decoding: try bytes.all(), as: UTF8.self) : ""
            pieces = nil
            return
        }
        let start = try bytes.bytes(from: 0, StoredStream.beginning)
        column = String(decoding: start[..<TextWindow.wholeCharacters(of: start)], as: UTF8.self)
        pieces = StoredStream.count(of: bytes)
    }

    /// How many pieces long output has.
    static func count(of bytes: WrittenBytes) -> Int { (bytes.count + pieceSize - 1) / pieceSize }
}

/// Output of more than `WrittenBytes.longestInMemory`, which is kept in pieces, so that neither memory nor a transaction has to hold
/// all of it.
///
/// 1. Pieces are written in transactions of a few milliseconds, while the row says that the job runs: they count for nobody.
/// 2. The commit of the end makes them count, if all of them are there. A gateway that ends before leaves pieces that whoever
///    collects the job removes and writes again, from the same files.
/// 3. They go with the job's row, or with its output.
extension Store {
    /// Pieces that are written in one transaction: 4 MiB.
    private static let batch = 16

    /// Writes the long ones of a job's streams down; nothing when its end is there already.
    func keepLongOutput(
        _ spec: JobSpec,
        _ output: WrittenBytes,
        _ errorOutput: WrittenBytes,
        directory: String,
        instance: String,
        host: String
    ) async throws(GatewayError) {
        var isFirst = true
        for (stream, bytes) in [(StoredStream.Stream.output, output), (.error, errorOutput)]
        where bytes.isLong {
            let count = StoredStream.count(of: bytes)
            for start in stride(from: 0, to: count, by: Store.batch) {
                let begins = isFirst
                isFirst = false
                let numbers = start..<min(start + Store.batch, count)
                let goesOn = try await write { connection throws(GatewayError) in
                    // Emptying the log into the file takes longer than all this, and is done when it is over.
                    if path != nil { try connection.execute("PRAGMA wal_autocheckpoint = 0") }
                    return try connection.transaction { () throws(GatewayError) in
                        if begins {
                            try Store.insert(
                                spec,
                                directory: directory,
                                instance: instance,
                                host: host,
                                connection
                            )
                            guard try Store.removePieces(ofUnfinished: spec.id, connection) else {
                                return false
                            }
                        }
                        for number in numbers {
                            try Store.write(number, of: stream, spec.id, bytes, connection)
                        }
                        return true
                    }
                }
                guard goesOn else { return }
            }
        }
    }

    private static func write(
        _ number: Int,
        of stream: StoredStream.Stream,
        _ job: String,
        _ bytes: WrittenBytes,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        let piece = try bytes.bytes(from: number * StoredStream.pieceSize, StoredStream.pieceSize)
        try connection.execute(
            """
            INSERT INTO job_output (job_id, stream, number, bytes) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (job_id, stream, number) DO UPDATE SET bytes = excluded.bytes
            """,
            [.text(job), .integer(stream.rawValue), .integer(Int64(number)), .blob(piece)]
        )
    }

    /// Removes the pieces of a job whose end is not written down; `false`, and they stay, when it is.
    @discardableResult
    static func removePieces(
        ofUnfinished job: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> Bool {
        let isUnfinished = try connection.first(
            "SELECT 1 FROM jobs WHERE id = ?1 AND status IN ('running', 'orphaned')",
            [.text(job)]
        ) { _ in true }
        guard isUnfinished != nil else { return false }
        try connection.execute("DELETE FROM job_output WHERE job_id = ?1", [.text(job)])
        return true
    }

    /// Whether all pieces of a job are there that its row names; only in the transaction that writes its end.
    ///
    /// A gateway that took this one for dead may have removed some; then the end is not written, and tried again with all of them.
    static func check(
        _ streams: [StoredStream],
        of job: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        for stream in streams {
            guard let pieces = stream.pieces else { continue }
            let there = try connection.first(
                "SELECT COUNT(*) FROM job_output WHERE job_id = ?1 AND stream = ?2",
                [.text(job), .integer(stream.stream.rawValue)]
            ) { $0.integer(0) ?? 0 }
            guard there == pieces else {
                throw GatewayError(
                    "database-busy",
                    "of the output of the job '\(job)' \(there ?? 0) pieces of \(pieces) are there; it is written again"
                )
            }
        }
    }

    /// A piece; `nil` when it is not there.
    static func piece(
        _ number: Int,
        of stream: StoredStream.Stream,
        _ job: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> [UInt8]? {
        try connection.first(
            "SELECT bytes FROM job_output WHERE job_id = ?1 AND stream = ?2 AND number = ?3",
            [.text(job), .integer(stream.rawValue), .integer(Int64(number))]
        ) { $0.blob(0) ?? [] }
    }

    // MARK: reading

    /// What the row of a job has of its streams.
    private struct Row: Sendable {
        var columns: [[UInt8]]
        var pieces: [Int?]
        var payload: JSON
    }

    private func row(_ job: String) async throws(GatewayError) -> Row? {
        try await read { connection throws(GatewayError) in
            try connection.first(
                "SELECT stdout, stderr, stdout_pieces, stderr_pieces, payload_json FROM jobs WHERE id = ?1",
                [.text(job)]
            ) { row in
                Row(
                    columns: [row.blob(0) ?? [], row.blob(1) ?? []],
                    pieces: [row.integer(2), row.integer(3)],
                    payload: (try? JSON.parse(row.text(4) ?? "null")) ?? .null
                )
            }
        }
    }

    /// The stored output of a finished job, with the request's context and the collected files; `nil` when it is not known.
    ///
    /// Long output is brought to a file without a name in `staging`.
    package func output(of job: String, staging: String) async throws(GatewayError) -> JobOutput? {
        guard let row = try await row(job) else { return nil }
        var streams: [WrittenBytes] = []
        for (index, stream) in StoredStream.Stream.allCases.enumerated() {
            guard let count = row.pieces[index] else {
                streams.append(WrittenBytes(row.columns[index]))
                continue
            }
            let file = try WrittenBytesFile(in: staging)
            for number in 0..<count {
                // Removed meanwhile, with the row or without it: what is there now counts.
                guard let piece = try await piece(number, of: stream, job) else {
                    return try await changed(job, row) ? output(of: job, staging: staging) : nil
                }
                try file.append(piece)
            }
            streams.append(file.bytes)
        }
        var files: [String: [UInt8]] = [:]
        for member in row.payload["files"]?.object?.members ?? [] {
            files[member.name] = member.value.string.map { Array($0.utf8) }
        }
        return JobOutput(
            output: streams[0],
            errorOutput: streams[1],
            files: files,
            context: row.payload["context"] ?? .null
        )
    }

    /// Parts of the two streams of a finished job, of which no more is read than what is shown; `nil` when it is not known.
    package func windows(
        of job: String,
        _ output: TextWindow,
        _ errors: TextWindow
    ) async throws(GatewayError) -> (output: TextWindow, errors: TextWindow)? {
        guard let row = try await row(job) else { return nil }
        var windows = [output, errors]
        for (index, stream) in StoredStream.Stream.allCases.enumerated() {
            guard let count = row.pieces[index] else {
                windows[index] = try windows[index].over(WrittenBytes(row.columns[index]))
                continue
            }
            for number in 0..<count where !windows[index].isTruncated {
                guard let piece = try await piece(number, of: stream, job) else {
                    return try await changed(job, row) ? self.windows(of: job, output, errors) : nil
                }
                windows[index].take(piece)
            }
            windows[index].finish()
        }
        return (windows[0], windows[1])
    }

    private func piece(
        _ number: Int,
        of stream: StoredStream.Stream,
        _ job: String
    ) async throws(GatewayError) -> [UInt8]? {
        try await read { connection throws(GatewayError) in
            try Store.piece(number, of: stream, job, connection)
        }
    }

    /// Whether a row names other pieces than it did; one that names some that are not there is damaged.
    private func changed(_ job: String, _ row: Row) async throws(GatewayError) -> Bool {
        guard let now = try await self.row(job) else { return false }
        guard now.pieces == row.pieces else { return true }
        throw GatewayError("database-corrupt", "parts of the output of the job '\(job)' are missing")
    }
}
