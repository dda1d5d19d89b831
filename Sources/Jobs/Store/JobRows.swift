package import Appliance
import Platform
import SQL

/// A row of `jobs` without its output.
package struct JobSnapshot: Sendable, Equatable {
    /// The job's UUID.
    package var id: String
    /// The column `cli`: `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// A stored `running` may still be waiting for its turn: the store has no word for that.
    package var status: JobStatus
    /// ISO 8601: when the job was accepted, not when its provider started.
    package var started: String
    /// ISO 8601; `nil` until the job is over.
    package var finished: String?
    /// The contract's numbers, as in `ExitRecord.exitCode`; `nil` until the job is over, and of a lost one
    /// for ever.
    package var exitCode: Int?
    /// The flight recorder's key; `nil` only in rows of other programs.
    package var correlationID: String?
    /// Whether the provider wrote more than was kept.
    package var outputTruncated: Bool
    /// Bytes.
    package var outputBytes: Int
    /// Bytes.
    package var errorBytes: Int
    /// Why the job did not end by itself; `nil` when it did.
    package var error: String?
    /// Who may see it; `nil` means the local principal.
    ///
    /// Not part of `json`.
    package var owner: String?
    /// As the tool's caller chose it; not part of `json`.
    package var outputFormat: String?
    /// The machine on which it runs; `nil` for this one, and when it is over.
    package var host: String?

    /// The contract's `Snapshot`.
    package var json: JSON {
        var json: JSON = [
            "id": .string(id), "cli": .string(provider), "status": .string(status.rawValue),
            "startedAt": .string(started), "finishedAt": .optional(finished),
            "exitCode": .optional(exitCode), "correlationId": .optional(correlationID),
            "outputTruncated": .bool(outputTruncated), "stdoutBytes": .integer(outputBytes),
            "stderrBytes": .integer(errorBytes), "error": .optional(error),
            "exited": .bool(status.isFinal),
        ]
        if let host { json["host"] = .string(host) }
        return json
    }
}

/// The final state of a job as the store keeps it.
struct JobEnding: Sendable {
    var status: JobStatus
    var exitCode: Int32?
    var output: WrittenBytes
    var errorOutput: WrittenBytes
    var outputTruncated: Bool
    var error: String?
    var finished: Timestamp
    /// Whether its provider may have been started; what never began does not count for the budget.
    var hasBegun: Bool
    /// The request's context, the runner's record and the collected files.
    var payload: JSON
    /// What the gateway made of the run.
    var verdict = RunVerdict()
    /// Whether long output is in pieces already.
    var isOutputKept = false
}

extension Store {
    /// What the reference writes as the expiry of a job that runs.
    static let never = "9999-12-31T23:59:59.999Z"

    /// Writes down that a job was accepted; one that is known already stays as it is.
    ///
    /// Of a job that is not to be recorded nothing is written. `directory` is where its files are.
    func insert(
        _ spec: JobSpec,
        directory: String,
        instance: String,
        host: String
    ) async throws(GatewayError) {
        guard spec.recording != .none else { return }
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                try Store.insert(spec, directory: directory, instance: instance, host: host, connection)
            }
        }
    }

    static func insert(
        _ spec: JobSpec,
        directory: String,
        instance: String,
        host: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        try takeLease(of: instance, host: host, at: spec.submitted, connection)
        // Who holds a job's files knows better than one who took it for lost.
        try connection.execute(
            """
            INSERT INTO jobs (id, correlation_id, request_key, cli, args_json, output_format, status, started_at,
                expires_at, owner_principal, transport, owner_instance, owner_hostname, directory)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'running', ?7, ?8, ?9, 'process', ?10, ?11, ?12)
            ON CONFLICT (id) DO UPDATE SET owner_instance = excluded.owner_instance,
                owner_hostname = excluded.owner_hostname, directory = excluded.directory, status = 'running',
                error = NULL, finished_at = NULL, expires_at = excluded.expires_at
            WHERE jobs.status IN ('running', 'orphaned')
            """,
            [
                // The reference's table takes no null for a key.
                .text(spec.id), .text(spec.correlationID), .text(spec.requestKey ?? ""), .text(spec.provider),
                .text(spec.recording == .full ? JSON.strings(spec.arguments).compactText : "[]"),
                .optional(spec.outputFormat),
                .text(spec.submitted.iso8601), .text(never), .optional(spec.owner), .text(instance),
                .text(host), .text(directory),
            ]
        )
    }

    /// Commits the final state; a job that has one already keeps it.
    ///
    /// Of what is recorded as metadata neither output nor key stays, which is a digest of the prompt, and of a job that is
    /// not to be recorded nothing.
    func finish(
        _ spec: JobSpec,
        _ ending: JobEnding,
        directory: String,
        instance: String,
        host: String
    ) async throws(GatewayError) {
        guard spec.recording != .none else {
            guard !ending.hasBegun else { return }
            return try await commit { connection throws(GatewayError) in
                try Store.uncountRun(of: spec.provider, at: spec.submitted, connection)
            }
        }
        let expiry = expiry(from: ending.finished)
        let isFull = spec.recording == .full
        if isFull, !ending.isOutputKept {
            try await keepLongOutput(
                spec,
                ending.output,
                ending.errorOutput,
                directory: directory,
                instance: instance,
                host: host
            )
        }
        try await commit(
            bytes: isFull ? ending.output.count + ending.errorOutput.count : 0,
            preparing: { () throws(GatewayError) in
                (
                    try StoredStream(.output, ending.output, isKept: isFull),
                    try StoredStream(.error, ending.errorOutput, isKept: isFull)
                )
            },
            { connection, streams throws(GatewayError) in
                let (output, errorOutput) = streams
                try Store.insert(spec, directory: directory, instance: instance, host: host, connection)
                let changed = try connection.execute(
                    """
                    UPDATE jobs SET status = ?2, exit_code = ?3, stdout = ?4, stderr = ?5, output_truncated = ?6,
                        error = ?7, finished_at = ?8, expires_at = ?9, payload_json = ?10, stdout_bytes = ?11,
                        stderr_bytes = ?12, request_key = CASE WHEN ?13 = 1 THEN request_key ELSE '' END,
                        error_category = ?14, retryable = ?15, stdout_pieces = ?16, stderr_pieces = ?17
                    WHERE id = ?1 AND status = 'running'
                    """,
                    [
                        .text(spec.id), .text(ending.status.rawValue), .optional(ending.exitCode),
                        .text(output.column), .text(errorOutput.column),
                        .flag(ending.outputTruncated), .optional(ending.error),
                        .text(ending.finished.iso8601), .text(expiry),
                        isFull ? .text(ending.payload.compactText) : .null,
                        .integer(Int64(ending.output.count)), .integer(Int64(ending.errorOutput.count)),
                        .flag(isFull), .optional(ending.verdict.errorCategory),
                        .flag(ending.verdict.isRetryable), .optional(output.pieces),
                        .optional(errorOutput.pieces),
                    ]
                )
                if changed == 1 { try Store.check([output, errorOutput], of: spec.id, connection) }
                try Store.closeSharers(of: spec.id, connection)
                try connection.announce(StoreNews.ended(spec.id).text)
                if changed == 1, !ending.hasBegun {
                    try Store.uncountRun(of: spec.provider, at: spec.submitted, connection)
                }
            }
        )
    }

    /// A job without its output; `nil` when it is not known.
    package func job(_ id: String) async throws(GatewayError) -> JobSnapshot? {
        try await read { connection throws(GatewayError) in
            let dialect = connection.dialect
            return try connection.first(
                """
                SELECT id, cli, status, started_at, finished_at, exit_code, correlation_id, output_truncated,
                    COALESCE(stdout_bytes, \(dialect.bytes(of: "stdout"))),
                    COALESCE(stderr_bytes, \(dialect.bytes(of: "stderr"))), error, owner_principal, output_format,
                    owner_hostname
                FROM jobs WHERE id = ?1
                """,
                [.text(id)]
            ) { row in
                JobSnapshot(
                    id: row.text(0) ?? "",
                    provider: row.text(1) ?? "",
                    status: row.text(2).flatMap(JobStatus.init(rawValue:)) ?? .orphaned,
                    started: row.text(3) ?? "",
                    finished: row.text(4),
                    exitCode: row.integer(5),
                    correlationID: row.text(6),
                    outputTruncated: row.flag(7),
                    outputBytes: row.integer(8) ?? 0,
                    errorBytes: row.integer(9) ?? 0,
                    error: row.text(10),
                    owner: row.text(11),
                    outputFormat: row.text(12),
                    host: row.text(2) == JobStatus.running.rawValue ? row.text(13) : nil
                )
            }
        }
    }

    /// Running jobs of the store: id, pid of the provider, instance that answers for them.
    func running() async throws(GatewayError) -> [(id: String, pid: Int32?, instance: String?)] {
        try await read { connection throws(GatewayError) in
            try connection.all("SELECT id, pid, owner_instance FROM jobs WHERE status = 'running'") { row in
                (row.text(0) ?? "", row.integer(1).map { Int32(clamping: $0) }, row.text(2))
            }
        }
    }

    /// Closes running jobs that no gateway will ever answer for, for a file whose gateways have all ended.
    ///
    /// Those of `keeping` have a runner or a record of its end. Returns how many were closed.
    package func closeAbandoned(keeping: Set<String>, error: String) async throws(GatewayError) -> Int {
        let abandoned = try await running().map(\.id).filter { !keeping.contains($0) }
        if !abandoned.isEmpty { try await orphan(abandoned, error: error) }
        return abandoned.count
    }

    /// What the record of a request says whose job is `orphaned`, until its true end is known after all.
    static let orphanedRecord = "orphaned: the gateway that answered for the job is gone"

    /// Closes jobs that nothing is left of, and the records of their requests.
    func orphan(_ ids: [String], error: String) async throws(GatewayError) {
        let now = clock.now()
        let expiry = expiry(from: now)
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                for id in ids {
                    try connection.execute(
                        """
                        UPDATE jobs SET status = 'orphaned', error = COALESCE(error, ?2), finished_at = ?3,
                            expires_at = ?4
                        WHERE id IN (SELECT id FROM jobs WHERE id = ?1 AND status = 'running'
                            \(connection.dialect.unlessTaken))
                        """,
                        [.text(id), .text(error), .text(now.iso8601), .text(expiry)]
                    )
                    try Store.removePieces(ofUnfinished: id, connection)
                    try connection.execute(
                        """
                        UPDATE gateway_metadata SET status = 'failed', error_message = ?2
                        WHERE async_job_id = ?1 AND status = 'started' AND shared_with IS NULL
                        """,
                        [.text(id), .text(Store.orphanedRecord)]
                    )
                    try Store.closeSharers(of: id, connection)
                    try connection.announce(StoreNews.ended(id).text)
                }
            }
        }
    }
}
