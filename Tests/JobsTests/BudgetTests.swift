import Appliance
import Jobs
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@Suite("The budget of a day")
struct BudgetTests {
    private func budget(
        runs: Int? = nil,
        cost: Double? = nil,
        of provider: String? = nil
    ) -> Configuration.Budget {
        var budget = Configuration.Budget()
        let ceiling = Configuration.Budget.Ceiling(runs: runs, cost: cost)
        if let provider { budget.providers[provider] = ceiling } else { budget.total = ceiling }
        return budget
    }

    private func use(_ path: String) async throws -> BudgetUse {
        try await BudgetUse.recorded(in: .file(path), on: WallClock.system.now(), files: Files())
    }

    @Test("lets fifty requests at once start no more runs than it has, through two gateways on one file")
    func many() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("shared.db")
        let shops = try (0..<2).map { number in
            try Workshop(
                in: number == 0 ? directory : TemporaryDirectory(),
                store: Store(path: path, clock: .system),
                budget: budget(runs: 7, of: "claude")
            )
        }
        let answers = await withTaskGroup(of: String.self) { group in
            for number in 0..<50 {
                group.addTask {
                    let shop = shops[number % 2]
                    do throws(GatewayError) {
                        let handle = try await shop.scheduler.submit(shop.script("true"))
                        return await handle.outcome(within: .seconds(60))?.status.rawValue ?? "late"
                    } catch {
                        return error.code
                    }
                }
            }
            return await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
        }
        #expect(answers == ["completed": 7, "budget-exceeded": 43])
        #expect(try await use(path).providers["claude"]?.runs == 7)
        // Nothing of a refused request is in a spool.
        for shop in shops {
            let isEmpty = try await eventually {
                try Files().list(shop.layout.jobs).allSatisfy { $0.hasPrefix(".") }
            }
            #expect(isEmpty)
        }
        let other = try await shops[0].run(shops[0].script("true", provider: "codex"))
        #expect(other.status == .completed)
    }

    @Test("refuses with the figures and when the day ends, and goes on on the next day")
    func refusal() async throws {
        let clock = HandClock(at: Timestamp(iso8601: "2026-11-21T20:29:30.000Z"))
        let shop = try Workshop(clock: clock.clock, budget: budget(runs: 1, cost: 0.5))
        _ = try await shop.run(shop.script("true"))
        let error = await #expect(throws: GatewayError.self) {
            try await shop.scheduler.submit(shop.script("true", provider: "codex"))
        }
        #expect(error?.code == "budget-exceeded")
        #expect(error?.message == "the budget of all providers for today is used up: 1 of 1 runs")
        #expect(
            error?.help
                == "the next day begins at 2026-11-22T00:00:00.000Z, in 3 h 30 min; the ceilings are in [budget] of config.toml"
        )
        #expect(error?.retryAfter.map { $0 > .seconds(12600) && $0 <= .seconds(12630) } == true)
        clock.advance(seconds: 12631)
        #expect(try await shop.run(shop.script("true")).status == .completed)
    }

    @Test("counts what runs have cost once they are over, whether they are recorded or not")
    func cost() async throws {
        let shop = try Workshop(budget: budget(cost: 1.0, of: "claude"))
        let recorder = FlightRecorder(shop.store) { Issue.record("\($0)") }
        for (id, recording) in [
            ("a", Configuration.Persistence.Recording.full), ("b", .metadata), ("c", .none),
        ] {
            var start = FlightStart(correlationID: id, provider: "claude", model: "m", prompt: "p")
            start.recording = recording
            await recorder.start(start)
            var end = FlightEnd(succeeded: true, response: "r", durationMilliseconds: 1)
            end.costUSD = 0.33
            end.provider = "claude"
            end.recording = recording
            await recorder.complete(id, end)
            // Only the first ending counts.
            if recording != .none { await recorder.complete(id, end) }
        }
        #expect(try await shop.run(shop.script("true")).status == .completed)
        let used = try await use(shop.layout.database).providers["claude"]
        #expect(abs((used?.cost ?? 0) - 0.99) < 1e-9)
        try await shop.store.write { connection throws(GatewayError) in
            try connection.execute("UPDATE budget_days SET cost_usd = 1.239")
        }
        let error = await #expect(throws: GatewayError.self) {
            try await shop.scheduler.submit(shop.script("true"))
        }
        #expect(error?.message == "the budget of claude for today is used up: 1.23 of 1.00 US dollars")
    }

    @Test("does not count a run that never began")
    func neverBegan() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.maxQueuedJobs = 1
        let shop = try Workshop(limits: limits, budget: budget(runs: 10))
        let running = try await shop.scheduler.submit(shop.script(shop.gate))
        let waiting = try await shop.scheduler.submit(shop.script("true"))
        await #expect(throws: GatewayError.self) { try await shop.scheduler.submit(shop.script("true")) }
        #expect(try await use(shop.layout.database).total.runs == 2)
        try await shop.scheduler.cancel(waiting.id)
        #expect(await waiting.outcome(within: .seconds(20))?.status == .canceled)
        var missing = shop.script("true")
        missing.executable = "/nonexistent"
        try shop.openGate()
        #expect(await running.outcome(within: .seconds(20))?.status == .completed)
        #expect(try await shop.run(missing).status == .failed)
        #expect(try await use(shop.layout.database).total.runs == 1)
    }

    @Test("a ceiling is kept when the record cannot be read, and without one the run goes on")
    func unreadable() async throws {
        for isLimited in [true, false] {
            let directory = try TemporaryDirectory()
            let path = directory.path("broken.db")
            try Files().write(repeatElement(0x41, count: 4096), to: path)
            let shop = try Workshop(
                in: directory,
                store: Store(path: path, clock: .system),
                budget: isLimited ? budget(runs: 10) : Configuration.Budget()
            )
            if isLimited {
                let error = await #expect(throws: GatewayError.self) {
                    try await shop.scheduler.submit(shop.script("true"))
                }
                #expect(error?.code == "database-corrupt")
            } else {
                #expect(try await shop.run(shop.script("true")).status == .completed)
            }
        }
    }

    @Test("what was recorded today before days were counted is counted in")
    func earlier() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("logs.db")
        let store = Store(path: path, clock: .system)
        try await store.write { connection throws(GatewayError) in
            for (id, day) in [("a", "now"), ("b", "now"), ("c", "2020-01-01")] {
                try connection.execute(
                    "INSERT INTO requests (id, cli, datetime_utc) VALUES (?1, 'codex', strftime('%Y-%m-%dT%H:%M:%fZ', ?2))",
                    [.text(id), .text(day)]
                )
                try connection.execute(
                    "INSERT INTO gateway_metadata (request_id, cost_usd) VALUES (?1, 0.25)",
                    [.text(id)]
                )
            }
            try connection.execute("DROP TABLE budget_days")
            try connection.execute("DELETE FROM gateway_migrations WHERE name = '7-budget'")
        }
        await store.close()
        try await Store(path: path, clock: .system).open()
        let used = try await use(path)
        #expect(used.providers.keys.sorted() == ["codex"])
        #expect(used.total.runs == 2 && used.total.cost == 0.5)
    }
}
