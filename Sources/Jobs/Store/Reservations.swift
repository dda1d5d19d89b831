import Appliance
import Platform
import SQL

/// A job that the same request has started, as the store has it.
struct SharedRow: Sendable {
    var id: String
    /// The record of the request that started it.
    var correlationID: String
    var isFinal: Bool
    /// Where its files are.
    var directory: String
    /// The gateway that answers for it.
    var instance: String
    /// The name of that gateway's machine.
    var host: String?
}

extension Store {
    static let sharedColumns = "id, correlation_id, status, directory, owner_instance, owner_hostname"

    /// Tells a request's record that its answer is that of another request's run.
    static func link(
        _ correlationID: String,
        to job: String,
        _ leader: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        try connection.execute(
            """
            UPDATE gateway_metadata SET async_job_id = ?2, shared_with = ?3
            WHERE request_id = ?1 AND status = 'started'
            """,
            [.text(correlationID), .text(job), .text(leader)]
        )
        try closeSharers(of: job, connection)
    }

    /// Closes the records of the requests that shared a run, once it is over: with its answer, but without its usage and
    /// cost, which are counted once, with the request that started it.
    static func closeSharers(of job: String, _ connection: any DatabaseConnection) throws(GatewayError) {
        let over = try connection.first(
            "SELECT correlation_id, status FROM jobs WHERE id = ?1 AND status <> 'running'",
            [.text(job)]
        ) { row in (row.text(0) ?? "", row.text(1) ?? "") }
        guard let (leader, status) = over else { return }
        let sharers =
            "SELECT request_id FROM gateway_metadata WHERE async_job_id = ?1 AND shared_with IS NOT NULL AND status = 'started'"
        try connection.execute(
            """
            UPDATE requests SET (response, response_chars, duration_ms, model, session_id) =
                (SELECT l.response, l.response_chars, l.duration_ms, COALESCE(l.model, requests.model),
                    COALESCE(l.session_id, requests.session_id) FROM requests l WHERE l.id = ?2)
            WHERE id IN (\(sharers)) AND EXISTS (SELECT 1 FROM requests l WHERE l.id = ?2)
            """,
            [.text(job), .text(leader)]
        )
        try connection.execute(
            """
            UPDATE gateway_metadata SET (exit_code, error_message, retry_count, circuit_breaker_state,
                    optimization_applied, thinking_blocks, http_status) =
                (SELECT l.exit_code, l.error_message, l.retry_count, l.circuit_breaker_state, l.optimization_applied,
                    l.thinking_blocks, l.http_status FROM gateway_metadata l WHERE l.request_id = ?2),
                status = COALESCE((SELECT l.status FROM gateway_metadata l WHERE l.request_id = ?2 AND l.status <> 'started'), ?3)
            WHERE async_job_id = ?1 AND shared_with IS NOT NULL AND status = 'started'
            """,
            [.text(job), .text(leader), .text(status == "completed" ? "completed" : "failed")]
        )
    }

    /// A running job is shared with nobody from now on; `false`, and nothing is changed, while another request waits for it.
    func keepToItself(_ job: String) async throws(GatewayError) -> Bool {
        try await write { connection throws(GatewayError) in
            try connection.execute(
                """
                UPDATE jobs SET request_key = '' WHERE id = ?1 AND NOT EXISTS
                    (SELECT 1 FROM gateway_metadata WHERE async_job_id = ?1 AND shared_with IS NOT NULL AND status = 'started')
                """,
                [.text(job)]
            ) > 0
        }
    }

    /// A running job is shared with nobody from now on, whoever waits for it.
    func stopSharing(_ job: String) async throws(GatewayError) {
        try await write { connection throws(GatewayError) in
            try connection.execute("UPDATE jobs SET request_key = '' WHERE id = ?1", [.text(job)])
        }
    }

    /// The running jobs of a `jobs` directory of this machine, which is `host` to a server.
    func running(below jobs: String, on host: String) async throws(GatewayError) -> [SharedRow] {
        try await read { connection throws(GatewayError) in
            try connection.all(
                "SELECT \(Store.sharedColumns) FROM jobs WHERE status = 'running' AND directory IS NOT NULL",
                [],
                SharedRow.init(row:)
            )
        }.filter { Files.parent(of: $0.directory) == jobs && (server == nil || $0.host == host) }
    }

    /// A job with its files; `nil` when it is not known, or an earlier version keeps it.
    func shared(_ job: String) async throws(GatewayError) -> SharedRow? {
        try await read { connection throws(GatewayError) in
            try connection.first(
                "SELECT \(Store.sharedColumns) FROM jobs WHERE id = ?1 AND directory IS NOT NULL",
                [.text(job)],
                SharedRow.init(row:)
            )
        }
    }

    /// How a job ended; `nil` while it runs, and when it is not known.
    ///
    /// `request` is the same request: what the store does not keep of the one that started the job is taken from it. Long output is
    /// brought to a file in `staging`.
    func outcome(
        of job: String,
        like request: JobSpec,
        staging: String
    ) async throws(GatewayError) -> JobOutcome? {
        guard let row = try await self.job(job), row.status.isFinal,
            let kept = try await output(of: job, staging: staging),
            let payload = try await payload(of: job)
        else { return nil }
        var spec = request
        spec.id = row.id
        spec.correlationID = row.correlationID ?? request.correlationID
        spec.submitted = Timestamp(iso8601: row.started) ?? request.submitted
        // A job that never was has left none.
        if !kept.context.isNull { spec.context = kept.context }
        var outcome = JobOutcome(
            spec: spec,
            status: row.status,
            exit: payload["exit"].flatMap(ExitRecord.init(json:)),
            output: kept.output,
            errorOutput: kept.errorOutput,
            files: kept.files,
            message: row.error,
            hasBegun: payload["hasBegun"]?.bool ?? false,
            retryCount: payload["retryCount"]?.int ?? 0,
            circuit: payload["circuit"]?.string ?? "closed"
        )
        outcome.refusal = payload["refusal"].flatMap(GatewayError.init(body:))
        return outcome
    }

    private func payload(of job: String) async throws(GatewayError) -> JSON? {
        try await read { connection throws(GatewayError) in
            try connection.first("SELECT payload_json FROM jobs WHERE id = ?1", [.text(job)]) { row in
                row.text(0).flatMap { try? JSON.parse($0) } ?? [:]
            }
        }
    }
}

extension SharedRow {
    /// Reads `sharedColumns`.
    init(row: any Row) {
        self.init(
            id: row.text(0) ?? "",
            correlationID: row.text(1) ?? "",
            isFinal: row.text(2) != "running",
            directory: row.text(3) ?? "",
            instance: row.text(4) ?? "",
            host: row.text(5)
        )
    }
}
