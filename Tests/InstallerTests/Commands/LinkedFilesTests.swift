import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Files of the user's that are links")
struct LinkedFilesTests {
    private let session: Session
    private let files = Files()
    private var layout: Layout { session.layout }

    init() throws {
        session = try Session(["XAI_API_KEY": "k"])
        try files.makeDirectory(session.layout.home)
    }

    /// Makes a file elsewhere and a link to it in the home; gives the file's path.
    private func link(_ path: String, _ text: String, mode: UInt32 = 0o600) throws -> String {
        let target = session.scratch.path("dotfiles/\(Files.name(of: path))")
        try session.write(text, target, mode: mode)
        try files.makeDirectory(Files.parent(of: path))
        try files.link(path, to: target)
        return target
    }

    @Test("setup writes settings, environment and an empty token where the links lead, and keeps the links")
    func writing() async throws {
        let token = try link(layout.authToken, "\n")
        let settings = try link(layout.settings, #"{"mine": 1}"#, mode: 0o640)
        let environment = try link(layout.environmentFile, "# mine\n")
        let answer = await session.run("setup", "--port", "4001", "--import-keys")
        #expect(answer.code == .done, "\(answer.output)\(answer.error)")
        for (path, target) in [
            (layout.authToken, token), (layout.settings, settings), (layout.environmentFile, environment),
        ] {
            #expect(files.destination(ofLink: path) == target)
        }
        #expect(try session.read(token) == String(repeating: "ab", count: 32))
        #expect(try session.read(settings) == "{\n  \"mine\": 1,\n  \"http_port\": 4001\n}\n")
        #expect(try session.mode(settings) == 0o640)
        #expect(try session.read(environment).hasPrefix("# mine\n"))
        #expect(try files.environmentFile(of: layout).values["XAI_API_KEY"] == "k")
        #expect(
            try files.list(session.scratch.path("dotfiles")) == [
                "auth-token", "environment", "settings.json",
            ]
        )
    }

    @Test("settings behind a link that cannot be read are copied aside before they are begun anew")
    func corrupt() async throws {
        let settings = try link(layout.settings, "{")
        let answer = await session.run("setup", "--port", "4001")
        #expect(answer.code == .done, "\(answer.output)\(answer.error)")
        #expect(files.destination(ofLink: layout.settings) == settings)
        #expect(try session.read(settings) == "{\n  \"http_port\": 4001\n}\n")
        #expect(try session.read(layout.settings + ".corrupt-1795255860497") == "{")
    }

    @Test("switching automatic upgrades off writes where the link leads")
    func automaticUpgrades() async throws {
        let settings = try link(layout.settings, #"{"auto_upgrade": "on"}"#)
        let answer = await session.run("upgrade", "--auto", "off")
        #expect(answer.json["changed"]?.bool == true, "\(answer.output)\(answer.error)")
        #expect(files.destination(ofLink: layout.settings) == settings)
        #expect(try session.read(settings) == "{}\n")
    }

    @Test(
        "a link that leads nowhere is named with the place, and nothing is put there",
        arguments: ["auth-token", "settings.json", "environment"],
        [["setup"], ["setup", "--dry-run"], ["repair"], ["repair", "--dry-run"]]
    )
    func broken(name: String, words: [String]) async throws {
        let path = Layout.join(layout.home, name)
        let target = session.scratch.path("unplugged/\(name)")
        try files.link(path, to: target)
        let answer = await session.run(words)
        #expect(answer.code == .failed)
        #expect(
            answer.error == """
                error: '\(path)' is a link to '\(target)', which does not exist
                help: make that file again, or remove the link; nothing was changed

                """
        )
        #expect(files.destination(ofLink: path) == target && !files.exists(target))
        #expect(try files.list(layout.home).filter { !$0.hasPrefix(".") && $0 != "receipt.json" } == [name])
    }

    @Test("what is no file, or leads to none, is neither read nor replaced")
    func noFile() async throws {
        let folder = session.scratch.path("folder")
        try files.makeDirectory(folder)
        try files.link(layout.environmentFile, to: folder)
        let linked = await session.run("setup").error
        #expect(
            linked.hasPrefix(
                "error: '\(layout.environmentFile)' is a link to '\(folder)', which is no regular file\n"
            )
        )
        try files.removeFile(layout.environmentFile)
        #expect(mkfifo(layout.environmentFile, 0o600) == 0)
        let pipe = await session.run("setup").error
        #expect(pipe.hasPrefix("error: '\(layout.environmentFile)' is no regular file\nhelp: make it a file"))
    }

    @Test(
        "another user's file is read, but not written",
        .enabled(if: getuid() == 0, "only root can give a file to another user")
    )
    func foreign() async throws {
        let settings = try link(layout.settings, #"{"http_port": 4001}"#)
        #expect(chown(settings, 4_194_000, 4_194_000) == 0)
        #expect(await session.run("setup").json["url"]?.string == "http://127.0.0.1:4001/mcp")
        let answer = await session.run("setup", "--port", "4002")
        #expect(answer.code == .failed)
        #expect(
            answer.error.hasPrefix(
                "error: '\(layout.settings)' is a link to '\(settings)', which belongs to another user (uid 4194000) and has to be written\n"
            )
        )
        #expect(try session.read(settings) == #"{"http_port": 4001}"#)
    }

    @Test("what a killed write staged beside a link's target is swept")
    func leftovers() async throws {
        let settings = try link(layout.settings, "{}")
        let staged = settings + ".tmp.4194305.7"
        try session.write("half", staged)
        try session.write("mine", session.scratch.path("dotfiles/other.tmp.4194305.7"))
        _ = await session.run("setup")
        #expect(!files.exists(staged))
        #expect(files.exists(session.scratch.path("dotfiles/other.tmp.4194305.7")))
    }

    @Test("a unit that is a link is left as it is")
    func unit() throws {
        let unit = UnitFiles.Unit(name: "llm-cli-gateway.service", text: "new")
        let path = Layout.join(layout.userUnits, unit.name)
        let target = try link(path, "old")
        var receipt = Receipt()
        receipt.note(Receipt.Created(path: path, kind: .unit, sha256: SHA256.hex(Array("old".utf8))))
        let installation = UnitInstallation(layout: layout, files: files)
        let outcome = try installation.write([unit], receipt: &receipt)
        #expect(outcome.written.isEmpty && outcome.notices.count == 1)
        #expect(files.destination(ofLink: path) == target)
        #expect(try installation.remove([unit], receipt: &receipt).written.isEmpty)
        #expect(try session.read(target) == "old" && files.exists(path))
    }
}
