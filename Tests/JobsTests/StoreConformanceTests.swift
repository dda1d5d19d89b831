import Appliance
import Glibc
import Platform
import PostgreSQL
import SQL
import Synchronization
import TestSupport
import Testing

@testable import Jobs

/// What a store is kept in.
enum Backend: String, Sendable, CaseIterable, CustomTestStringConvertible {
    case sqlite, memory, postgres

    var testDescription: String { rawValue }

    /// Those that several gateways can share.
    static let shared: [Backend] = [.sqlite, .postgres]
}

/// A place for records that a test has for itself.
final class RecordRoom: Sendable {
    let backend: Backend
    let directory: TemporaryDirectory
    let clock: WallClock
    private let dsn: String
    private let memory: Store?

    /// Throws what makes the test skipped when there is no server.
    init(_ backend: Backend, clock: WallClock = .system) throws {
        self.backend = backend
        self.clock = clock
        directory = try TemporaryDirectory()
        memory = backend == .memory ? Store(path: nil, clock: clock) : nil
        dsn = backend == .postgres ? try RecordRoom.schema() : ""
    }

    private static func schema() throws -> String {
        if let server = PostgresServer.current {
            return server.dsn(schema: "test_" + Randomness.system.uuid().replacing("-", with: ""))
        }
        try Test.cancel("\(PostgresServer.absence ?? "no server was started")")
    }

    /// What one more gateway has of it.
    func store() throws -> Store {
        switch backend {
        case .memory: memory ?? Store(path: nil, clock: clock)
        case .sqlite: Store(path: directory.path("logs.db"), clock: clock)
        case .postgres: Store(server: try DatabaseServer(dsn), clock: clock)
        }
    }

    var source: RecordSource { backend == .postgres ? .server(dsn) : .file(directory.path("logs.db")) }
}

@Suite("A store, whatever it is kept in", .postgres)
struct StoreConformanceTests {
    private static let now = WallClock.system.now()

    private func spec(
        _ id: String,
        key: String? = nil,
        recording: Configuration.Persistence.Recording = .full
    ) -> JobSpec {
        var request = JobRequest(
            id: id,
            provider: "claude",
            executable: "/bin/true",
            arguments: ["-p", "a\u{0}b"],
            environment: [:],
            correlationID: "c-\(id)"
        )
        request.requestKey = key
        request.recording = recording
        return JobSpec(request, submitted: WallClock.system.now(), boot: nil, instance: "a-gateway")
    }

    private func ending(
        _ output: [UInt8],
        _ status: JobStatus = .completed,
        at instant: Timestamp = WallClock.system.now()
    ) -> JobEnding {
        JobEnding(
            status: status,
            exitCode: 0,
            output: WrittenBytes(output),
            errorOutput: WrittenBytes(Array("words\u{0}\n".utf8)),
            outputTruncated: false,
            error: status == .completed ? nil : "no \u{0} good",
            finished: instant,
            hasBegun: true,
            payload: ["context": ["nul": "\u{0}"], "files": ["answer.txt": "whole\u{0}"]]
        )
    }

    private func insert(_ store: Store, _ spec: JobSpec, instance: String = "one") async throws {
        try await store.insert(spec, directory: "/jobs/\(spec.id)", instance: instance, host: "here")
    }

    private func finish(_ store: Store, _ spec: JobSpec, _ ending: JobEnding) async throws {
        try await store.finish(spec, ending, directory: "/jobs/\(spec.id)", instance: "one", host: "here")
    }

    // MARK: jobs

    @Test("gives a job back as it ended, byte by byte", arguments: Backend.allCases)
    func bytes(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let spec = spec("j")
        try await insert(store, spec)
        #expect(try await store.job("j")?.status == .running)
        #expect(try await store.running().map(\.id) == ["j"])
        let text = "zero \u{0} and naïve 🦊\n"
        try await finish(store, spec, ending(Array(text.utf8)))
        let job = try #require(try await store.job("j"))
        #expect(
            job.status == .completed && job.exitCode == 0 && job.error == nil && job.correlationID == "c-j"
        )
        #expect(job.outputBytes == text.utf8.count && job.errorBytes == 7 && !job.outputTruncated)
        let output = try #require(try await store.output(of: "j"))
        #expect(
            output.output.held == Array(text.utf8) && output.errorOutput.held == Array("words\u{0}\n".utf8)
        )
        #expect(output.context["nul"] == "\u{0}" && output.files["answer.txt"] == Array("whole\u{0}".utf8))
        // Only the first end counts.
        try await finish(store, spec, ending([0x41], .failed))
        #expect(try await store.job("j")?.status == .completed)
        #expect(try await store.job("k") == nil)
        #expect(try await store.output(of: "k") == nil)
        #expect(try await store.running().isEmpty)
        await store.close()
    }

    @Test("keeps 50 MB of output", arguments: Backend.allCases)
    func large(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let spec = spec("big")
        let bytes = Array(String(repeating: "0123456789abcde\n", count: (50 << 20) / 16).utf8)
        try await finish(store, spec, ending(bytes))
        #expect(try await store.job("big")?.outputBytes == 50 << 20)
        let kept = try await store.output(of: "big")?.output.held ?? []
        #expect(kept.count == bytes.count && memcmp(kept, bytes, bytes.count) == 0)
        await store.close()
    }

    @Test(
        "closes as orphaned what nothing is left of, until its true end is known",
        arguments: Backend.allCases
    )
    func orphans(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        let spec = spec("j")
        var start = FlightStart(correlationID: "c-j", provider: "claude", model: "m", prompt: "p")
        start.jobID = "j"
        await recorder.start(start)
        try await insert(store, spec)
        try await store.orphan(["j"], error: "the gateway on 'far' is gone")
        let job = try #require(try await store.job("j"))
        #expect(job.status == .orphaned && job.error == "the gateway on 'far' is gone")
        #expect(try await recorder.record(of: "c-j", owner: "local")?["status"] == "failed")
        try await finish(store, spec, ending([0x41]))
        #expect(try await store.job("j")?.status == .completed)
        await recorder.complete(
            "c-j",
            FlightEnd(succeeded: true, response: "A", durationMilliseconds: 1),
            job: "j"
        )
        #expect(try await recorder.record(of: "c-j", owner: "local")?["status"] == "completed")
        await store.close()
    }

    @Test("shows which gateways live", arguments: Backend.allCases)
    func leases(_ backend: Backend) async throws {
        let hand = HandClock()
        let store = try RecordRoom(backend, clock: hand.clock).store()
        try await insert(store, spec("a"), instance: "one")
        try await insert(store, spec("b"), instance: "two")
        func beats() async throws -> [String: Int] {
            let jobs = try await store.leasedJobs(besides: "three")
            return Dictionary(jobs.map { ($0.instance, $0.beat) }, uniquingKeysWith: max)
        }
        #expect(try await beats() == ["one": 0, "two": 0])
        try await store.renewLease(of: "one")
        try await store.renewLease(of: "one")
        #expect(try await beats() == ["one": 2, "two": 0])
        #expect(try await store.leasedJobs(besides: "one").map(\.id) == ["b"])
        #expect(try await store.leasedJobs(besides: "one").first?.host == "here")
        await store.close()
    }

    // MARK: the same request

    @Test("of the same request from many gateways at once, one is the first", arguments: Backend.shared)
    func reservations(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let stores = try (0..<4).map { _ in try room.store() }
        for store in stores { try await store.open() }
        let start = WallClock.system.now().advanced(byMilliseconds: -1000)
        for round in 0..<10 {
            let found = try await withThrowingTaskGroup(of: (String, SharedRow?).self) { group in
                for number in 0..<16 {
                    let spec = spec("\(round)-\(number)", key: "key \(round)")
                    group.addTask {
                        let found = try await stores[number % 4].takeIn(
                            spec,
                            directory: "/jobs/\(spec.id)",
                            instance: "gateway \(number % 4)",
                            host: "here",
                            sharing: Intake.Rule(start: start, includesFinished: true)
                        )
                        return (spec.id, found.shared)
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let winners = found.filter { $0.1 == nil }.map(\.0)
            #expect(winners.count == 1, "round \(round)")
            #expect(Set(found.compactMap { $0.1?.id }) == Set(winners))
        }
        #expect(try await stores[0].running().count == 10)
        for store in stores { await store.close() }
    }

    @Test("shares a finished job within its window, a failed one never", arguments: Backend.allCases)
    func window(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        func reserve(_ id: String, since milliseconds: Int64, finished: Bool = true) async throws -> String? {
            let start = WallClock.system.now().advanced(byMilliseconds: -milliseconds)
            return try await store.takeIn(
                spec(id, key: "same"),
                directory: "/jobs/\(id)",
                instance: "one",
                host: "here",
                sharing: Intake.Rule(start: start, includesFinished: finished)
            ).shared?.id
        }
        #expect(try await reserve("first", since: 60_000) == nil)
        #expect(try await reserve("second", since: 60_000) == "first")
        try await finish(store, spec("first", key: "same"), ending([0x41]))
        #expect(try await reserve("third", since: 60_000) == "first")
        #expect(try await reserve("fourth", since: 60_000, finished: false) == nil)
        try await store.withdraw(spec("fourth", key: "same"), isCounted: true)
        #expect(try await reserve("fifth", since: -1000) == nil)
        try await finish(store, spec("fifth", key: "same"), ending([], .failed))
        #expect(try await reserve("sixth", since: 60_000) == "first")
        let outcome = try #require(
            try await store.outcome(of: "first", like: spec("x", key: "same"), staging: "/tmp")
        )
        #expect(outcome.output.held == [0x41] && outcome.status == .completed)
        await store.close()
    }

    @Test("takes a request in as a whole: its record, its job and its run", arguments: Backend.allCases)
    func intake(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let store = try room.store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        var budget = Configuration.Budget()
        budget.total.runs = 2
        func take(_ id: String, key: String, correlation: String) async throws -> Intake {
            var flight = FlightStart(correlationID: correlation, provider: "claude", model: "m", prompt: "p")
            flight.jobID = id
            return try await store.takeIn(
                spec(id, key: key),
                noting: recorder.entry(flight),
                directory: "/jobs/\(id)",
                instance: "one",
                host: "here",
                budget: budget,
                sharing: Intake.Rule(start: Timestamp(milliseconds: 0), includesFinished: true)
            )
        }
        func record(_ id: String) async throws -> [JSON?] {
            let record = try await recorder.record(of: id, owner: "local")
            return [record?["status"], record?["asyncJobId"], record?["sharedWith"]]
        }
        func runs() async throws -> Int {
            try await store.read { connection throws(GatewayError) in
                try Store.budgetUse(on: WallClock.system.now(), connection).total.runs
            }
        }
        let first = try await take("a", key: "k", correlation: "c")
        #expect(first.record == "c" && first.shared == nil)
        #expect(try await store.job("a")?.correlationID == "c")
        #expect(try await record("c") == ["started", "a", nil])
        // The id is taken, and the job goes by the one that its record has got.
        #expect(try await take("b", key: "l", correlation: "c").record == "c~2")
        #expect(try await store.job("b")?.correlationID == "c~2")
        // Who shares a run needs no room in the budget.
        let sharing = try await take("x", key: "k", correlation: "d")
        #expect(sharing.record == "d" && sharing.shared?.id == "a" && sharing.shared?.correlationID == "c")
        #expect(try await record("d") == ["started", "a", "c"])
        #expect(try await store.job("x") == nil)
        let refused = try await take("y", key: "m", correlation: "e")
        guard case .refused(let error) = refused.decision else {
            throw GatewayError("internal-error", "the budget has let a run through")
        }
        #expect(error.code == "budget-exceeded" && refused.record == "e")
        #expect(try await record("e") == ["started", "y", nil])
        #expect(try await store.job("y") == nil)
        #expect(try await runs() == 2)
        try await store.withdraw(spec("b", key: "l"), isCounted: true)
        #expect(try await store.job("b") == nil)
        #expect(try await runs() == 1)
        await store.close()
    }

    // MARK: requests

    @Test(
        "numbers requests that come with the same id, also when gateways write them at once",
        arguments: Backend.shared
    )
    func numbers(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let stores = try (0..<3).map { _ in try room.store() }
        let ids = await withTaskGroup(of: String.self) { group in
            for number in 0..<24 {
                let recorder = FlightRecorder(stores[number % 3]) { Issue.record("\($0)") }
                group.addTask {
                    await recorder.start(
                        FlightStart(correlationID: "same", provider: "claude", model: "m", prompt: "p")
                    )
                }
            }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(ids == Set(["same"] + (2...24).map { "same~\($0)" }))
        for store in stores { await store.close() }
    }

    @Test("records what was asked and answered, whatever characters it has", arguments: Backend.allCases)
    func record(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        let long = String(repeating: "id", count: 3000)
        for id in ["plain", "with \u{0} in it", long] {
            var start = FlightStart(correlationID: id, provider: "codex", model: "m", prompt: "ask \u{0} it")
            start.system = "be \u{0}"
            start.sessionID = "s"
            #expect(await recorder.start(start) == id)
            #expect(await recorder.start(start) == id + "~2")
            var end = FlightEnd(succeeded: true, response: "answer \u{0} 🦊", durationMilliseconds: 12)
            end.thinking = ["so \u{0}"]
            end.inputTokens = 3
            end.cacheReadTokens = 2
            end.costUSD = 0.25
            end.exitCode = 0
            await recorder.complete(id, end)
            let record = try #require(
                try await recorder.record(of: id, owner: "local", includePrompt: true)
            )
            #expect(record["prompt"] == "ask \u{0} it" && record["response"] == "answer \u{0} 🦊")
            #expect(record["thinkingBlocks"] == ["so \u{0}"] && record["costUsd"] == 0.25)
            #expect(record["durationMs"] == 12 && record["status"] == "completed")
        }
        let use = try #require(try await recorder.cacheUse(ofConversation: "s", owner: "local"))
        #expect(use.byModel.first?.requests == 6 && use.byModel.first?.readTokens == 6)
        await store.close()
    }

    @Test("takes runs from a day's budget, no more than there are", arguments: Backend.shared)
    func budget(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let stores = try (0..<3).map { _ in try room.store() }
        var budget = Configuration.Budget()
        budget.total.runs = 10
        let now = WallClock.system.now()
        let taken = try await withThrowingTaskGroup(of: Bool.self) { [budget] group in
            for number in 0..<30 {
                let spec = spec("\(number)")
                group.addTask {
                    let intake = try await stores[number % 3].takeIn(
                        spec,
                        directory: "/jobs/\(number)",
                        instance: "one",
                        host: "here",
                        budget: budget
                    )
                    switch intake.decision {
                    case .reserved: return true
                    case .refused(let error) where error.code == "budget-exceeded": return false
                    case .refused(let error): throw error
                    case .shared: return false
                    }
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(taken == 10)
        #expect(try await stores[0].running().count == 10)
        try await stores[0].write { connection throws(GatewayError) in
            try Store.addCost(1.5, of: "claude", at: now, connection)
            try Store.uncountRun(of: "claude", at: now, connection)
        }
        let use = try await BudgetUse.recorded(in: room.source, on: now, files: Files())
        #expect(use.total.runs == 9 && use.total.cost == 1.5)
        for store in stores { await store.close() }
    }

    // MARK: what goes

    @Test("removes what has expired, and what is to be forgotten, and counts it", arguments: Backend.allCases)
    func removal(_ backend: Backend) async throws {
        let hand = HandClock()
        let store = try RecordRoom(backend, clock: hand.clock).store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        for number in 0..<5 {
            var start = FlightStart(correlationID: "c-\(number)", provider: "claude", model: "m", prompt: "p")
            start.jobID = "\(number)"
            start.sessionID = number < 2 ? "s" : "t"
            await recorder.start(start)
            try await insert(store, spec("\(number)"))
            if number == 4 { continue }
            hand.advance(seconds: 1)
            try await finish(store, spec("\(number)"), ending([0x41], at: hand.clock.now()))
            await recorder.complete(
                "c-\(number)",
                FlightEnd(succeeded: true, response: "A", durationMilliseconds: 1)
            )
        }
        var selection = RecordSelection()
        selection.session = "s"
        let counted = try await store.count(selection)
        #expect(counted.jobs == 2 && counted.requests == 2 && counted.running.isEmpty)
        let forgotten = try await store.remove(selection)
        #expect(forgotten.jobs == 2 && forgotten.requests == 2)
        #expect(try await store.scrub(isInUse: false))
        #expect(try await store.removeExpired() == ExpiredRows())
        #expect(try await store.trimOutput(to: 8) == 1)
        #expect(try await store.output(of: "2")?.output.held == [])
        #expect(try await store.job("2")?.outputBytes == 1)
        hand.advance(seconds: 31 * 86_400)
        let expired = try await store.removeExpired()
        // What runs keeps its request.
        #expect(expired.jobs == 2 && expired.requests == 2)
        #expect(try await store.running().map(\.id) == ["4"])
        #expect(try await recorder.record(of: "c-4", owner: "local") != nil)
        let rest = try await store.remove(jobs: ["4"])
        #expect(rest.jobs == 1 && rest.requests == 1)
        await store.close()
    }

    @Test("exports what it has", arguments: Backend.shared)
    func export(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let store = try room.store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        var start = FlightStart(correlationID: "c-j", provider: "claude", model: "m", prompt: "the prompt")
        start.jobID = "j"
        await recorder.start(start)
        try await finish(store, spec("j"), ending(Array("the output".utf8)))
        let lines = Mutex<[JSON]>([])
        let count = try await RecordExport.run(room.source, RecordSelection(), files: Files()) { record in
            lines.withLock { $0.append(record) }
        }
        #expect(count == (1, 1))
        let all = lines.withLock { $0 }
        #expect(all.first?["type"] == "request" && all.first?["prompt"] == "the prompt")
        #expect(all.first?["metadata"]?["async_job_id"] == "j")
        #expect(
            all.last?["type"] == "job" && all.last?["stdout"] == "the output" && all.last?["exit_code"] == 0
        )
        await store.close()
    }

    @Test("closes requests that never became a job", arguments: Backend.allCases)
    func abandoned(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        await recorder.start(FlightStart(correlationID: "c", provider: "claude", model: "m", prompt: "p"))
        let later = WallClock.system.now().advanced(byMilliseconds: 1000)
        let found = try await store.requestsWithoutJob(startedBefore: later)
        #expect(found.map(\.id) == ["c"])
        try await store.fail(found.map(\.id), error: Store.abandonedRecord)
        #expect(
            try await recorder.record(of: "c", owner: "local")?["errorMessage"]
                == .string(Store.abandonedRecord)
        )
        #expect(try await store.requestsWithoutJob(startedBefore: later).isEmpty)
        // Its job was somewhere else after all.
        await recorder.complete("c", FlightEnd(succeeded: true, response: "r", durationMilliseconds: 1))
        #expect(try await recorder.record(of: "c", owner: "local")?["status"] == "completed")
        await store.close()
    }
}
