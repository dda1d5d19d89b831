import Appliance
import Platform
import Synchronization
import Testing

@testable import Installer

@Suite("Understanding a command line")
struct ArgumentsTests {
    private func parse(_ words: String...) throws -> Arguments { try Arguments(words, verbs: Verb.all) }

    @Test("takes flags before and after the command, with '=' and with a space")
    func flags() throws {
        let arguments = try parse("--json", "logs", "-n", "5", "--follow")
        #expect(arguments.verb?.name == "logs")
        #expect(arguments.has("json") && arguments.has("follow") && !arguments.has("text"))
        #expect(try arguments.number("lines") == 5)
        #expect(try parse("logs", "--lines=7").number("lines") == 7)
        #expect(try parse("setup", "--path=/a=b")["path"] == "/a=b")
    }

    @Test("knows the spellings of the reference", arguments: ["--version", "-version", "-v", "version"])
    func aliases(word: String) throws { #expect(try parse(word).verb?.name == "version") }

    @Test("ends flags at '--'")
    func endOfFlags() throws { #expect(try parse("help", "--", "start").operand == "start") }

    @Test(
        "says what is wrong, and what was probably meant",
        arguments: [
            (
                ["stauts"], "unknown-verb", "unknown command 'stauts'",
                "did you mean 'status'? 'llm-cli-gateway help' lists the commands"
            ),
            (
                ["frobnicate"], "unknown-verb", "unknown command 'frobnicate'",
                "'llm-cli-gateway help' lists the commands"
            ),
            (
                ["logs", "--folow"], "unknown-flag", "unknown flag '--folow' for 'logs'",
                "did you mean '--follow'? 'llm-cli-gateway help logs' lists what it takes"
            ),
            (["-z"], "unknown-flag", "unknown flag '-z'", "put flags of a command after its name"),
            (
                ["--follow", "status"], "unknown-flag", "unknown flag '--follow'",
                "put flags of a command after its name"
            ),
            (
                ["logs", "--lines"], "missing-value", "'--lines' needs a value: NUMBER",
                "'llm-cli-gateway help logs' lists what it takes"
            ),
            (
                ["setup", "--port="], "missing-value", "'--port' needs a value: NUMBER",
                "'llm-cli-gateway help setup' lists what it takes"
            ),
            (
                ["status", "--quiet=yes"], "invalid-value", "'--quiet' takes no value",
                "'llm-cli-gateway help status' lists what it takes"
            ),
            (
                ["status", "now"], "usage", "unexpected argument 'now' for 'status'",
                "'llm-cli-gateway help status' lists what it takes"
            ),
            (
                ["status", "--json", "--text"], "usage", "'--json' and '--text' exclude each other",
                "give one of them"
            ),
        ] as [([String], String, String, String)]
    )
    func refusals(words: [String], code: String, message: String, help: String) throws {
        let error = try #require(throws: GatewayError.self) { try Arguments(words, verbs: Verb.all) }
        #expect(error == GatewayError(code, message, help: help))
        #expect(error.exitCode == .usage)
    }

    @Test("refuses a number that is none")
    func numbers() throws {
        let error = try #require(throws: GatewayError.self) { try parse("logs", "-n", "0").number("lines") }
        #expect(error.message == "'--lines' is '0', expected a number of at least 1")
    }

    @Test("gives every command a name, a sentence, and flags that do not clash")
    func table() {
        #expect(Set(Verb.all.map(\.name)).count == Verb.all.count)
        for verb in Verb.all {
            #expect(!verb.summary.hasSuffix(".") && !verb.summary.isEmpty && verb.group != nil)
            #expect(Set(verb.allFlags.map(\.name)).count == verb.allFlags.count)
            let letters = verb.allFlags.compactMap(\.letter)
            #expect(Set(letters).count == letters.count, "\(verb.name)")
            for line in verb.details.split(separator: "\n") {
                #expect(line.count <= 84, "\(verb.name): \(line)")
            }
        }
    }
}

@Suite("Snapshots of what commands say")
struct SnapshotTests {
    @Test("help")
    func help() async throws {
        let session = try Session()
        let overview = await session.run("help")
        #expect(overview.code == .done && overview.error.isEmpty)
        try expectSnapshot("help.txt", overview.output)
        try expectSnapshot("help.json", await session.run("help", "--json").output)
        var manuals = ""
        for verb in Verb.all {
            let manual = await session.run("help", verb.name).output
            #expect(await session.run(verb.name, "--help").output == manual)
            #expect(await session.run(verb.name, "-h").output == manual)
            manuals += manual + "\n"
        }
        try expectSnapshot("manuals.txt", manuals)
    }

    @Test("client configurations")
    func clients() async throws {
        let endpoint = Endpoint(
            url: "http://127.0.0.1:3333/mcp",
            tokenFile: "/home/user/.llm-cli-gateway/auth-token",
            manager: "/home/user/.llm-cli-gateway/current/bin/llm-cli-gateway"
        )
        let report = ClientReport(
            endpoint: endpoint,
            settings: try Settings(),
            clients: ClientConfiguration.all
        )
        try expectSnapshot("print-client-config.txt", report.text + "\n")
        try expectSnapshot("print-client-config.json", report.json.prettyText + "\n")
    }

    @Test("the state of a service")
    func status() throws {
        var status = ServiceStatus(url: "http://127.0.0.1:3333/mcp")
        var text = status.text + "\n\n"
        status.running = true
        status.healthy = true
        status.pid = 42
        status.version = "1.2.3"
        status.sessions = 2
        status.supervisor = .systemd
        status.unit = "llm-cli-gateway.service"
        status.state = "active (running)"
        status.since = Timestamp(milliseconds: 1_795_255_860_497)
        status.restarts = 1
        status.enabled = true
        status.startsAtBoot = false
        status.notices = ["your own settings apply: /x.conf"]
        text += status.text + "\n"
        try expectSnapshot("status.txt", text)
        try expectSnapshot("status.json", status.json.prettyText + "\n")
    }

    @Test("unit files")
    func units() throws {
        let layout = try Layout(environment: ["HOME": "/home/user"])
        let units = UnitFiles(layout: layout, settings: try Settings(), log: nil)
        let all = units.all + UpgradeUnits.all(layout)
        try expectSnapshot("units.txt", all.map { "== \($0.name)\n\($0.text)" }.joined())
    }
}

@Suite("Answering a command line")
struct AnsweringTests {
    @Test("prints an error for people on standard error, and for programs on standard output as well")
    func errors() async throws {
        let session = try Session()
        let text = await session.run("stauts")
        #expect(text.output.isEmpty && text.code == .usage)
        #expect(
            text.error
                == "error: unknown command 'stauts'\nhelp: did you mean 'status'? 'llm-cli-gateway help' lists the commands\n"
        )
        let json = await session.run("stauts", "--json")
        #expect(json.json["error"]?["code"]?.string == "unknown-verb")
        #expect(json.error == text.error)
    }

    @Test("prints JSON for the reference's commands when standard output is no terminal, and text on one")
    func forms() async throws {
        #expect(try await Session().run("status").json["status"]?["running"]?.bool == false)
        #expect(try await Session().run("status", "--text").output == "the gateway is not running\n")
        #expect(try await Session(typed: "").run("status").output == "the gateway is not running\n")
        #expect(try await Session().run("version").output == "\(Product.version)\n")
        #expect(try await Session().run("version", "--json").json["version"]?.string == Product.version)
    }

    @Test("silences information, not answers")
    func quiet() async throws {
        let session = try Session()
        #expect(await session.run("setup", "--quiet", "--text").output.isEmpty)
        #expect(await session.run("status", "-q", "--text").output == "the gateway is not running\n")
    }

    @Test("shows state and the next step without a command")
    func greeting() async throws {
        let answer = try await Session(typed: "").run()
        #expect(answer.code == .done)
        #expect(answer.output.hasPrefix("the gateway is not running\n\nllm-cli-gateway help "))
    }

    @Test("says that a home is needed")
    func homeless() async throws {
        let answer = try await Session().run(["status"], with: ["LLM_GATEWAY_HOME": "relative"])
        #expect(answer.code == .usage)
        #expect(answer.error.contains("LLM_GATEWAY_HOME is 'relative', which is not an absolute path"))
    }

    @Test("answers a program in JSON even when it cannot understand what the program wants")
    func misunderstood() async throws {
        let session = try Session()
        #expect(await session.run("status", "--bogus").json["error"]?["code"]?.string == "unknown-flag")
        #expect(await session.run("status", "--bogus", "--text").output.isEmpty)
        #expect(await session.run("logs", "--bogus").output.isEmpty)
    }

    @Test("fails when its answer cannot be written")
    func deafReader() async throws {
        let complaints = Mutex("")
        let terminal = Terminal(
            write: { _ throws(GatewayError) in
                throw GatewayError("output-failed", "the answer could not be written: no space")
            },
            writeError: { text in complaints.withLock { $0 += text } }
        )
        let code = await Main.run(["version", "--json"], terminal) { () throws(GatewayError) in
            try Machine.real()
        }
        #expect(code == .failed)
        #expect(complaints.withLock { $0 } == "error: the answer could not be written: no space\n")
    }
}
