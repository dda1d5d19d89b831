import Appliance
import Jobs
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Gateway
@testable import MCP

@Suite("Collecting a finished job")
struct JobToolsTests {
    private let home: TemporaryDirectory
    private let services: Services

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
        services = try Services(
            machine: machine,
            layout: try machine.layout(),
            configuration: Configuration(),
            log: .none
        )
    }

    /// A row as any gateway of this file may have written it; without a payload, one of the reference's.
    private func store(
        _ id: String,
        cli: String = "codex",
        format: String? = "text",
        output: String,
        status: String = "completed",
        exitCode: Int64 = 0,
        payload: JSON? = nil
    ) async throws {
        try await services.store?.write { connection throws(GatewayError) in
            try connection.execute(
                """
                INSERT INTO jobs (id, correlation_id, cli, output_format, status, exit_code, stdout, stderr, started_at,
                    finished_at, expires_at, owner_principal, payload_json)
                VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, 'hm', '2026-01-01T00:00:00.000Z', '2026-01-01T00:01:00.000Z',
                    '2099-01-01T00:00:00.000Z', 'ann', ?7)
                """,
                [
                    .text(id), .text(cli), .optional(format), .text(status), .integer(exitCode),
                    .text(output),
                    .optional(payload?.compactText),
                ]
            )
        }
    }

    private func call(_ name: String, _ arguments: JSON, as caller: String = "ann") async throws -> ToolResult
    {
        let tool = try #require(services.tools().first { $0.name == name })
        let call = ToolCall(
            tool: name,
            arguments: arguments.object ?? JSONObject(),
            principal: Principal(id: caller, kind: .bearer),
            transport: .http,
            version: .july2026,
            requestID: .int(1),
            clientInfo: nil,
            clientCapabilities: JSONObject(),
            meta: JSONObject(),
            progress: .silent(),
            cancellation: Cancellation()
        )
        guard case .asynchronous(let handler) = tool.handler else { throw CancellationError() }
        return try await handler(call)
    }

    private func result(_ arguments: JSON) async throws -> JSON {
        let answer = try await call("llm_job_result", arguments)
        #expect(!answer.isError)
        return try #require(answer.structuredContent)
    }

    private static let lines = """
        {"type":"thread.started","thread_id":"t"}
        {"type":"item.completed","item":{"type":"agent_message","text":"the reply"}}
        {"type":"turn.completed","usage":{"input_tokens":10,"output_tokens":3}}

        """

    @Test("of codex shows its reply, and the lines of the CLI to who wants them or asked for JSON")
    func codex() async throws {
        try await store("a", output: JobToolsTests.lines)
        #expect(try await result(["jobId": "a"])["result"]?["stdout"] == "the reply")
        #expect(
            try await result(["jobId": "a", "rawOutput": true])["result"]?["stdout"]?.string
                == JobToolsTests.lines
        )
        try await store("b", format: "json", output: JobToolsTests.lines)
        let json = try await result(["jobId": "b"])["result"]?["stdout"]?.string
        #expect(json?.hasPrefix(#"{"type":"thread.started""#) == true)
    }

    @Test("gives the snapshot, both streams, and where to read on")
    func parts() async throws {
        let text = String(repeating: "0123456789", count: 250)
        try await store("a", cli: "gemini", output: text)
        let first = try #require(try await result(["jobId": "a", "maxChars": 1000])["result"])
        #expect(first["status"] == "completed" && first["exitCode"] == 0 && first["exited"] == true)
        #expect(first["stdoutBytes"] == 2500 && first["stderrBytes"] == 2 && first["cli"] == "gemini")
        #expect(first["stdout"]?.string == String(text.prefix(1000)) && first["stdoutTruncated"] == true)
        #expect(first["stderr"] == "hm" && first["stderrTruncated"] == false)
        #expect(first["stdoutNextOffsetChars"] == 1000 && first["stderrNextOffsetChars"] == 2)
        let last = try await result(
            ["jobId": "a", "maxChars": 1000, "stdoutOffsetChars": 2000, "stderrOffsetChars": 1]
        )["result"]
        #expect(last?["stdout"]?.string == String(text.prefix(500)) && last?["stdoutTruncated"] == false)
        #expect(last?["stderr"] == "m")
    }

    @Test("of claude shows its stream, with what it says beside it")
    func claude() async throws {
        let line =
            #"{"type":"result","is_error":false,"result":"ok","num_turns":2,"session_id":"s","total_cost_usd":0.5,"usage":{"input_tokens":7,"output_tokens":8,"cache_read_input_tokens":9}}"#
        try await store("a", cli: "claude", format: nil, output: line + "\n")
        let answer = try await result(["jobId": "a"])
        #expect(answer["result"]?["stdout"]?.string == line + "\n")
        #expect(
            answer["parsed"] == [
                "text": "ok", "costUsd": 0.5,
                "usage": [
                    "inputTokens": 7, "outputTokens": 8, "cacheReadInputTokens": 9,
                    "cacheCreationInputTokens": nil,
                ], "model": nil, "numTurns": 2,
            ]
        )
        #expect(answer["warnings"] == nil)
        try await store("b", cli: "claude", output: line)
        let plain = try await result(["jobId": "b"])
        #expect(plain["result"]?["stdout"] == "ok" && plain["parsed"] == nil)
    }

    @Test("says that a run failed though it ended with status 0")
    func warnings() async throws {
        let line = #"{"type":"result","is_error":true,"result":"no credit","total_cost_usd":0}"#
        try await store("a", cli: "claude", output: line)
        let warnings = try await result(["jobId": "a"])["warnings"]?.array
        #expect(warnings?.first?["code"] == "claude_result_error")
        #expect(warnings?.first?["resultIsError"] == true)
        try await store("b", cli: "gemini", output: "")
        #expect(try await result(["jobId": "b"])["warnings"]?[0]?["code"] == "empty_output")
    }

    @Test("of another program's provider is shown as it is")
    func foreign() async throws {
        try await store("a", cli: "devin", format: nil, output: "words")
        #expect(try await result(["jobId": "a"])["result"]?["stdout"] == "words")
    }

    @Test(
        "is there for its owner only",
        arguments: ["llm_job_status", "llm_job_watch", "llm_job_result", "llm_job_cancel"]
    )
    func owners(tool: String) async throws {
        try await store("a", output: "x")
        for (caller, id) in [("bob", "a"), ("local", "a"), ("ann", "b"), ("ann", "../a"), ("ann", "")] {
            let answer = try await call(tool, ["jobId": .string(id)], as: caller)
            let body = answer.structuredContent
            #expect(answer.isError && body?["success"] == false && body?["jobId"]?.string == id)
            #expect((body?["error"] ?? body?["reason"]) == "Job not found")
        }
    }

    @Test("says how far it has come, and whether that is news")
    func progress() async throws {
        try await store("a", output: "four")
        let status = try await call("llm_job_status", ["jobId": "a"]).structuredContent
        #expect(status?["progressSeq"] == 8 && status?["hasProgressed"] == nil)
        let watch = try await call("llm_job_watch", ["jobId": "a", "afterProgressSeq": 7]).structuredContent
        #expect(watch?["hasProgressed"] == true && watch?["job"] == status?["job"])
    }

    @Test("cannot be cancelled any more, in the contract's words")
    func cancel() async throws {
        for (status, reason) in [
            ("completed", "Job is already completed"), ("canceled", "Job is already canceled"),
            ("orphaned", "Job is already orphaned"),
            ("running", "Job has no live process (orphaned from prior gateway run)"),
        ] {
            try await store(status, output: "", status: status)
            let answer = try await call("llm_job_cancel", ["jobId": .string(status)])
            #expect(
                answer.isError
                    && answer.structuredContent == [
                        "success": false, "jobId": .string(status), "reason": .string(reason),
                    ]
            )
        }
    }
}
