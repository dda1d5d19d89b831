import Appliance
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("What has expired")
struct RetentionTests {
    private let directory: TemporaryDirectory
    private let store: Store

    init() throws {
        directory = try TemporaryDirectory()
        store = Store(path: directory.path("logs.db"), clock: .system)
    }

    private func addJobs(_ count: Int, status: String, expires: String, prefix: String) async throws {
        try await store.write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                for number in 0..<count {
                    try connection.execute(
                        """
                        INSERT INTO jobs (id, correlation_id, cli, status, stdout, started_at, expires_at)
                        VALUES (?1, ?1, 'claude', ?2, 'out', '2020-01-01T00:00:00.000Z', ?3)
                        """,
                        [.text("\(prefix)\(number)"), .text(status), .text(expires)]
                    )
                }
            }
        }
    }

    private func addRequest(_ id: String, job: String?, expires: String?) async throws {
        try await store.write { connection throws(GatewayError) in
            try connection.execute(
                "INSERT INTO requests (id, cli, prompt, datetime_utc, expires_at) VALUES (?1, 'claude', 'p', '2020', ?2)",
                [.text(id), .optional(expires)]
            )
            try connection.execute(
                "INSERT INTO gateway_metadata (request_id, async_job_id) VALUES (?1, ?2)",
                [.text(id), .optional(job)]
            )
        }
    }

    private func ids(_ table: String, _ column: String = "id") async throws -> [String] {
        try await store.read { connection throws(GatewayError) in
            try connection.all("SELECT \(column) FROM \(table) ORDER BY 1") { $0.text(0) ?? "" }
        }
    }

    private static let past = "2020-02-01T00:00:00.000Z"
    private static let future = "2999-01-01T00:00:00.000Z"

    @Test("goes, and what runs, is still wanted or came from the reference stays")
    func removal() async throws {
        let past = RetentionTests.past, future = RetentionTests.future
        try await addJobs(700, status: "completed", expires: past, prefix: "old")
        try await addJobs(1, status: "running", expires: past, prefix: "running")
        try await addJobs(1, status: "failed", expires: future, prefix: "new")
        try await addRequest("expired", job: "old1", expires: past)
        try await addRequest("lost", job: nil, expires: past)
        try await addRequest("busy", job: "running0", expires: past)
        try await addRequest("fresh", job: "new0", expires: future)
        try await addRequest("reference", job: nil, expires: nil)
        let removed = try await store.removeExpired()
        #expect(removed.jobs == 700 && removed.requests == 2)
        #expect(try await ids("jobs") == ["new0", "running0"])
        #expect(try await ids("requests") == ["busy", "fresh", "reference"])
        #expect(try await ids("gateway_metadata", "request_id") == ["busy", "fresh", "reference"])
        #expect(try await store.removeExpired() == ExpiredRows())
    }

    @Test("is removed in pieces between which others write")
    func pieces() async throws {
        try await addJobs(3000, status: "completed", expires: RetentionTests.past, prefix: "old")
        let other = try Connection(directory.path("logs.db"), busyMilliseconds: 0)
        let store = store
        async let removed = store.removeExpired()
        var written = 0, refused = 0
        while try other.first("SELECT 1 FROM jobs LIMIT 1", [], { $0.integer(0) }) != nil {
            do throws(GatewayError) {
                try other.execute(
                    "INSERT INTO requests (id, cli, datetime_utc) VALUES (?1, 'x', '2020')",
                    [.text("r\(written)")]
                )
                written += 1
            } catch {
                #expect(error.code == "database-busy")
                refused += 1
            }
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(try await removed.jobs == 3000)
        #expect(written > refused, "\(written) writings passed, \(refused) met a batch")
    }

    @Test("is removed when the upkeep begins, and an ending removes nothing")
    func upkeep() async throws {
        let workshop = try Workshop(in: directory, store: store)
        try await addJobs(1, status: "completed", expires: RetentionTests.past, prefix: "old")
        _ = try await workshop.run(workshop.script("true"))
        #expect(try await ids("jobs").contains("old0"))
        let upkeep = Upkeep(store, jobs: workshop.scheduler, clock: .system) { Issue.record("\($0)") }
        let task = Task { await upkeep.run() }
        let isGone = try await eventually { try await !ids("jobs").contains("old0") }
        #expect(isGone)
        task.cancel()
        await task.value
    }

    @Test("a request is kept for as long from its end as its job")
    func expiry() async throws {
        let hand = HandClock()
        let store = Store(path: directory.path("logs.db"), clock: hand.clock)
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        await recorder.start(FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p"))
        hand.advance(seconds: 3600)
        await recorder.complete("c", FlightEnd(succeeded: true, response: "r", durationMilliseconds: 1))
        let ended = try #require(try await ids("requests", "expires_at").first)
        let days = 30 * 86_400_000.0
        let distance = Double(
            try #require(Timestamp(iso8601: ended)).milliseconds - hand.clock.now().milliseconds
        )
        #expect(abs(distance - days) < 60_000)
        await store.close()
    }
}

@Suite("Looking up")
struct QueryPlanTests {
    @Test("no statement of the store reads a whole table")
    func plans() async throws {
        let directory = try TemporaryDirectory()
        let store = Store(path: directory.path("logs.db"), clock: .system)
        let workshop = try Workshop(in: directory, store: store)
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        for number in 0..<2 {
            var start = FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p")
            start.sessionID = "s"
            let id = await recorder.start(start)
            await recorder.complete(
                id,
                FlightEnd(succeeded: true, response: "r\(number)", durationMilliseconds: 1)
            )
        }
        _ = try await recorder.record(of: "c", owner: "local")
        _ = try await recorder.cacheUse(ofConversation: "s", owner: "local")
        let outcome = try await workshop.run(workshop.script("echo hello"))
        _ = try await store.job(outcome.spec.id)
        _ = try await store.output(of: outcome.spec.id)
        _ = try await store.closeAbandoned(keeping: [], error: "e")
        _ = await workshop.scheduler.adopt()
        _ = try await store.removeExpired()
        await workshop.scheduler.keepLeases()
        try await store.renewLease(of: "somebody")
        let writing = try await store.write { connection throws(GatewayError) in
            try QueryPlanTests.scans(connection)
        }
        let reading = try await store.read { connection throws(GatewayError) in
            try QueryPlanTests.scans(connection)
        }
        await workshop.scheduler.trimOutput()
        let surveying = try await store.survey { connection throws(GatewayError) in
            try QueryPlanTests.scans(connection)
        }
        #expect(writing.scans == [] && reading.scans == [] && surveying.scans == [])
        let asked = [writing.asked, reading.asked, surveying.asked]
        #expect(asked[0] >= 8 && asked[1] >= 5 && asked[2] >= 3, "\(asked) were asked")
    }

    /// The steps of the connection's statements that go through a table from its beginning to its end.
    private static func scans(
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> (asked: Int, scans: [String]) {
        guard let connection = connection as? Connection else { return (0, []) }
        let verbs = ["SELECT", "INSERT", "UPDATE", "DELETE"]
        // Those of the migrations, which are done once.
        let statements = connection.preparedTexts.filter { text in
            verbs.contains { text.hasPrefix($0) }
                && !["pragma_", "json_each", "_migrations", "sqlite_master", "date('now')"]
                    .contains { text.contains($0) }
        }
        var scans: [String] = []
        for statement in statements {
            try connection.each("EXPLAIN QUERY PLAN " + statement) { row throws(GatewayError) in
                let step = row.text(3) ?? ""
                if step.hasPrefix("SCAN"), step != "SCAN CONSTANT ROW" {
                    scans.append("\(step): \(statement)")
                }
            }
        }
        return (statements.count, scans)
    }
}

@Suite("A job that is not recorded in full")
struct RecordingTests {
    @Test("leaves its output aside until its caller has it, or its time is over", arguments: [false, true])
    func kept(isMetadata: Bool) async throws {
        let clock = HandClock()
        let directory = try TemporaryDirectory()
        let workshop = try Workshop(in: directory, clock: clock.clock)
        func run() async throws -> String {
            var request = workshop.script("echo output-of-it; cat >/dev/null")
            request.recording = isMetadata ? .metadata : .none
            request.standardInput = Array("input-of-it".utf8)
            let outcome = try await workshop.run(request)
            #expect(String(decoding: outcome.output.held, as: UTF8.self) == "output-of-it\n")
            return outcome.spec.id
        }
        func spool() throws -> [String] {
            try Files().list(workshop.layout.jobs).filter { !$0.contains("instance") && $0 != ".adoption" }
        }
        let first = try await run()
        #expect(try spool() == [".kept-\(first)"])
        #expect(!Files().exists(Layout.join(workshop.layout.jobs, ".kept-\(first)/stdin")))
        let row = try await workshop.store.job(first)
        #expect((row == nil) == !isMetadata)
        let output = try await workshop.store.output(of: first)
        #expect(output?.output ?? [] == [])
        // Another gateway does not take it for a job of somebody who is gone.
        #expect(await workshop.scheduler.adopt() == AdoptionReport())
        await workshop.scheduler.forgetKept(first)
        #expect(try spool() == [])

        let second = try await run()
        await workshop.scheduler.removeExpiredKept()
        #expect(try spool() == [".kept-\(second)"])
        clock.advance(seconds: 601)
        await workshop.scheduler.removeExpiredKept()
        #expect(try spool() == [])
        #expect(workshop.findings.all == [])
    }
}
