package import Appliance
import Platform
import SQL

/// How many rows went because their time was over.
package struct ExpiredRows: Sendable, Equatable {
    /// Finished jobs with their output.
    package var jobs = 0
    /// Requests with their metadata.
    package var requests = 0

    /// None.
    package init() {}
}

extension Store {
    /// How long one batch holds the write lock at most, unless a single row takes longer.
    private static let batchTime = Duration.milliseconds(10)
    /// Rows that are looked up at once.
    private static let batchRows = 256

    /// Removes finished jobs and requests whose time is over.
    ///
    /// In batches of a few milliseconds with as much time in between, so that neither this gateway nor another one on the
    /// file waits for more than one of them. A job that runs keeps its request. Requests without an expiry stay: the reference
    /// never removed one, and its history is the user's. Throws what the database throws, and ends early when the task is
    /// cancelled.
    package func removeExpired() async throws(GatewayError) -> ExpiredRows {
        var removed = ExpiredRows()
        let now = [SQLValue.text(clock.now().iso8601)]
        removed.jobs = try await removeInBatches(
            """
            SELECT id FROM jobs WHERE expires_at < ?1 AND status <> 'running' ORDER BY expires_at
            """,
            now,
            Store.removeFinishedJob
        )
        removed.requests = try await removeInBatches(
            """
            SELECT id FROM requests WHERE expires_at < ?1 AND NOT EXISTS (
                SELECT 1 FROM gateway_metadata m CROSS JOIN jobs j
                WHERE j.id = m.async_job_id AND m.request_id = requests.id AND j.status = 'running')
            ORDER BY expires_at
            """,
            now,
            Store.removeRequest
        )
        return removed
    }

    /// Removes a job that is over; returns how many went, 1 or 0.
    static func removeFinishedJob(
        _ id: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> Int {
        // Not one that another gateway is just removing.
        try connection.execute(
            """
            DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE id = ?1 AND status <> 'running'
                \(connection.dialect.unlessTaken))
            """,
            [.text(id)]
        )
    }

    /// Removes a request's rows; returns how many requests went, 1 or 0.
    static func removeRequest(_ id: String, _ connection: any DatabaseConnection) throws(GatewayError) -> Int
    {
        try connection.execute("DELETE FROM gateway_metadata WHERE request_id = ?1", [.text(id)])
        return try connection.execute("DELETE FROM requests WHERE id = ?1", [.text(id)])
    }

    /// Removes row by row what `query` finds, which gets a limit, until it finds nothing.
    func removeInBatches(
        _ query: String,
        _ values: [SQLValue],
        _ remove: @Sendable (String, any DatabaseConnection) throws(GatewayError) -> Int
    ) async throws(GatewayError) -> Int {
        var removed = 0
        while !Task.isCancelled {
            var ids = try await survey { connection throws(GatewayError) in
                try connection.all("\(query) LIMIT \(Store.batchRows)", values) { $0.text(0) ?? "" }
            }[...]
            let before = removed
            while !ids.isEmpty, !Task.isCancelled {
                let batch = ids
                let (tried, gone) = try await write { connection throws(GatewayError) in
                    try removeOneBatch(batch, connection, remove)
                }
                ids = ids.dropFirst(tried)
                removed += gone
                // The others' turn, also of those who wait by asking again and again.
                try? await clock.sleep(Store.batchTime)
            }
            if removed == before { break }
        }
        return removed
    }

    /// As many rows as the time allows, and at least one; returns how many were tried and how many went.
    private func removeOneBatch(
        _ ids: ArraySlice<String>,
        _ connection: any DatabaseConnection,
        _ remove: (String, any DatabaseConnection) throws(GatewayError) -> Int
    ) throws(GatewayError) -> (tried: Int, gone: Int) {
        try connection.transaction { () throws(GatewayError) in
            let began = clock.uptime()
            var tried = 0, gone = 0
            for id in ids {
                gone += try remove(id, connection)
                tried += 1
                if clock.uptime() &- began >= Store.batchTime.nanoseconds { break }
            }
            return (tried, gone)
        }
    }
}
