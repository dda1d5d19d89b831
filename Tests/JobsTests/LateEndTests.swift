import Appliance
import Platform
import SQL
import SQLite
import Synchronization
import TestSupport
import Testing

@testable import Jobs

@Suite("An end that nobody could write down at its time")
struct LateEndTests {
    @Test("commits an end that could not be written, as soon as it can")
    func lateCommit() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        let shop = try Workshop(in: directory, store: Store(path: path, clock: .system))
        let outcome = try await shop.run(shop.script("echo ok"))
        let place = shop.scheduler.directory(of: outcome.spec.id)
        #expect(Files().exists(place.exit))
        try Files().removeFile(path)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        let row = try #require(try await shop.store.job(outcome.spec.id))
        #expect(row.status == .completed && row.exitCode == 0)
    }

    @Test(
        "never starts a job whose end was told before it began, wherever that could be written down",
        arguments: [true, false]
    )
    func neverStarted(isRecorded: Bool) async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let shop = try Workshop(
            in: directory,
            limits: limits,
            store: Store(path: path, clock: .system),
            files: Files { step throws(GatewayError) in
                guard !isRecorded, case .rename(_, let path) = step, path.hasSuffix("/end.json") else {
                    return
                }
                throw GatewayError("disk-full", "no room for it")
            }
        )
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let second = try await shop.scheduler.submit(shop.script("echo x >>'\(directory.path("runs"))'"))
        try await shop.scheduler.cancel(second.id)
        #expect(await second.outcome(within: .seconds(20))?.status == .canceled)
        #expect(Files().exists(second.directory.end) == isRecorded)
        #expect(try await shop.scheduler.find(second.id, for: Ownership.local)?.snapshot.status == .canceled)
        try Files().removeFile(path)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(second.directory.path) })
        #expect(try await shop.store.job(second.id)?.status == .canceled)
        try shop.openGate()
        #expect(await first.outcome(within: .seconds(20))?.status == .completed)
        #expect(!Files().exists(directory.path("runs")))
    }

    @Test("does not commit an end before the record of its request is closed, which is tried again")
    func recordFirst() async throws {
        let refusals = Mutex(1)
        let shop = try Workshop(verdict: {
            let isRefused = refusals.withLock { left in
                defer { left = 0 }
                return left > 0
            }
            return RunVerdict(isRecorded: !isRefused)
        })
        let outcome = try await shop.run(shop.script("echo ok"))
        let place = shop.scheduler.directory(of: outcome.spec.id)
        #expect(Files().exists(place.exit))
        #expect(try await shop.store.job(outcome.spec.id)?.status == .running)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(outcome.spec.id)?.status == .completed)
        #expect(shop.ended.all.count == 2)
    }

    @Test("closes requests that never became a job, once nobody can be about to start them")
    func abandonedRequests() async throws {
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        let elapsed = Mutex<Int64>(0)
        var clock = WallClock.system
        clock.now = { now.advanced(byMilliseconds: elapsed.withLock { $0 }) }
        let shop = try Workshop(clock: clock)
        let recorder = FlightRecorder(shop.store, environment: [:]) { shop.findings.note($0.description) }
        func begin(_ id: String, job: String) async -> String {
            var flight = FlightStart(correlationID: id, provider: "claude", model: "m", prompt: "p")
            flight.jobID = job
            return await recorder.start(flight)
        }
        let lost = await begin("lost", job: "job-that-never-was")
        let kept = await begin("kept", job: "job-in-the-store")
        var request = shop.script("true", id: "job-in-the-store")
        request.correlationID = kept
        try await shop.store.insert(
            JobSpec(request, submitted: clock.now(), boot: nil, instance: "a-gateway"),
            directory: shop.layout.job("job-in-the-store"),
            instance: "another",
            host: "here"
        )
        func status(_ id: String) async throws -> String? {
            try await recorder.record(of: id, owner: "local")?["status"]?.string
        }
        try await shop.scheduler.closeAbandonedRequests()
        #expect(try await status(lost) == "started")
        elapsed.withLock { $0 = 601_000 }
        let young = await begin("young", job: "job-that-is-about-to-be")
        try await shop.scheduler.closeAbandonedRequests()
        #expect(try await status(lost) == "failed")
        #expect(try await status(kept) == "started")
        #expect(try await status(young) == "started")
        #expect(shop.findings.all == [])
    }
}
