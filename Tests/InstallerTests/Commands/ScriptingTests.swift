import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Answering a script")
struct ScriptingTests {
    /// Each line of an answer as JSON.
    private func events(_ answer: Session.Answer) -> [JSON] {
        answer.output.split(separator: "\n").map { (try? JSON.parse(String($0))) ?? .null }
    }

    @Test("says every wrong command line in JSON", arguments: Verb.all.map(\.name))
    func misunderstood(verb: String) async throws {
        let session = try Session()
        for words in [["--bogus"], ["one", "two"], ["--text", "--json"]] {
            let answer = await session.run([verb] + words + ["--json"])
            let error = answer.json["error"]
            #expect(answer.code == .usage, "\(verb) \(words)")
            #expect(error?["code"]?.string != nil && error?["message"]?.string != nil, "\(verb) \(words)")
            #expect(error?["help"]?.string != nil, "\(verb) \(words)")
        }
    }

    @Test("prints nothing that steers a terminal, whatever a file is called")
    func steering() async throws {
        let session = try Session()
        let answer = await session.run(
            "verify",
            "a\u{1B}[2J",
            "--bundle",
            "b\u{9B}\u{202E}",
            "--key",
            "/dev/null",
            "--json"
        )
        #expect(answer.code == .failed)
        #expect(answer.error.contains(#"b\u{9B}\u{202E}"#), "\(answer.error)")
        #expect(!answer.error.unicodeScalars.contains { [0x1B, 0x9B, 0x202E].contains($0.value) })
    }

    @Test(
        "says every failure in JSON",
        arguments: Verb.all.map(\.name).filter { !["help", "version", "completions"].contains($0) }
    )
    func failed(verb: String) async throws {
        let session = try Session()
        let operand = Verb.all.first(named: verb)?.offers == .files ? ["/nowhere/file"] : []
        let answer = await session.run([verb] + operand + ["--json"], with: ["LLM_GATEWAY_HOME": "relative"])
        let error = answer.json["error"]
        #expect(answer.code != .done && error?["code"]?.string != nil, "\(answer.output)")
        #expect(answer.error.hasPrefix("error: \(error?["message"]?.string ?? "?")"))
    }

    @Test("prints one object a line with --progress, and the result as the last")
    func result() async throws {
        let answer = try await Session().run("setup", "--progress")
        let lines = events(answer)
        #expect(lines.last?["event"]?.string == "result")
        #expect(lines.last?["exit_code"]?.int == 0)
        #expect(lines.last?["result"]?["ok"]?.bool == true)
        #expect(lines.allSatisfy { $0["event"]?.string != nil })
        #expect(answer.error.isEmpty)
    }

    @Test("prints an error as the last event, of a failure and of a wrong command line")
    func failures() async throws {
        let session = try Session()
        let start = await session.run("start", "--json", "--progress")
        let last = try #require(events(start).last)
        #expect(last["event"]?.string == "error" && last["exit_code"]?.int == 1)
        #expect(last["error"]?["code"]?.string == "gateway-missing")
        let wrong = events(await session.run("status", "--progress", "--bogus"))
        #expect(wrong.count == 1 && wrong.first?["error"]?["code"]?.string == "unknown-flag")
        #expect(await session.run("status", "--progress", "--text").code == .usage)
    }

    @Test("tells the bytes of an installation as events, and nothing but the result when quiet")
    func progress() async throws {
        let session = try Session()
        let bytes = try await BundleFixture().tarGzip()
        let path = try session.scratch.write(bytes, "bundle.tar.gz")
        let words = ["install-bundle", "--url", "file://\(path)", "--sha256", SHA256.hex(bytes)]
        let lines = events(await session.run(words + ["--progress"]))
        let loaded = try #require(lines.last { $0["event"]?.string == "progress" })
        #expect(loaded["phase"]?.string == "download")
        #expect(loaded["bytes"] == loaded["total"] && (loaded["bytes"]?.int ?? 0) > 0)
        #expect(lines.last?["result"]?["changed"]?.bool == true)
        let quiet = events(await session.run(words + ["--force", "--progress", "--quiet"]))
        #expect(quiet.map { $0["event"]?.string } == ["result"])
    }

    @Test("writes an event as its page says")
    func form() {
        #expect(Event.message("x").line == "{\"event\":\"message\",\"message\":\"x\"}\n")
        #expect(
            Event.progress("download", 1, 2).line
                == "{\"event\":\"progress\",\"phase\":\"download\",\"bytes\":1,\"total\":2}\n"
        )
        #expect(Event.progress("pack", nil, nil).line == "{\"event\":\"progress\",\"phase\":\"pack\"}\n")
        #expect(
            Event.failure(GatewayError("busy", "held", help: "wait")).line
                == "{\"event\":\"error\",\"exit_code\":4,\"error\":{\"code\":\"busy\",\"message\":\"held\",\"help\":\"wait\"}}\n"
        )
    }

    @Test("names an argument that is missing")
    func missing() async throws {
        let answer = try await Session().run("completions")
        #expect(answer.code == .usage)
        #expect(
            answer.error
                == "error: 'completions' needs an argument: SHELL\nhelp: 'llm-cli-gateway help completions' lists what it takes\n"
        )
        let other = try await Session().run("completions", "fihs")
        #expect(other.error.contains("there are no completions for the shell 'fihs'"))
        #expect(other.error.contains("did you mean 'fish'? the known ones are bash, zsh, fish"))
    }
}

@Suite("Completing a command line")
struct CompletionTests {
    @Test(
        "names every command and every flag in each shell's words",
        arguments: CompletionScript.Shell.allCases
    )
    func complete(shell: CompletionScript.Shell) {
        let script = CompletionScript(shell: shell, verbs: Verb.all).text
        for verb in Verb.all {
            #expect(script.contains(verb.name), "\(verb.name)")
            for flag in verb.allFlags {
                #expect(
                    script.contains(shell == .fish ? "-l \(flag.name)" : "--\(flag.name)"),
                    "\(flag.name)"
                )
            }
        }
    }

    @Test("can be had as JSON")
    func json() async throws {
        let answer = try await Session().run("completions", "fish", "--json")
        #expect(answer.json["script"]?.string?.hasPrefix("# Completions of llm-cli-gateway") == true)
    }
}
