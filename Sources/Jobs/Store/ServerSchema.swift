import Appliance
import PostgreSQL
package import SQL

/// The tables of a PostgreSQL database: those of `logs.db`, column by column.
///
/// What a caller, a provider or a CLI has written is kept as bytes: PostgreSQL's texts take no NUL. Texts are keys and short words;
/// they are compared byte by byte, as SQLite does.
package enum ServerSchema {
    /// What a database lacks is added.
    package static var migrations: [Migration] {
        [
            Migration("1-writers") { connection throws(GatewayError) in
                try connection.execute(
                    """
                    CREATE TABLE \(ServerConnection.writers) (
                        name TEXT COLLATE "C" PRIMARY KEY, serial BIGINT NOT NULL, written_at TIMESTAMPTZ NOT NULL)
                    WITH (fillfactor = 50)
                    """
                )
            },
            Migration("2-records") { connection throws(GatewayError) in
                for statement in records { try connection.execute(statement) }
            },
            Migration("3-sessions") { connection throws(GatewayError) in
                for statement in sessions { try connection.execute(statement) }
            },
            // As in `logs.db`.
            Migration("4-long-output") { connection throws(GatewayError) in
                for statement in longOutput { try connection.execute(statement) }
            },
        ]
    }

    private static let key = "TEXT COLLATE \"C\""

    private static let records = [
        """
        CREATE TABLE jobs (
            id \(key) PRIMARY KEY, correlation_id \(key), request_key \(key), cli \(key) NOT NULL, args_json BYTEA,
            output_format \(key), status \(key) NOT NULL, exit_code BIGINT, stdout BYTEA, stderr BYTEA,
            output_truncated BIGINT DEFAULT 0, error BYTEA, started_at \(key) NOT NULL, finished_at \(key), pid BIGINT,
            expires_at \(key), owner_principal \(key), transport \(key) DEFAULT 'process', http_status BIGINT,
            payload_json BYTEA, owner_instance \(key), owner_hostname \(key), error_category \(key), retryable BIGINT,
            directory BYTEA, stdout_bytes BIGINT, stderr_bytes BIGINT, cancel_wanted BIGINT NOT NULL DEFAULT 0)
        """,
        // Packing takes longer than sending them does.
        """
        ALTER TABLE jobs ALTER COLUMN stdout SET STORAGE EXTERNAL, ALTER COLUMN stderr SET STORAGE EXTERNAL,
            ALTER COLUMN payload_json SET STORAGE EXTERNAL
        """,
        "CREATE INDEX idx_jobs_key_started ON jobs (request_key, started_at)",
        "CREATE INDEX idx_jobs_status ON jobs (status) WHERE status = 'running'",
        "CREATE INDEX idx_jobs_owner ON jobs (owner_instance) WHERE status = 'running'",
        "CREATE INDEX idx_jobs_expires_at ON jobs (expires_at)",
        "CREATE INDEX idx_jobs_correlation ON jobs (correlation_id)",
        "CREATE INDEX idx_jobs_started ON jobs (started_at)",
        """
        CREATE INDEX idx_jobs_output ON jobs (finished_at, stdout_bytes, stderr_bytes)
        WHERE payload_json IS NOT NULL AND finished_at IS NOT NULL
        """,
        """
        CREATE TABLE requests (
            id \(key) PRIMARY KEY, cli \(key) NOT NULL, model \(key), prompt BYTEA, system BYTEA, response BYTEA,
            session_id \(key), duration_ms BIGINT, datetime_utc \(key) NOT NULL, input_tokens BIGINT,
            output_tokens BIGINT, cache_read_tokens BIGINT, cache_creation_tokens BIGINT, stable_prefix_hash \(key),
            stable_prefix_tokens BIGINT, cache_control_blocks BIGINT, cache_control_ttl_seconds BIGINT,
            owner_principal \(key), expires_at \(key))
        """,
        "CREATE INDEX idx_requests_datetime ON requests (datetime_utc)",
        "CREATE INDEX idx_requests_model ON requests (model)",
        "CREATE INDEX idx_requests_cli ON requests (cli)",
        "CREATE INDEX idx_requests_session ON requests (session_id)",
        "CREATE INDEX idx_requests_stable_prefix ON requests (stable_prefix_hash)",
        "CREATE INDEX idx_requests_expires_at ON requests (expires_at) WHERE expires_at IS NOT NULL",
        """
        CREATE TABLE gateway_metadata (
            request_id \(key) PRIMARY KEY REFERENCES requests(id), retry_count BIGINT DEFAULT 0,
            circuit_breaker_state \(key), cost_usd DOUBLE PRECISION, approval_decision \(key),
            optimization_applied BIGINT, thinking_blocks BYTEA, exit_code BIGINT, error_message BYTEA,
            async_job_id \(key), status \(key) DEFAULT 'started', http_status BIGINT, shared_with \(key))
        """,
        "CREATE INDEX idx_gateway_metadata_status ON gateway_metadata (status)",
        "CREATE INDEX idx_gateway_metadata_job ON gateway_metadata (async_job_id)",
        """
        CREATE TABLE budget_days (
            day \(key) NOT NULL, provider \(key) NOT NULL, runs BIGINT NOT NULL, cost_usd DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (day, provider))
        """,
        """
        CREATE TABLE gateway_leases (
            instance \(key) PRIMARY KEY, host \(key) NOT NULL, beat BIGINT NOT NULL, renewed_at \(key) NOT NULL)
        """,
        "CREATE INDEX idx_gateway_leases_renewed ON gateway_leases (renewed_at)",
    ]

    private static let longOutput = [
        "ALTER TABLE jobs ADD COLUMN stdout_pieces BIGINT, ADD COLUMN stderr_pieces BIGINT",
        "ALTER TABLE requests ADD COLUMN response_chars BIGINT",
        """
        CREATE TABLE job_output (
            job_id \(key) NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, stream BIGINT NOT NULL, number BIGINT NOT NULL,
            bytes BYTEA NOT NULL, PRIMARY KEY (job_id, stream, number))
        """,
        "ALTER TABLE job_output ALTER COLUMN bytes SET STORAGE EXTERNAL",
    ]

    /// A row for each conversation, and one for what `sessions.json` has beside them.
    private static let sessions = [
        """
        CREATE TABLE sessions (
            id \(key) PRIMARY KEY, cli \(key) NOT NULL, owner_principal \(key), last_used_at \(key) NOT NULL,
            place BIGINT NOT NULL, record BYTEA NOT NULL)
        """,
        "CREATE INDEX idx_sessions_place ON sessions (place)",
        "CREATE TABLE session_state (name \(key) PRIMARY KEY, revision BIGINT NOT NULL, state BYTEA NOT NULL)",
    ]
}
