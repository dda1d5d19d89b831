import Appliance
import SQLite

extension Store {
    /// Removes stored output, that of the oldest finished jobs first, until at most `limit` bytes are left; returns of how
    /// many jobs.
    ///
    /// Everything else that is known of them stays, the size of the output too; they are not shared any more. What the
    /// reference has stored is not counted and stays.
    func trimOutput(to limit: Int) async throws(GatewayError) -> Int {
        let oldest = try await read { connection throws(GatewayError) -> [String] in
            var size = 0
            var ids: [String] = []
            try connection.each(
                """
                SELECT id, stdout_bytes + stderr_bytes FROM jobs
                WHERE payload_json IS NOT NULL AND finished_at IS NOT NULL ORDER BY finished_at DESC
                """
            ) { row throws(GatewayError) in
                size += row.integer(1) ?? 0
                if size > limit, let id = row.text(0), (row.integer(1) ?? 0) > 0 { ids.append(id) }
            }
            return ids
        }
        var removed = 0
        for id in oldest.reversed() {
            if Task.isCancelled { break }
            removed += try await write { connection throws(GatewayError) in
                try connection.execute(
                    """
                    UPDATE jobs SET stdout = '', stderr = '', payload_json = NULL, request_key = '', output_truncated = 1
                    WHERE id = ?1 AND status <> 'running'
                    """,
                    [.text(id)]
                )
            }
        }
        return removed
    }
}
