import Appliance
import Platform
import SQL

extension Store {
    /// A file that is larger than this, in bytes, is rebuilt only while no gateway uses it.
    private static let quickRebuild = 64 << 20

    private static let isRunning =
        """
        EXISTS (SELECT 1 FROM gateway_metadata m CROSS JOIN jobs j
            WHERE j.id = m.async_job_id AND m.request_id = requests.id AND j.status = 'running')
        """

    /// How many finished jobs and how many requests a selection holds, and the ids of its running jobs.
    func count(
        _ selection: RecordSelection
    ) async throws(GatewayError) -> (jobs: Int, requests: Int, running: Set<String>) {
        let jobs = selection.jobs, requests = selection.requests
        return try await read { connection throws(GatewayError) in
            let running = try connection.all(
                "SELECT id FROM jobs WHERE status = 'running' AND \(jobs.text)",
                jobs.values
            ) { $0.text(0) ?? "" }
            return (
                try connection.first(
                    "SELECT COUNT(*) FROM jobs WHERE status <> 'running' AND \(jobs.text)",
                    jobs.values
                ) { $0.integer(0) ?? 0 } ?? 0,
                try connection.first(
                    "SELECT COUNT(*) FROM requests WHERE \(requests.text) AND NOT \(Store.isRunning)",
                    requests.values
                ) { $0.integer(0) ?? 0 } ?? 0,
                Set(running)
            )
        }
    }

    /// Removes the jobs and requests of a selection, except those of running jobs; in batches, as what has expired.
    func remove(_ selection: RecordSelection) async throws(GatewayError) -> ExpiredRows {
        let jobs = selection.jobs, requests = selection.requests
        var removed = ExpiredRows()
        // The jobs first: which conversation one belongs to is told by its request.
        removed.jobs = try await removeInBatches(
            "SELECT id FROM jobs WHERE status <> 'running' AND \(jobs.text)",
            jobs.values,
            Store.removeFinishedJob
        )
        removed.requests = try await removeInBatches(
            "SELECT id FROM requests WHERE \(requests.text) AND NOT \(Store.isRunning)",
            requests.values,
            Store.removeRequest
        )
        return removed
    }

    /// Removes the rows of jobs whose files are gone, whatever their state.
    func remove(jobs ids: [String]) async throws(GatewayError) -> ExpiredRows {
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                var removed = ExpiredRows()
                for id in ids {
                    let requests = try connection.all(
                        "SELECT request_id FROM gateway_metadata WHERE async_job_id = ?1",
                        [.text(id)]
                    ) { $0.text(0) ?? "" }
                    for request in requests {
                        removed.requests += try Store.removeRequest(request, connection)
                    }
                    removed.jobs += try connection.execute("DELETE FROM jobs WHERE id = ?1", [.text(id)])
                }
                return removed
            }
        }
    }
}
