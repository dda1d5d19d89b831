import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Jobs

@Suite("Running a job")
struct SchedulerTests {
    @Test("gives back output, errors and exit code, and keeps them")
    func collects() async throws {
        let shop = try Workshop()
        var request = shop.script("cat; echo oops >&2; exit 3")
        request.standardInput = Array("hello".utf8)
        request.context = ["format": "text"]
        let outcome = try await shop.run(request)
        #expect(outcome.status == .failed)
        #expect(outcome.exit?.exitCode == 3)
        #expect(String(decoding: outcome.output.held, as: UTF8.self) == "hello")
        #expect(String(decoding: outcome.errorOutput.held, as: UTF8.self) == "oops\n")
        #expect(outcome.message == nil)
        let stored = try #require(try await shop.store.job(request.id))
        #expect(stored.status == .failed && stored.exitCode == 3)
        #expect(stored.outputBytes == 5 && stored.errorBytes == 5)
        let output = try #require(try await shop.store.output(of: request.id))
        #expect(output.output.held == Array("hello".utf8) && output.context == ["format": "text"])
        #expect(shop.ended.all == ["\(request.id) failed"])
        #expect(shop.findings.all == [])
        #expect(
            try await changes(in: shop.layout.jobs) { !Files().exists(shop.layout.job(request.id)) }
        )
    }

    @Test("removes a finished job as a whole, so that no gateway takes the rest of it for one that never ran")
    func removedAtOnce() async throws {
        let directory = try TemporaryDirectory()
        let jobs = try Layout(environment: ["HOME": directory.root]).jobs
        let seen = Journal()
        let shop = try Workshop(
            in: directory,
            files: Files { (step) throws(GatewayError) in
                guard case .remove(let path) = step, path.hasPrefix(jobs) else { return }
                let visible = ((try? Files().list(jobs)) ?? []).filter { !$0.hasPrefix(".") }
                seen.note("\(Files.name(of: path)) \(visible.count)")
            }
        )
        _ = try await shop.run(shop.script("true"))
        #expect(
            try await changes(in: jobs) {
                ((try? Files().list(jobs)) ?? []).allSatisfy { !$0.hasPrefix(".new-") && $0.hasPrefix(".") }
            }
        )
        #expect(seen.all.contains("spec.json 0") && seen.all.contains("exit.json 0"))
        #expect(seen.all.allSatisfy { $0.hasSuffix(" 0") }, "\(seen.all)")
    }

    @Test("brings files along, runs where it was told to, and gives collected files back")
    func files() async throws {
        let shop = try Workshop()
        let id = shop.machine.random.uuid()
        let place = shop.scheduler.directory(of: id)
        var request = shop.script(
            "cat \(place.file("prompt.txt")); pwd; cd \(place.file("out")); mkdir deep; echo x > deep/export.json; ln -s /etc/passwd link",
            id: id
        )
        request.files = [.init("prompt.txt", Array("from a file\n".utf8)), .init(place.file("sub/b"), [1])]
        request.directories = [place.file("out")]
        request.collected = ["out", "missing", "sub/b"]
        request.workingDirectory = "/usr"
        let outcome = try await shop.run(request)
        #expect(String(decoding: outcome.output.held, as: UTF8.self) == "from a file\n/usr\n")
        #expect(outcome.files == ["out/deep/export.json": Array("x\n".utf8), "sub/b": [1]])
        #expect(try await shop.store.output(of: id)?.files["out/deep/export.json"] == Array("x\n".utf8))
    }

    @Test(
        "refuses files outside its directory and in place of its own",
        arguments: [
            "../x", "/etc/x", "a/../../x", "spec.json", "adopter", "running", "runner.jsonl", "stdin",
            "stdout",
            "stderr", "exit.json", "retry.json", "", ".hidden", "a//b",
        ]
    )
    func badNames(name: String) async throws {
        let shop = try Workshop()
        var request = shop.script("true")
        request.files = [.init(name, [])]
        let error = await #expect(throws: GatewayError.self) { try await shop.scheduler.submit(request) }
        #expect(error?.code == "invalid-input")
        #expect(
            try Files().list(shop.layout.jobs).allSatisfy { $0.hasPrefix(".instance-") || $0 == ".adoption" }
        )
        #expect(await shop.scheduler.counts.running == 0)
    }

    @Test("carries a megabyte in and out, and bytes that are no text")
    func large() async throws {
        let shop = try Workshop()
        var request = shop.script("cat")
        request.standardInput = (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0) }
        let outcome = try await shop.run(request)
        #expect(outcome.output.held == request.standardInput)
        #expect(outcome.exit?.outputBytes == 1 << 20)
    }

    @Test("says that a program is missing")
    func missing() async throws {
        let shop = try Workshop()
        var request = shop.script("")
        request.executable = "/no/such/claude"
        let outcome = try await shop.run(request)
        #expect(outcome.status == .failed && outcome.exit?.exitCode == 127)
        #expect(outcome.message == "the program '/no/such/claude' does not exist")
    }

    @Test("ends a job that is silent, slow or a flood, with the contract's exit codes")
    func limits() async throws {
        let shop = try Workshop()
        var silent = shop.script("echo a; exec sleep 60")
        silent.limits.idle = .milliseconds(200)
        var slow = shop.script("while :; do echo a; sleep 0.05; done")
        slow.limits.wall = .milliseconds(300)
        var flood = shop.script("exec yes")
        flood.limits.output = 3 << 20
        let outcomes = [try await shop.run(silent), try await shop.run(slow), try await shop.run(flood)]
        #expect(outcomes.map { $0.exit?.exitCode } == [125, 124, 126])
        #expect(outcomes.map(\.status) == [.failed, .failed, .failed])
        #expect(
            outcomes.map(\.message) == [
                "Process killed due to inactivity", "Command timed out", "Output exceeded maximum size (3MB)",
            ]
        )
        #expect(outcomes[2].output.count == 3 << 20 && outcomes[2].exit?.outputTruncated == true)
    }

    @Test("reports the signal that ended the provider")
    func signalled() async throws {
        let outcome = try await Workshop().run(Workshop().script("kill -KILL $$"))
        #expect(outcome.status == .failed && outcome.exit?.exitCode == 137 && outcome.exit?.signal == SIGKILL)
    }

    @Test("ends with everything that it started, in whatever session")
    func nothingLeft() async throws {
        let shop = try Workshop()
        let script = "setsid sh -c 'trap \"\" TERM; echo $$; sleep 61; sleep 61' & sleep 0.3; exit 0"
        let outcome = try await shop.run(shop.script(script))
        #expect(outcome.status == .completed)
        let pid = try #require(Int32(String(decoding: outcome.output.held, as: UTF8.self).filter(\.isNumber)))
        #expect(ProcessTable.entry(pid) == nil)
    }

    @Test("is canceled with its descendants, and what it says in its last moment is kept")
    func canceled() async throws {
        let shop = try Workshop()
        let script = "trap 'echo bye; exit 0' TERM; setsid sleep 62 & echo $!; while :; do sleep 0.05; done"
        let handle = try await shop.scheduler.submit(shop.script(script))
        let output = try handle.output()
        let first = try #require(await output.next())
        let pid = try #require(Int32(String(decoding: first, as: UTF8.self).filter(\.isNumber)))
        #expect(await shop.scheduler.snapshot(handle.id)?.status == .running)
        let health = try await shop.scheduler.health()
        #expect(health.running == 1 && health.jobs.first?.process?.isAlive == true)
        #expect((health.jobs.first?.process?.memoryKilobytes ?? 0) > 100)
        try await shop.scheduler.cancel(handle.id)
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .canceled && outcome.message == "canceled by caller")
        #expect(String(decoding: outcome.output.held, as: UTF8.self).hasSuffix("bye\n"))
        #expect(ProcessTable.entry(pid) == nil)
        let error = await #expect(throws: GatewayError.self) { try await shop.scheduler.cancel(handle.id) }
        #expect(error?.code == "job-not-found")
        #expect(try await shop.store.job(handle.id)?.status == .canceled)
    }

    @Test("is started though somebody asks at that moment whether it runs")
    func asked() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let shop = try Workshop(limits: limits)
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let second = try await shop.scheduler.submit(shop.script("echo ran"))
        var question = try FileLock.attempt(second.directory.running, exclusive: false)
        #expect(question != nil)
        let watch = try EntryWatch(second.directory.path, events: IN_OPEN, reactor: shop.machine.reactor)
        try shop.openGate()
        while let opened = await watch.next(), !opened.contains("running") {}
        withExtendedLifetime(question) {}
        question = nil
        #expect(await first.outcome(within: .seconds(20))?.status == .completed)
        let outcome = try #require(await second.outcome(within: .seconds(20)))
        #expect(outcome.status == .completed && outcome.output.held == Array("ran\n".utf8))
    }

    @Test("goes on when nobody waits any more")
    func waiterLeaves() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(shop.script("\(shop.gate); echo done"))
        #expect(await handle.outcome(within: .milliseconds(50)) == nil)
        let waiter = Task { await handle.outcome() == nil }
        waiter.cancel()
        #expect(await waiter.value)
        try shop.openGate()
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .completed)
        // An outcome is there for those who ask late, too.
        #expect(await handle.outcome()?.status == .completed)
    }

    @Test("shows its output while it runs, to the last byte")
    func follows() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(
            shop.script("for i in 1 2 3; do echo $i; sleep 0.1; done; head -c 300000 /dev/zero; echo err >&2")
        )
        let output = try handle.output()
        var pieces: [[UInt8]] = []
        while let piece = await output.next() { pieces.append(piece) }
        #expect(pieces.count >= 4)
        #expect(pieces.joined().count == 300_006)
        #expect(await handle.outcome(within: .seconds(20))?.output.held == Array(pieces.joined()))
    }

    @Test("waits for its turn, can be canceled there, and is refused when too many wait")
    func admission() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.maxQueuedJobs = 2
        let shop = try Workshop(limits: limits)
        let first = try await shop.scheduler.submit(shop.script("\(shop.gate); echo first"))
        let second = try await shop.scheduler.submit(shop.script("echo second"))
        let third = try await shop.scheduler.submit(shop.script("echo third"))
        #expect(await shop.scheduler.snapshot(second.id)?.status == .queued)
        let error = await #expect(throws: GatewayError.self) {
            try await shop.scheduler.submit(shop.script("true"))
        }
        #expect(error?.code == "saturated")
        try await shop.scheduler.cancel(third.id)
        #expect(await third.outcome(within: .seconds(20))?.status == .canceled)
        try shop.openGate()
        #expect(await second.outcome(within: .seconds(20))?.status == .completed)
        #expect(await first.outcome()?.status == .completed)
        #expect(await shop.scheduler.counts == (0, 0))
    }

    @Test("that waits for too long fails and says so")
    func turnMissed() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.queueTimeoutMilliseconds = 100
        let shop = try Workshop(limits: limits)
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let second = try await shop.scheduler.submit(shop.script("true"))
        let outcome = try #require(await second.outcome(within: .seconds(20)))
        try shop.openGate()
        #expect(outcome.status == .failed && outcome.message == "the job waited 0.1 seconds for its turn")
        #expect(outcome.refusal?.code == "turn-missed" && !outcome.hasBegun)
        #expect(await first.outcome(within: .seconds(20))?.status == .completed)
    }

    @Test("runs although the store cannot be opened; its directory is kept until it can")
    func brokenStore() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        let shop = try Workshop(in: directory, store: Store(path: path, clock: .system))
        let outcome = try await shop.run(shop.script("echo ok"))
        #expect(outcome.status == .completed)
        #expect(shop.findings.all.count == 3)
        #expect(Files().exists(shop.scheduler.directory(of: outcome.spec.id).exit))
    }

    @Test("whose runner cannot be started fails with the reason")
    func noRunner() async throws {
        let shop = try Workshop(runner: "/no/such/llm-gateway")
        let outcome = try await shop.run(shop.script("true"))
        #expect(
            outcome.status == .failed
                && outcome.message == "the program '/no/such/llm-gateway' does not exist"
        )
    }

    @Test("whose runner is killed is orphaned, and nothing of it stays")
    func runnerKilled() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(shop.script("setsid sleep 63 & echo $!; sleep 63"))
        let output = try handle.output()
        let first = try #require(await output.next())
        let stray = try #require(Int32(String(decoding: first, as: UTF8.self).filter(\.isNumber)))
        let record = try #require(try RunnerRecord.of(handle.directory))
        ProcessTable.signal(record.runner, SIGKILL)
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .orphaned && outcome.exit == nil)
        #expect(outcome.output.held == first)
        for pid in [stray, try #require(record.provider).pid] {
            #expect(ProcessTable.entry(pid).map { $0.state == "Z" } ?? true)
        }
        #expect(try await shop.store.job(handle.id)?.status == .orphaned)
    }

    @Test("whose runner is killed in its last instant, with the end written and not named, has that end")
    func killedAtTheEnd() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(shop.script("echo out; \(shop.gate)"))
        let place = handle.directory
        #expect(try await changes(in: place.path) { (try? RunnerRecord.of(place))??.provider != nil })
        let runner = try #require(try RunnerRecord.of(place)).runner
        ProcessTable.signal(runner, SIGSTOP)
        var record = ExitRecord(
            failure: GatewayError("x", "as the runner wrote it"),
            at: WallClock.system.now()
        )
        record.exitCode = 7
        let room = record.json.compact + [UInt8](repeating: 0x20, count: 4096)
        try Files().write(room, to: place.running, durable: false)
        ProcessTable.signal(runner, SIGKILL)
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .failed && outcome.exit == record)
        try shop.openGate()
    }

    @Test("fifty at once end once each and leave nothing behind")
    func many() async throws {
        let shop = try Workshop()
        try await withThrowingTaskGroup(of: JobOutcome.self) { group in
            for number in 0..<50 {
                group.addTask {
                    try await shop.run(shop.script("echo \(number)", provider: "p\(number % 4)"))
                }
            }
            var seen: Set<String> = []
            for try await outcome in group {
                seen.insert(String(decoding: outcome.output.held, as: UTF8.self))
            }
            #expect(seen.count == 50)
        }
        #expect(shop.ended.all.count == 50)
        #expect(shop.findings.all == [])
        #expect(
            try await changes(in: shop.layout.jobs) {
                try Files().list(shop.layout.jobs).allSatisfy { $0.hasPrefix(".") }
            }
        )
    }
}
