import Appliance
import Platform
import TestSupport
import Testing

@testable import Jobs

/// What holds of `backend = "none"`, beside what `StoreConformanceTests` asks of every store.
@Suite("A gateway without a store")
struct WithoutStoreTests {
    private let shop: Workshop
    private let hand = HandClock()
    private let rule = Sharing(window: .seconds(3600), includesFinished: true)

    init() throws { shop = try Workshop(clock: hand.clock) }

    private func scheduler(
        limits: Configuration.Limits = Configuration.Limits(),
        budget: Configuration.Budget = Configuration.Budget()
    ) -> JobScheduler {
        let findings = shop.findings
        return JobScheduler(
            layout: shop.layout,
            store: nil,
            limits: limits,
            budget: budget,
            machine: shop.machine,
            runnerExecutable: Workshop.gateway,
            report: { findings.note($0.description) }
        )
    }

    private func spool() throws -> [String] {
        try Files().list(shop.layout.jobs).filter { !$0.hasPrefix(".") }
    }

    @Test("runs a job to its end, and keeps nothing of it then")
    func run() async throws {
        let scheduler = scheduler()
        let handle = try await scheduler.submit(shop.script("\(shop.gate); echo answer; exit 3"))
        let found = try #require(try await scheduler.find(handle.id, for: "local"))
        #expect(found.snapshot.status == .running)
        #expect(try await scheduler.find(handle.id, for: "somebody else") == nil)
        try shop.openGate()
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .failed && outcome.exit?.exitCode == 3)
        let isCleared = try await eventually { try spool().isEmpty }
        #expect(isCleared)
        #expect(try await scheduler.find(handle.id, for: "local") == nil)
        #expect(try await scheduler.cancel(handle.id, for: "local") == .notFound)
        #expect(await scheduler.counts == (0, 0))
        #expect(try Files().status(shop.layout.database) == nil)
        #expect(shop.findings.all == [])
    }

    @Test("runs the same request as often as it is asked for, and records nothing")
    func sharesNothing() async throws {
        let scheduler = scheduler()
        let recorder = FlightRecorder(nil) { Issue.record("\($0)") }
        for _ in 0..<2 {
            var request = shop.script("echo x >>'\(shop.directory.path("starts"))'")
            request.requestKey = "k"
            let flight = FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p")
            let entry = recorder.entry(flight)
            #expect(entry == nil)
            let reception = await scheduler.receive(request, sharing: rule, noting: entry)
            let submission = try reception.submission.get()
            #expect(reception.record == nil && submission.leader == nil)
            #expect(submission.snapshot?.id == request.id)
            #expect(await submission.handle.outcome(within: .seconds(20))?.status == .completed)
            #expect(await recorder.start(flight) == "c")
            let end = FlightEnd(succeeded: true, response: "r", durationMilliseconds: 1)
            #expect(await recorder.complete("c", end))
            #expect(try await recorder.record(of: "c", owner: "local") == nil)
        }
        #expect(try Files().readText(shop.directory.path("starts")) == "x\nx\n")
    }

    @Test("refuses what there is no room for, and takes nothing from a budget that it cannot count")
    func limits() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.maxQueuedJobs = 1
        var budget = Configuration.Budget()
        budget.total.runs = 1
        let scheduler = scheduler(limits: limits, budget: budget)
        let running = try await scheduler.submit(shop.script(shop.gate))
        let waiting = try await scheduler.submit(shop.script("true"))
        let error = await #expect(throws: GatewayError.self) {
            try await scheduler.submit(shop.script("true"))
        }
        #expect(error?.code == "saturated")
        try shop.openGate()
        for handle in [running, waiting] {
            #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
        }
        #expect(shop.findings.all == [])
    }

    @Test("takes over what a gateway that is gone has left running")
    func adoption() async throws {
        let left = shop.script("\(shop.gate); echo answer")
        let spec = JobSpec(
            left,
            submitted: shop.machine.clock.now(),
            boot: nil,
            instance: "a-gateway-that-is-gone"
        )
        let directory = JobDirectory(shop.layout.job(left.id))
        try JobFiles.stage(
            left,
            spec,
            as: directory,
            for: directory,
            files: Files()
        )
        _ = try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", directory.path]))
        #expect(try await changes(in: directory.path) { Files().exists(directory.runner) })
        let scheduler = scheduler()
        #expect(await scheduler.adopt().live == [left.id])
        let handle = try #require(await scheduler.handle(left.id))
        try shop.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
        let isCleared = try await eventually { try spool().isEmpty }
        #expect(isCleared)
    }
}
