import Appliance
import Glibc
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("An end that was told")
struct ToldEndTests {
    private let directory: TemporaryDirectory
    private let runs: String

    init() throws {
        directory = try TemporaryDirectory()
        runs = directory.path("runs")
    }

    /// How often a script of `counted` ran.
    private var count: Int { ((try? Files().readText(runs)) ?? "").count / 2 }

    private func counted(_ shop: Workshop, _ script: String, id: String? = nil) -> JobRequest {
        shop.script("echo x >>'\(runs)'; \(script)", id: id)
    }

    /// Whether the records of requests can be written, without which no end is committed.
    private let isWritable = GuardedValue(true)

    private var verdict: @Sendable () -> RunVerdict {
        { [isWritable] in RunVerdict(isRecorded: isWritable.withLock { $0 }) }
    }

    private func status(_ id: String, _ shop: Workshop) async throws -> JobStatus? {
        try await shop.scheduler.find(id, for: Ownership.local)?.snapshot.status
    }

    /// Tries each failed attempt again.
    private let persistent: JobScheduler.Judge = { outcome in
        FailedAttempt(isTransient: true, next: .init(arguments: outcome.spec.arguments, context: [:]))
    }

    /// What keeps a job's directory where it is after the commit.
    enum Obstacle: CaseIterable {
        /// Its removal fails, or the gateway is killed before that.
        case removal
        /// No room for how it ended, which is kept aside with it.
        case room
    }

    @Test(
        "of a job that never began, and whose directory could not be cleared away, is never followed by a run",
        arguments: Obstacle.allCases
    )
    func committed(_ obstacle: Obstacle) async throws {
        let runner = directory.path("runner")
        let shop = try Workshop(
            in: directory,
            files: Files { step throws(GatewayError) in
                switch (obstacle, step) {
                case (.removal, .rename(_, let path)) where path.contains("/.new-"):
                    throw GatewayError("file-error", "killed here")
                case (.room, .rename(_, let path)) where path.hasSuffix("/end.json"):
                    throw GatewayError("disk-full", "no room for it")
                default: break
                }
            },
            runner: runner
        )
        var request = counted(shop, "true")
        if obstacle == .room { request.recording = .metadata }
        // There is no such runner.
        #expect(try await shop.run(request).status == .failed)
        let place = shop.scheduler.directory(of: request.id)
        #expect(Files().exists(place.spec) && Files().exists(place.end) == (obstacle == .removal))
        #expect(try await status(request.id, shop) == .failed)
        // From here on it could be started.
        symlink(Workshop.gateway, runner)
        #expect(await shop.scheduler.adopt().finished == [request.id])
        let next = try Workshop(in: directory)
        try Files().write("a-gateway-that-is-gone".utf8, to: place.adopter)
        #expect(try await status(request.id, next) == .failed)
        #expect(await next.scheduler.adopt().finished == [request.id])
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await next.store.job(request.id)?.status == .failed && count == 0)
        #expect(try await status(request.id, next) == .failed)
    }

    @Test("before another attempt is not followed by that attempt under the next gateway")
    func refusedRetry() async throws {
        let shop = try Workshop(
            in: directory,
            files: Files { step throws(GatewayError) in
                // As if it were killed here.
                guard case .rename(let path, let staged) = step, staged.contains("/.new-"),
                    path.hasSuffix("/the-job")
                else { return }
                throw GatewayError("file-error", "killed here")
            },
            judge: persistent
        )
        let handle = try await shop.scheduler.submit(counted(shop, "exit 75", id: "the-job"))
        let place = handle.directory
        #expect(try await changes(in: place.path) { Files().exists(place.file("attempt-1/exit.json")) })
        // Other runs of the provider fail meanwhile.
        for _ in 0..<CircuitBreaker.threshold {
            await shop.scheduler.settleCircuit("claude", .failedTransiently)
        }
        let outcome = try #require(await handle.outcome(within: .seconds(40)))
        #expect(outcome.status == .failed && outcome.refusal?.code == "circuit-open" && outcome.hasBegun)
        try Files().write("a-gateway-that-is-gone".utf8, to: place.adopter)
        let next = try Workshop(in: directory)
        #expect(await next.scheduler.adopt().finished == [handle.id])
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await next.store.job(handle.id)?.status == .failed && count == 1)
    }

    @Test("while a decision to try again stands that cannot be taken back is not followed by the attempt")
    func canceledDecision() async throws {
        isWritable.withLock { $0 = false }
        // The file system lets nobody write any more once the decision has its name.
        let isReadOnly = GuardedValue(false)
        let shop = try Workshop(
            in: directory,
            files: Files { step throws(GatewayError) in
                if case .sync(let path) = step, Files().exists(path + "/retry.json") {
                    isReadOnly.withLock { $0 = true }
                }
                if isReadOnly.withLock({ $0 }) { throw GatewayError("file-error", "read-only file system") }
            },
            judge: persistent,
            verdict: verdict
        )
        let handle = try await shop.scheduler.submit(counted(shop, "exit 75"))
        #expect(await shop.findings.wait(for: "read-only file system"))
        #expect(try await shop.scheduler.cancel(handle.id, for: Ownership.local) == .accepted)
        #expect(await handle.outcome(within: .seconds(30))?.status == .canceled)
        #expect(try await status(handle.id, shop) == .canceled)
        isReadOnly.withLock { $0 = false }
        isWritable.withLock { $0 = true }
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(handle.directory.path) })
        #expect(try await shop.store.job(handle.id)?.status == .canceled && count == 1)
    }

    /// A job that a gateway has left after its first attempt, which failed, with the decision on the second one written down.
    private func decided(_ shop: Workshop) async throws -> (place: JobDirectory, decision: RetryRecord) {
        let request = counted(shop, "echo out; exit 75")
        let spec = JobSpec(request, submitted: shop.machine.clock.now(), boot: nil, instance: "gone")
        let place = shop.scheduler.directory(of: request.id)
        try JobFiles.stage(request, spec, as: place, for: place, files: Files())
        _ = try await shop.store.takeIn(
            spec,
            directory: place.path,
            instance: "gone",
            host: shop.scheduler.registry.host
        )
        let runner = try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", place.path]))
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        let second = FailedAttempt.Next(arguments: ["-c", "echo x >>'\(runs)'"], context: [:])
        let decision = RetryRecord(attempt: 2, next: second, notBefore: shop.machine.clock.now())
        try Files().write(decision.json.compact, to: place.retry)
        return (place, decision)
    }

    @Test("is not told of an attempt after which another one is decided on, and not carried out yet")
    func undecided() async throws {
        let isFull = GuardedValue(true)
        let shop = try Workshop(
            in: directory,
            files: Files { step throws(GatewayError) in
                guard case .makeDirectory(let path) = step, path.hasSuffix("/attempt-1"),
                    isFull.withLock({ $0 })
                else { return }
                throw GatewayError("disk-full", "no room for it")
            }
        )
        let (place, _) = try await decided(shop)
        let jobs = UnfinishedJobs(layout: shop.layout, machine: shop.machine)
        #expect(try jobs.list().map(\.state) == [.waiting])
        #expect(try await status(place.id, shop) == .running)
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(try await status(place.id, shop) == .running)
        isFull.withLock { $0 = false }
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(place.id)?.status == .completed && count == 2)
    }

    @Test("that a runner has written, and which is not gone yet, is not followed by another attempt")
    func runnerAtItsEnd() async throws {
        let shop = try Workshop(in: directory, judge: persistent)
        let (place, _) = try await decided(shop)
        try Files().removeFile(place.retry)
        // One that lives.
        let own = try #require(ProcessTable.identity(getpid()))
        try Files().removeFile(place.runner)
        try RunnerRecord(runner: own, started: shop.machine.clock.now()).begin(in: place, Files())
        #expect(try await status(place.id, shop) == .running)
        #expect(await shop.scheduler.adopt().finished == [place.id])
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(place.id)?.status == .failed && count == 1)
    }

    @Test(
        "by who ends a job between two attempts says that the first one took place",
        arguments: [true, false]
    )
    func withdrawn(isCarriedOut: Bool) async throws {
        let shop = try Workshop(in: directory)
        let (place, decision) = try await decided(shop)
        if isCarriedOut { try decision.moveAside(place, collected: [], files: Files()) }
        let jobs = UnfinishedJobs(layout: shop.layout, machine: shop.machine)
        #expect(try await jobs.cancel(within: .seconds(10)).canceled.map(\.state) == [.waiting])
        #expect(try await status(place.id, shop) == .canceled)
        #expect(await shop.scheduler.adopt().finished == [place.id])
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(place.id)?.status == .canceled && count == 1)
        #expect(try await runsCounted(shop) == 1)
    }

    /// What the ceiling of the budget counts.
    private func runsCounted(_ shop: Workshop) async throws -> Int {
        try await shop.store.read { connection throws(GatewayError) in
            try Store.budgetUse(on: WallClock.system.now(), connection).total.runs
        }
    }

    @Test("is not foreseen by another gateway, however long the decision on another attempt takes")
    func slowDecision() async throws {
        let (isDeciding, goesOn) = (Journal(), try Doorway(directory.path("decision")))
        let shop = try Workshop(
            in: directory,
            judge: { outcome in
                guard outcome.exit?.verdict == .failed else { return FailedAttempt() }
                isDeciding.note("deciding")
                // Until somebody opens it for writing; on a thread of its own.
                close(Glibc.open(goesOn.path, O_RDONLY | O_CLOEXEC))
                return FailedAttempt(
                    isTransient: true,
                    next: .init(arguments: ["-c", "true"], context: [:])
                )
            }
        )
        let handle = try await shop.scheduler.submit(counted(shop, "exit 75"))
        #expect(await isDeciding.wait(for: "deciding"))
        // The run has ended long ago.
        let record = try #require(try ExitRecord.of(handle.directory))
        var old = record
        old.finished = record.finished.advanced(byMilliseconds: -60_000)
        try Files().write(old.json.compact, to: handle.directory.exit)
        let other = try Workshop(in: directory)
        #expect(try await status(handle.id, other) == .running)
        try goesOn.open()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
    }

    @Test("of a failed run is heard by who watches from another gateway, though it cannot be committed")
    func watched() async throws {
        isWritable.withLock { $0 = false }
        let shop = try Workshop(in: directory, verdict: verdict)
        let handle = try await shop.scheduler.submit(shop.script("\(shop.gate); exit 9"))
        let other = try Workshop(in: directory)
        async let seen = other.scheduler.watch(
            handle.id,
            for: Ownership.local,
            until: .end,
            within: .seconds(30)
        )
        #expect(
            try await changes(in: handle.directory.path) {
                try RunnerRecord.of(handle.directory)?.provider != nil
            }
        )
        let start = ContinuousClock.now
        try shop.openGate()
        #expect(try await seen?.snapshot.status == .failed)
        #expect(ContinuousClock.now - start < .seconds(20))
    }

    @Test("of a lost runner stays what it is while it cannot be committed, and cannot be canceled")
    func orphaned() async throws {
        isWritable.withLock { $0 = false }
        let shop = try Workshop(in: directory, verdict: verdict)
        let handle = try await shop.scheduler.submit(shop.script(shop.gate))
        let place = handle.directory
        #expect(try await changes(in: place.path) { try RunnerRecord.of(place)?.provider != nil })
        ProcessTable.signal(try #require(try RunnerRecord.of(place)).runner, SIGKILL)
        #expect(await handle.outcome(within: .seconds(20))?.status == .orphaned)
        #expect(try await status(handle.id, shop) == .orphaned)
        let other = try Workshop(in: directory)
        #expect(try await status(handle.id, other) == .orphaned)
        #expect(try await shop.scheduler.cancel(handle.id, for: Ownership.local) == .over(.orphaned))
        isWritable.withLock { $0 = true }
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(handle.id)?.status == .orphaned)
    }

    @Test("is what its gateway goes on saying, also of a run that has only just failed")
    func failed() async throws {
        isWritable.withLock { $0 = false }
        let shop = try Workshop(in: directory, verdict: verdict)
        let outcome = try await shop.run(shop.script("exit 9"))
        let found = try await shop.scheduler.find(outcome.spec.id, for: Ownership.local)
        #expect(found?.snapshot.status == .failed && found?.snapshot.exitCode == 9)
    }

    @Test("is said while its commit takes long, and the job counts as running no more")
    func slowCommit() async throws {
        isWritable.withLock { $0 = false }
        let again = Journal()
        let shop = try Workshop(
            in: directory,
            verdict: { [isWritable] in
                guard isWritable.withLock({ $0 }) else { return RunVerdict(isRecorded: false) }
                again.note("again")
                return RunVerdict()
            }
        )
        var request = shop.script("true")
        request.requestKey = "key"
        #expect(try await shop.run(request).status == .completed)
        // The next try waits for another writer.
        let writer = try Connection(shop.layout.database)
        try writer.execute("BEGIN IMMEDIATE")
        isWritable.withLock { $0 = true }
        #expect(await again.wait(for: "again"))
        #expect(try await status(request.id, shop) == .completed)
        #expect(try await shop.scheduler.health().jobs == [])
        #expect(await shop.scheduler.keys == [:])
        try writer.execute("ROLLBACK")
        let place = shop.scheduler.directory(of: request.id)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(request.id)?.status == .completed)
    }

    @Test("is committed late as it was told: not begun, not counted, and why it was refused")
    func refusal() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.queueTimeoutMilliseconds = 50
        let tries = GuardedValue(0)
        let shop = try Workshop(
            in: directory,
            limits: limits,
            verdict: {
                RunVerdict(
                    isRecorded: tries.withLock { count in
                        count += 1
                        return count > 1
                    }
                )
            }
        )
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let request = counted(shop, "true")
        let outcome = try await shop.run(request)
        #expect(outcome.refusal?.code == "turn-missed" && !outcome.hasBegun && outcome.exit == nil)
        let place = shop.scheduler.directory(of: request.id)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        let stored = try await shop.store.outcome(of: request.id, like: outcome.spec, staging: "/tmp")
        let late = try #require(stored)
        #expect(late.status == .failed && late.exit == nil && !late.hasBegun)
        #expect(late.refusal == outcome.refusal && late.message == outcome.message)
        try shop.openGate()
        #expect(await first.outcome(within: .seconds(20))?.status == .completed)
        #expect(try await runsCounted(shop) == 1 && count == 0)
    }
}
