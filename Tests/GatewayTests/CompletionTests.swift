import Appliance
import MCP
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Gateway
@testable import Jobs
@testable import Providers

@Suite("Bringing a run to its end")
struct CompletionTests {
    private let home: TemporaryDirectory
    private let store: Store
    private let sessions: SessionStore
    private let conversations: Conversations

    init() throws {
        home = try TemporaryDirectory()
        let machine = Machine(
            environment: ["HOME": home.root],
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        let layout = try Layout(environment: machine.environment)
        store = Store(path: home.path("logs.db"), clock: .system)
        sessions = SessionStore(layout: layout, machine: machine) { Issue.record("\($0)") }
        conversations = Conversations(sessions: sessions, machine: machine, layout: layout)
    }

    private var recorder: FlightRecorder { FlightRecorder(store) { Issue.record("\($0)") } }

    /// A gateway's completion; without a recorder, that of one which dies before it closes the record.
    private func completion(recording: Bool = true) -> Completion {
        let recorder = recording ? recorder : FlightRecorder(nil) { Issue.record("\($0)") }
        return Completion(recorder: recorder, conversations: conversations, log: .none)
    }

    /// A run of claude, which says what the conversation `said` has cost so far; without a total it was ended before it
    /// could.
    private func run(
        _ job: String,
        _ session: SessionChoice,
        says said: String?,
        total: String?,
        submitted: Timestamp? = nil,
        started: Timestamp? = nil
    ) async throws -> JobOutcome {
        await recorder.start(
            FlightStart(correlationID: job, provider: "claude", model: "default", prompt: "p")
        )
        let context = Completion.Context(
            reading: ReadingContext(provider: .claude, outputFormat: "text", session: session),
            owner: Ownership.local,
            workspace: nil,
            keepsConversation: true,
            isNamed: false
        )
        let request = JobRequest(
            id: job,
            provider: "claude",
            executable: "/bin/true",
            arguments: [],
            environment: [:],
            correlationID: job
        )
        var spec = JobSpec(
            request,
            submitted: submitted ?? WallClock.system.now(),
            boot: nil,
            instance: "a-gateway"
        )
        spec.context = context.json
        let head = said.map { #""session_id":"\#($0)","# } ?? ""
        let output =
            total.map {
                #"{"type":"result","subtype":"success","is_error":false,"result":"ok",\#(head)"total_cost_usd":\#($0)}"#
            } ?? #"{\#(head)"type":"system","subtype":"init"}"#
        let now = WallClock.system.now()
        return JobOutcome(
            spec: spec,
            status: total == nil ? .failed : .completed,
            exit: ExitRecord(
                status: total == nil ? .signalled(15) : .exited(0),
                intervention: nil,
                started: started ?? submitted ?? now,
                finished: now,
                durationMilliseconds: 5
            ),
            output: WrittenBytes(Array("\(output)\n".utf8)),
            errorOutput: [],
            files: [:],
            message: nil
        )
    }

    private func cost(_ job: String) async throws -> JSON? {
        try await recorder.record(of: job, owner: Ownership.local)?["costUsd"]
    }

    private func total(_ id: String) -> Double? {
        conversations.total(of: id, owner: Ownership.local)?.costUSD
    }

    @Test("the run of a gateway that died after keeping the total is recorded with what it used")
    func replay() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        let cut = try await run("b", .resume("s"), says: "s", total: "0.03")
        await completion(recording: false).finish(cut)
        #expect(try await cost("b") == .null && total("s") == 0.03)
        await completion().finish(cut)
        #expect(try await cost("b") == .double(0.02))
        #expect(try await recorder.record(of: "b", owner: Ownership.local)?["status"] == "completed")
        // However often it is done again, the next run is counted from the same total.
        await completion().finish(cut)
        #expect(total("s") == 0.03)
        await completion().finish(try await run("c", .resume("s"), says: "s", total: "0.04"))
        #expect(try await cost("c") == .double(0.01))
    }

    @Test("also when the conversation has gone on meanwhile, and its total is left where that has brought it")
    func replayLater() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        let cut = try await run("b", .resume("s"), says: "s", total: "0.03")
        await completion(recording: false).finish(cut)
        await completion().finish(try await run("c", .resume("s"), says: "s", total: "0.07"))
        await completion().finish(cut)
        #expect(try await cost("c") == .double(0.04))
        #expect(try await cost("b") == .double(0.02))
        #expect(total("s") == 0.07)
    }

    @Test(
        "also when it forked the conversation, or the CLI went on under another id",
        arguments: [SessionChoice.fork("s"), .resume("s")]
    )
    func anotherID(_ choice: SessionChoice) async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        let cut = try await run("b", choice, says: "t", total: "0.03")
        await completion(recording: false).finish(cut)
        await completion().finish(try await run("c", .resume("s"), says: "s", total: "0.02"))
        await completion().finish(cut)
        #expect(try await cost("b") == .double(0.02) && total("t") == 0.03)
    }

    @Test("a run whose earlier total nobody knows has no usage, the second time as well")
    func unknown() async throws {
        let cut = try await run("b", .resume("s"), says: "s", total: "0.03")
        await completion(recording: false).finish(cut)
        await completion().finish(cut)
        #expect(try await cost("b") == .null && total("s") == 0.03)
    }

    @Test(
        "a conversation remembers the last eight steps, and a run from before them has no usage rather than a wrong one"
    )
    func forgotten() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        let cut = try await run("b", .resume("s"), says: "s", total: "0.02")
        await completion(recording: false).finish(cut)
        for turn in 3...10 {
            await completion().finish(
                try await run("c\(turn)", .resume("s"), says: "s", total: "\(Double(turn) / 100)")
            )
        }
        let metadata = sessions.session("s", caller: Ownership.local)?.metadata
        #expect(metadata?["runningTotalSteps"]?.array?.count == 8)
        await completion().finish(cut)
        // As with two runs at once, what the total stands for is not known then either.
        #expect(try await cost("b") == .null && total("s") == nil)
        #expect(try await cost("c10") == .double(0.01))
    }

    @Test("after a run that ended without a total, the next one has no usage, and the one after it its own")
    func ended() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        let killed = try await run("b", .resume("s"), says: "s", total: nil)
        await completion(recording: false).finish(killed)
        #expect(total("s") == nil)
        let next = try await run("c", .resume("s"), says: "s", total: "0.03")
        await completion().finish(next)
        #expect(try await cost("c") == .null && total("s") == 0.03)
        // Done again after a crash, it takes nothing from the total that the next run has brought.
        await completion().finish(killed)
        #expect(total("s") == 0.03)
        await completion().finish(try await run("d", .resume("s"), says: "s", total: "0.04"))
        #expect(try await cost("d") == .double(0.01))
    }

    @Test("a run of the latest conversation that never said which one it was may have been a run of any")
    func endedLatest() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        await completion().finish(try await run("b", .new(id: nil), says: "t", total: "0.01"))
        await completion().finish(try await run("c", .latest, says: nil, total: nil))
        #expect(total("s") == nil && total("t") == nil)
    }

    @Test("a run that was never begun leaves the total as it was")
    func neverBegun() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        var outcome = try await run("b", .resume("s"), says: nil, total: nil)
        outcome.output = []
        outcome.exit = nil
        outcome.hasBegun = false
        outcome.refusal = GatewayError("turn-missed", "the job waited 2.0 seconds for its turn")
        await completion().finish(outcome)
        #expect(total("s") == 0.01)
        await completion().finish(try await run("c", .resume("s"), says: "s", total: "0.02"))
        #expect(try await cost("c") == .double(0.01))
    }

    @Test("of two runs of a conversation at once, the one that ends last has no usage, nor has the next run")
    func atOnce() async throws {
        await completion().finish(try await run("a", .new(id: nil), says: "s", total: "0.01"))
        let before = WallClock.system.now().advanced(byMilliseconds: -1)
        let first = try await run("b", .resume("s"), says: "s", total: "0.03", submitted: before)
        let second = try await run("c", .resume("s"), says: "s", total: "0.04", submitted: before)
        let earlier = conversations.total(of: "s", owner: Ownership.local)
        let step = Conversations.Step(
            job: "a",
            base: nil,
            ended: WallClock.system.now().advanced(byMilliseconds: -1000)
        )
        _ = try await sessions.update("s", caller: Ownership.local) {
            $0.metadata["runningTotalSteps"] = .array([step.json])
        }
        #expect(earlier?.costUSD == 0.01)
        await completion().finish(first)
        await completion().finish(second)
        #expect(try await cost("b") == .double(0.02))
        #expect(try await cost("c") == .null)
        #expect(total("s") == nil)
        await completion().finish(try await run("d", .resume("s"), says: "s", total: "0.06"))
        #expect(try await cost("d") == .null && total("s") == 0.06)
    }

    @Test(
        "of two runs of a conversation one after the other, the second has its usage though it was sent before the first had ended"
    )
    func inTurn() async throws {
        let before = WallClock.system.now().advanced(byMilliseconds: -60_000)
        await completion().finish(
            try await run("a", .new(id: nil), says: "s", total: "0.01", submitted: before)
        )
        let second = try await run(
            "b",
            .resume("s"),
            says: "s",
            total: "0.03",
            submitted: before,
            started: WallClock.system.now()
        )
        await completion().finish(second)
        #expect(try await cost("b") == .double(0.02) && total("s") == 0.03)
    }

    @Test(
        "what kept a run from starting decides the category",
        arguments: [
            ("turn-missed", "saturated", 1, true), ("command-not-found", "spawn_error", 127, false),
            ("spawn-failed", "spawn_error", 126, false),
        ]
    )
    func categories(code: String, category: String, exitCode: Int32, isRetryable: Bool) async throws {
        var outcome = try await run("b", .new(id: nil), says: nil, total: nil)
        outcome.output = []
        outcome.exit = nil
        outcome.refusal = GatewayError(code, "why")
        let completion = completion()
        completion.expect("b")
        await completion.finish(outcome)
        let result = try #require(completion.take("b"))
        #expect(result.category?.rawValue == category && result.exitCode == exitCode)
        #expect(result.category?.isRetryable == isRetryable)
        #expect(result.errorText?.contains("why") == true)
    }

    @Test("keeps no result for a caller that waits no longer, and the record of the run all the same")
    func deferred() async throws {
        let completion = completion()
        let outcome = try await run("b", .new(id: nil), says: "s", total: "0.01")
        completion.expect("b")
        #expect(completion.take("b") == nil)
        await completion.finish(outcome)
        #expect(completion.take("b") == nil)
        #expect(try await recorder.record(of: "b", owner: Ownership.local)?["status"] == "completed")
    }

    @Test(
        "and so does what refused a request before there was a run",
        arguments: [
            ("saturated", "saturated", 1), ("session-refused", "invalid_input", 1),
            ("workspace-required", "invalid_input", 1), ("unknown-workspace", "invalid_input", 1),
            ("path-refused", "invalid_input", 1), ("directory-not-found", "invalid_input", 1),
            ("command-not-found", "spawn_error", 127), ("spawn-failed", "spawn_error", 126),
        ]
    )
    func refusals(code: String, category: String, exitCode: Int) {
        let body = Answer.refusal(.claude, GatewayError(code, "why"), "c").structuredContent
        #expect(body?["errorCategory"]?.string == category && body?["exitCode"]?.int == exitCode)
        #expect(body?["retryable"]?.bool == (category == "saturated"))
    }

    @Test("an empty correlation id is none")
    func noCorrelation() {
        for (given, id) in [("", nil), ("c", "c")] {
            #expect(RequestTool.correlation(JSONObject([("correlationId", .string(given))])) == id)
        }
        #expect(RequestTool.correlation(JSONObject()) == nil)
    }

    @Test("an answer under another correlation id than the caller's says so")
    func renamed() throws {
        #expect(RequestTool.warnings(asked: "c", recorded: "c").isEmpty)
        let warning = try #require(RequestTool.warnings(asked: "c", recorded: "c~2").first)
        #expect(
            warning.json == [
                "code": "correlation_id_taken",
                "message":
                    "an earlier request has the correlationId 'c', so this run is recorded as 'c~2'; llm_request_result finds it by that",
                "requested": "c", "correlationId": "c~2",
            ]
        )
        let refusal = Answer.refusal(.claude, GatewayError("saturated", "full"), "c~2", [warning])
        #expect(refusal.structuredContent?["correlationId"] == "c~2")
        #expect(refusal.structuredContent?["warnings"] == [warning.json])
    }

    @Test("what callers look for beside structuredContent is there as well, where it says something")
    func beside() async throws {
        var result = ProviderResult()
        result.reply = "ok"
        result.sessionID = "s"
        result.warnings = [RequestWarning("w", "why")]
        let outcome = try await run("b", .new(id: nil), says: "s", total: "0.01")
        func members(_ provider: Provider) async throws -> JSONObject {
            try await Answer(provider: provider, correlation: "c", model: nil, warnings: result.warnings)
                .toolResult(result, outcome).beside
        }
        #expect(try await members(.grok).names == ["sessionId", "resumable", "warnings"])
        #expect(try await members(.grok)["sessionId"] == "s")
        #expect(try await members(.grok)["resumable"] == true)
        #expect(try await members(.grok)["warnings"] == [["code": "w", "message": "why"]])
        #expect(try await members(.claude).names == ["sessionId", "warnings"])
        result.warnings = []
        result.sessionID = nil
        #expect(try await members(.claude).isEmpty)
        #expect(try await members(.gemini)["resumable"] == false)
        #expect(Answer.refusal(.claude, GatewayError("saturated", "full"), "c").beside.isEmpty)
    }
}
