import Appliance
import Platform
import TestSupport
import Testing

@testable import Providers

private func read(
    _ provider: Provider,
    _ output: String,
    error: String = "",
    format: String = "text",
    session: SessionChoice = .new(),
    model: String? = nil,
    chosen: String? = nil,
    files: [String: [UInt8]] = [:],
    ending: RunEnding = .exited(0),
    earlier: [String: RunningTotal] = [:]
) -> ProviderResult {
    do {
        let run = try OutputReader.read(
            RunOutput(
                standardOutput: WrittenBytes(Array(output.utf8)),
                standardError: WrittenBytes(Array(error.utf8)),
                files: files,
                ending: ending
            ),
            ReadingContext(
                provider: provider,
                outputFormat: format,
                session: session,
                requestedModel: model,
                chosenSessionID: chosen
            )
        )
        return run.result { earlier[$0] }
    } catch {
        Issue.record("\(error)")
        return ProviderResult()
    }
}

private func text(_ path: String) throws -> String { String(decoding: try fixture(path), as: UTF8.self) }

@Suite("What may be tried again")
struct TransientFailureTests {
    @Test(
        "is told by the provider's status, by the wall clock, and by words of the network",
        arguments: [
            (429, true), (500, true), (503, true), (529, true), (400, false), (401, false), (404, false),
        ]
    )
    func statuses(status: Int, isTransient: Bool) {
        let line =
            #"{"type":"result","subtype":"success","is_error":true,"result":"API Error","api_error_status":\#(status)}"#
        let result = read(.claude, line, ending: .exited(1))
        #expect(result.isTransient == isTransient && result.hasRunNoTool)
        for provider in Provider.allCases {
            #expect(read(provider, "", ending: .timedOut).isTransient)
            #expect(!read(provider, "", ending: .idleTimeout).isTransient)
            #expect(read(provider, "", error: "read ECONNRESET", ending: .exited(1)).isTransient)
        }
    }

    @Test("is nothing that has run a tool, or of which nobody can say so")
    func tools() {
        func line(_ type: String, _ content: String) -> String {
            #"{"type":"\#(type)","message":{"content":[{"type":"\#(content)","text":"x"}]}}"#
        }
        #expect(read(.claude, line("assistant", "text"), ending: .timedOut).hasRunNoTool)
        for content in ["tool_use", "server_tool_use", "tool_result", "web_search_tool_result"] {
            #expect(!read(.claude, line("assistant", content), ending: .timedOut).hasRunNoTool, "\(content)")
        }
        #expect(read(.claude, "", ending: .timedOut).hasRunNoTool)
        #expect(!read(.claude, "garbage", ending: .timedOut).hasRunNoTool)
        let user = #"{"type":"message","role":"user","content":[]}"#
        #expect(read(.mistral, user, ending: .timedOut).hasRunNoTool)
        #expect(
            !read(.mistral, user + "\n" + #"{"type":"effect","title":"bash"}"#, ending: .timedOut)
                .hasRunNoTool
        )
        for provider in [Provider.mistral, .gemini, .grok] {
            #expect(!read(provider, "", ending: .timedOut).hasRunNoTool, "\(provider)")
        }
    }
}

@Suite("Reading claude's output")
struct ClaudeOutputTests {
    static let id = "8542a5d3-e501-49f4-8bbe-b6f0ba80485f"

    @Test("takes reply, session, model, usage and cost", arguments: ["claude", "claude-partial"])
    func reply(name: String) throws {
        let result = read(.claude, try text("outputs/\(name).jsonl"), format: "stream-json")
        #expect(result.text.hasPrefix("ok[1]: "))
        #expect(result.sessionID?.count == 36)
        #expect(result.model == "claude-opus-5-5")
        #expect(
            result.usage?.input == 1000 && result.usage?.cacheRead == 200
                && result.usage?.cacheCreation == 300
        )
        #expect(result.costUSD.map { $0 > 0.005 } == true)
        #expect(result.turns == 1)
        #expect(!result.isError && result.category == nil)
    }

    @Test("gives the result object for json")
    func json() throws {
        let result = read(.claude, try text("outputs/claude.jsonl"), format: "json")
        #expect(try JSON.parse(result.text)["type"] == "result")
    }

    @Test("differences the cost of a resumed conversation, never the usage")
    func resumed() throws {
        let output = try text("outputs/claude.jsonl")
        let known = read(
            .claude,
            output,
            session: .resume(ClaudeOutputTests.id),
            earlier: [ClaudeOutputTests.id: RunningTotal(costUSD: 0.004)]
        )
        #expect(known.costUSD == 0.0016)
        #expect(known.runningTotal == RunningTotal(costUSD: 0.0056))
        #expect(known.usage?.input == 1000)
        let unknown = read(.claude, output, session: .resume(ClaudeOutputTests.id))
        #expect(unknown.costUSD == nil)
        #expect(unknown.warnings.map(\.code) == ["usage_total_unknown"])
        #expect(unknown.runningTotal == RunningTotal(costUSD: 0.0056))
    }

    @Test("never replaces a running total by a smaller one")
    func shrunkTotal() throws {
        let result = read(
            .claude,
            try text("outputs/claude.jsonl"),
            session: .resume(ClaudeOutputTests.id),
            earlier: [ClaudeOutputTests.id: RunningTotal(costUSD: 9)]
        )
        #expect(result.costUSD == nil && result.runningTotal == nil)
    }

    @Test("names tools that were denied")
    func denied() throws {
        let result = read(.claude, try text("outputs/claude-denied.jsonl"))
        #expect(result.warnings.first?.json["tools"] == ["Bash"])
        #expect(!result.isError)
    }

    /// Shapes that claude 2.1.329 printed for a failing API, a missing key and an unknown session.
    static let failed =
        #"{"type":"result","subtype":"success","is_error":true,"api_error_status":500,"api_error_type":"api_error","num_turns":1,"session_id":"s","total_cost_usd":0,"result":"API Error: 500 fake failure"}"#
    static let loggedOut =
        #"{"type":"result","subtype":"success","is_error":true,"api_error_status":null,"session_id":"s","total_cost_usd":0,"result":"Not logged in · Please run /login"}"#
    static let unknownSession =
        #"{"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":0,"session_id":"s","total_cost_usd":0,"errors":["No conversation found with session ID: s"]}"#

    @Test("reads is_error and never the subtype")
    func failures() {
        let failed = read(.claude, ClaudeOutputTests.failed, ending: .exited(1))
        #expect(
            failed.errorText
                == "Error executing claude CLI (exit code 1):\nAPI Error: 500 fake failure (API status 500)"
        )
        #expect(failed.category == .cliError && failed.apiStatus == 500)
        let login = read(.claude, ClaudeOutputTests.loggedOut, ending: .exited(1))
        #expect(login.category == .authError)
        #expect(
            login.errorText?.hasSuffix("To log in: run 'claude auth login', or set ANTHROPIC_API_KEY") == true
        )
        let session = read(.claude, ClaudeOutputTests.unknownSession, ending: .exited(1))
        #expect(session.errorText?.hasSuffix("No conversation found with session ID: s") == true)
        let resumed = read(.claude, ClaudeOutputTests.failed, session: .resume("s"), ending: .exited(1))
        #expect(resumed.runningTotal == nil)
        let silent = read(.claude, ClaudeOutputTests.failed)
        #expect(silent.isError && silent.warnings.first?.json["resultIsError"] == true)
    }

    @Test("does not take an empty or a truncated stream for success")
    func empty() throws {
        let empty = read(.claude, "")
        #expect(
            empty.isError
                && empty.errorText
                    == "Error executing claude CLI (exit code 0):\nclaude ended without an answer"
        )
        #expect(empty.warnings.map(\.code) == ["empty_output"])
        let lines = try text("outputs/claude.jsonl").split(separator: "\n").dropLast()
        let truncated = read(.claude, lines.joined(separator: "\n") + "\n{\"type\":\"resu")
        #expect(truncated.isError && truncated.text.hasPrefix("ok[1]"))
    }

    @Test("skips lines that are not JSON and subagents' messages")
    func noise() {
        let output = """
            warning: something
            {"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"text","text":"sub"}]}}
            {"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"main"}]}}
            {broken
            {"type":"result","is_error":false,"result":"","session_id":"s"}
            """
        let result = read(.claude, output)
        #expect(result.thinking == ["hm"])
        #expect(result.isError)
    }

    @Test("leaves out a cost that claude guessed")
    func unknownPrice() {
        let output =
            #"{"type":"result","is_error":false,"result":"x","total_cost_usd":1,"modelUsage":{"m":{"costBasis":"unknown"}}}"#
        let result = read(.claude, output)
        #expect(result.costUSD == nil && result.model == "m")
        #expect(result.warnings.map(\.code) == ["cost_unknown_model"])
    }

    @Test("adds up the results of several messages and prefers structured output")
    func several() {
        let output = """
            {"type":"result","is_error":false,"result":"a","usage":{"input_tokens":1,"output_tokens":2}}
            {"type":"result","is_error":false,"result":"b","structured_output":{"x":1},"usage":{"input_tokens":10,"output_tokens":20}}
            """
        let result = read(.claude, output)
        #expect(result.usage == Usage(input: 11, output: 22))
        #expect(result.text == #"{"x":1}"#)
    }
}

@Suite("Reading codex's output")
struct CodexOutputTests {
    static let id = "01a1fd1a-1f50-7470-80be-5c531e9bcb0e"

    @Test("takes the last message, thread and usage; an error item is only a notice")
    func reply() throws {
        let result = read(.codex, try text("outputs/codex.jsonl"))
        #expect(result.text == "ok[2]: hello there")
        #expect(result.sessionID == CodexOutputTests.id)
        #expect(result.usage == Usage(input: 1500, output: 3, cacheRead: 200, cacheCreation: 0))
        #expect(result.costUSD == nil)
        #expect(result.warnings.map(\.code) == ["codex_notice"])
        #expect(!result.isError)
    }

    @Test("gives the lines themselves for json")
    func json() throws {
        let output = try text("outputs/codex-tool.jsonl")
        #expect(read(.codex, output, format: "json").text + "\n" == output)
    }

    @Test("differences the thread's running total")
    func resumed() throws {
        let output = try text("outputs/codex-mcp.jsonl")
        let thread = "01a1fd25-cab1-7452-adfd-2f3b4c455252"
        let earlier = RunningTotal(usage: Usage(input: 1500, output: 3, cacheRead: 200, cacheCreation: 0))
        let known = read(.codex, output, session: .resume(thread), earlier: [thread: earlier])
        #expect(known.usage == Usage(input: 1500, output: 15, cacheRead: 200, cacheCreation: 0))
        #expect(known.runningTotal?.usage?.input == 3000)
        let fork = read(.codex, output, session: .fork("parent"), earlier: ["parent": earlier])
        #expect(fork.usage?.input == 1500)
        let latest = read(.codex, output, session: .latest)
        #expect(latest.usage == nil && latest.warnings.map(\.code).contains("usage_total_unknown"))
    }

    @Test("words a failed turn, and a reconnect that worked is none")
    func failures() {
        let failed = """
            {"type":"thread.started","thread_id":"t"}
            {"type":"error","message":"Reconnecting... 1/5"}
            {"type":"turn.failed","error":{"message":"unexpected status 404"}}
            """
        let result = read(.codex, failed, error: "Reading prompt from stdin...", ending: .exited(1))
        #expect(result.errorText == "Error executing codex CLI (exit code 1):\nunexpected status 404")
        let recovered = """
            {"type":"error","message":"Reconnecting... 1/5"}
            {"type":"item.completed","item":{"type":"agent_message","text":"ok"}}
            {"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}
            """
        #expect(!read(.codex, recovered).isError)
        let reset = #"{"type":"turn.failed","error":{"message":"stream disconnected before completion"}}"#
        #expect(read(.codex, reset, ending: .exited(1)).isTransient)
        #expect(!result.isTransient)
        let login = #"{"type":"turn.failed","error":{"message":"Missing environment variable: `FAKE_KEY`."}}"#
        #expect(read(.codex, login, ending: .exited(1)).category == .authError)
    }

    @Test("shows whether a command was run, so that a run without one may be tried again")
    func tools() {
        let reset = #"{"type":"turn.failed","error":{"message":"unexpected status 503 Service Unavailable"}}"#
        let command = #"{"type":"item.started","item":{"id":"i","type":"command_execution","command":"ls"}}"#
        let words = #"{"type":"item.completed","item":{"id":"i","type":"reasoning","text":"hm"}}"#
        let result = read(.codex, words + "\n" + reset, ending: .exited(1))
        #expect(result.isTransient && result.hasRunNoTool)
        #expect(!read(.codex, command + "\n" + reset, ending: .exited(1)).hasRunNoTool)
        #expect(read(.codex, "", error: "ECONNREFUSED", ending: .exited(1)).hasRunNoTool)
        #expect(!read(.codex, "no JSON", error: "ECONNREFUSED", ending: .exited(1)).hasRunNoTool)
    }

    @Test("takes no message for no answer, and plain text for itself")
    func unusual() {
        #expect(read(.codex, #"{"type":"thread.started","thread_id":"t"}"#).isError)
        #expect(read(.codex, #"{"type":"thread.started","thread_id":"t"}"#, format: "json").isError)
        #expect(read(.codex, "plain\n").text == "plain")
    }

    @Test("says when another session was continued")
    func otherSession() throws {
        let asked = "01a1fd1a-0000-7470-80be-5c531e9bcb0e"
        let result = read(.codex, try text("outputs/codex.jsonl"), session: .resume(asked))
        #expect(result.warnings.map(\.code).contains("session_changed"))
    }
}

@Suite("Reading the output of vibe, grok and agy")
struct OtherOutputTests {
    @Test("vibe: takes the reply, and usage and cost of this run from its export")
    func vibe() throws {
        let export = try fixture("outputs/vibe-export.json")
        let output = try text("outputs/vibe-continue.jsonl")
        let result = read(.mistral, output, session: .latest, files: ["output/export.json": export])
        #expect(result.text == "ok[3]: third turn")
        #expect(result.sessionID == "fc269402-b4b6-2fac-ffe0-35b82be8f358")
        #expect(result.usage == Usage(input: 1500, output: 3, cacheRead: 200))
        #expect(result.costUSD == 0.001506)
        #expect(result.model == "fake")
        #expect(result.warnings.isEmpty && !result.isError)
        let array = read(.mistral, output, format: "json", files: ["output/export.json": export])
        #expect(try JSON.parse(array.text).array?.count == 2)
        #expect(read(.mistral, output, format: "streaming").text.split(separator: "\n").count == 2)
    }

    @Test("vibe: says when it fell back to its default model")
    func vibeFallback() throws {
        let export = try fixture("outputs/vibe-export.json")
        let result = read(
            .mistral,
            try text("outputs/vibe-continue.jsonl"),
            model: "nope",
            files: ["output/export.json": export]
        )
        #expect(result.warnings.map(\.code) == ["model_fallback"])
        #expect(result.model == nil)
    }

    @Test("vibe: names denied tools, and words failures from its export or standard error")
    func vibeFailures() throws {
        let denied = read(.mistral, try text("outputs/vibe-denied.jsonl"))
        #expect(denied.warnings.first?.json["tools"] == ["file_system.bash"])
        let error = read(.mistral, "", error: "API error: 500", ending: .exited(2))
        #expect(error.errorText == "Error executing mistral CLI (exit code 2):\nAPI error: 500")
        let export = Array(#"{"outcome":"limit","stop_reason":"turn_limit","error":null}"#.utf8)
        let stopped = read(.mistral, "", files: ["output/export.json": export], ending: .exited(3))
        #expect(stopped.errorText?.hasSuffix("vibe stopped (limit): turn_limit") == true)
    }

    @Test("grok: takes text and session from its object, and plain text as it is")
    func grok() {
        let object =
            #"{"text":"hello","stopReason":"EndTurn","sessionId":"s","requestId":"r","thought":"hm"}"#
        let result = read(.grok, object + "\n")
        #expect(result.text == "hello" && result.sessionID == "s" && result.thinking == ["hm"])
        #expect(read(.grok, object, format: "json").text == object)
        #expect(read(.grok, "plain\n").text == "plain")
        #expect(read(.grok, #"{"text":"","sessionId":"s"}"#, format: "json").isError)
    }

    @Test("grok: joins deltas, and reads errors and message streams")
    func grokStreams() {
        let deltas = """
            {"type":"thought","data":"hm"}
            {"type":"text","data":"a"}
            {"type":"text","data":"b"}
            {"type":"end","stopReason":"EndTurn","sessionId":"s"}
            """
        let result = read(.grok, deltas, format: "streaming-json")
        #expect(result.text == "ab" && result.sessionID == "s" && result.thinking == ["hm"])
        let error = read(
            .grok,
            #"{"type":"error","message":"unknown model"}"#,
            format: "streaming-json",
            ending: .exited(1)
        )
        #expect(error.errorText?.hasSuffix("\nunknown model") == true)
        let messages = #"{"type":"result","is_error":false,"result":"m","session_id":"s"}"#
        #expect(read(.grok, messages, format: "streaming-messages-json").text == "m")
    }

    @Test("agy: the reply is its output, the session the one that was resumed")
    func gemini() {
        let result = read(.gemini, "answer\n\n", session: .resume("c1"))
        #expect(result.text == "answer" && result.sessionID == "c1" && !result.isError)
        #expect(read(.gemini, " \n").isError)
    }
}

@Suite("Wording failures")
struct FailureTests {
    @Test("follows the contract's forms")
    func forms() {
        func wording(_ ending: RunEnding, _ detail: String = "why") -> FailureWording {
            FailureWording(provider: .codex, ending: ending, detail: detail)
        }
        #expect(wording(.timedOut).text == "Error executing codex CLI: Command timed out\nwhy")
        #expect(wording(.timedOut).category.rawValue == "timeout")
        #expect(
            wording(.idleTimeout).text == "Error executing codex CLI: Process killed due to inactivity\nwhy"
        )
        #expect(wording(.idleTimeout).category.rawValue == "idle_timeout")
        #expect(
            wording(.outputOverflow(limit: 50 << 20)).text
                == "Error executing codex CLI: Output exceeded maximum size (50MB)"
        )
        #expect(wording(.signalled(9)).text == "Error executing codex CLI (exit code 137):\nwhy")
        #expect(
            wording(.launchFailed("spawn codex ENOENT")).text
                == "Error executing codex CLI:\nspawn codex ENOENT\n\nThe 'codex' command was not found. Please ensure codex CLI is installed and in your PATH."
        )
        #expect(RunEnding.launchFailed("x").exitCode == 127 && RunEnding.timedOut.exitCode == 124)
    }

    @Test(
        "recognises login problems",
        arguments: [
            "Not logged in", "HTTP 401", "Invalid API key", "please run vibe login", "re-authenticate",
            "error: Unauthorized",
        ]
    )
    func login(text: String) {
        #expect(FailureWording.namesLoginProblem("first\n" + text))
    }

    @Test("takes no other number for a 401", arguments: ["took 14012 ms", "line 4010", "fine"])
    func noLogin(text: String) { #expect(!FailureWording.namesLoginProblem(text)) }

    @Test("keeps the end of a long error output")
    func long() {
        let detail = String(repeating: "x", count: 100_000) + "the end"
        let text = FailureWording(provider: .grok, ending: .exited(1), detail: detail).text
        #expect(text.utf8.count < 40_000 && text.hasSuffix("the end"))
    }
}
