import Appliance
import SQLite

extension Store {
    /// Removes stored output, that of the oldest finished jobs first, until at most `limit` bytes are left; returns of how
    /// many jobs.
    ///
    /// Everything else that is known of them stays, the size of the output too; they are not shared any more. What the
    /// reference has stored is not counted and stays.
    func trimOutput(to limit: Int) async throws(GatewayError) -> Int {
        let size = try await survey { connection throws(GatewayError) in
            try connection.first(
                """
                SELECT SUM(stdout_bytes + stderr_bytes) FROM jobs
                WHERE payload_json IS NOT NULL AND finished_at IS NOT NULL
                """
            ) { $0.integer(0) ?? 0 } ?? 0
        }
        var excess = size - limit
        var removed = 0
        while excess > 0, !Task.isCancelled {
            let oldest = try await survey { connection throws(GatewayError) in
                try connection.all(
                    """
                    SELECT id, stdout_bytes + stderr_bytes FROM jobs
                    WHERE payload_json IS NOT NULL AND finished_at IS NOT NULL AND stdout_bytes + stderr_bytes > 0
                    ORDER BY finished_at LIMIT 100
                    """
                ) { (id: $0.text(0) ?? "", bytes: $0.integer(1) ?? 0) }
            }
            var gone = 0
            for job in oldest where excess > 0 && !Task.isCancelled {
                gone += try await removeOutput(of: job.id)
                excess -= job.bytes
            }
            removed += gone
            if gone == 0 { break }
        }
        return removed
    }

    private func removeOutput(of id: String) async throws(GatewayError) -> Int {
        try await write { connection throws(GatewayError) in
            try connection.execute(
                """
                UPDATE jobs SET stdout = '', stderr = '', payload_json = NULL, request_key = '', output_truncated = 1
                WHERE id = ?1 AND status <> 'running'
                """,
                [.text(id)]
            )
        }
    }
}
