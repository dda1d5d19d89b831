import Appliance
import Platform
import SQL

/// A running job of another gateway that holds a lease.
struct LeasedJob: Sendable {
    var id: String
    /// Where its files are, perhaps on another machine.
    var directory: String
    /// The gateway that answers for it.
    var instance: String
    /// The name of that gateway's machine.
    var host: String
    /// What the gateway raises while it lives.
    var beat: Int
}

extension Store {
    /// A gateway that is gone for so long, and answers for no job, is not remembered.
    private static let leaseMemory: Int64 = 3_600_000

    /// Makes a gateway known that answers for a job, in the transaction that writes the job down.
    static func takeLease(
        of instance: String,
        host: String,
        at now: Timestamp,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        try connection.execute(
            """
            INSERT INTO gateway_leases (instance, host, beat, renewed_at) VALUES (?1, ?2, 0, ?3)
            ON CONFLICT (instance) DO NOTHING
            """,
            [.text(instance), .text(host), .text(now.iso8601)]
        )
    }

    /// Shows that a gateway lives, and forgets those that have been gone for long.
    func renewLease(of instance: String) async throws(GatewayError) {
        let now = clock.now()
        try await write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                try connection.execute(
                    "UPDATE gateway_leases SET beat = beat + 1, renewed_at = ?2 WHERE instance = ?1",
                    [.text(instance), .text(now.iso8601)]
                )
                try connection.execute(
                    """
                    DELETE FROM gateway_leases WHERE renewed_at < ?1 AND NOT EXISTS (
                        SELECT 1 FROM jobs WHERE status = 'running' AND owner_instance = gateway_leases.instance)
                    """,
                    [.text(now.advanced(byMilliseconds: -Store.leaseMemory).iso8601)]
                )
            }
        }
    }

    /// The running jobs of gateways that hold a lease, except those of one.
    func leasedJobs(besides instance: String) async throws(GatewayError) -> [LeasedJob] {
        try await read { connection throws(GatewayError) in
            try connection.all(
                """
                SELECT j.id, j.directory, j.owner_instance, l.host, l.beat FROM jobs j
                CROSS JOIN gateway_leases l WHERE l.instance = j.owner_instance
                    AND j.status = 'running' AND j.directory IS NOT NULL AND j.owner_instance <> ?1
                """,
                [.text(instance)]
            ) { row in
                LeasedJob(
                    id: row.text(0) ?? "",
                    directory: row.text(1) ?? "",
                    instance: row.text(2) ?? "",
                    host: row.text(3) ?? "",
                    beat: row.integer(4) ?? 0
                )
            }
        }
    }
}
