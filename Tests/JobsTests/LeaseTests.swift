import Appliance
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("Gateways of several homes on one database")
struct LeaseTests {
    @Test("a gateway is silent when its number stays the same for a minute and a half of our own time")
    func watch() {
        var watch = LeaseWatch()
        func at(_ seconds: UInt64, _ beats: [String: Int]) -> Set<String> {
            watch.observe(beats, at: seconds * 1_000_000_000)
        }
        #expect(at(0, ["a": 1, "b": 7]) == [])
        #expect(at(60, ["a": 2, "b": 7]) == [])
        #expect(at(89, ["a": 2, "b": 7]) == [])
        #expect(at(90, ["a": 3, "b": 7]) == ["b"])
        // Back to life, whatever its number is now.
        #expect(at(100, ["a": 3, "b": 1]) == [])
        #expect(at(179, ["a": 3]) == [])
        #expect(at(180, ["a": 3, "b": 1]) == ["a"])
        // One that was out of sight is looked at anew.
        #expect(at(269, ["b": 1]) == [])
        #expect(at(270, ["b": 1]) == ["b"])
    }

    private let clock = HandClock()
    private let directory: TemporaryDirectory
    private let shop: Workshop

    init() throws {
        directory = try TemporaryDirectory()
        shop = try Workshop(
            store: Store(path: directory.path("shared.db"), clock: clock.clock),
            clock: clock.clock
        )
    }

    private func add(_ id: String, jobs: String, instance: String, host: String) async throws {
        try await shop.store.write { connection throws(GatewayError) in
            try connection.execute(
                """
                INSERT INTO jobs (id, correlation_id, cli, status, started_at, owner_instance, owner_hostname, directory)
                VALUES (?1, ?1, 'claude', 'running', '2026-01-01T00:00:00.000Z', ?2, ?3, ?4)
                """,
                [.text(id), .text(instance), .text(host), .text(Layout.join(jobs, id))]
            )
            try connection.execute(
                """
                INSERT INTO gateway_leases (instance, host, beat, renewed_at) VALUES (?1, ?2, 0, '2026')
                ON CONFLICT (instance) DO NOTHING
                """,
                [.text(instance), .text(host)]
            )
        }
        let recorder = FlightRecorder(shop.store) { Issue.record("\($0)") }
        var start = FlightStart(correlationID: id, provider: "claude", model: "m", prompt: "p")
        start.jobID = id
        await recorder.start(start)
    }

    /// Looks every half minute, as the upkeep does, for two minutes.
    private func twoMinutes(_ each: () async throws -> Void = {}) async throws {
        for _ in 0..<5 {
            try await each()
            await shop.scheduler.keepLeases()
            clock.advance(seconds: 30)
        }
    }

    @Test("the jobs of a host that is gone become orphaned with its name, those of a live one never")
    func hosts() async throws {
        try await add("lost", jobs: "/nonexistent/jobs", instance: "gone", host: "faraway")
        try await add("live", jobs: "/nonexistent/jobs", instance: "here", host: "nearby")
        await shop.scheduler.keepLeases()
        // Clocks that are set say nothing.
        clock.set(by: 86_400)
        await shop.scheduler.keepLeases()
        clock.set(by: -172_800)
        await shop.scheduler.keepLeases()
        #expect(try await shop.store.job("lost")?.status == .running)
        try await twoMinutes { try await shop.store.renewLease(of: "here") }
        let lost = try #require(try await shop.store.job("lost"))
        #expect(lost.status == .orphaned)
        #expect(
            lost.error
                == "the gateway on 'faraway' that answered for the job has given no sign of life for 90.0 seconds"
        )
        #expect(try await shop.store.job("live")?.status == .running)
        let record = try await FlightRecorder(shop.store) { _ in }.record(of: "lost", owner: "local")
        #expect(record?["status"] == "failed")
        #expect(record?["errorMessage"] == "orphaned: the gateway that answered for the job is gone")
    }

    @Test("a job of another home on this machine is alive as long as its gateway or its runner holds a lock")
    func locks() async throws {
        let other = try Workshop(store: shop.store)
        let handle = try await other.scheduler.submit(other.script(other.gate))
        try await twoMinutes()
        #expect(try await shop.store.job(handle.id)?.status == .running)
        try other.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)

        let jobs = directory.path("home/jobs")
        try Files().makeDirectory(Layout.join(jobs, "run"))
        var lock = try FileLock.attempt(JobDirectory(Layout.join(jobs, "run")).running)
        #expect(lock != nil)
        try await add("run", jobs: jobs, instance: "killed", host: "here")
        try await twoMinutes()
        #expect(try await shop.store.job("run")?.status == .running)
        lock = nil
        try await twoMinutes()
        #expect(try await shop.store.job("run")?.status == .orphaned)
    }

    @Test("the true end of a job takes the place of orphaned, in its row and in its record")
    func trueEnd() async throws {
        let recorder = FlightRecorder(shop.store) { Issue.record("\($0)") }
        var request = shop.script("\(shop.gate); echo after all")
        request.correlationID = "c"
        var start = FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p")
        start.jobID = request.id
        await recorder.start(start)
        let handle = try await shop.scheduler.submit(request)
        try await shop.store.orphan([request.id], error: "thought to be gone")
        #expect(try await shop.store.job(request.id)?.status == .orphaned)
        try shop.openGate()
        _ = await handle.outcome(within: .seconds(20))
        var end = FlightEnd(succeeded: true, response: "after all", durationMilliseconds: 1)
        end.exitCode = 0
        await recorder.complete("c", end, job: request.id)
        let job = try #require(try await shop.store.job(request.id))
        #expect(job.status == .completed && job.error == nil && job.exitCode == 0)
        let record = try await recorder.record(of: "c", owner: "local")
        #expect(record?["status"] == "completed" && record?["errorMessage"] == .null)
        // Once it is known, it stays.
        await recorder.complete("c", FlightEnd(succeeded: false, response: "", durationMilliseconds: 1))
        #expect(try await recorder.record(of: "c", owner: "local")?["status"] == "completed")
    }

    @Test("an instance that answers for nothing is forgotten after an hour")
    func memory() async throws {
        _ = try await shop.run(shop.script("true"))
        func leases() async throws -> Int {
            try await shop.store.read { connection throws(GatewayError) in
                try connection.first("SELECT COUNT(*) FROM gateway_leases") { $0.integer(0) ?? 0 } ?? 0
            }
        }
        #expect(try await leases() == 1)
        clock.advance(seconds: 3500)
        try await shop.store.renewLease(of: "somebody")
        #expect(try await leases() == 1)
        clock.advance(seconds: 200)
        try await shop.store.renewLease(of: "somebody")
        #expect(try await leases() == 0)
    }
}
