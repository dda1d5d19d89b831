import Appliance
import Platform
import SQL

extension JobScheduler {
    /// How long after its beginning a request without a job was not given one any more.
    private static let abandonedAfter = Duration.seconds(600)

    /// Closes the records of requests whose gateway ended between writing them and starting the run.
    ///
    /// Who asks for such a request would be told for ever that it has begun. Young ones are left alone: their gateway may be
    /// about to start them.
    func closeAbandonedRequests() async throws(GatewayError) {
        guard let store else { return }
        let age = Int64(JobScheduler.abandonedAfter.milliseconds)
        let before = machine.clock.now().advanced(byMilliseconds: -age)
        let found = try await store.requestsWithoutJob(startedBefore: before)
        let abandoned = found.filter { request in
            request.job.map { !knows($0) && !machine.files.exists(layout.job($0)) } ?? true
        }
        try await store.fail(
            abandoned.map(\.id),
            error: Store.abandonedRecord
        )
    }
}

extension Store {
    /// What the record of a request says that nothing came of, until its true end is known after all: where the store could not be
    /// written, the job may go on in a home that is not seen from here.
    static let abandonedRecord = "the gateway ended before the run began; nothing was run, so ask again"

    /// Requests that have begun and have no job in the store; at most 500, the oldest first.
    func requestsWithoutJob(
        startedBefore time: Timestamp
    ) async throws(GatewayError) -> [(id: String, job: String?)] {
        try await survey { connection throws(GatewayError) in
            try connection.all(
                """
                SELECT r.id, m.async_job_id FROM gateway_metadata m CROSS JOIN requests r
                WHERE r.id = m.request_id AND m.status = 'started' AND r.datetime_utc < ?1
                    AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = m.async_job_id)
                ORDER BY r.datetime_utc LIMIT 500
                """,
                [.text(time.iso8601)]
            ) { row in (row.text(0) ?? "", row.text(1)) }
        }
    }

    /// Closes the records of requests that nothing came of.
    func fail(_ requests: [String], error: String) async throws(GatewayError) {
        guard !requests.isEmpty else { return }
        let expiry = expiry(from: clock.now())
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                for id in requests {
                    let changed = try connection.execute(
                        """
                        UPDATE gateway_metadata SET status = 'failed', error_message = ?2
                        WHERE request_id = ?1 AND status = 'started'
                        """,
                        [.text(id), .text(error)]
                    )
                    guard changed == 1 else { continue }
                    try connection.execute(
                        "UPDATE requests SET response = '', duration_ms = 0, expires_at = ?2 WHERE id = ?1",
                        [.text(id), .text(expiry)]
                    )
                }
            }
        }
    }
}
