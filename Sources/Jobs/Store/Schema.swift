import Appliance
package import SQL

/// The tables of `logs.db`, as the reference has them, with additions that it does not mind.
package enum Schema {
    /// What a database lacks is added; what is there stays.
    package static var migrations: [Migration] {
        [
            Migration("1-jobs") { connection throws(GatewayError) in
                try connection.execute(
                    """
                    CREATE TABLE IF NOT EXISTS jobs (
                        id TEXT PRIMARY KEY, correlation_id TEXT, request_key TEXT, cli TEXT NOT NULL, args_json TEXT,
                        output_format TEXT, status TEXT NOT NULL, exit_code INTEGER, stdout TEXT, stderr TEXT,
                        output_truncated INTEGER DEFAULT 0, error TEXT, started_at TEXT NOT NULL, finished_at TEXT,
                        pid INTEGER, expires_at TEXT, owner_principal TEXT, transport TEXT DEFAULT 'process',
                        http_status INTEGER, payload_json TEXT)
                    """
                )
                // An older reference made the table without these.
                try connection.addColumns(
                    [
                        "owner_principal TEXT", "transport TEXT DEFAULT 'process'", "http_status INTEGER",
                        "payload_json TEXT",
                    ],
                    to: "jobs"
                )
                for (name, columns) in [
                    ("request_key", "request_key"), ("status", "status"), ("expires_at", "expires_at"),
                    ("key_finished", "request_key, finished_at"),
                ] {
                    try connection.execute("CREATE INDEX IF NOT EXISTS idx_jobs_\(name) ON jobs (\(columns))")
                }
            },
            Migration("2-requests") { connection throws(GatewayError) in
                try connection.execute(
                    """
                    CREATE TABLE IF NOT EXISTS requests (
                        id TEXT PRIMARY KEY, cli TEXT NOT NULL, model TEXT, prompt TEXT, system TEXT, response TEXT,
                        session_id TEXT, duration_ms INTEGER, datetime_utc TEXT NOT NULL, input_tokens INTEGER,
                        output_tokens INTEGER, cache_read_tokens INTEGER, cache_creation_tokens INTEGER,
                        stable_prefix_hash TEXT, stable_prefix_tokens INTEGER, cache_control_blocks INTEGER,
                        cache_control_ttl_seconds INTEGER, owner_principal TEXT)
                    """
                )
                try connection.addColumns(
                    [
                        "cache_read_tokens INTEGER", "cache_creation_tokens INTEGER",
                        "stable_prefix_hash TEXT",
                        "stable_prefix_tokens INTEGER", "cache_control_blocks INTEGER",
                        "cache_control_ttl_seconds INTEGER", "owner_principal TEXT",
                    ],
                    to: "requests"
                )
                try connection.execute(
                    """
                    CREATE TABLE IF NOT EXISTS gateway_metadata (
                        request_id TEXT PRIMARY KEY REFERENCES requests(id), retry_count INTEGER DEFAULT 0,
                        circuit_breaker_state TEXT, cost_usd REAL, approval_decision TEXT, optimization_applied INTEGER,
                        thinking_blocks TEXT, exit_code INTEGER, error_message TEXT, async_job_id TEXT,
                        status TEXT DEFAULT 'started', http_status INTEGER)
                    """
                )
                try connection.addColumns(
                    ["async_job_id TEXT", "status TEXT DEFAULT 'started'", "http_status INTEGER"],
                    to: "gateway_metadata"
                )
                for (name, table, columns) in [
                    ("requests_datetime", "requests", "datetime_utc"),
                    ("requests_model", "requests", "model"),
                    ("requests_cli", "requests", "cli"), ("requests_session", "requests", "session_id"),
                    ("requests_stable_prefix", "requests", "stable_prefix_hash"),
                    ("gateway_metadata_status", "gateway_metadata", "status"),
                ] {
                    try connection.execute("CREATE INDEX IF NOT EXISTS idx_\(name) ON \(table) (\(columns))")
                }
            },
            Migration("3-job-ownership") { connection throws(GatewayError) in
                try connection.addColumns(
                    [
                        "owner_instance TEXT", "owner_hostname TEXT", "error_category TEXT",
                        "retryable INTEGER",
                    ],
                    to: "jobs"
                )
            },
            // So that the reference, should the user go back to it, finds its own changes done.
            Migration("4-reference-versions") { connection throws(GatewayError) in
                try connection.execute(
                    "CREATE TABLE IF NOT EXISTS _migrations (version INTEGER PRIMARY KEY, applied_at TEXT)"
                )
                try connection.execute(
                    """
                    INSERT OR IGNORE INTO _migrations (version, applied_at)
                    SELECT value, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM json_each('[1,2,3,4,5,6]')
                    """
                )
            },
            // Where a job's files are, so that another gateway can see when it is over; and whose run a request shared.
            Migration("5-shared-runs") { connection throws(GatewayError) in
                try connection.addColumns(["directory TEXT"], to: "jobs")
                try connection.addColumns(["shared_with TEXT"], to: "gateway_metadata")
                try connection.execute(
                    "CREATE INDEX IF NOT EXISTS idx_jobs_key_started ON jobs (request_key, started_at)"
                )
                try connection.execute(
                    """
                    CREATE INDEX IF NOT EXISTS idx_gateway_metadata_sharers ON gateway_metadata (async_job_id)
                    WHERE shared_with IS NOT NULL
                    """
                )
            },
            Migration("6-retention") { connection throws(GatewayError) in
                // So that the state of a job is told without reading its output.
                try connection.addColumns(["stdout_bytes INTEGER", "stderr_bytes INTEGER"], to: "jobs")
                // Null in the reference's rows, which it keeps for ever.
                try connection.addColumns(["expires_at TEXT"], to: "requests")
                try connection.execute(
                    """
                    CREATE INDEX IF NOT EXISTS idx_requests_expires_at ON requests (expires_at)
                    WHERE expires_at IS NOT NULL
                    """
                )
                for (name, table, columns) in [
                    ("jobs_correlation", "jobs", "correlation_id"),
                    ("gateway_metadata_job", "gateway_metadata", "async_job_id"),
                ] {
                    try connection.execute("CREATE INDEX IF NOT EXISTS idx_\(name) ON \(table) (\(columns))")
                }
            },
            Migration("7-budget") { connection throws(GatewayError) in
                try connection.execute(
                    """
                    CREATE TABLE IF NOT EXISTS budget_days (
                        day TEXT NOT NULL, provider TEXT NOT NULL, runs INTEGER NOT NULL, cost_usd REAL NOT NULL,
                        PRIMARY KEY (day, provider)) WITHOUT ROWID
                    """
                )
                // What was recorded today before the days were counted.
                try connection.execute(
                    """
                    INSERT OR IGNORE INTO budget_days (day, provider, runs, cost_usd)
                    SELECT date('now'), r.cli, COUNT(*), COALESCE(SUM(m.cost_usd), 0)
                    FROM requests r LEFT JOIN gateway_metadata m ON m.request_id = r.id
                    WHERE r.datetime_utc >= date('now') GROUP BY r.cli
                    """
                )
            },
            // Which stored output is the oldest, and how much there is, told without reading it.
            Migration("8-output-order") { connection throws(GatewayError) in
                try connection.execute(
                    """
                    CREATE INDEX IF NOT EXISTS idx_jobs_output ON jobs (finished_at, stdout_bytes, stderr_bytes)
                    WHERE payload_json IS NOT NULL AND finished_at IS NOT NULL
                    """
                )
            },
            // The reference's later versions have a table 'gateway_instances' of another form.
            Migration("9-leases") { connection throws(GatewayError) in
                try connection.execute(
                    """
                    CREATE TABLE IF NOT EXISTS gateway_leases (
                        instance TEXT PRIMARY KEY, host TEXT NOT NULL, beat INTEGER NOT NULL, renewed_at TEXT NOT NULL)
                    """
                )
                try connection.execute(
                    "CREATE INDEX IF NOT EXISTS idx_gateway_leases_renewed ON gateway_leases (renewed_at)"
                )
                try connection.execute(
                    "CREATE INDEX IF NOT EXISTS idx_jobs_owner ON jobs (owner_instance) WHERE status = 'running'"
                )
            },
            // Output of more than 1 MiB, in pieces that are written and read one by one: `stream` is 1 for standard output and 2 for
            // standard error, `number` counts from 0. `jobs.stdout` and `jobs.stderr` have its beginning, `stdout_pieces` and
            // `stderr_pieces` how many pieces there are; without a number there the column has everything, and pieces are what is
            // left of a gateway that ended before the job's end was written. Of an answer of more than 2,000,000 characters,
            // `requests.response` has that many, `response_chars` says how many there are, and the job's output has the rest.
            Migration("10-long-output") { connection throws(GatewayError) in
                try connection.addColumns(["stdout_pieces INTEGER", "stderr_pieces INTEGER"], to: "jobs")
                try connection.addColumns(["response_chars INTEGER"], to: "requests")
                try connection.execute(
                    """
                    CREATE TABLE IF NOT EXISTS job_output (
                        job_id TEXT NOT NULL, stream INTEGER NOT NULL, number INTEGER NOT NULL, bytes BLOB NOT NULL,
                        PRIMARY KEY (job_id, stream, number))
                    """
                )
                // Whatever program removes the job.
                try connection.execute(
                    """
                    CREATE TRIGGER IF NOT EXISTS job_output_removal AFTER DELETE ON jobs
                    BEGIN DELETE FROM job_output WHERE job_id = OLD.id; END
                    """
                )
            },
            // Each index costs every job a page of the log, at its start and at its end. Where a request's key begins another one, that
            // answers for it; of the states only one is asked for, and of most jobs not for long.
            //
            // What they leave is not overwritten: digests, times and states, on pages that later rows take. Seconds for a million jobs,
            // in which every start would fail, and room in the log for all of it, are too much for that.
            Migration("11-fewer-indexes") { connection throws(GatewayError) in
                try connection.execute("PRAGMA secure_delete = FAST")
                defer { _ = try? connection.execute("PRAGMA secure_delete = ON") }
                try connection.execute(
                    "CREATE INDEX IF NOT EXISTS idx_jobs_running ON jobs (status, owner_instance) WHERE status = 'running'"
                )
                for name in ["request_key", "key_finished", "status", "owner"] {
                    try connection.execute("DROP INDEX IF EXISTS idx_jobs_\(name)")
                }
            },
        ]
    }
}
