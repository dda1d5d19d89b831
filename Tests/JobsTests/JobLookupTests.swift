import Appliance
import Glibc
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("Finding a job wherever it is")
struct JobLookupTests {
    private let shop: Workshop
    /// Another gateway of the same home.
    private let other: Workshop

    init() throws {
        shop = try Workshop()
        other = try Workshop(in: shop.directory)
    }

    private func owned(_ script: String, by owner: String? = "ann") -> JobRequest {
        var request = shop.script(script)
        request.owner = owner
        request.outputFormat = "text"
        request.context = ["is": "kept"]
        return request
    }

    private func text(
        _ scheduler: JobScheduler,
        _ found: FoundJob,
        after offset: Int = 0
    ) async throws -> String {
        let windows = try await scheduler.windows(
            of: found,
            TextWindow(offset: offset, limit: 1000),
            TextWindow(limit: 1000)
        )
        return try #require(windows).output.text
    }

    @Test("tells the same of one that runs, here and under another gateway of the home, and when it is over")
    func everywhere() async throws {
        let request = owned("printf 'before\\342'; \(shop.gate); printf '\\202\\254after'; exit 3")
        let handle = try await shop.scheduler.submit(request)
        #expect(
            try await changes(in: handle.directory.path) {
                try await shop.scheduler.find(request.id, for: "ann")?.snapshot.outputBytes == 7
            }
        )
        for scheduler in [shop.scheduler, other.scheduler] {
            let found = try #require(try await scheduler.find(request.id, for: "ann"))
            #expect(
                found.snapshot.status == .running && found.snapshot.correlationID == request.correlationID
            )
            #expect(found.snapshot.outputFormat == "text" && found.context == ["is": "kept"])
            #expect(found.progress == 8)
            #expect(try await text(scheduler, found) == "before")
        }
        try shop.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .failed)
        for scheduler in [shop.scheduler, other.scheduler] {
            let found = try #require(try await scheduler.find(request.id, for: "ann"))
            #expect(found.snapshot.status == .failed && found.snapshot.exitCode == 3)
            #expect(found.snapshot.finished != nil && found.snapshot.outputFormat == "text")
            #expect(try await text(scheduler, found, after: 6) == "€after")
            #expect(try await scheduler.output(of: found)?.context == ["is": "kept"])
            #expect(try await scheduler.cancel(request.id, for: "ann") == .over(.failed))
        }
    }

    @Test("shows nobody the job of another, running or over")
    func owners() async throws {
        let request = owned(shop.gate)
        let handle = try await shop.scheduler.submit(request)
        for moment in 0...1 {
            for scheduler in [shop.scheduler, other.scheduler] {
                for stranger in ["bob", Ownership.local, ""] {
                    #expect(try await scheduler.find(request.id, for: stranger) == nil, "\(moment)")
                    #expect(try await scheduler.cancel(request.id, for: stranger) == .notFound)
                    let seen = try await scheduler.watch(request.id, for: stranger, within: .seconds(9))
                    #expect(seen == nil)
                }
            }
            try shop.openGate()
            _ = await handle.outcome(within: .seconds(20))
        }
        // What belongs to nobody is the local principal's.
        let free = try await shop.run(owned("true", by: nil)).spec.id
        #expect(try await other.scheduler.find(free, for: Ownership.local)?.snapshot.status == .completed)
        #expect(try await other.scheduler.find(free, for: "ann") == nil)
    }

    @Test(
        "takes nothing for a job that is no name of one",
        arguments: ["", ".", "..", "../x", "a/b", ".adoption", "no-such-job"]
    )
    func names(id: String) async throws {
        _ = try await shop.run(shop.script("true"))
        #expect(try await shop.scheduler.find(id, for: Ownership.local) == nil)
        #expect(try await shop.scheduler.cancel(id, for: Ownership.local) == .notFound)
    }

    @Test(
        "of which only its own files are left, because its end could not be written, it has the end from them"
    )
    func uncommitted() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        let broken = try Workshop(in: directory, store: Store(path: path, clock: .system))
        let outcome = try await broken.run(broken.script("echo ok"))
        let found = try #require(try await broken.scheduler.find(outcome.spec.id, for: Ownership.local))
        #expect(found.snapshot.status == .completed && found.snapshot.exitCode == 0)
        #expect(try await text(broken.scheduler, found) == "ok\n")
    }

    @Test("ends one that runs under another gateway, and one that waits there for its turn")
    func cancelElsewhere() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let busy = try Workshop(in: shop.directory, limits: limits)
        let watching = Task { await busy.scheduler.adoptWhenOthersEnd() }
        defer { watching.cancel() }
        let running = try await busy.scheduler.submit(owned("trap '' TERM; \(shop.gate)"))
        let waiting = try await busy.scheduler.submit(owned("echo never"))
        #expect(try await changes(in: running.directory.path) { Files().exists(running.directory.runner) })
        #expect(try await shop.scheduler.find(waiting.id, for: "ann")?.snapshot.status == .queued)
        for handle in [waiting, running] {
            #expect(try await shop.scheduler.cancel(handle.id, for: "ann") == .accepted)
            let outcome = try #require(await handle.outcome(within: .seconds(20)))
            #expect(outcome.status == .canceled && outcome.message == "canceled by caller")
            #expect(outcome.output.isEmpty)
        }
        #expect(
            try await changes(in: shop.layout.jobs) {
                try Files().list(shop.layout.jobs).allSatisfy {
                    $0.hasPrefix(".instance-") || $0 == ".adoption"
                }
            }
        )
        #expect(await busy.scheduler.counts == (0, 0))
    }

    @Test("leaves the wish to end one for the next gateway, until it has ended")
    func cancelOutlives() async throws {
        let handle = try await shop.scheduler.submit(owned("trap '' TERM; \(shop.gate)"))
        #expect(try await changes(in: handle.directory.path) { Files().exists(handle.directory.runner) })
        #expect(try await shop.scheduler.cancel(handle.id, for: "ann") == .accepted)
        let mark = Layout.join(shop.layout.jobs, ".cancel-\(handle.id)")
        #expect(Files().exists(mark))
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .canceled && outcome.message == "canceled by caller")
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(mark) })
    }

    @Test("never starts one whose end is wanted, also where its gateway did not notice that")
    func cancelUnnoticed() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let busy = try Workshop(in: shop.directory, limits: limits)
        let running = try await busy.scheduler.submit(owned(shop.gate))
        let waiting = try await busy.scheduler.submit(owned("echo never"))
        #expect(try await shop.scheduler.cancel(waiting.id, for: "ann") == .accepted)
        try shop.openGate()
        #expect(await running.outcome(within: .seconds(20))?.status == .completed)
        let outcome = try #require(await waiting.outcome(within: .seconds(20)))
        #expect(outcome.status == .canceled && outcome.message == "canceled by caller" && !outcome.hasBegun)
        #expect(await busy.scheduler.counts == (0, 0))
    }

    @Test("never starts one that was to be ended while nobody answered for it")
    func cancelOrphan() async throws {
        let request = owned("echo never")
        let directory = shop.scheduler.directory(of: request.id)
        let spec = JobSpec(
            request,
            submitted: WallClock.system.now(),
            boot: nil,
            instance: "a-gateway-that-is-gone"
        )
        try JobFiles.stage(
            request,
            spec,
            as: directory,
            for: directory,
            files: Files()
        )
        #expect(try await shop.scheduler.find(request.id, for: "ann")?.snapshot.status == .queued)
        #expect(try await shop.scheduler.cancel(request.id, for: "ann") == .accepted)
        _ = await other.scheduler.adopt()
        let found = try #require(
            try await shop.scheduler.watch(request.id, for: "ann", until: .end, within: .seconds(20))
        )
        #expect(found.snapshot.status == .canceled && found.snapshot.error == "canceled by caller")
        #expect(await other.scheduler.counts == (0, 0))
        // Heard of before it is cleared away.
        let mark = Layout.join(shop.layout.jobs, ".cancel-\(request.id)")
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(mark) })
    }

    @Test("that another program of this file says is running cannot be ended from here")
    func unreachable() async throws {
        let id = shop.machine.random.uuid()
        try await shop.store.write { connection throws(GatewayError) in
            try connection.execute(
                "INSERT INTO jobs (id, cli, status, started_at) VALUES (?1, 'claude', 'running', '2026-01-01T00:00:00.000Z')",
                [.text(id)]
            )
        }
        #expect(try await shop.scheduler.cancel(id, for: Ownership.local) == .unreachable)
    }

    @Test(
        "tells how long one has been running, however the clock was set meanwhile",
        arguments: [-7200, 7200]
    )
    func clockSet(seconds: Int64) async throws {
        let hand = HandClock()
        let shop = try Workshop(clock: hand.clock)
        let handle = try await shop.scheduler.submit(owned(shop.gate))
        #expect(try await changes(in: handle.directory.path) { Files().exists(handle.directory.runner) })
        hand.set(by: seconds)
        let job = try #require(try await shop.scheduler.health().jobs.first)
        #expect((0..<60_000).contains(job.runningForMilliseconds))
        try shop.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
    }

    @Test("counts the jobs of every gateway of the home among those that run")
    func health() async throws {
        let handle = try await shop.scheduler.submit(owned(shop.gate))
        #expect(
            try await changes(in: handle.directory.path) {
                try await other.scheduler.health().jobs.first?.process?.isAlive == true
            }
        )
        let jobs = try await other.scheduler.health().jobs
        #expect(jobs.map(\.id) == [handle.id] && jobs.map(\.owner) == ["ann"])
        #expect(try await shop.scheduler.health().jobs.map(\.id) == [handle.id])
        try shop.openGate()
        _ = await handle.outcome(within: .seconds(20))
        #expect(try await other.scheduler.health().jobs == [])
    }

    @Test("tells of one that runs, though its gateway takes it to be waiting")
    func runsAlready() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let shop = try Workshop(in: shop.directory, limits: limits)
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let second = try await shop.scheduler.submit(shop.script("true", provider: "codex"))
        let own = try #require(ProcessTable.entry(getpid())?.identity)
        try RunnerRecord(runner: own, started: shop.machine.clock.now()).begin(in: second.directory, Files())
        #expect(try await Set(shop.scheduler.health().jobs.map(\.id)) == [first.id, second.id])
        try Files().removeFile(second.directory.runner)
        try shop.openGate()
        for handle in [first, second] {
            #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
        }
    }

    @Test("never says that none runs where it cannot be told")
    func unreadable() async throws {
        let handle = try await shop.scheduler.submit(owned(shop.gate))
        let place = handle.directory
        // Its runner needs its files no more until its end.
        #expect(try await changes(in: place.path) { try RunnerRecord.of(place)?.provider != nil })
        let away = shop.directory.path("away")
        try Files().rename(shop.layout.jobs, to: away)
        try Files().write([], to: shop.layout.jobs)
        let error = await #expect(throws: GatewayError.self) { try await other.scheduler.health() }
        #expect(error?.message.contains("cannot list '\(shop.layout.jobs)'") == true)
        try Files().removeFile(shop.layout.jobs)
        try Files().rename(away, to: shop.layout.jobs)
        #expect(try await other.scheduler.health().jobs.map(\.id) == [handle.id])
        try shop.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
    }
}

@Suite("Watching a job")
struct JobWatchTests {
    private let shop: Workshop
    private let other: Workshop

    init() throws {
        shop = try Workshop()
        other = try Workshop(in: shop.directory)
    }

    @Test(
        "answers when there is output, and at the end, here and under another gateway",
        arguments: [false, true]
    )
    func change(isElsewhere: Bool) async throws {
        let scheduler = isElsewhere ? other.scheduler : shop.scheduler
        let handle = try await shop.scheduler.submit(
            shop.script("\(shop.gate); echo news; read line </dev/zero")
        )
        #expect(try await changes(in: handle.directory.path) { Files().exists(handle.directory.runner) })
        let before = try #require(try await scheduler.find(handle.id, for: Ownership.local))
        #expect(before.progress == 1)
        async let seen = scheduler.watch(
            handle.id,
            for: Ownership.local,
            after: before.progress,
            within: .seconds(20)
        )
        try shop.openGate()
        #expect(try await seen?.progress == 6)
        async let end = scheduler.watch(handle.id, for: Ownership.local, until: .end, within: .seconds(20))
        try await shop.scheduler.cancel(handle.id)
        #expect(try await end?.snapshot.status == .canceled)
    }

    @Test("tells of output while it waits for the end")
    func progress() async throws {
        let handle = try await shop.scheduler.submit(shop.script("echo a; \(shop.gate); echo b"))
        let seen = Journal()
        async let end = shop.scheduler.watch(
            handle.id,
            for: Ownership.local,
            until: .end,
            within: .seconds(20)
        ) { seen.note("\($0.outputBytes)") }
        #expect(await seen.wait(for: "2"))
        try shop.openGate()
        #expect(try await end?.snapshot.outputBytes == 4)
    }

    @Test("is over when its time is, when its task is cancelled, and at once for a job that is over")
    func bounds() async throws {
        let handle = try await shop.scheduler.submit(shop.script(shop.gate))
        let clock = ContinuousClock()
        let start = clock.now
        let seen = try await shop.scheduler.watch(
            handle.id,
            for: Ownership.local,
            until: .end,
            within: .milliseconds(200)
        )
        #expect(seen?.snapshot.status == .running && clock.now - start >= .milliseconds(199))
        let scheduler = shop.scheduler
        let task = Task {
            try await scheduler.watch(handle.id, for: Ownership.local, until: .end, within: .seconds(600))
        }
        task.cancel()
        #expect(try await task.value?.snapshot.status == .running)
        try shop.openGate()
        _ = await handle.outcome(within: .seconds(20))
        let over = try await shop.scheduler.watch(
            handle.id,
            for: Ownership.local,
            after: 1_000_000,
            within: .seconds(600)
        )
        #expect(over?.snapshot.status == .completed)
    }
}
