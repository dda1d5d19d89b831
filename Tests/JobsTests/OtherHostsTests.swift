import Appliance
import Platform
import PostgreSQL
import TestSupport
import Testing

@testable import Jobs

@Suite("Gateways of several machines on one server", .postgres, .serialized)
struct OtherHostsTests {
    private let clock = HandClock()
    private let room: RecordRoom
    /// What the other machine has of the database.
    private let other: Store
    private let shop: Workshop

    init() throws {
        room = try RecordRoom(.postgres, clock: clock.clock)
        other = try room.store()
        shop = try Workshop(store: try room.store(), clock: clock.clock)
    }

    private func spec(_ id: String, key: String? = nil) -> JobSpec {
        var request = shop.script("true", id: id)
        request.correlationID = "c-\(id)"
        request.requestKey = key
        return JobSpec(request, submitted: WallClock.system.now(), boot: nil, instance: "a-gateway")
    }

    private func insert(
        _ spec: JobSpec,
        instance: String = "far-gateway",
        jobs: String = "/far/jobs"
    ) async throws {
        try await other.insert(spec, directory: "\(jobs)/\(spec.id)", instance: instance, host: "faraway")
    }

    private func finish(_ spec: JobSpec, _ output: String) async throws {
        let ending = JobEnding(
            status: .completed,
            exitCode: 0,
            output: WrittenBytes(Array(output.utf8)),
            errorOutput: [],
            outputTruncated: false,
            error: nil,
            finished: WallClock.system.now(),
            hasBegun: true,
            payload: ["context": ["is": "theirs"], "files": [:], "hasBegun": true]
        )
        try await other.finish(
            spec,
            ending,
            directory: "/far/jobs/\(spec.id)",
            instance: "far-gateway",
            host: "faraway"
        )
    }

    @Test("a job of another machine is shown with its name, and who waits for its end is woken by it")
    func watch() async throws {
        let news = Task { await shop.scheduler.hearOthers() }
        defer { news.cancel() }
        let spec = spec("theirs")
        try await insert(spec)
        let found = try #require(try await shop.scheduler.find("theirs", for: Ownership.local))
        #expect(found.snapshot.status == .running && found.snapshot.host == "faraway")
        #expect(found.snapshot.json["host"] == "faraway")
        let waiting = Task { [scheduler = shop.scheduler] in
            try await scheduler.watch("theirs", for: Ownership.local, until: .end, within: .seconds(60))
        }
        try await finish(spec, "from afar\n")
        let over = try #require(try await waiting.value)
        #expect(over.snapshot.status == .completed && over.snapshot.host == nil)
        let output = try #require(try await shop.scheduler.output(of: over))
        #expect(output.output.held == Array("from afar\n".utf8) && output.context["is"] == "theirs")
        // Not waited for any longer than asked.
        try await insert(self.spec("endless"))
        let early = try await shop.scheduler.watch("endless", for: Ownership.local, within: .milliseconds(50))
        #expect(early?.snapshot.status == .running)
    }

    @Test("the same request gets the answer of the run on another machine")
    func shared() async throws {
        let news = Task { await shop.scheduler.hearOthers() }
        defer { news.cancel() }
        let theirs = spec("theirs", key: "same")
        try await insert(theirs)
        var request = shop.script("echo mine")
        request.requestKey = "same"
        let sharing = Sharing(window: .seconds(60), includesFinished: true)
        let submission = try await shop.scheduler.submit(request, sharing: sharing)
        #expect(submission.leader == "c-theirs" && submission.handle.id == "theirs")
        try await finish(theirs, "theirs\n")
        let outcome = try #require(await submission.handle.outcome(within: .seconds(20)))
        #expect(outcome.output.held == Array("theirs\n".utf8))
    }

    @Test("a job is cancelled from another machine, here and there")
    func cancel() async throws {
        let news = Task { await shop.scheduler.hearOthers() }
        defer { news.cancel() }
        try await insert(spec("theirs"))
        #expect(try await shop.scheduler.cancel("theirs", for: "somebody") == .notFound)
        #expect(try await shop.scheduler.cancel("theirs", for: Ownership.local) == .accepted)
        #expect(try await other.unwanted(of: "far-gateway") == ["theirs"])

        let own = try await shop.scheduler.submit(shop.script(shop.gate))
        #expect(try await other.job(own.id)?.status == .running)
        try await other.want(ended: own.id)
        let outcome = try #require(await own.outcome(within: .seconds(20)))
        #expect(outcome.status == .canceled && outcome.message == "canceled by caller")
    }

    @Test(
        "the jobs of a machine that is gone become orphaned with its name, also with a home of the same path as this one's"
    )
    func gone() async throws {
        try await insert(spec("lost"), jobs: shop.layout.jobs)
        try await insert(spec("live"), instance: "alive", jobs: shop.layout.jobs)
        _ = await shop.scheduler.adopt()
        #expect(try await shop.store.job("lost")?.status == .running)
        for _ in 0..<5 {
            try await other.renewLease(of: "alive")
            await shop.scheduler.keepLeases()
            clock.advance(seconds: 30)
        }
        let lost = try #require(try await shop.store.job("lost"))
        #expect(lost.status == .orphaned)
        #expect(
            lost.error
                == "the gateway on 'faraway' that answered for the job has given no sign of life for 90.0 seconds"
        )
        _ = await shop.scheduler.adopt()
        #expect(try await shop.store.job("live")?.status == .running)
        #expect(shop.findings.all == [])
    }

    @Test("what was told while the server was away is looked up when it is back")
    func missed() async throws {
        let server = try #require(PostgresServer.current)
        let news = Task { await shop.scheduler.hearOthers() }
        defer { news.cancel() }
        let theirs = spec("theirs", key: "same")
        try await insert(theirs)
        var request = shop.script("echo mine")
        request.requestKey = "same"
        let sharing = Sharing(window: .seconds(60), includesFinished: true)
        let submission = try await shop.scheduler.submit(request, sharing: sharing)
        // It does not hear while it connects anew.
        try await server.stop()
        try await server.start()
        try await finish(theirs, "theirs\n")
        let outcome = try #require(await submission.handle.outcome(within: .seconds(30)))
        #expect(outcome.output.held == Array("theirs\n".utf8))
    }

    @Test("conversations are the same for all, and none is lost when they are changed at once")
    func sessions() async throws {
        func sessions(_ store: Store) -> SessionStore {
            SessionStore(layout: shop.layout, machine: shop.machine, store: store) { Issue.record("\($0)") }
        }
        let one = sessions(shop.store), two = sessions(other)
        try await one.create("claude", id: "first", description: "nul \u{0}", caller: "local")
        await two.refresh()
        #expect(two.list(caller: "local").map(\.id) == ["first"])
        #expect(two.active("claude", caller: "local")?.description == "nul \u{0}")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask {
                    let store = number % 2 == 0 ? one : two
                    try await store.create("codex", id: "s\(number)", caller: "local")
                    try await store.update("first", caller: "local") { record in
                        let count = record.metadata["count"]?.int ?? 0
                        record.metadata["count"] = .integer(count + 1)
                    }
                }
            }
            try await group.waitForAll()
        }
        await one.refresh()
        #expect(one.list(caller: "local", provider: "codex").count == 20)
        #expect(one.session("first", caller: "local")?.metadata["count"]?.int == 20)
        #expect(try await two.clear(caller: "local", provider: "codex").count == 20)
        await one.refresh()
        #expect(one.list(caller: "local").map(\.id) == ["first"])
        #expect(!Files().exists(shop.layout.sessions))
    }
}
