import Appliance
import Platform
import Providers
import Testing

@testable import Doctor

@Suite("Looking at the provider CLIs")
struct ProviderTests {
    @Test("tells version and login of a CLI that works, and hides who is logged in")
    func works() async throws {
        let world = try World()
        try world.setUp()
        try world.install("claude", World.claude)
        let report = try await world.examine()
        let claude = report.json["providers"]?["claude"]
        #expect(claude?["cli_available"]?.bool == true)
        #expect(claude?["path"]?.string == "\(world.programs)/claude")
        #expect(claude?["version"]?.string == "2.1.329 (Claude Code)")
        #expect(claude?["login_status"]?.string == "authenticated")
        #expect(claude?["login_check"]?["command"] == ["claude", "auth", "status", "--json"])
        #expect(!report.json.compactText.contains("somebody@example.org"))
        #expect(report.json["upstream"]?["version_guard"]?["providers"]?[0]?["state"]?.string == "match")
        #expect(report.rows.contains { $0.subject == "claude" && $0.mark == .good })
    }

    @Test("says how to install one that is missing, in commands that can be copied")
    func missing() async throws {
        let world = try World()
        try world.setUp()
        try world.install("claude", World.claude)
        let report = try await world.examine()
        let codex = report.json["providers"]?["codex"]
        #expect(codex?["cli_available"]?.bool == false)
        #expect(codex?["version"]?.isNull == true)
        #expect(codex?["login_status"]?.string == "not_checked")
        #expect(
            codex?["install_guidance"]?["commands"] == ["npm install -g @openai/codex", "brew install codex"]
        )
        #expect(report.nextActions.contains { $0.hasPrefix("codex: install Codex with") })
        #expect(!report.codes.contains("no-provider"))
    }

    @Test("does not wait for CLIs that hang longer than their deadline, and leaves none of them behind")
    func hangs() async throws {
        let world = try World()
        try world.setUp()
        try world.install("claude", World.claude)
        let mark = Layout.join(world.root, "pids")
        // One obeys, the other ignores every polite signal.
        try world.install("codex", "echo $$ >>'\(mark)'; exec sleep 600")
        try world.install("grok", "echo $$ >>'\(mark)'; trap '' TERM INT HUP; sleep 600; sleep 600")
        let start = WallClock.system.uptime()
        let report = try await world.examine()
        let took = WallClock.system.milliseconds(since: start)
        #expect((4900..<9000).contains(took), "it took \(took) ms")
        #expect(report.finding("provider-not-working")?.text.contains("did not answer within") == true)
        #expect(report.json["providers"]?["claude"]?["login_status"]?.string == "authenticated")
        #expect(report.json["providers"]?["codex"]?["login_status"]?.string == "unknown")
        #expect(report.isOK, "a CLI that hangs does not stop the gateway: \(report.findings)")
        let pids = try world.files.readText(mark).split(separator: "\n").compactMap { Int32($0) }
        #expect(pids.count == 4)
        for pid in pids { #expect(ProcessTable.commandLine(pid).isEmpty, "process \(pid) is left") }
    }

    @Test("asks for a login where the CLI says that nobody is logged in")
    func loggedOut() async throws {
        let world = try World()
        try world.setUp()
        try world.install(
            "codex",
            #"[ "$1" = --version ] && echo "codex-cli 0.1.0" || { echo "Not logged in" >&2; exit 1; }"#
        )
        try world.install("vibe", "echo 'vibe 3.0.2'")
        let report = try await world.examine()
        let codex = report.json["providers"]?["codex"], vibe = report.json["providers"]?["mistral"]
        #expect(codex?["login_status"]?.string == "not_authenticated")
        #expect(
            codex?["login_check"]?["detail"]?.string == "'codex login status' says that nobody is logged in"
        )
        #expect(vibe?["login_check"]?["credential_store"]?.string == "not_found")
        #expect(report.nextActions.contains("codex: run 'codex login', or set CODEX_API_KEY"))
        #expect(report.json["upstream"]?["version_guard"]?["drifted"] == ["codex"])
        #expect(report.json["upstream"]?["version_guard"]?["ok"]?.bool == false)
        #expect(report.isOK)
    }

    @Test("takes a key of the environment file for a login, and never shows it")
    func key() async throws {
        let world = try World()
        try world.setUp("MISTRAL_API_KEY=abc-0987654321-xyz\n")
        try world.install("vibe", "echo 'vibe 3.0.2'")
        let report = try await world.examine()
        let vibe = report.json["providers"]?["mistral"]
        #expect(vibe?["login_status"]?.string == "authenticated")
        #expect(
            vibe?["login_check"]?["detail"]?.string?.hasPrefix("MISTRAL_API_KEY is set for the service")
                == true
        )
        #expect(!report.json.compactText.contains("0987654321"))
    }

    @Test("says that a key of this shell does not reach the service")
    func shellKey() async throws {
        let world = try World()
        try world.setUp()
        try world.install("vibe", "echo 'vibe 3.0.2'")
        let report = try await world.examine(["MISTRAL_API_KEY": "abc-0987654321-xyz"])
        #expect(report.json["providers"]?["mistral"]?["login_status"]?.string == "not_authenticated")
        #expect(
            report.nextActions.contains {
                $0.hasPrefix("mistral: MISTRAL_API_KEY is set in this shell only")
                    && $0.contains("--import-keys")
            }
        )
    }

    @Test("does not take a CLI that only this shell finds for one that the service finds")
    func shellOnly() async throws {
        let world = try World()
        try world.write("auth-token", "0123456789abcdef-secret\n")
        try world.install("claude", World.claude)
        let report = try await world.examine()
        #expect(report.json["providers"]?["claude"]?["cli_available"]?.bool == false)
        let finding = report.finding("provider-outside-path")
        #expect(finding?.text.contains("'\(world.programs)/claude'") == true)
        #expect(finding?.help?.contains("llm-cli-gateway setup") == true)
        #expect(!report.codes.contains("no-provider"))
        #expect(
            try await world.examine(source: .gateway).json["providers"]?["claude"]?["cli_available"]?.bool
                == true
        )
    }

    @Test("names a CLI that cannot start, without a path in the capabilities")
    func broken() async throws {
        let world = try World()
        try world.setUp()
        try world.install("grok", "echo 'node: not found' >&2; exit 127")
        let report = try await world.examine()
        #expect(report.finding("provider-not-working")?.text == "'grok --version' exited with 127")
        let capabilities = try #require(report.json["provider_capabilities"])
        #expect(capabilities["providers"]?["grok"]?["warnings"] == ["'grok --version' exited with 127"])
        #expect(!capabilities.compactText.contains(world.root))
    }

    @Test("gives the CLIs nothing of the gateway's own")
    func environment() async throws {
        let world = try World()
        try world.setUp("GEMINI_API_KEY=k\nLLM_GATEWAY_AUTH_TOKEN=hidden\n")
        try world.install("agy", "env >'\(world.root)/env'; echo 1.0.0")
        _ = try await world.examine(["ONLY_IN_SHELL": "1", "LLM_GATEWAY_LOGS_DB": "none"])
        let text = try world.files.readText(Layout.join(world.root, "env"))
        #expect(text.contains("HOME=\(world.user)\n"))
        #expect(text.contains("GEMINI_API_KEY=k\n"))
        #expect(!text.contains("LLM_GATEWAY"))
        #expect(!text.contains("ONLY_IN_SHELL"))
    }

    @Test("finds commands and pages in a sentence of advice")
    func guidance() {
        let install = Guidance(
            "install X with 'curl -f https://x.example' or 'npm i x' (see https://x.example/docs)"
        )
        #expect(install.commands == ["curl -f https://x.example", "npm i x"])
        #expect(Guidance("as https://x.example/docs describes").page == "https://x.example/docs")
        for provider in Provider.allCases {
            let guidance = Guidance(provider.installGuidance)
            #expect(!guidance.commands.isEmpty || guidance.page != nil)
            #expect(!Guidance(provider.loginGuidance).commands.isEmpty)
        }
    }

    @Test("calls nothing unsupported that requests do not have", arguments: Provider.allCases)
    func capabilities(_ provider: Provider) throws {
        let schema = ToolSchema.request(for: provider)
        let known = Set(try #require(schema["properties"]?.object?.names))
        let capabilities = Capabilities(provider)
        for input in capabilities.unsupportedInputs {
            let parts = input.split(separator: ":").map(String.init)
            #expect(known.contains(parts[0]), "\(input)")
            guard parts.count == 2 else { continue }
            #expect(
                schema["properties"]?[parts[0]]?["enum"]?.array?.contains(.string(parts[1])) == true,
                "\(input)"
            )
        }
        #expect(Set(capabilities.features).count == capabilities.features.count)
        #expect(capabilities.tools == [provider.requestTool, provider.asyncRequestTool])
    }
}
