import Appliance
import Glibc
import Jobs
import Platform
import PostgreSQL
import SQL
import SQLite
import Synchronization
import TestSupport
import Testing

@Suite("The store")
struct StoreTests {
    private let directory: TemporaryDirectory
    private var path: String { directory.path("logs.db") }

    init() throws { directory = try TemporaryDirectory() }

    @Test("makes the contract's tables in a file of the user's own")
    func schema() async throws {
        let store = Store(path: path, clock: .system)
        try await store.open()
        for name in ["", "-wal", "-shm"] {
            #expect(try Files().status(path + name)?.mode == 0o600, "logs.db\(name)")
        }
        let connection = try Connection(path, mode: .readOnly)
        #expect(
            try connection.columns(of: "jobs").starts(with: [
                "id", "correlation_id", "request_key", "cli", "args_json", "output_format", "status",
                "exit_code",
                "stdout", "stderr", "output_truncated", "error", "started_at", "finished_at", "pid",
                "expires_at",
                "owner_principal", "transport", "http_status", "payload_json",
            ])
        )
        #expect(
            try connection.columns(of: "requests") == [
                "id", "cli", "model", "prompt", "system", "response", "session_id", "duration_ms",
                "datetime_utc",
                "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens",
                "stable_prefix_hash",
                "stable_prefix_tokens", "cache_control_blocks", "cache_control_ttl_seconds",
                "owner_principal", "expires_at", "response_chars",
            ]
        )
        #expect(
            try connection.columns(of: "gateway_metadata") == [
                "request_id", "retry_count", "circuit_breaker_state", "cost_usd", "approval_decision",
                "optimization_applied", "thinking_blocks", "exit_code", "error_message", "async_job_id",
                "status",
                "http_status", "shared_with",
            ]
        )
        let versions = try connection.all("SELECT version FROM _migrations ORDER BY version") {
            $0.integer(0)
        }
        #expect(versions == [1, 2, 3, 4, 5, 6])
        await store.close()
    }

    @Test(
        "has one index of the jobs that run, and none that begins as another one does, also in an older file"
    )
    func indexes() async throws {
        for isOlder in [false, true] {
            if isOlder {
                let older = try Connection(path)
                try older.execute("DELETE FROM gateway_migrations WHERE name = '11-fewer-indexes'")
                try older.execute("DROP INDEX idx_jobs_running")
                for (name, columns) in [
                    ("request_key", "request_key"), ("status", "status"),
                    ("key_finished", "request_key, finished_at"),
                    ("owner", "owner_instance"),
                ] {
                    try older.execute("CREATE INDEX idx_jobs_\(name) ON jobs (\(columns))")
                }
            }
            let store = Store(path: path, clock: .system)
            let overwrites = try await store.write { connection throws(GatewayError) in
                try connection.all("PRAGMA secure_delete") { $0.integer(0) }
            }
            #expect(overwrites == [1], "what is removed later is overwritten")
            await store.close()
            let kept = try Connection(path).all(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'jobs' AND sql IS NOT NULL ORDER BY name"
            ) { $0.text(0) ?? "" }
            #expect(
                kept == [
                    "idx_jobs_correlation", "idx_jobs_expires_at", "idx_jobs_key_started", "idx_jobs_output",
                    "idx_jobs_running",
                ]
            )
        }
    }

    @Test("opens a file of an old reference, adds what is missing, and keeps its history")
    func reference() async throws {
        let old = try Connection(path)
        try old.execute(
            """
            CREATE TABLE jobs (id TEXT PRIMARY KEY, correlation_id TEXT NOT NULL, request_key TEXT NOT NULL,
                cli TEXT NOT NULL, args_json TEXT NOT NULL, output_format TEXT, status TEXT NOT NULL,
                exit_code INTEGER, stdout TEXT NOT NULL DEFAULT '', stderr TEXT NOT NULL DEFAULT '',
                output_truncated INTEGER NOT NULL DEFAULT 0, error TEXT, started_at TEXT NOT NULL, finished_at TEXT,
                pid INTEGER, expires_at TEXT NOT NULL)
            """
        )
        try old.execute(
            """
            INSERT INTO jobs (id, correlation_id, request_key, cli, args_json, status, exit_code, stdout, started_at,
                expires_at) VALUES ('j1', 'c1', 'k', 'claude', '[]', 'completed', 0, 'héllo',
                '2026-01-01T00:00:00.000Z', '2999-01-01T00:00:00.000Z')
            """
        )
        try old.execute("CREATE TABLE _migrations (version INTEGER PRIMARY KEY, applied_at TEXT)")
        try old.execute("INSERT INTO _migrations VALUES (1, 'then')")
        try old.execute(
            """
            CREATE TABLE requests (id TEXT PRIMARY KEY, cli TEXT NOT NULL, model TEXT, prompt TEXT, system TEXT,
                response TEXT, session_id TEXT, duration_ms INTEGER, datetime_utc TEXT NOT NULL,
                input_tokens INTEGER, output_tokens INTEGER)
            """
        )
        try old.execute(
            """
            INSERT INTO requests (id, cli, model, prompt, response, datetime_utc)
            VALUES ('c1', 'claude', 'opus', 'hi', 'there', '2026-01-01T00:00:00.000Z')
            """
        )
        chmod(path, 0o644)
        let store = Store(path: path, clock: .system)
        let job = try #require(try await store.job("j1"))
        #expect(job.status == .completed && job.outputBytes == 6)
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        let record = try #require(try await recorder.record(of: "c1", owner: "local", includePrompt: true))
        #expect(record["response"] == "there" && record["prompt"] == "hi" && record["status"] == .null)
        #expect(try Files().status(path)?.mode == 0o600)
        await store.close()
    }

    /// The columns of `jobs` that the reference demands, in its versions 2.3 and 2.11.
    @Test(
        "writes into the tables of every reference",
        arguments: [
            "",
            ", owner_principal TEXT, transport TEXT NOT NULL DEFAULT 'process', http_status INTEGER, payload_json TEXT",
        ]
    )
    func referenceWriting(_ more: String) async throws {
        let old = try Connection(path)
        try old.execute(
            """
            CREATE TABLE jobs (id TEXT PRIMARY KEY, correlation_id TEXT NOT NULL, request_key TEXT NOT NULL,
                cli TEXT NOT NULL, args_json TEXT NOT NULL, output_format TEXT, status TEXT NOT NULL,
                exit_code INTEGER, stdout TEXT NOT NULL DEFAULT '', stderr TEXT NOT NULL DEFAULT '',
                output_truncated INTEGER NOT NULL DEFAULT 0, error TEXT, started_at TEXT NOT NULL, finished_at TEXT,
                pid INTEGER, expires_at TEXT NOT NULL\(more))
            """
        )
        try old.execute(
            """
            CREATE TABLE requests (id TEXT PRIMARY KEY, cli TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
                system TEXT, response TEXT, session_id TEXT, duration_ms INTEGER, datetime_utc TEXT NOT NULL,
                input_tokens INTEGER, output_tokens INTEGER)
            """
        )
        try old.execute(
            "INSERT INTO requests (id, cli, model, prompt, datetime_utc) VALUES ('old', 'grok', 'm', 'kept', '2020')"
        )
        let store = Store(path: path, clock: .system)
        let workshop = try Workshop(in: directory, store: store)
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        for recording in [Configuration.Persistence.Recording.full, .metadata] {
            var start = FlightStart(
                correlationID: recording.rawValue,
                provider: "claude",
                model: "m",
                prompt: "p"
            )
            start.recording = recording
            await recorder.start(start)
            var request = workshop.script("echo written")
            request.correlationID = recording.rawValue
            request.recording = recording
            let job = try await workshop.run(request).spec.id
            var end = FlightEnd(succeeded: true, response: "r", durationMilliseconds: 1)
            end.recording = recording
            await recorder.complete(recording.rawValue, end)
            let isCommitted = try await eventually { try await store.job(job)?.status == .completed }
            #expect(isCommitted && workshop.findings.all == [])
            #expect(
                try await recorder.record(of: recording.rawValue, owner: "local")?["status"] == "completed"
            )
        }
        _ = try await store.removeExpired()
        let kept = try await recorder.record(of: "old", owner: "local", includePrompt: true)
        #expect(kept?["prompt"] == "kept")
        await store.close()
    }

    @Test("is opened by several gateways at the same moment")
    func together() async throws {
        let path = path
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<8 {
                group.addTask {
                    let store = Store(path: path, clock: .system)
                    let recorder = FlightRecorder(store) { Issue.record("\($0)") }
                    await recorder.start(
                        FlightStart(correlationID: "c\(number)", provider: "claude", model: "m", prompt: "p")
                    )
                    await store.close()
                }
            }
            try await group.waitForAll()
        }
        #expect(try Connection(path).first("SELECT count(*) FROM requests") { $0.integer(0) } == 8)
    }

    @Test("keeps the same tables in memory")
    func memory() async throws {
        let store = Store(path: nil, clock: .system)
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        await recorder.start(FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p"))
        #expect(try await recorder.record(of: "c", owner: "local")?["status"] == "started")
    }

    @Test("is absent without a backend, and on a server where the configuration names one")
    func backends() throws {
        let layout = try Layout(environment: ["HOME": directory.root])
        var persistence = Configuration.Persistence()
        persistence.backend = .none
        #expect(try Store(persistence, layout: layout, clock: .system) == nil)
        persistence.backend = .sqlite
        #expect(try Store(persistence, layout: layout, clock: .system)?.path == layout.database)
        persistence.backend = .postgres
        persistence.dsn = "postgresql://gateway@db.example/records"
        do throws(GatewayError) {
            let store = try Store(persistence, layout: layout, clock: .system)
            #expect(store?.path == nil && store?.server?.name == "'records' on 'db.example'")
        } catch {
            #expect(error.code == "libpq-missing" && error.help?.contains("libpq5") == true)
        }
    }
}

@Suite("The flight recorder")
struct FlightRecorderTests {
    private let directory: TemporaryDirectory
    private let store: Store

    init() throws {
        directory = try TemporaryDirectory()
        store = Store(path: directory.path("logs.db"), clock: .system)
    }

    private func recorder(_ environment: [String: String] = [:]) -> FlightRecorder {
        FlightRecorder(store, environment: environment) { Issue.record("\($0)") }
    }

    @Test("gives the contract's record back")
    func record() async throws {
        let recorder = recorder()
        var start = FlightStart(
            correlationID: "c",
            provider: "codex",
            model: "default",
            prompt: "What is 2+2?"
        )
        start.owner = "someone"
        start.jobID = "job"
        await recorder.start(start)
        var end = FlightEnd(succeeded: true, response: "It is 4 🎉!", durationMilliseconds: 1234)
        end.exitCode = 0
        end.model = "gpt-5"
        end.sessionID = "s"
        end.inputTokens = 10
        end.outputTokens = 5
        end.cacheReadTokens = 3
        end.costUSD = 0.25
        end.thinking = ["first", "second"]
        await recorder.complete("c", end)
        let record = try #require(try await recorder.record(of: "c", owner: "someone", maximumCharacters: 9))
        #expect(
            record.object?.names == [
                "correlationId", "cli", "model", "sessionId", "datetimeUtc", "durationMs", "status",
                "exitCode",
                "errorMessage", "retryCount", "circuitBreakerState", "costUsd", "asyncJobId", "inputTokens",
                "outputTokens", "cacheReadTokens", "cacheCreationTokens", "promptChars", "responseChars",
                "responseTruncated", "response", "thinkingBlocks", "ownerPrincipal",
            ]
        )
        #expect(record["model"] == "gpt-5" && record["status"] == "completed" && record["costUsd"] == 0.25)
        #expect(record["promptChars"] == 12 && record["responseChars"] == 11)
        // The ninth unit is half of the emoji: it is left out whole.
        #expect(record["response"] == "It is 4 " && record["responseTruncated"] == true)
        #expect(record["thinkingBlocks"] == ["first", "second"])
        #expect(record["cacheCreationTokens"] == .null && record["asyncJobId"] == "job")
    }

    @Test("shows a record to its owner only")
    func owner() async throws {
        let recorder = recorder()
        var start = FlightStart(correlationID: "c", provider: "codex", model: "m", prompt: "p")
        start.owner = "someone"
        await recorder.start(start)
        #expect(try await recorder.record(of: "c", owner: "local") == nil)
        #expect(try await recorder.record(of: "c", owner: "another") == nil)
        #expect(try await recorder.record(of: "c", owner: "someone") != nil)
    }

    @Test("says how the requests of a conversation used its provider's cache, to their owner only")
    func cacheUse() async throws {
        let recorder = recorder()
        for (id, model, read) in [("a", "sonnet", 0), ("b", "sonnet", 200), ("c", "opus", 100)] {
            var start = FlightStart(correlationID: id, provider: "claude", model: model, prompt: "p")
            start.sessionID = "s"
            start.owner = "someone"
            await recorder.start(start)
            var end = FlightEnd(succeeded: true, response: "r", durationMilliseconds: 1)
            end.sessionID = "s"
            end.cacheReadTokens = read
            end.cacheCreationTokens = 10
            await recorder.complete(id, end)
        }
        let use = try #require(try await recorder.cacheUse(ofConversation: "s", owner: "someone"))
        #expect(use.byModel.map(\.model) == ["opus", "sonnet"] && use.byModel.map(\.requests) == [1, 2])
        #expect(use.byModel.map(\.hits) == [1, 1] && use.byModel.map(\.readTokens) == [100, 200])
        #expect(use.creationTokens == 30 && use.prefixes == 0 && use.lastRequest != nil)
        #expect(try await recorder.cacheUse(ofConversation: "s", owner: "another") == nil)
        #expect(try await recorder.cacheUse(ofConversation: "t", owner: "someone") == nil)
    }

    @Test("lets only the first ending count")
    func firstEnding() async throws {
        let recorder = recorder()
        await recorder.start(FlightStart(correlationID: "c", provider: "codex", model: "m", prompt: "p"))
        await recorder.complete("c", FlightEnd(succeeded: true, response: "first", durationMilliseconds: 1))
        await recorder.complete("c", FlightEnd(succeeded: false, response: "second", durationMilliseconds: 2))
        let record = try #require(try await recorder.record(of: "c", owner: "local"))
        #expect(record["response"] == "first" && record["status"] == "completed" && record["durationMs"] == 1)
    }

    @Test("a request that came with the id of another one gets a record of its own, and says which")
    func sameCorrelation() async throws {
        let recorder = recorder()
        func start(_ id: String, _ prompt: String, owner: String = "someone") async -> String {
            var start = FlightStart(correlationID: id, provider: "codex", model: "m", prompt: prompt)
            start.owner = owner
            return await recorder.start(start)
        }
        #expect(await start("c", "first") == "c")
        await recorder.complete("c", FlightEnd(succeeded: true, response: "1", durationMilliseconds: 1))
        #expect(await start("c", "second", owner: "another") == "c~2")
        await recorder.complete("c~2", FlightEnd(succeeded: true, response: "2", durationMilliseconds: 1))
        // Neither a longer id nor one with other characters counts as a number of this one.
        for id in ["c~x", "c~7y", "c~", "c~~9", "cc~5", "c~99999999999"] {
            #expect(await start(id, "p") == id)
        }
        #expect(await start("c", "third") == "c~3")
        #expect(await start("c~12", "chosen") == "c~12")
        #expect(await start("c", "fourth") == "c~13")
        #expect(await start("c~12", "again") == "c~12~2")
        for _ in 0..<5 { _ = await start("100% _'?", "p") }
        #expect(await start("100% _'?", "p") == "100% _'?~6")
        #expect(try await recorder.record(of: "c", owner: "someone")?["response"] == "1")
        #expect(try await recorder.record(of: "c~2", owner: "another")?["response"] == "2")
        #expect(try await recorder.record(of: "c~2", owner: "someone") == nil)
        let third = try #require(try await recorder.record(of: "c~3", owner: "someone", includePrompt: true))
        #expect(third["prompt"] == "third" && third["status"] == "started")
    }

    @Test("a request whose start could not be written does not end the record of another one")
    func lostStart() async throws {
        let recorder = recorder()
        var start = FlightStart(correlationID: "c", provider: "codex", model: "m", prompt: "p")
        start.owner = "someone"
        start.jobID = "first"
        await recorder.start(start)
        func end(_ job: String) async {
            await recorder.complete(
                "c",
                FlightEnd(succeeded: true, response: WrittenText(job), durationMilliseconds: 1),
                job: job
            )
        }
        await end("second")
        #expect(try await recorder.record(of: "c", owner: "someone")?["status"] == "started")
        await end("first")
        #expect(try await recorder.record(of: "c", owner: "someone")?["response"] == "first")
        #expect(try await recorder.record(of: "c", owner: "another") == nil)
    }

    @Test("takes secrets out, unless the user does not want that")
    func secrets() async throws {
        let secret = "sk-ant-api03-abcdefghijklmnop"
        for (id, environment) in [("a", [:]), ("b", ["LLM_GATEWAY_REDACT_LOGGED_SECRETS": "off"])] {
            let recorder = recorder(environment)
            await recorder.start(
                FlightStart(correlationID: id, provider: "claude", model: "m", prompt: "use \(secret)")
            )
            var end = FlightEnd(succeeded: false, response: "got \(secret)", durationMilliseconds: 1)
            end.errorMessage = "bad key \(secret)"
            await recorder.complete(id, end)
        }
        let texts = try Connection(directory.path("logs.db")).all(
            """
            SELECT prompt || response || error_message FROM requests JOIN gateway_metadata ON request_id = id
            ORDER BY id
            """
        ) { $0.text(0) ?? "" }
        #expect(texts[0].contains("api03") == false)
        #expect(texts[1].contains(secret))
    }

    @Test("cuts thinking at a million bytes")
    func thinking() async throws {
        let recorder = recorder()
        await recorder.start(FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p"))
        var end = FlightEnd(succeeded: true, response: "", durationMilliseconds: 1)
        end.thinking = [String(repeating: "a", count: 999_990), String(repeating: "b", count: 100), "c"]
        await recorder.complete("c", end)
        let blocks = try #require(
            try await recorder.record(of: "c", owner: "local")?["thinkingBlocks"]?.array
        )
        #expect(blocks.count == 2)
        #expect(blocks.last == .string("bbbbbbbbbb[TRUNCATED]"))
    }

    @Test("that cannot open its database says so once for each call and fails nothing")
    func unusable() async throws {
        let path = directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        let findings = Journal()
        let recorder = FlightRecorder(Store(path: path, clock: .system)) { findings.note($0.code) }
        await recorder.start(FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p"))
        await recorder.complete("c", FlightEnd(succeeded: true, response: "", durationMilliseconds: 1))
        #expect(findings.all == ["database-corrupt", "database-corrupt"])
        // The user's file is as it was.
        #expect(try Files().read(path).count == 4096)
    }
}

@Suite("Opening the database")
struct DatabaseTests {
    /// A clock that a test sets.
    private final class Hand: Sendable {
        let nanoseconds = Mutex<UInt64>(1)
        var clock: WallClock {
            var clock = WallClock.system
            clock.uptime = { self.nanoseconds.withLock { $0 } }
            return clock
        }
    }

    @Test("a failure is not repeated at once, is tried again later, and the end is the end")
    func retry() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("folder/late.db")
        let hand = Hand(), attempts = Mutex(0)
        let database = Database(thread: "test", clock: hand.clock, patience: .seconds(10)) {
            () throws(GatewayError) in
            attempts.withLock { $0 += 1 }
            return try Connection(path)
        }
        for _ in 0..<2 {
            await #expect(throws: GatewayError.self) { try await database.run { _ throws(GatewayError) in } }
        }
        #expect(attempts.withLock { $0 } == 1)
        try Files().makeDirectory(directory.path("folder"))
        hand.nanoseconds.withLock { $0 += 11_000_000_000 }
        try await database.run { _ throws(GatewayError) in }
        #expect(attempts.withLock { $0 } == 2)
        await database.close()
        let error = await #expect(throws: GatewayError.self) {
            try await database.run { _ throws(GatewayError) in }
        }
        #expect(error?.code == "database-closed")
    }
}
