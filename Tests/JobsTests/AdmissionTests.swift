import Appliance
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("Admission")
struct AdmissionTests {
    private typealias Applicant = Admission.Applicant

    private func admission(_ running: Int, _ perProvider: Int, _ queued: Int) -> Admission {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = running
        limits.maxRunningJobsPerProvider = perProvider
        limits.maxQueuedJobs = queued
        return Admission(limits)
    }

    /// Lets one job run after the other and says in which order those that wait had their turns.
    private func order(_ admission: inout Admission, from first: String) -> [String] {
        var order: [String] = []
        var running = [first]
        while !running.isEmpty {
            let next = admission.release(running.removeFirst(), now: 0)
            order += next
            running += next
        }
        return order
    }

    @Test("lets jobs run up to the limit, then wait in order")
    func limits() throws {
        var admission = admission(2, 2, 10)
        var runs: [Bool] = []
        for (id, provider) in [("a", "claude"), ("b", "codex"), ("c", "claude"), ("d", "codex")] {
            runs.append(try admission.admit(Applicant(id, provider: provider), now: 0))
        }
        #expect(runs == [true, true, false, false])
        let turns = ["b", "a", "c", "d", "d"].map { admission.release($0, now: 0) }
        #expect(turns == [["c"], ["d"], [], [], []])
        #expect(admission.runningCount == 0)
    }

    @Test("lets other providers pass one that is at its limit")
    func perProvider() throws {
        var admission = admission(3, 1, 10)
        var runs: [Bool] = []
        for (id, provider) in [("a", "claude"), ("b", "claude"), ("c", "codex")] {
            runs.append(try admission.admit(Applicant(id, provider: provider), now: 0))
        }
        #expect(runs == [true, false, true])
        let turns = ["c", "a"].map { admission.release($0, now: 0) }
        #expect(turns == [[], ["b"]])
    }

    @Test("gives each client its turn, however many jobs another one has brought")
    func fair() throws {
        var admission = admission(1, 1, 200)
        _ = try admission.admit(Applicant("first", provider: "claude", client: "busy"), now: 0)
        for number in 0..<100 {
            _ = try admission.admit(Applicant("busy-\(number)", provider: "claude", client: "busy"), now: 0)
        }
        for client in ["ann", "bob"] {
            for number in 0..<2 {
                let applicant = Applicant("\(client)-\(number)", provider: "claude", client: client)
                _ = try admission.admit(applicant, now: 0)
            }
        }
        let order = order(&admission, from: "first")
        #expect(
            order.prefix(8) == [
                "busy-0", "ann-0", "bob-0", "busy-1", "ann-1", "bob-1", "busy-2", "busy-3",
            ]
        )
        #expect(order.count == 104 && admission.queuedCount == 0)
    }

    @Test("does not let newcomers starve a client that waits")
    func newcomers() throws {
        var admission = admission(1, 1, 200)
        _ = try admission.admit(Applicant("r", provider: "claude", client: "busy"), now: 0)
        for number in 0..<5 {
            _ = try admission.admit(Applicant("busy-\(number)", provider: "claude", client: "busy"), now: 0)
        }
        var order: [String] = []
        var running = "r"
        // Before every turn somebody comes who was never here.
        for number in 0..<12 {
            let applicant = Applicant("new-\(number)", provider: "claude", client: "new-\(number)")
            _ = try admission.admit(applicant, now: 0)
            let next = admission.release(running, now: 0)
            order += next
            running = next.first ?? ""
        }
        #expect(order.count { $0.hasPrefix("busy") } >= 4, "\(order)")
    }

    @Test("lets callers who wait go before the background, but for every fourth turn")
    func priority() throws {
        var admission = admission(1, 1, 200)
        _ = try admission.admit(Applicant("r", provider: "claude"), now: 0)
        for number in 0..<3 { _ = try admission.admit(Applicant("b\(number)", provider: "claude"), now: 0) }
        for number in 0..<7 {
            let applicant = Applicant("w\(number)", provider: "claude", isAwaited: true)
            _ = try admission.admit(applicant, now: 0)
        }
        admission.prefer("b2")
        let order = order(&admission, from: "r")
        #expect(order == ["b2", "w0", "w1", "b0", "w2", "w3", "w4", "b1", "w5", "w6"])
    }

    @Test("refuses what can neither run nor wait, and says what to do and when")
    func saturated() throws {
        var admission = admission(1, 1, 1)
        _ = try admission.admit(Applicant("a", provider: "claude"), now: 0)
        _ = try admission.admit(Applicant("b", provider: "claude"), now: 0)
        let refusal = Result { () throws(GatewayError) in
            try admission.admit(Applicant("c", provider: "claude"), now: 7500)
        }
        let error = #expect(throws: GatewayError.self) { try refusal.get() }
        #expect(error?.code == "saturated" && error?.retryAfter == .milliseconds(7500))
        #expect(error?.message == "1 job runs and 1 wait, which is the limit")
        #expect(error?.help?.hasPrefix("try again in about 8 s") == true)
        // Whoever waits for nothing yet is not kept out by those who do.
        let other = try admission.admit(Applicant("d", provider: "claude", client: "other"), now: 0)
        #expect(!other)
        let full = Result { () throws(GatewayError) in
            try admission.admit(Applicant("e", provider: "claude", client: "third"), now: 0)
        }
        #expect(throws: GatewayError.self) { try full.get() }
        let withdrawals = [admission.withdraw("b"), admission.withdraw("b"), admission.withdraw("d")]
        #expect(withdrawals == [true, false, true])
        let runs = try admission.admit(Applicant("c", provider: "claude"), now: 0)
        #expect(!runs)
    }

    @Test("tells when to come again by what runs took")
    func hint() throws {
        var admission = admission(4, 4, 10)
        #expect(admission.retryAfter(0) == 1000)
        for id in ["a", "b", "c"] { _ = try admission.admit(Applicant(id, provider: "claude"), now: 0) }
        #expect(admission.retryAfter(30_000) == 10_000)
        _ = admission.release("a", now: 8000)
        #expect(admission.retryAfter(8000) == 4000)
        _ = admission.release("b", now: 1_000_000)
        #expect(admission.retryAfter(1_000_000) == 60_000)
    }
}

@Suite("The limit on all output")
struct OutputLimitTests {
    @Test("removes the oldest output and keeps what is known of its job")
    func trims() async throws {
        var limits = Configuration.Limits()
        limits.maxTotalOutputBytes = 25_000
        let shop = try Workshop(limits: limits)
        var ids: [String] = []
        for _ in 0..<4 {
            var request = shop.script("head -c 9000 /dev/zero | tr '\\0' x; echo err >&2")
            request.requestKey = "k\(ids.count)"
            ids.append(request.id)
            _ = try await shop.run(request)
        }
        let running = try await shop.scheduler.submit(shop.script("echo hello; \(shop.gate)"))
        await shop.scheduler.trimOutput()
        for (number, id) in ids.enumerated() {
            let job = try #require(try await shop.store.job(id))
            let output = try #require(try await shop.store.output(of: id))
            #expect(output.output.count == (number < 2 ? 0 : 9000), "\(number)")
            #expect(job.status == .completed && job.exitCode == 0 && job.outputBytes == 9000)
            #expect(job.outputTruncated == (number < 2))
        }
        // What was removed is not given again.
        var again = shop.script("echo anew")
        again.requestKey = "k0"
        let rule = Sharing(window: .seconds(3600), includesFinished: true)
        #expect(try await shop.scheduler.submit(again, sharing: rule).leader == nil)
        try shop.openGate()
        #expect(await running.outcome(within: .seconds(20))?.output.held == Array("hello\n".utf8))
    }

    @Test("is kept by itself while jobs end")
    func byItself() async throws {
        var limits = Configuration.Limits()
        limits.maxTotalOutputBytes = 5000
        let shop = try Workshop(limits: limits)
        var last = ""
        for _ in 0..<6 { last = try await shop.run(shop.script("head -c 2000 /dev/zero")).spec.id }
        let size = "SELECT SUM(length(stdout)) FROM jobs"
        #expect(
            try await eventually {
                try await shop.store.read { connection throws(GatewayError) in
                    try connection.first(size) { $0.integer(0) ?? 0 } ?? 0
                } <= 5000
            }
        )
        #expect(try await shop.store.output(of: last)?.output.count == 2000)
    }
}
