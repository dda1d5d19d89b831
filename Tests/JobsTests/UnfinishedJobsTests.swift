import Appliance
import Glibc
import Jobs
import Platform
import TestSupport
import Testing

@Suite("The jobs of a home, without a gateway to ask")
struct UnfinishedJobsTests {
    private let shop: Workshop
    private let jobs: UnfinishedJobs

    init() throws {
        shop = try Workshop()
        jobs = UnfinishedJobs(layout: shop.layout, machine: shop.machine)
    }

    /// Accepts a job and waits until its provider was started.
    private func running(_ script: String) async throws -> JobHandle {
        let handle = try await shop.scheduler.submit(shop.script(script))
        let place = handle.directory
        #expect(try await changes(in: place.path) { try RunnerRecord.of(place)?.provider != nil })
        return handle
    }

    private func runner(_ handle: JobHandle) throws -> ProcessIdentity {
        try #require(try RunnerRecord.of(handle.directory)).runner
    }

    @Test("are none where there is no folder for them, and none is made for the question")
    func none() throws {
        #expect(try jobs.list() == [])
        #expect(!Files().exists(shop.layout.jobs))
    }

    @Test("are told with their provider and their time, whether they run or wait")
    func listed() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let shop = try Workshop(in: shop.directory, limits: limits)
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let second = try await shop.scheduler.submit(shop.script("true", provider: "codex"))
        #expect(try await changes(in: first.directory.path) { Files().exists(first.directory.runner) })
        let found = Dictionary(uniqueKeysWithValues: try jobs.list().map { ($0.id, $0) })
        #expect(found.count == 2)
        #expect(found[first.id]?.state == .running && found[first.id]?.provider == "claude")
        #expect(found[second.id]?.state == .waiting && found[second.id]?.provider == "codex")
        let now = WallClock.system.now().milliseconds
        #expect(found.values.allSatisfy { abs($0.since.milliseconds - now) < 60_000 })
        try shop.openGate()
        for handle in [first, second] {
            #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
        }
        #expect(try await changes(in: shop.layout.jobs) { try jobs.list() == [] })
    }

    @Test("end when they are cancelled, with all that they have started, and their gateway has their answers")
    func canceled() async throws {
        let handles = [
            try await running("echo one; trap '' TERM; \(shop.gate)"),
            try await running("echo two; setsid sleep 600 & \(shop.gate)"),
        ]
        let result = try await jobs.cancel(within: .seconds(30))
        #expect(Set(result.canceled.map(\.id)) == Set(handles.map(\.id)) && result.left == [])
        for (handle, text) in zip(handles, ["one\n", "two\n"]) {
            let outcome = try #require(await handle.outcome(within: .seconds(20)))
            #expect(outcome.status == .canceled && outcome.output.held == Array(text.utf8))
            #expect(marked(handle.id) == [])
        }
    }

    /// Processes that bear the mark of a job.
    private func marked(_ job: String) -> [Int32] {
        ProcessTable.all().filter { $0.state != "Z" }.map(\.identity.pid)
            .filter { ProcessTable.environment($0)["LLM_GATEWAY_JOB_ID"] == job }
    }

    @Test("whose runner was killed are lost, and what they left is ended")
    func lost() async throws {
        // Nobody watches: the gateway is gone as well.
        let place = try leave("setsid sleep 600 & sleep 600")
        let runner = try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", place.path]))
        #expect(try await eventually { marked(place.id).count >= 3 })
        ProcessTable.signal(runner, SIGKILL)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(5)))
        #expect(try jobs.list().map(\.state) == [.lost])
        let result = try await jobs.cancel(within: .seconds(30))
        #expect(result == UnfinishedJobs.Cancellation())
        #expect(marked(place.id) == [])
        // It is for the next gateway to say that it was orphaned.
        #expect(await shop.scheduler.adopt().lost == [place.id])
    }

    @Test("that wait for a gateway that is gone are cancelled for the next one")
    func waiting() async throws {
        let place = try leave("echo x >> \(shop.directory.path("runs"))")
        let result = try await jobs.cancel(within: .seconds(10))
        #expect(result.canceled.map(\.id) == [place.id] && result.left == [])
        #expect(try jobs.list() == [])
        #expect(await shop.scheduler.adopt().finished == [place.id])
        let handle = await shop.scheduler.handle(place.id)
        _ = await handle?.outcome(within: .seconds(20))
        #expect(try await shop.store.job(place.id)?.status == .canceled)
        #expect(!Files().exists(shop.directory.path("runs")))
    }

    @Test("that wait for a gateway that lives are left to it")
    func waitingElsewhere() async throws {
        let other = "another-gateway"
        let place = try leave("true", owner: other)
        let lock = try FileLock.attempt(Layout.join(shop.layout.jobs, ".instance-\(other)"))
        let result = try await jobs.cancel(within: .seconds(10))
        #expect(result.left.map(\.id) == [place.id] && result.left.map(\.state) == [.waiting])
        #expect(try Files().list(place.path) == ["spec.json"])
        withExtendedLifetime(lock) {}
    }

    /// The directory of a job that was accepted and not begun.
    private func leave(_ script: String, owner: String = "a-gateway-that-is-gone") throws -> JobDirectory {
        let id = shop.machine.random.uuid()
        let place = shop.scheduler.directory(of: id)
        let json: JSON = [
            "version": 1,
            "job": [
                "id": .string(id), "provider": "claude", "correlationId": "c", "context": [:],
                "collected": [], "instance": .string(owner),
                "submittedAt": .string(WallClock.system.now().iso8601), "bootId": .null,
            ],
            "run": [
                "executable": "/bin/sh", "arguments": ["-c", .string(script)],
                "environment": ["PATH": "/usr/bin:/bin", "LLM_GATEWAY_JOB_ID": .string(id)],
                "hasInput": false, "outputBytes": 1_000_000, "graceMs": 300,
            ],
        ]
        try Files().makeDirectory(place.path)
        try Files().write(json.compact, to: place.spec)
        return place
    }
}
