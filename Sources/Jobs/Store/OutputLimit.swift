import Appliance
import SQL

extension Store {
    /// Removes stored output, that of the oldest finished jobs first, until at most `limit` bytes are left; returns of how
    /// many jobs.
    ///
    /// Everything else that is known of them stays, the size of the output too; they are not shared any more. What the
    /// reference has stored is not counted and stays.
    func trimOutput(to limit: Int) async throws(GatewayError) -> Int {
        guard let newest = try await newestBeyond(limit) else { return 0 }
        var removed = 0
        while !Task.isCancelled {
            let oldest = try await survey { connection throws(GatewayError) in
                try connection.all(
                    """
                    SELECT id FROM jobs
                    WHERE payload_json IS NOT NULL AND finished_at <= ?1 AND stdout_bytes + stderr_bytes > 0
                    ORDER BY finished_at LIMIT 100
                    """,
                    [.text(newest)]
                ) { $0.text(0) ?? "" }
            }
            var gone = 0
            for id in oldest where !Task.isCancelled { gone += try await removeOutput(of: id) }
            removed += gone
            if gone == 0 { break }
        }
        return removed
    }

    /// When the newest job ended whose output is beyond the limit, counted from the newest one on; `nil` when none is.
    ///
    /// Not how much is too much: what another gateway on the file removes meanwhile would be removed twice.
    private func newestBeyond(_ limit: Int) async throws(GatewayError) -> String? {
        try await survey { connection throws(GatewayError) in
            var size = 0
            var newest: String?
            try connection.each(
                """
                SELECT finished_at, stdout_bytes + stderr_bytes FROM jobs
                WHERE payload_json IS NOT NULL AND finished_at IS NOT NULL ORDER BY finished_at DESC
                """
            ) { row throws(GatewayError) in
                size += row.integer(1) ?? 0
                if size > limit, newest == nil { newest = row.text(0) }
            }
            return newest
        }
    }

    private func removeOutput(of id: String) async throws(GatewayError) -> Int {
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                let changed = try connection.execute(
                    """
                    UPDATE jobs SET stdout = '', stderr = '', payload_json = NULL, request_key = '', output_truncated = 1,
                        stdout_pieces = NULL, stderr_pieces = NULL
                    WHERE id = ?1 AND status <> 'running'
                    """,
                    [.text(id)]
                )
                if changed == 1 {
                    try connection.execute("DELETE FROM job_output WHERE job_id = ?1", [.text(id)])
                }
                return changed
            }
        }
    }
}
