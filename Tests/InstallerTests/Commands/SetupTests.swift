import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Setting a home up")
struct SetupTests {
    @Test("makes a private folder, a token and the environment file, and says so")
    func fresh() async throws {
        let session = try Session(["ANTHROPIC_API_KEY": "sk x"])
        let answer = await session.run("setup")
        #expect(answer.code == .done, "\(answer.error)")
        #expect(answer.json["ok"]?.bool == true)
        #expect(answer.json["app_dir"]?.string == session.layout.home)
        #expect(answer.json["next"]?.string?.contains("install-bundle") == true)
        #expect(answer.json["missing_variables"]?.array == ["ANTHROPIC_API_KEY"])
        #expect(try session.mode(session.layout.home) == 0o700)
        #expect(try session.mode(session.layout.authToken) == 0o600)
        #expect(try session.mode(session.layout.environmentFile) == 0o600)
        #expect(try session.read(session.layout.authToken) == String(repeating: "ab", count: 32))
        let file = try Files().environmentFile(of: session.layout)
        #expect(file.values == ["PATH": session.environment["PATH"] ?? ""])
        #expect(file.problems.isEmpty)
    }

    @Test("changes nothing the second time")
    func again() async throws {
        let session = try Session()
        _ = await session.run("setup")
        let before = try session.read(session.layout.environmentFile)
        let answer = await session.run("setup")
        #expect(answer.json["changed"]?.bool == false && answer.json["changes"]?.array?.isEmpty == true)
        #expect(try session.read(session.layout.environmentFile) == before)
        #expect(
            await session.run("setup", "--text").output.hasPrefix("'\(session.layout.home)' is in order\n")
        )
    }

    @Test("replaces a token that is only white space, and keeps a real one", arguments: ["", "\n", "  \n\t"])
    func blankToken(text: String) async throws {
        let session = try Session()
        try session.write(text, session.layout.authToken)
        let changes = await session.run("setup").json["changes"]?.array ?? []
        #expect(changes.contains(.string("replaced the empty token in '\(session.layout.authToken)'")))
        try session.write("mine", session.layout.authToken)
        _ = await session.run("setup")
        #expect(try session.read(session.layout.authToken) == "mine")
    }

    @Test("makes a token private that others could read, and says so")
    func looseToken() async throws {
        let session = try Session()
        try session.write("mine", session.layout.authToken, mode: 0o644)
        let changes = await session.run("setup").json["changes"]?.array ?? []
        #expect(
            changes.contains(
                .string("made '\(session.layout.authToken)' private: its mode was 0644, now 0600")
            )
        )
        #expect(try session.mode(session.layout.authToken) == 0o600)
    }

    @Test("leaves the target of a linked token alone, and says what to do")
    func linkedToken() async throws {
        let session = try Session()
        let target = session.scratch.path("secrets/token")
        try session.write("mine", target, mode: 0o644)
        try Files().makeDirectory(session.layout.home)
        try Files().link(session.layout.authToken, to: target)
        let answer = await session.run("setup")
        #expect(answer.code == .done, "\(answer.error)")
        #expect(
            answer.json["notices"]?.array?.contains(
                .string(
                    "'\(session.layout.authToken)' is a link to '\(target)', which others may use (mode 0644) and which was left alone; run: chmod 600 '\(target)'"
                )
            ) == true
        )
        #expect(try session.mode(target) == 0o644 && session.read(target) == "mine")
        #expect(Files().destination(ofLink: session.layout.authToken) == target)
        // Nor does it follow a link that is put there in the last moment.
        let error = #expect(throws: GatewayError.self) {
            try Files().changeMode(session.layout.authToken, to: 0o600)
        }
        #expect(
            error?.message
                == "cannot change the mode of '\(session.layout.authToken)': operation not supported"
        )
        #expect(try session.mode(target) == 0o644)
    }

    @Test("makes a linked home private where it is")
    func linkedHome() async throws {
        let session = try Session()
        let place = session.scratch.path("disk")
        try Files().makeDirectory(place, mode: 0o755)
        try Files().link(session.layout.home, to: place)
        let answer = await session.run("setup")
        #expect(answer.code == .done, "\(answer.error)")
        #expect(try session.mode(place) == 0o700)
    }

    @Test("keeps bytes of the environment file that are no text, and says which line to write anew")
    func bytes() async throws {
        let session = try Session()
        let bytes =
            Array("# caf".utf8) + [0xE9] + Array("\nNAME=\"x".utf8) + [0xFF] + Array("\"\nKEY=k\n".utf8)
        try Files().makeDirectory(session.layout.home)
        try Files().write(bytes, to: session.layout.environmentFile)
        let answer = await session.run("setup")
        #expect(answer.code == .done, "\(answer.error)")
        let after = try Files().read(session.layout.environmentFile)
        #expect(after.starts(with: bytes) && after.count > bytes.count)
        let file = try Files().environmentFile(of: session.layout)
        #expect(file.values == ["KEY": "k", "PATH": session.environment["PATH"] ?? ""])
        #expect(
            answer.json["notices"]?.array == [
                .string(
                    "'\(session.layout.environmentFile)': line 2: the value of 'NAME' is not UTF-8, so systemd does not take the file; write the value anew"
                )
            ]
        )
        #expect(await session.run("setup").json["changed"] == false)
    }

    @Test(
        "without HOME nothing is put beside the gateway's own folder",
        arguments: ["setup", "start", "status", "uninstall"]
    )
    func withoutHome(verb: String) async throws {
        let session = try Session()
        let place = session.scratch.path("gateway")
        let answer = await session.run([verb, "--json"], with: ["HOME": "", "LLM_GATEWAY_HOME": place])
        #expect(answer.code == .failed)
        #expect(
            answer.error
                == """
                error: HOME is not set, so it is not known where your commands and systemd units belong
                help: set HOME to your home directory; with LLM_GATEWAY_HOME alone only 'llm-cli-gateway stdio' works

                """
        )
        #expect(!Files().exists(place))
    }

    @Test("keeps settings aside that cannot be read, and never writes over them")
    func corruptSettings() async throws {
        let session = try Session()
        try session.write("{\"http_port\": 40", session.layout.settings)
        let status = await session.run("status")
        #expect(status.code == .failed)
        #expect(status.json["error"]?["code"]?.string == "settings-corrupt")
        let answer = await session.run("setup", "--port", "4001")
        let aside = session.layout.settings + ".corrupt-1795255860497"
        #expect(answer.code == .done, "\(answer.error)")
        #expect(try session.read(aside) == "{\"http_port\": 40")
        #expect(try session.read(session.layout.settings) == "{\n  \"http_port\": 4001\n}\n")
    }

    @Test("records the address of this shell for every other one, and keeps foreign keys")
    func address() async throws {
        let session = try Session()
        try session.write("{\"public_url\": \"https://a.example\"}", session.layout.settings)
        _ = await session.run(["setup", "--path", "/tools"], with: ["LLM_GATEWAY_HTTP_PORT": "4002"])
        #expect(
            await session.run("status").json["status"]?["url"]?.string == "http://127.0.0.1:4002/tools"
        )
        #expect(try Files().settings(of: session.layout, environment: [:]).publicURL == "https://a.example")
    }

    @Test("copies keys of the shell when told to, and leaves what the file has")
    func importing() async throws {
        let session = try Session(["ANTHROPIC_API_KEY": "sk 'a\"b\\c", "MISTRAL_API_KEY": "shell"])
        try session.write("# mine\nMISTRAL_API_KEY=file\n", session.layout.environmentFile)
        _ = await session.run("setup", "--import-keys")
        let values = try Files().environmentFile(of: session.layout).values
        #expect(values["ANTHROPIC_API_KEY"] == "sk 'a\"b\\c" && values["MISTRAL_API_KEY"] == "file")
        #expect(try session.read(session.layout.environmentFile).hasPrefix("# mine\nMISTRAL_API_KEY=file\n"))
    }

    @Test("finds the provider CLIs on the recorded path, and shows where")
    func providers() async throws {
        let session = try Session()
        let program = Layout.join(session.layout.userHome, ".local/bin/vibe")
        try session.write("#!/bin/sh\n", program, mode: 0o755)
        let answer = await session.run("setup")
        #expect(answer.json["providers"]?["vibe"]?.string == program)
        #expect(answer.json["providers"]?.object?.names == ["claude", "codex", "agy", "grok", "vibe"])
    }

    @Test(
        "refuses an address that is none",
        arguments: [
            (["--port", "0"], "'--port' is '0', expected a port number from 1 to 65535"),
            (["--port", "http"], "'--port' is 'http', expected a port number from 1 to 65535"),
            (
                ["--host", "example.com"],
                "'--host' is 'example.com', expected an IPv4 or IPv6 address such as 127.0.0.1"
            ),
            (
                ["--path", "mcp"],
                "'--path' is 'mcp', expected a path such as /mcp, without '..', '?', '#' and spaces"
            ),
        ]
    )
    func badAddress(flags: [String], message: String) async throws {
        let session = try Session()
        let answer = await session.run(["setup"] + flags)
        #expect(answer.code == .usage)
        #expect(answer.json["error"]?["message"]?.string == message)
        #expect(!Files().exists(session.layout.home))
    }

    @Test("says what is in the way when the home is no folder")
    func homeIsFile() async throws {
        let session = try Session()
        try session.write("", session.layout.home)
        let answer = await session.run("setup")
        #expect(answer.code == .failed)
        #expect(answer.json["error"]?["code"]?.string == "not-a-directory")
        #expect(answer.error.contains("'\(session.layout.home)'"))
    }
}

@Suite("Before a gateway is installed")
struct NothingInstalledTests {
    @Test("start and restart say what is missing and what to do", arguments: ["start", "restart"])
    func missing(verb: String) async throws {
        let session = try Session()
        let answer = await session.run([verb, "--json"])
        #expect(answer.code == .failed)
        #expect(answer.json["error"]?["code"]?.string == "gateway-missing")
        #expect(
            answer.json["error"]?["help"]?.string
                == "run 'llm-cli-gateway install-bundle --url URL --sha256 DIGEST'"
        )
    }

    @Test(
        "the hint fits what is configured",
        arguments: [
            ([:], "install-bundle --url URL --sha256 DIGEST"),
            (["LLM_GATEWAY_RELEASE_SOURCE": " "], "install-bundle --url URL --sha256 DIGEST"),
            (["RVWR_GATEWAY_BUNDLE_URL": "file:///b"], "install-bundle --url URL --sha256 DIGEST"),
            (
                ["LLM_GATEWAY_RELEASE_SOURCE": "https://example.org"],
                "install-bundle --identity NAME --issuer URL"
            ),
            (["RVWR_RELEASE_API_URL": "https://example.org"], "install-bundle --identity NAME --issuer URL"),
            (["RVWR_GATEWAY_BUNDLE_URL": "file:///b", "RVWR_GATEWAY_BUNDLE_SHA256": "x"], "install-bundle"),
        ] as [([String: String], String)]
    )
    func hint(environment: [String: String], command: String) async throws {
        let session = try Session()
        let answer = await session.run(["start", "--json"], with: environment)
        #expect(answer.json["error"]?["help"]?.string == "run 'llm-cli-gateway \(command)'")
        let doctor = await session.run(["doctor", "--json"], with: environment)
        let finding = doctor.json["findings"]?.array?.first { $0["code"]?.string == "not-installed" }
        #expect(finding?["help"]?.string == "run 'llm-cli-gateway \(command)'")
        #expect(
            await session.run(["setup", "--json"], with: environment).json["next"]?.string
                == "Run llm-cli-gateway \(command)."
        )
    }

    @Test("stop is content with a stopped gateway")
    func stop() async throws {
        let answer = try await Session().run("stop")
        #expect(answer.code == .done && answer.json["status"]?["running"]?.bool == false)
    }

    @Test("upgrade without a bundle says that no release source is configured")
    func upgrade() async throws {
        let answer = try await Session().run("upgrade")
        #expect(answer.json["error"]?["code"]?.string == "no-release-source")
    }

    @Test("logs says that there are none yet")
    func logs() async throws {
        let answer = try await Session().run("logs")
        #expect(answer.code == .failed && answer.error.hasPrefix("error: there is no log yet: '"))
    }

    @Test("print-client-config keeps the token to itself unless told otherwise")
    func token() async throws {
        let session = try Session()
        _ = await session.run("setup")
        let hidden = await session.run("print-client-config")
        #expect(hidden.json["headers"]?["Authorization"]?.string == "Bearer <redacted>")
        #expect(!hidden.output.contains("abab"))
        let shown = await session.run("print-client-config", "--show-token", "generic")
        #expect(shown.json["clients"]?.object?.names == ["generic"])
        #expect(
            shown.json["headers"]?["Authorization"]?.string == "Bearer " + String(repeating: "ab", count: 32)
        )
        let unknown = await session.run("print-client-config", "cluade")
        #expect(unknown.code == .usage && unknown.error.contains("did you mean 'claude'?"))
    }

    @Test("repair reports what it did, once")
    func repair() async throws {
        let session = try Session()
        let planned = await session.run("repair", "--dry-run")
        #expect(planned.json["changed"]?.bool == false && !Files().exists(session.layout.home))
        try Files().makeDirectory(session.layout.home)
        let first = await session.run("repair")
        #expect(first.code == .done && first.json["changed"]?.bool == true, "\(first)")
        let second = await session.run("repair")
        #expect(second.json["changed"]?.bool == false)
        #expect(second.json["message"]?.string == "No repair actions were required.")
        try session.write("{", session.layout.settings)
        let broken = await session.run("repair", "--dry-run").json["steps"]?.array
        #expect(
            broken == [.string("keep the unreadable '\(session.layout.settings)' aside and begin a new one")]
        )
    }

    @Test("says which file to correct when a setting has a wrong value", arguments: ["setup", "status"])
    func wrongSetting(verb: String) async throws {
        let session = try Session()
        try session.write(#"{"http_port": "abc"}"#, session.layout.settings)
        let answer = await session.run(verb)
        #expect(
            answer.error == """
                error: 'http_port' in settings.json is "abc", expected a port number from 1 to 65535
                help: correct or remove this key in '\(session.layout.settings)'

                """
        )
        #expect(try session.read(session.layout.settings) == #"{"http_port": "abc"}"#)
    }
}
