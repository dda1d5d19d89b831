import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Where there is no home")
struct AbsentHomeTests {
    @Test(
        "nothing that is refused or only asks makes one",
        arguments: [
            ["start"], ["start", "--detached"], ["restart"], ["stop"], ["status"], ["logs"], ["doctor"],
            ["repair"], ["repair", "--dry-run"], ["rollback"], ["rollback", "--dry-run"], ["uninstall"],
            ["uninstall", "--yes", "--purge"], ["backup", "/tmp/x.tar.gz"], ["restore", "/nope"],
            ["restore", "/etc/passwd"], ["restore", "/etc"], ["restore", "/nope", "--dry-run"],
            ["print-client-config"], ["print-client-config", "--show-token"], ["upgrade"],
            ["upgrade", "--check"], ["upgrade", "--auto", "on"], ["upgrade", "--auto", "off"],
            ["upgrade", "--auto-run"], ["setup", "--dry-run"], ["setup", "--port", "0"],
            ["install-bundle", "--url", "file:///nope", "--sha256", String(repeating: "a", count: 64)],
            ["upgrade", "--from", "/nope"], ["verify", "/nope"], ["version"],
        ]
    )
    func verbs(words: [String]) async throws {
        let session = try Session()
        let answer = await session.run(words)
        #expect(!Files().exists(session.layout.home), "\(answer.output)\(answer.error)")
        #expect(try Files().list(session.layout.userHome).isEmpty)
    }

    @Test("repair says that there is nothing to repair")
    func repair() async throws {
        let session = try Session()
        let answer = await session.run("repair")
        #expect(answer.code == .done && answer.json["changed"]?.bool == false)
        #expect(
            answer.json["notices"]?.array == [
                .string("'\(session.layout.home)' does not exist, so there is nothing to repair")
            ]
        )
    }

    @Test("print-client-config says that there is no token yet")
    func clients() async throws {
        let session = try Session()
        let answer = await session.run("print-client-config")
        #expect(
            answer.json["notes"]?.array?.first?.string
                == "There is no token in '\(session.layout.authToken)' yet: 'llm-cli-gateway setup' makes it."
        )
        let shown = await session.run("print-client-config", "--show-token")
        #expect(shown.code == .failed && shown.error.contains("so there is no token to show\nhelp: run"))
    }
}

@Suite("Telling a home of ours from a folder with the same names")
struct HomeClaimTests {
    private static let token = String(repeating: "0a", count: 32)

    /// A folder of a stranger's with these files, named by LLM_GATEWAY_HOME.
    private func answer(
        _ files: [String: String],
        _ words: [String]
    ) async throws -> (Session.Answer, [String]) {
        let session = try Session()
        let folder = session.scratch.path("project")
        for (name, text) in files { try session.write(text, Layout.join(folder, name)) }
        let answer = await session.run(words, with: ["LLM_GATEWAY_HOME": folder])
        return (answer, try Files().list(folder).filter { $0 != ".lock" })
    }

    @Test(
        "believes no names",
        arguments: [
            ["auth-token": "secret of mine"], ["receipt.json": #"{"items": ["milk"]}"#],
            ["receipt.json": "{"],
            ["auth-token": HomeClaimTests.token], ["logs.db": "SQLite format 3\0 no"],
            ["auth-token": "mine", "settings.json": "{}"], ["settings.json": "{}", "config.toml": ""],
        ]
    )
    func names(files: [String: String]) async throws {
        let purged = try await answer(files, ["uninstall", "--yes", "--purge"])
        #expect(purged.0.code == .usage, "\(purged.0.output)")
        #expect(purged.0.error.hasPrefix("error: LLM_GATEWAY_HOME is '"))
        #expect(purged.1 == files.keys.sorted())
        var more = files
        more["Makefile"] = "all:"
        for words in [["setup"], ["uninstall", "--yes", "--purge"], ["repair"]] {
            let refused = try await answer(more, words)
            #expect(refused.0.error.contains("a folder that holds other things, such as '"))
            #expect(refused.1 == more.keys.sorted())
        }
    }

    @Test("says that nothing shows whose the data are, and what to do")
    func sentence() async throws {
        let session = try Session()
        let folder = session.scratch.path("project")
        try session.write("[build]", folder + "/config.toml")
        let answer = await session.run(
            ["uninstall", "--yes", "--purge"],
            with: ["LLM_GATEWAY_HOME": folder]
        )
        #expect(
            answer.error == """
                error: LLM_GATEWAY_HOME is '\(folder)', and nothing in it shows that 'config.toml' there is a gateway's
                help: if it is, remove the folder yourself; without --purge your data stays

                """
        )
        #expect(try session.read(folder + "/config.toml") == "[build]")
    }

    @Test(
        "believes what only a gateway makes",
        arguments: [
            ["receipt.json": #"{"schemaVersion": 1, "created": [], "installed": []}"#, "config.toml": ""],
            ["receipt.json": #"{"schemaVersion": 99, "created": [], "installed": []}"#],
            ["auth-token": HomeClaimTests.token + "\n", "settings.json": "{}"],
            ["auth-token": HomeClaimTests.token, "environment": "PATH=/bin\n"],
            ["runtime/.llm-cli-gateway-runtime": ""],
        ]
    )
    func proof(files: [String: String]) async throws {
        var files = files
        files["notes.md"] = "mine"
        let found = try await answer(files, ["uninstall"])
        #expect(!found.0.error.contains("holds other things"), "\(found.0.error)")
    }

    @Test("believes records by their tables, and a home that was set up in a folder that was there")
    func records() async throws {
        let session = try Session()
        let folder = session.scratch.path("second")
        try session.write("mine", folder + "/auth-token")
        let variables = ["LLM_GATEWAY_HOME": folder]
        #expect(await session.run(["setup"], with: variables).code == .done)
        try session.write("mine", folder + "/notes.md")
        #expect(await session.run(["repair"], with: variables).code == .done)
        try Files().removeFile(folder + "/receipt.json")
        #expect(await session.run(["repair"], with: variables).code == .usage)
        _ = try await filter(
            "python3",
            [
                "-c",
                "import sqlite3,sys; d = sqlite3.connect(sys.argv[1]); d.execute('create table jobs(id)'); d.execute('create table requests(id)'); d.commit()",
                folder + "/logs.db",
            ]
        )
        #expect(await session.run(["repair"], with: variables).code == .done)
        #expect(await session.run(["uninstall", "--yes", "--purge"], with: variables).code == .done)
        #expect(try Files().list(folder) == ["notes.md"])
    }
}
