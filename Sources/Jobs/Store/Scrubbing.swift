import Appliance
import Platform
import PostgreSQL
import SQL

extension Store {
    /// A database that is larger than this, in bytes, is rebuilt only while no gateway uses it.
    private static let quickRebuild = 64 << 20
    /// The tables that hold what callers and providers have written.
    private static let recordTables = "jobs, job_output, requests, gateway_metadata, sessions"
    /// What rebuilding may take on a server, in seconds.
    private static let rebuildTime = 600

    /// Makes the database's files hold nothing but what is in its tables; `false` when that has to wait.
    ///
    /// What this program removes from a file is overwritten at once. What other programs and earlier versions removed may still
    /// be in free space, which only a rebuilding leaves behind: a large file is not rebuilt while a gateway waits for it
    /// (`isInUse`). In the end the log is emptied into the file. A server keeps a log of its own, which is its owner's.
    func scrub(isInUse: Bool) async throws(GatewayError) -> Bool {
        if server != nil { return try await scrubServer() }
        let isRebuilt = try await write { connection throws(GatewayError) in
            func number(_ pragma: String) throws(GatewayError) -> Int {
                try connection.first("PRAGMA \(pragma)") { $0.integer(0) ?? 0 } ?? 0
            }
            let size = try number("page_count") * number("page_size")
            if isInUse, size > Store.quickRebuild { return false }
            try connection.execute("VACUUM")
            return true
        }
        for _ in 0..<20 {
            let isBusy = try await write { connection throws(GatewayError) in
                try connection.first("PRAGMA wal_checkpoint(TRUNCATE)") { $0.integer(0) ?? 0 } ?? 0
            }
            if isBusy == 0 { return isRebuilt }
            // Somebody reads what the log still has; no event tells when that is over.
            try? await clock.sleep(.milliseconds(250))
        }
        return false
    }

    /// Whether gateways use a server's database is not for this machine to know: a large one is only swept.
    private func scrubServer() async throws(GatewayError) -> Bool {
        try await write { connection throws(GatewayError) in
            guard let connection = connection as? ServerConnection else { return false }
            let size = try connection.first(
                "SELECT CAST(SUM(pg_total_relation_size(relid)) AS BIGINT) FROM pg_stat_user_tables WHERE schemaname = current_schema()"
            ) { $0.integer(0) ?? 0 }
            let isSmall = size ?? 0 <= Store.quickRebuild
            try connection.command(
                "VACUUM \(isSmall ? "(FULL)" : "") \(Store.recordTables)",
                seconds: Store.rebuildTime
            )
            return isSmall
        }
    }
}
