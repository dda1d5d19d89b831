import Appliance
import Glibc
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("Running the same request once")
struct SharingTests {
    private let shop: Workshop
    private let hand = HandClock()
    private let rule = Sharing(window: .seconds(3600), includesFinished: true)
    private let runningOnly = Sharing(window: .seconds(3600), includesFinished: false)

    init() throws { shop = try Workshop(clock: hand.clock) }

    /// A request that notes each of its runs in the file `starts`, and waits for the gate where it is told to.
    private func request(
        _ key: String = "k",
        waits: Bool = false,
        fails: Bool = false,
        in shop: Workshop? = nil
    ) -> JobRequest {
        let shop = shop ?? self.shop
        let script =
            "echo x >>'\(self.shop.directory.path("starts"))'; \(waits ? shop.gate : ":"); echo answer; exit \(fails ? 3 : 0)"
        var request = shop.script(script)
        request.requestKey = key
        request.context = ["run": .string(request.id)]
        return request
    }

    private var starts: Int {
        ((try? Files().read(shop.directory.path("starts"))) ?? []).count { $0 == UInt8(ascii: "x") }
    }

    private func outcome(_ submission: Submission) async throws -> JobOutcome {
        try #require(await submission.handle.outcome(within: .seconds(30)))
    }

    private func run(
        _ request: JobRequest,
        _ sharing: Sharing?
    ) async throws -> (
        submission: Submission, outcome: JobOutcome
    ) {
        let submission = try await shop.scheduler.submit(request, sharing: sharing)
        return (submission, try await outcome(submission))
    }

    /// Submits and waits, in a task of its own for each request.
    private func all(_ requests: [(Workshop, JobRequest)]) async throws -> [(Submission, JobOutcome)] {
        let rule = rule
        return try await withThrowingTaskGroup(of: (Submission, JobOutcome).self) { group in
            for (shop, request) in requests {
                group.addTask {
                    let submission = try await shop.scheduler.submit(request, sharing: rule)
                    return (submission, try #require(await submission.handle.outcome(within: .seconds(60))))
                }
            }
            var results: [(Submission, JobOutcome)] = []
            for try await result in group { results.append(result) }
            return results
        }
    }

    @Test("fifty clients at once start one CLI, and each has its answer")
    func fifty() async throws {
        let results = try await all((0..<50).map { _ in (shop, request()) })
        #expect(starts == 1)
        let leaders = results.filter { $0.0.leader == nil }
        #expect(leaders.count == 1)
        let record = try #require(leaders.first?.1.spec.correlationID)
        #expect(results.allSatisfy { $0.0.leader == nil || $0.0.leader == record })
        #expect(Set(results.map(\.0.handle.id)).count == 1)
        #expect(
            results.allSatisfy { $0.1.output.held == Array("answer\n".utf8) && $0.1.status == .completed }
        )
        #expect(shop.findings.all == [])
    }

    @Test("three gateways on one file start one CLI for sixty clients, and none of them polls for its end")
    func severalGateways() async throws {
        let shops = [shop, try Workshop(in: shop.directory), try Workshop(in: shop.directory)]
        let results = try await all((0..<60).map { (shops[$0 % 3], request(in: shops[$0 % 3])) })
        #expect(starts == 1)
        #expect(results.count { $0.0.leader == nil } == 1)
        #expect(
            results.allSatisfy { $0.1.output.held == Array("answer\n".utf8) && $0.1.status == .completed }
        )
        // The request's own context comes with the answer, as the gateway that ran it kept it.
        #expect(Set(results.map(\.1.spec.context)).count == 1)
        #expect(shops.flatMap { $0.findings.all } == [])
    }

    @Test("a run under another gateway is waited for, its output seen, and its end told with its record")
    func elsewhere() async throws {
        let first = try await shop.scheduler.submit(request(waits: true), sharing: rule)
        let other = try Workshop(in: shop.directory)
        let second = try await other.scheduler.submit(request(in: other), sharing: runningOnly)
        let third = try await other.scheduler.submit(request(in: other), sharing: rule)
        #expect(second.handle.id == first.handle.id && third.handle.id == first.handle.id)
        #expect(await second.handle.outcome(within: .milliseconds(100)) == nil)
        try shop.openGate()
        for submission in [second, third] {
            let outcome = try await outcome(submission)
            #expect(outcome.status == .completed && outcome.exit?.exitCode == 0 && outcome.hasBegun)
            #expect(outcome.spec.id == first.handle.id && outcome.spec.correlationID == second.leader)
        }
        #expect(starts == 1)
    }

    @Test("a finished run answers within the window, and not beyond it, nor after a wish for a new one")
    func finished() async throws {
        let first = try await run(request(), rule)
        let again = try await run(request(), rule)
        #expect(again.submission.handle.id == first.submission.handle.id && starts == 1)
        #expect(again.outcome.output.held == Array("answer\n".utf8))
        #expect(again.outcome.spec.context == first.outcome.spec.context)
        #expect(again.submission.leader == first.outcome.spec.correlationID)
        let fresh = try await run(request(), nil)
        #expect(fresh.submission.leader == nil && starts == 2)
        // The newest is the one that counts now.
        #expect(try await run(request(), rule).submission.handle.id == fresh.submission.handle.id)
        #expect(try await run(request("other"), rule).submission.leader == nil)
        #expect(
            try await run(request(), Sharing(window: .zero, includesFinished: true)).submission.leader == nil
        )
        #expect(starts == 4)
        hand.advance(seconds: 3601)
        #expect(try await run(request(), rule).submission.leader == nil)
        #expect(starts == 5)
    }

    @Test("a run that failed, was canceled or is over is not shared with who continues a conversation")
    func notShared() async throws {
        #expect(try await run(request(fails: true), rule).outcome.status == .failed)
        #expect(try await run(request(), rule).submission.leader == nil)
        #expect(try await run(request(), runningOnly).submission.leader == nil)
        #expect(starts == 3)
        let canceled = try await shop.scheduler.submit(request("c", waits: true), sharing: rule)
        try await shop.scheduler.cancel(canceled.handle.id)
        #expect(try await shop.scheduler.submit(request("c"), sharing: rule).leader == nil)
        #expect(try await outcome(canceled).status == .canceled)
    }

    @Test("a run that ended well and did not answer is not given again")
    func noAnswer() async throws {
        let first = try await run(request(), rule)
        try await shop.store.write { connection throws(GatewayError) in
            try connection.execute("UPDATE jobs SET error_category = 'cli_error'")
        }
        let second = try await run(request(), rule)
        #expect(second.submission.leader == nil && second.submission.handle.id != first.submission.handle.id)
    }

    @Test("a run goes on for as long as one of its callers wants it, and ends with the last")
    func leaving() async throws {
        let requests = (0..<3).map { _ in request(waits: true) }
        var submissions: [Submission] = []
        for request in requests {
            submissions.append(try await shop.scheduler.submit(request, sharing: rule))
        }
        let id = submissions[0].handle.id
        #expect(await !shop.scheduler.leave(id, correlationID: requests[0].correlationID))
        #expect(await !shop.scheduler.leave(id, correlationID: requests[0].correlationID))
        #expect(await !shop.scheduler.leave(id, correlationID: requests[2].correlationID))
        #expect(await shop.scheduler.snapshot(id)?.status == .running)
        #expect(await shop.scheduler.leave(id, correlationID: requests[1].correlationID))
        #expect(try await outcome(submissions[0]).status == .canceled)
    }

    @Test("a run that another gateway's caller waits for is not ended by its own")
    func leavingOthers() async throws {
        let own = request(waits: true)
        let first = try await shop.scheduler.submit(own, sharing: rule)
        let other = try Workshop(in: shop.directory)
        let joining = request(in: other)
        let recorder = FlightRecorder(other.store) { Issue.record("\($0)") }
        await recorder.start(
            FlightStart(correlationID: joining.correlationID, provider: "claude", model: "m", prompt: "p")
        )
        let second = try await other.scheduler.submit(joining, sharing: rule)
        #expect(await !shop.scheduler.leave(first.handle.id, correlationID: own.correlationID))
        try shop.openGate()
        #expect(try await outcome(second).status == .completed)
    }

    @Test("the record of a request that shared a run has its answer, and not its cost")
    func records() async throws {
        let recorder = FlightRecorder(shop.store) { Issue.record("\($0)") }
        func begin(_ request: JobRequest) async {
            await recorder.start(
                FlightStart(correlationID: request.correlationID, provider: "claude", model: "m", prompt: "p")
            )
        }
        let leading = request(waits: true)
        await begin(leading)
        let first = try await shop.scheduler.submit(leading, sharing: rule)
        let early = request()
        await begin(early)
        _ = try await shop.scheduler.submit(early, sharing: rule)
        var end = FlightEnd(succeeded: true, response: "the answer", durationMilliseconds: 7)
        end.costUSD = 0.5
        end.inputTokens = 10
        end.exitCode = 0
        await recorder.complete(leading.correlationID, end, job: first.handle.id)
        try shop.openGate()
        _ = try await outcome(first)
        let late = request()
        await begin(late)
        _ = try await shop.scheduler.submit(late, sharing: rule)
        for request in [early, late] {
            let record = try #require(
                try await recorder.record(of: request.correlationID, owner: Ownership.local)
            )
            #expect(record["status"] == "completed" && record["response"] == "the answer")
            #expect(record["durationMs"] == 7 && record["exitCode"] == 0)
            #expect(record["costUsd"] == .null && record["inputTokens"] == .null)
            #expect(record["asyncJobId"]?.string == first.handle.id)
            #expect(record["sharedWith"]?.string == leading.correlationID)
        }
        #expect(starts == 1)
    }

    @Test("a reservation that there is no room for is taken back, and told to those who joined it")
    func saturated() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        limits.maxQueuedJobs = 0
        let shop = try Workshop(limits: limits)
        let busy = try await shop.scheduler.submit(shop.script(shop.gate))
        let requests = (0..<4).map { _ in
            var request = shop.script("true")
            request.requestKey = "k"
            return request
        }
        await withTaskGroup(of: String?.self) { group in
            for request in requests {
                group.addTask { [rule] in
                    do throws(GatewayError) {
                        _ = try await shop.scheduler.submit(request, sharing: rule)
                        return nil
                    } catch {
                        return error.code
                    }
                }
            }
            for await code in group { #expect(code == "saturated") }
        }
        #expect(try await shop.store.running(below: shop.layout.jobs, on: "").map(\.id) == [busy.id])
        #expect(
            try Files().list(shop.layout.jobs).allSatisfy { !$0.hasPrefix(InstanceRegistry.stagingPrefix) }
        )
        try shop.openGate()
        #expect(await busy.outcome(within: .seconds(20))?.status == .completed)
        #expect(try await shop.scheduler.submit(requests[0], sharing: rule).leader == nil)
    }

    @Test(
        "a reservation of a gateway that died before the job had its directory is closed, and nobody waits for it"
    )
    func crashed() async throws {
        // Nobody has the lock of this one.
        let host = await shop.scheduler.registry.host
        func reserve(_ key: String) async throws -> String {
            let request = request(key)
            let spec = JobSpec(request, submitted: shop.machine.clock.now(), boot: nil, instance: "a-gateway")
            let intake = try await shop.store.takeIn(
                spec,
                directory: shop.layout.job(request.id),
                instance: "a-gateway-that-is-gone",
                host: host,
                sharing: Intake.Rule(start: Timestamp(milliseconds: 0), includesFinished: true)
            )
            #expect(intake.shared == nil)
            return request.id
        }
        let waitedFor = try await reserve("waited for")
        let (submission, ended) = try await run(request("waited for"), rule)
        #expect(submission.handle.id == waitedFor && ended.status == .orphaned)
        #expect(ended.message == "the gateway ended before the job was started; ask again")
        #expect(try await run(request("waited for"), rule).outcome.status == .completed)
        let left = try await reserve("left")
        #expect(await shop.scheduler.adopt().orphaned == [left])
        #expect(try await run(request("left"), rule).submission.leader == nil)
        #expect(starts == 2)
    }

    @Test("a run that was taken over from a gateway that is gone is shared as before")
    func adopted() async throws {
        // As that gateway left it: with its runner and its name.
        let left = request(waits: true)
        let spec = JobSpec(
            left,
            submitted: shop.machine.clock.now(),
            boot: nil,
            instance: "a-gateway-that-is-gone"
        )
        let directory = shop.scheduler.directory(of: left.id)
        try JobFiles.stage(
            left,
            spec,
            as: directory,
            for: directory,
            files: Files()
        )
        _ = try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", directory.path]))
        #expect(try await changes(in: directory.path) { Files().exists(directory.runner) })
        #expect(await shop.scheduler.adopt().live == [left.id])
        let second = try await shop.scheduler.submit(request(), sharing: runningOnly)
        #expect(second.handle.id == left.id && second.leader == left.correlationID)
        try shop.openGate()
        #expect(try await outcome(second).status == .completed)
        #expect(starts == 1)
    }

    @Test("a store that cannot be written shares nothing and stops nothing")
    func brokenStore() async throws {
        let path = shop.directory.path("broken.db")
        try Files().write(repeatElement(0x41, count: 4096), to: path)
        let broken = try Workshop(in: shop.directory, store: Store(path: path, clock: .system))
        let submission = try await broken.scheduler.submit(request(in: broken), sharing: rule)
        #expect(submission.leader == nil)
        #expect(try await outcome(submission).status == .completed)
        #expect(broken.findings.all.contains { $0.contains("broken.db") })
    }
}
