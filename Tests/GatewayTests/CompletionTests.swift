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

    /// A run of claude, which says what the conversation `said` has cost so far.
    private func run(
        _ job: String,
        _ session: SessionChoice,
        says said: String,
        total: String
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
        var spec = JobSpec(request, submitted: Timestamp(milliseconds: 0), boot: nil)
        spec.context = context.json
        let output =
            #"{"type":"result","subtype":"success","is_error":false,"result":"ok","session_id":""# + said
            + #"","total_cost_usd":"# + total + "}\n"
        let instant = Timestamp(milliseconds: 0)
        return JobOutcome(
            spec: spec,
            status: .completed,
            exit: ExitRecord(
                status: .exited(0),
                intervention: nil,
                started: instant,
                finished: instant,
                durationMilliseconds: 5
            ),
            output: Array(output.utf8),
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
        #expect(try await cost("b") == .null && total("s") == 0.1)
        #expect(try await cost("c10") == .double(0.01))
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
}
