import Appliance
import Glibc
import Jobs
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@Suite("Taking over the jobs of a gateway that is gone")
struct AdoptionTests {
    private let shop: Workshop

    init() throws { shop = try Workshop() }

    /// The directory of a job as a dead gateway left it.
    private func leave(
        _ script: String,
        boot: String? = nil,
        owner: String = "a-gateway-that-is-gone",
        accepted: Timestamp = WallClock.system.now(),
        uptime: UInt64? = nil
    ) throws -> JobDirectory {
        let id = shop.machine.random.uuid()
        let place = shop.scheduler.directory(of: id)
        let json: JSON = [
            "version": 1,
            "job": [
                "id": .string(id), "provider": "claude", "correlationId": "c", "context": ["a": 1],
                "collected": [], "instance": .string(owner), "submittedAt": .string(accepted.iso8601),
                "bootId": .optional(boot), "submittedUptimeMs": .optional(uptime.map { Int($0 / 1_000_000) }),
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

    private func start(_ place: JobDirectory) throws -> ProcessIdentity {
        try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", place.path]))
    }

    private func end(_ id: String) async throws -> JobSnapshot {
        if let handle = await shop.scheduler.handle(id) {
            _ = try #require(await handle.outcome(within: .seconds(20)))
        }
        return try #require(try await shop.store.job(id))
    }

    @Test("watches a runner that lives, and collects what it wrote before and after")
    func live() async throws {
        let place = try leave("echo before; \(shop.gate); echo after; exit 5")
        _ = try start(place)
        #expect(try await changes(in: place.path) { Files().exists(place.runner) })
        let report = await shop.scheduler.adopt()
        #expect(report.live == [place.id])
        try shop.openGate()
        let job = try await end(place.id)
        #expect(job.status == .failed && job.exitCode == 5)
        #expect(try await shop.store.output(of: place.id)?.output.held == Array("before\nafter\n".utf8))
        #expect(shop.ended.all == ["\(place.id) failed"])
    }

    @Test(
        "collects what ended while nobody watched, with its true exit code",
        arguments: [false, true]
    )
    func finished(isKilledInItsLastInstant: Bool) async throws {
        let place = try leave("echo done; exit 9")
        let runner = try start(place)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        if isKilledInItsLastInstant {
            // The record stands in the room that was kept for it, and does not have its name yet.
            let record = try Files().readText(place.exit) + String(repeating: " ", count: 4096)
            try Files().removeFile(place.exit)
            try Files().write(record.utf8, to: place.running, durable: false)
        }
        let report = await shop.scheduler.adopt()
        #expect(report.finished == [place.id])
        #expect(try await end(place.id).exitCode == 9)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
    }

    @Test(
        "does not take for absent what cannot be read just now",
        arguments: ["exit.json", "runner.jsonl", "spec.json", "adopter"]
    )
    func unreadable(name: String) async throws {
        let place = try leave("echo done; exit 9")
        let runner = try start(place)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        // A link to itself is neither there nor absent; nor is a file for want of descriptors.
        let path = place.file(name)
        try Files().write("another-that-is-gone".utf8, to: place.adopter)
        try Files().rename(path, to: place.file("kept"))
        try Files().link(path, to: path)
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(
            shop.findings.all == ["cannot read '\(path)': too many levels of symbolic links"]
        )
        #expect(await shop.scheduler.handle(place.id) == nil)
        // It is tried again by itself.
        try Files().rename(place.file("kept"), to: path)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        let job = try #require(try await shop.store.job(place.id))
        #expect(job.status == .failed && job.exitCode == 9)
        #expect(shop.findings.all.count == 1)
    }

    @Test("waits for the output of a run that cannot be read just now")
    func unreadableOutput() async throws {
        let handle = try await shop.scheduler.submit(shop.script("echo out; \(shop.gate); exit 3"))
        let path = handle.directory.standardOutput
        #expect(try await changes(in: handle.directory.path) { Files().exists(path) })
        try Files().rename(path, to: handle.directory.file("kept"))
        try Files().link(path, to: path)
        try shop.openGate()
        #expect(
            await shop.findings.wait(for: "cannot read '\(path)': too many levels of symbolic links")
        )
        #expect(await handle.outcome(within: .milliseconds(100)) == nil && shop.ended.all == [])
        try Files().rename(handle.directory.file("kept"), to: path)
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .failed && outcome.output.held == Array("out\n".utf8))
    }

    @Test("starts what was accepted and never ran")
    func accepted() async throws {
        let place = try leave("echo late")
        let report = await shop.scheduler.adopt()
        #expect(report.queued == [place.id])
        #expect(try await end(place.id).status == .completed)
    }

    @Test("does not start what has waited for too long by now")
    func tooLate() async throws {
        let place = try leave(
            "echo x >> \(shop.directory.path("runs"))",
            accepted: WallClock.system.now().advanced(byMilliseconds: -120_000)
        )
        let report = await shop.scheduler.adopt()
        #expect(report.missed == [place.id] && report.queued.isEmpty)
        let job = try await end(place.id)
        #expect(job.status == .failed && job.error == "the job waited 120.0 seconds for its turn")
        #expect(!Files().exists(shop.directory.path("runs")))
        #expect(await shop.scheduler.counts == (0, 0))
    }

    @Test("starts what has waited for a moment, however the clock was set meanwhile")
    func clockSet() async throws {
        let place = try leave(
            "echo late",
            boot: ProcessTable.boot,
            accepted: WallClock.system.now().advanced(byMilliseconds: -3_600_000),
            uptime: WallClock.system.uptime()
        )
        let report = await shop.scheduler.adopt()
        #expect(report.queued == [place.id])
        #expect(try await end(place.id).status == .completed)
    }

    @Test("gives what waits on the rest of its time")
    func restOfTheTurn() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.queueTimeoutMilliseconds = 60_000
        let shop = try Workshop(in: shop.directory, limits: limits)
        let first = try await shop.scheduler.submit(shop.script(shop.gate))
        let place = try leave("true", accepted: WallClock.system.now().advanced(byMilliseconds: -59_500))
        let report = await shop.scheduler.adopt()
        #expect(report.queued == [place.id])
        let handle = try #require(await shop.scheduler.handle(place.id))
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .failed && outcome.refusal?.code == "turn-missed")
        try shop.openGate()
        #expect(await first.outcome(within: .seconds(20))?.status == .completed)
    }

    @Test("takes nothing for a job that has no description")
    func undescribed() async throws {
        try Files().removeFile(try leave("echo again").spec)
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(shop.ended.all == [] && shop.findings.all == [])
    }

    @Test("takes over what another gateway leaves as soon as it ends")
    func another() async throws {
        let other = "another-gateway"
        try Files().makeDirectory(shop.layout.jobs)
        var lock = try FileLock.attempt(Layout.join(shop.layout.jobs, ".instance-\(other)"))
        #expect(lock != nil)
        let place = try leave("echo done; exit 9", owner: other)
        let runner = try start(place)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        let early = try leave("echo early")
        let watching = Task { await shop.scheduler.adoptWhenOthersEnd() }
        // What is taken over of one that was gone before says that the other is being watched.
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(early.path) })
        #expect(Files().exists(place.exit) && shop.ended.all == ["\(early.id) completed"])
        lock = nil
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        let job = try #require(try await shop.store.job(place.id))
        #expect(job.status == .failed && job.exitCode == 9)
        watching.cancel()
        await watching.value
    }

    @Test("does not start what was accepted before the machine was restarted: it may have run")
    func earlierBoot() async throws {
        let boot = try Files().readText("/proc/sys/kernel/random/boot_id").trimmed
        let same = try leave("true", boot: boot)
        let earlier = try leave("echo x >> \(shop.directory.path("runs"))", boot: "another")
        let report = await shop.scheduler.adopt()
        #expect(report.queued == [same.id] && report.lost == [earlier.id])
        #expect(try await end(same.id).status == .completed)
        let job = try await end(earlier.id)
        #expect(job.status == .orphaned)
        #expect(
            job.error
                == "the machine was restarted, and whether the job had begun is not known; it is not run again"
        )
        #expect(!Files().exists(shop.directory.path("runs")))
    }

    @Test("ends what a dead runner left, and never runs it again")
    func lost() async throws {
        let child = "sh -c 'echo up; exec sleep 64'"
        let place = try leave("echo x >> \(shop.directory.path("runs")); setsid \(child) & \(child); exit")
        let runner = try start(place)
        #expect(
            try await changes(in: place.path) {
                try RunnerRecord.of(place)?.provider != nil
                    && Files().readText(place.standardOutput, limit: 4096) == "up\nup\n"
            }
        )
        let provider = try #require(try RunnerRecord.of(place)?.provider)
        let family = ProcessTable.descendants(of: provider.pid).map(\.identity) + [provider]
        #expect(family.count == 3)
        ProcessTable.signal(runner, SIGKILL)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        let report = await shop.scheduler.adopt()
        #expect(report.lost == [place.id])
        let job = try await end(place.id)
        #expect(job.status == .orphaned)
        #expect(
            job.error
                == "the process that ran the job is gone and left no record; what it had started was ended"
        )
        for process in family { #expect(!ProcessTable.isRunning(process)) }
        #expect(try Files().readText(shop.directory.path("runs")) == "x\n")
    }

    @Test("takes one that its caller wanted ended, and whose runner is dead, for canceled")
    func lostAndCanceled() async throws {
        let place = try leave("sleep 64")
        let runner = try start(place)
        #expect(try await changes(in: place.path) { try RunnerRecord.of(place)?.provider != nil })
        ProcessTable.signal(runner, SIGKILL)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        try Files().append([], to: Layout.join(shop.layout.jobs, ".cancel-\(place.id)"))
        let report = await shop.scheduler.adopt()
        #expect(report.lost == [place.id])
        let job = try await end(place.id)
        #expect(job.status == .canceled && job.error == "canceled by caller")
    }

    @Test("ends nothing that only has the number of a run before the machine was restarted")
    func numbersOfAnEarlierBoot() async throws {
        // A session without its leader, and a process: either could have been the run's by its number.
        let marker = shop.directory.path("pid")
        let leader = try shop.machine.processes.launch(
            Command("/bin/sh", ["-c", "sleep 64 & echo $! >\(marker).new; mv \(marker).new \(marker)"])
        )
        #expect(await shop.machine.processes.waitForEnd(of: leader, within: .seconds(20)))
        let member = try #require(
            Int32(try Files().readText(marker).trimmed).flatMap(ProcessTable.identity)
        )
        let other = try shop.machine.processes.launch(Command("/bin/sleep", ["64"]))
        for provider in [leader, other] {
            let place = try leave("true")
            var earlier = provider
            earlier.boot = "00000000-0000-0000-0000-000000000000"
            let record: JSON = [
                "runner": earlier.json, "provider": earlier.json, "startedAt": "2026-01-01T00:00:00.000Z",
            ]
            try Files().write(record.compact, to: place.runner)
            _ = await shop.scheduler.adopt()
            #expect(try await end(place.id).status == .orphaned)
            #expect(ProcessTable.isRunning(member) && ProcessTable.isRunning(other))
        }
        for process in [member, other] { await shop.machine.processes.end(process) }
    }

    @Test("leaves the jobs of a gateway that lives alone")
    func foreign() async throws {
        let other = try Workshop(in: shop.directory)
        let handle = try await other.scheduler.submit(other.script("\(shop.gate); echo mine"))
        let report = await shop.scheduler.adopt()
        try shop.openGate()
        #expect(report == AdoptionReport())
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
        #expect(shop.ended.all == [] && other.ended.all.count == 1)
    }

    @Test(
        "leaves a job that cannot be read to the gateways that live, one of which may have it, and takes it after them"
    )
    func damagedOfAnother() async throws {
        try Files().makeDirectory(shop.layout.jobs)
        var other = try FileLock.attempt(Layout.join(shop.layout.jobs, ".instance-another-gateway"))
        #expect(other != nil)
        let place = try leave("echo done", owner: "another-gateway")
        let whole = try Files().read(place.spec)
        // As an editor leaves it for a moment.
        try Files().write("{".utf8, to: place.spec)
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(shop.findings.all.first?.hasPrefix("'\(place.spec)' is damaged") == true)
        try Files().write(whole, to: place.spec)
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(!Files().exists(place.adopter))
        other = nil
        _ = await shop.scheduler.adopt()
        #expect(try await end(place.id).status == .completed)
    }

    @Test("knows a runner that lives by its record, should its lock have been replaced")
    func replacedLock() async throws {
        let place = try leave("echo before; \(shop.gate); echo after")
        _ = try start(place)
        #expect(try await changes(in: place.path) { try RunnerRecord.of(place)?.provider != nil })
        try Files().write([UInt8](repeating: 0x20, count: 8192), to: place.running)
        #expect(!FileLock.isHeld(place.running))
        #expect(await shop.scheduler.adopt().live == [place.id])
        try shop.openGate()
        #expect(try await end(place.id).status == .completed)
        #expect(try await shop.store.output(of: place.id)?.output.held == Array("before\nafter\n".utf8))
    }

    /// The row of a job that a gateway which is gone had accepted.
    private func enter(_ place: JobDirectory) async throws {
        try await shop.store.write { connection throws(GatewayError) in
            try connection.execute(
                """
                INSERT INTO jobs (id, cli, status, started_at, expires_at, owner_principal, owner_instance, directory)
                VALUES (?1, 'claude', 'running', '2026-01-01T00:00:00.000Z', '9999-12-31T23:59:59.999Z', NULL, 'gone', ?2)
                """,
                [.text(place.id), .text(place.path)]
            )
        }
    }

    @Test("waits with a job that cannot be read for the end of its runner")
    func damagedAndRunning() async throws {
        let place = try leave("\(shop.gate); echo after")
        try await enter(place)
        let runner = try start(place)
        #expect(try await changes(in: place.path) { try RunnerRecord.of(place)?.provider != nil })
        let whole = try Files().read(place.spec)
        try Files().write("{".utf8, to: place.spec)
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(Files().exists(place.path) && ProcessTable.isRunning(runner))
        // Nobody asks again: it is tried by itself.
        try Files().write(whole, to: place.spec)
        try shop.openGate()
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(place.path) })
        #expect(try await shop.store.job(place.id)?.status == .completed)
        #expect(try await shop.store.output(of: place.id)?.output.held == Array("after\n".utf8))
    }

    @Test(
        "reports a job that cannot be read, gives it up and puts it aside, also beside a gateway that lives"
    )
    func damaged() async throws {
        let place = try leave("true")
        try await enter(place)
        let other = try FileLock.attempt(Layout.join(shop.layout.jobs, ".instance-another-gateway"))
        defer { withExtendedLifetime(other) {} }
        #expect(other != nil)
        try Files().write("{".utf8, to: place.spec)
        let report = await shop.scheduler.adopt()
        #expect(report == AdoptionReport())
        #expect(shop.findings.all.first?.hasPrefix("'\(place.spec)' is damaged: invalid JSON") == true)
        let aside = Layout.join(shop.layout.jobs, ".damaged-\(place.id)")
        #expect(try !Files().exists(place.path) && Files().list(aside).contains("spec.json"))
        let row = try #require(try await shop.store.job(place.id))
        #expect(row.status == .orphaned)
        #expect(row.error == "the job's files were damaged; they are in '\(aside)'")
        #expect(await shop.scheduler.adopt() == AdoptionReport())
        #expect(shop.findings.all.count == 1)
    }

    @Test("closes rows of the reference whose process is gone, and no others")
    func rows() async throws {
        try await shop.store.write { connection throws(GatewayError) in
            for (id, pid, owner) in [
                ("gone", SQLValue.integer(4_000_000), SQLValue.null),
                ("alive", .integer(Int64(getpid())), .null),
                ("theirs", .integer(4_000_000), .text("another-instance")),
            ] {
                try connection.execute(
                    """
                    INSERT INTO jobs (id, cli, status, started_at, pid, owner_instance)
                    VALUES (?1, 'claude', 'running', '2026-01-01T00:00:00.000Z', ?2, ?3)
                    """,
                    [.text(id), pid, owner]
                )
            }
        }
        #expect(await shop.scheduler.adopt().orphaned == ["gone"])
        let gone = try #require(try await shop.store.job("gone"))
        #expect(gone.status == .orphaned && gone.error == "Gateway restarted while job was running")
        #expect(try await shop.store.job("alive")?.status == .running)
        #expect(try await shop.store.job("theirs")?.status == .running)
    }
}

@Suite("The runner")
struct RunnerTests {
    @Test("refuses to run a job twice, at the same time and ever again")
    func once() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(
            shop.script("echo x >> \(shop.directory.path("runs")); \(shop.gate)")
        )
        #expect(try await changes(in: handle.directory.path) { Files().exists(handle.directory.runner) })
        let again = Command(Workshop.gateway, ["run-job", handle.directory.path])
        #expect(try await shop.machine.processes.run(again).status == .exited(4))
        try shop.openGate()
        _ = await handle.outcome(within: .seconds(20))
        #expect(try await shop.machine.processes.run(again).status == .exited(70))
        #expect(try Files().readText(shop.directory.path("runs")) == "x\n")
    }

    @Test("is out of reach of the terminal, and of the gateway's end")
    func detached() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(shop.script("\(shop.gate); echo done"))
        #expect(
            try await changes(in: handle.directory.path) {
                try RunnerRecord.of(handle.directory)?.provider != nil
            }
        )
        let record = try #require(try RunnerRecord.of(handle.directory))
        let entry = try #require(ProcessTable.entry(record.runner.pid))
        #expect(entry.session == record.runner.pid && entry.session != getsid(0))
        for number in [SIGINT, SIGHUP, SIGQUIT] { ProcessTable.signal(record.runner, number) }
        // Three descriptors, the lock, and no more than its own work needs.
        let descriptors = try Files().list("/proc/\(record.runner.pid)/fd").count
        #expect(descriptors <= 12)
        try shop.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
    }

    @Test("measures what the provider used")
    func accounts() async throws {
        let shop = try Workshop()
        let outcome = try await shop.run(shop.script("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
        let exit = try #require(outcome.exit)
        #expect((exit.processorMilliseconds ?? 0) > 10)
        #expect((exit.maximumResidentKilobytes ?? 0) > 500)
        #expect(exit.durationMilliseconds >= 10 && exit.durationMilliseconds < 30_000)
    }

    @Test("collects orphans while the provider runs")
    func orphans() async throws {
        let shop = try Workshop()
        let handle = try await shop.scheduler.submit(
            shop.script("for i in 1 2 3 4 5; do (sleep 0.01 & ) ; done; echo started; \(shop.gate)")
        )
        let output = try handle.output()
        #expect(await output.next() == Array("started\n".utf8))
        let record = try #require(try RunnerRecord.of(handle.directory))
        // Its provider is the only child that stays; a zombie would stay, too.
        #expect(
            try await eventually {
                ProcessTable.all().filter { $0.parent == record.runner.pid }.map(\.identity) == [
                    record.provider
                ]
            }
        )
        try shop.openGate()
        #expect(await handle.outcome(within: .seconds(20))?.status == .completed)
    }

    @Test(
        "records say what ended a run, and survive the way through the file",
        arguments: [
            ProcessIntervention?.none, .wallTime, .idleTime, .outputLimit, .cancelled,
        ]
    )
    func records(intervention: ProcessIntervention?) throws {
        var record = ExitRecord(
            failure: GatewayError("disk-full", "no space", help: "free some"),
            at: Timestamp(milliseconds: 1)
        )
        record.intervention = intervention.map {
            switch $0 {
            case .wallTime: .wallTime
            case .idleTime: .idleTime
            case .outputLimit: .outputLimit
            case .cancelled: .canceled
            }
        }
        record.signal = 9
        record.maximumResidentKilobytes = 5
        let copy = try #require(ExitRecord(json: try JSON.parse(record.json.compact)))
        #expect(copy == record)
        #expect(ExitRecord(json: [:]) == nil)
    }
}
