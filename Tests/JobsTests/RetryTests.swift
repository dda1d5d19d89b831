import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Jobs

@Suite("The circuit of a provider")
struct CircuitBreakerTests {
    private func circuit(_ state: CircuitBreaker.State) -> CircuitBreaker {
        var circuit = CircuitBreaker()
        switch state {
        case .closed(let failures):
            for _ in 0..<failures { circuit.end(.failedTransiently, now: 0) }
        case .open:
            for _ in 0..<CircuitBreaker.threshold { circuit.end(.failedTransiently, now: 0) }
        case .halfOpen(let isTrying):
            for _ in 0..<CircuitBreaker.threshold { circuit.end(.failedTransiently, now: 0) }
            circuit.settle(now: CircuitBreaker.reset)
            if isTrying { try? circuit.begin(now: CircuitBreaker.reset) }
        }
        return circuit
    }

    @Test("changes as the table says")
    func table() {
        let reset = CircuitBreaker.reset
        let rows: [(CircuitBreaker.State, CircuitBreaker.Ending, Int64, CircuitBreaker.State)] = [
            (.closed(failures: 0), .answered, 0, .closed(failures: 0)),
            (.closed(failures: 3), .answered, 0, .closed(failures: 0)),
            (.closed(failures: 3), .other, 0, .closed(failures: 3)),
            (.closed(failures: 3), .failedTransiently, 0, .closed(failures: 4)),
            (.closed(failures: 4), .failedTransiently, 7, .open(until: 7 + reset)),
            (.open(until: reset), .answered, 1, .closed(failures: 0)),
            (.open(until: reset), .failedTransiently, 1, .open(until: reset)),
            (.open(until: reset), .other, 1, .open(until: reset)),
            (.open(until: reset), .other, reset, .halfOpen(isTrying: false)),
            (.halfOpen(isTrying: true), .answered, reset, .closed(failures: 0)),
            (.halfOpen(isTrying: true), .other, reset, .halfOpen(isTrying: false)),
            (.halfOpen(isTrying: true), .failedTransiently, reset + 5, .open(until: 2 * reset + 5)),
        ]
        for (before, ending, now, after) in rows {
            var circuit = circuit(before)
            #expect(circuit.state == before)
            circuit.end(ending, now: now)
            #expect(circuit.state == after, "\(before) \(ending)")
        }
    }

    @Test(
        "lets one trial through when its time is over, and says how long until then in the contract's words"
    )
    func trial() throws {
        var circuit = circuit(.open(until: 60_000))
        var refusal = Result { () throws(GatewayError) in try circuit.begin(now: 18_001) }
        var error = #expect(throws: GatewayError.self) { try refusal.get() }
        #expect(
            error?.message
                == "[CircuitBreaker] Circuit is open. Failing fast. Will not try for another 42s."
        )
        #expect(error?.code == "circuit-open" && error?.retryAfter == .milliseconds(41_999))
        try circuit.begin(now: 60_000)
        #expect(circuit.state == .halfOpen(isTrying: true))
        refusal = Result { () throws(GatewayError) in try circuit.begin(now: 60_000) }
        error = #expect(throws: GatewayError.self) { try refusal.get() }
        #expect(error?.code == "circuit-open")
        circuit.end(.answered, now: 61_000)
        try circuit.begin(now: 61_000)
        #expect(circuit.state.name == "closed")
    }

    @Test("waits longer and longer, never more than half a minute, and not as long as everybody else")
    func backoff() {
        let longest = (2...9).map { Backoff.pause(before: $0, chance: 255).milliseconds }
        #expect(longest == [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000])
        let shortest = (2...5).map { Backoff.pause(before: $0, chance: 0).milliseconds }
        #expect(shortest == [500, 1000, 2000, 4000])
    }
}

@Suite("Trying a run again")
struct RetryTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// A gateway that takes status 75 for a failure that may pass.
    private func shop(
        _ files: Files = Files(),
        store: Store? = nil,
        atEnd: @escaping @Sendable () -> Void = {}
    ) throws -> Workshop {
        try Workshop(
            in: directory,
            store: store,
            files: files,
            judge: { outcome in
                guard outcome.exit?.exitCode == 75 else { return FailedAttempt() }
                let next = FailedAttempt.Next(
                    arguments: outcome.spec.arguments + ["again"],
                    context: ["attempts": .integer((outcome.spec.context["attempts"]?.int ?? 1) + 1)]
                )
                return FailedAttempt(isTransient: true, next: next)
            },
            verdict: {
                atEnd()
                return RunVerdict()
            }
        )
    }

    /// The numbers of the attempts that are decided on in the home just now.
    private func decided() -> [Int] {
        let jobs = directory.path(".llm-cli-gateway/jobs")
        return ((try? Files().list(jobs)) ?? []).compactMap { name in
            try? RetryRecord(JobDirectory(Layout.join(jobs, name)), files: Files())?.attempt
        }
    }

    /// Fails so many times for a reason that may pass, counted in the file `runs`.
    private func failing(_ times: Int, _ shop: Workshop, then: String = "echo done $#") -> JobRequest {
        let runs = directory.path("runs")
        return shop.script(
            "echo x >>'\(runs)'; [ $(wc -l <'\(runs)') -gt \(times) ] || { echo failed; exit 75; }; \(then)"
        )
    }

    private var runs: Int {
        ((try? Files().read(directory.path("runs"))) ?? []).count { $0 == UInt8(ascii: "x") }
    }

    @Test("succeeds at the next attempt, whose output alone is the answer")
    func succeeds() async throws {
        let shop = try shop()
        let outcome = try await shop.run(failing(1, shop))
        #expect(outcome.status == .completed && outcome.retryCount == 1 && outcome.circuit == "closed")
        // The next attempt's arguments and context are its own.
        #expect(String(decoding: outcome.output.held, as: UTF8.self) == "done 0\n")
        #expect(outcome.spec.context["attempts"] == 2 && runs == 2)
        #expect(shop.ended.all.count == 1)
        #expect(try await shop.store.job(outcome.spec.id)?.status == .completed)
        #expect(await shop.scheduler.circuit("claude").state == .closed(failures: 0))
    }

    @Test("is not done where the caller's time would be over, and never for another failure")
    func bounded() async throws {
        let shop = try shop()
        var request = failing(9, shop)
        request.retryTime = .milliseconds(400)
        let outcome = try await shop.run(request)
        #expect(outcome.status == .failed && outcome.retryCount == 0 && outcome.exit?.exitCode == 75)
        #expect(String(decoding: outcome.output.held, as: UTF8.self) == "failed\n")
        #expect(await shop.scheduler.circuit("claude").state == .closed(failures: 1))
        #expect(try await shop.run(shop.script("exit 3")).retryCount == 0)
        #expect(runs == 1)
    }

    /// Where a decision fails: before it has its name, after that, and when the output that the attempt left is moved already.
    enum Failing: CaseIterable, CustomTestStringConvertible {
        case folder, file, synchronization, move

        var testDescription: String { "\(self)" }

        /// Fails for the decision on one attempt.
        func files(attempt: Int) -> Files {
            let isNamed = GuardedValue(0)
            return Files { step throws(GatewayError) in
                var fails = false
                switch (self, step) {
                case (.folder, .makeDirectory(let path)): fails = path.hasSuffix("/attempt-\(attempt - 1)")
                case (.move, .rename(_, let path)):
                    fails = path.hasSuffix("/attempt-\(attempt - 1)/runner.jsonl")
                case (.file, .rename(_, let path)) where path.hasSuffix("/retry.json"):
                    fails =
                        isNamed.withLock {
                            $0 += 1; return $0
                        } == attempt - 1
                case (.synchronization, .rename(_, let path)) where path.hasSuffix("/retry.json"):
                    isNamed.withLock { $0 += 1 }
                case (.synchronization, .sync): fails = isNamed.withLock { $0 == attempt - 1 }
                default: break
                }
                if fails { throw GatewayError("disk-full", "no room for it") }
            }
        }
    }

    @Test(
        "is not done where that cannot be written down or carried out, and what was decided before stands",
        arguments: Failing.allCases,
        [2, 3]
    )
    func undecided(failing: Failing, attempt: Int) async throws {
        let standing = GuardedValue<[Int]?>(nil)
        let shop = try shop(failing.files(attempt: attempt)) {
            let found = decided()
            standing.withLock { $0 = found }
        }
        let outcome = try await shop.run(self.failing(9, shop))
        #expect(
            outcome.status == .failed && outcome.retryCount == attempt - 2 && outcome.exit?.exitCode == 75
        )
        #expect(String(decoding: outcome.output.held, as: UTF8.self) == "failed\n")
        #expect(runs == attempt - 1 && shop.findings.all.count == 1)
        #expect(shop.findings.all.first?.contains("no room for it") == true)
        #expect(standing.withLock { $0 } == (attempt == 2 ? [] : [attempt - 1]))
    }

    /// What fails once, after a part of the output was moved already: to take the decision back, or to move that part back.
    enum Standing: CaseIterable {
        case removal, undoing
    }

    @Test("is done where the decision on it cannot be taken back any more", arguments: Standing.allCases)
    func stands(what: Standing) async throws {
        let failures = GuardedValue<Set<String>>([])
        @Sendable func once(_ name: String) -> Bool { failures.withLock { $0.insert(name).inserted } }
        let shop = try shop(
            Files { step throws(GatewayError) in
                var fails = false
                switch (what, step) {
                case (_, .rename(_, let path)) where path.hasSuffix("attempt-1/runner.jsonl"):
                    fails = once("move")
                case (.undoing, .rename(let path, _)) where path.hasSuffix("attempt-1/stdout"):
                    fails = once("back")
                case (.removal, .remove(let path)) where path.hasSuffix("retry.json"): fails = once("removal")
                default: break
                }
                if fails { throw GatewayError("file-error", "not now") }
            }
        )
        let outcome = try await shop.run(failing(1, shop))
        #expect(outcome.status == .completed && outcome.retryCount == 1 && runs == 2)
        #expect(String(decoding: outcome.output.held, as: UTF8.self) == "done 0\n")
        #expect(shop.findings.all.count == 1 && failures.withLock { $0.count } == 2)
    }

    @Test("can be canceled while it waits")
    func canceled() async throws {
        let shop = try shop()
        let handle = try await shop.scheduler.submit(failing(9, shop))
        #expect(try await changes(in: handle.directory.path) { Files().exists(handle.directory.retry) })
        // Another gateway of the home sees it go on.
        let other = try Workshop(in: directory)
        let seen = try await other.scheduler.find(handle.id, for: Ownership.local)
        #expect(seen?.snapshot.status == .running && seen?.snapshot.exitCode == nil)
        try await shop.scheduler.cancel(handle.id)
        let outcome = try #require(await handle.outcome(within: .seconds(20)))
        #expect(outcome.status == .canceled && runs == 1)
        #expect(await shop.scheduler.counts == (0, 0))
    }

    @Test("is not done once the end was told, though that could not be committed")
    func overAlready() async throws {
        let path = directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        let shop = try shop(store: Store(path: path, clock: .system))
        let handle = try await shop.scheduler.submit(failing(1, shop))
        #expect(
            try await changes(in: handle.directory.path) {
                Files().exists(handle.directory.file("attempt-1/exit.json"))
            }
        )
        try await shop.scheduler.cancel(handle.id)
        #expect(await handle.outcome(within: .seconds(20))?.status == .canceled)
        try Files().removeFile(path)
        #expect(try await changes(in: shop.layout.jobs) { !Files().exists(handle.directory.path) })
        #expect(try await shop.store.job(handle.id)?.status == .canceled && runs == 1)
    }

    @Test("counts as begun, though its program has gone since the attempt before")
    func programGone() async throws {
        let shop = try shop()
        var request = failing(9, shop)
        request.executable = directory.path("tool")
        symlink("/bin/sh", request.executable)
        request.arguments[1] = "rm '\(request.executable)'; \(request.arguments[1])"
        let outcome = try await shop.run(request)
        #expect(outcome.status == .failed && outcome.exit?.exitCode == 127 && outcome.retryCount == 1)
        #expect(outcome.hasBegun && runs == 1)
    }

    @Test("stops when the circuit opens, and nothing of the provider is begun until its time")
    func opens() async throws {
        let shop = try shop()
        for _ in 0..<4 { await shop.scheduler.settleCircuit("claude", .failedTransiently) }
        let outcome = try await shop.run(failing(9, shop))
        #expect(outcome.status == .failed && outcome.retryCount == 0 && outcome.circuit == "open")
        let error = await #expect(throws: GatewayError.self) {
            try await shop.scheduler.submit(shop.script("true"))
        }
        #expect(error?.code == "circuit-open")
        #expect(await shop.scheduler.circuitReport()["claude"]?["state"] == "open")
        #expect(try await shop.run(shop.script("true", provider: "codex")).status == .completed)
        #expect(runs == 1 && shop.findings.all == [])
    }

    @Test("goes on under the next gateway as it was decided, and not otherwise", arguments: [true, false])
    func adopted(isDecided: Bool) async throws {
        let shop = try shop()
        let request = failing(1, shop)
        let spec = JobSpec(request, submitted: shop.machine.clock.now(), boot: nil, instance: "gone")
        let place = shop.scheduler.directory(of: request.id)
        try JobFiles.stage(request, spec, as: place, for: place, files: Files())
        let runner = try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", place.path]))
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        if isDecided {
            // Written down, and killed before anything followed from it.
            let next = FailedAttempt.Next(arguments: request.arguments, context: ["attempts": 2])
            let decision = RetryRecord(attempt: 2, next: next, notBefore: shop.machine.clock.now())
            try Files().write(decision.json.compact, to: place.retry)
        }
        let report = await shop.scheduler.adopt()
        #expect(isDecided ? report.queued == [place.id] : report.finished == [place.id])
        if let handle = await shop.scheduler.handle(place.id) {
            let outcome = try #require(await handle.outcome(within: .seconds(20)))
            #expect(outcome.retryCount == (isDecided ? 1 : 0))
        }
        #expect(try await shop.store.job(place.id)?.status == (isDecided ? .completed : .failed))
        #expect(runs == (isDecided ? 2 : 1))
    }
}
