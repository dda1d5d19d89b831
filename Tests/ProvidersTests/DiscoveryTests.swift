import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Providers

@Suite("Finding models")
struct RegistryTests {
    @Test("reads each CLI's own configuration")
    func configuration() async throws {
        try await inTemporaryDirectory { home in
            let files = Files()
            func write(_ name: String, _ text: String) throws {
                let path = Layout.join(home, name)
                try files.makeDirectory(Files.parent(of: path))
                try files.write(Array(text.utf8), to: path)
            }
            try write(".claude/settings.json", #"{"model":"opus"}"#)
            try write(".codex/config.toml", "model = \"gpt-x\"\n[profiles.fast]\nmodel = \"gpt-mini\"\n")
            try write(".gemini/settings.json", #"{"model":{"name":"gemini-3-pro"}}"#)
            try write(".grok/config.toml", "[model.mine]\nname = \"Mine\"\n[models]\ndefault = \"mine\"\n")
            try write(
                ".vibe/config.toml",
                "active_model = \"fake\"\n[[models]]\nname = \"fake-model\"\nalias = \"fake\"\n"
            )
            let registry = ModelRegistry(environment: [:], userHome: home, files: files)
            #expect(registry.resolve("default", for: .claude) == "opus")
            #expect(registry.models[.codex]?.entries.map(\.id) == ["gpt-x", "gpt-mini"])
            #expect(registry.resolve("latest", for: .gemini) == "gemini-3-pro")
            #expect(registry.resolve("default", for: .grok) == "mine")
            #expect(registry.standing(of: "fake", for: .mistral) == .known)
            #expect(registry.standing(of: "nope", for: .mistral) == .unknown(["fake", "mistral-medium-3.5"]))
            #expect(registry.standing(of: "nope", for: .claude) == .unverified)
            let listed = registry.listing(.mistral)
            #expect(listed.object?.names == ["mistral"])
            #expect(listed["mistral"]?["defaultModel"] == "fake")
            #expect(listed["mistral"]?["modelMetadata"]?["fake"]?["source"] == "config")
            let off = ModelRegistry(
                environment: ["LLM_GATEWAY_DISABLE_MODEL_DISCOVERY": "1"],
                userHome: home,
                files: files
            )
            #expect(off.models.values.allSatisfy { $0.entries.isEmpty })
        }
    }

    @Test("lets the environment win, in each of its forms")
    func environment() {
        let registry = ModelRegistry(
            environment: [
                "CLAUDE_DEFAULT_MODEL": "sonnet", "CLAUDE_MODELS": "a=first, b\nbad name",
                "CLAUDE_MODEL_ALIASES": "Fast=b", "CODEX_MODELS": #"["m1",{"id":"m2","desc":"two"}]"#,
                "GEMINI_MODELS": #"{"gemini-2.5-pro":"x","gemini-3-pro":"y","gemini-2.5-flash":"z"}"#,
                "LLM_GATEWAY_MODEL_ALIASES": "codex.quick=m2,claude.slow=a", "VIBE_ACTIVE_MODEL": "v",
            ],
            userHome: "/nowhere",
            files: Files()
        )
        let claude = registry.models[.claude]
        #expect(claude?.entries.map(\.id) == ["a", "b", "sonnet"])
        #expect(claude?.entries.first?.description == "first")
        #expect(claude?.warnings.first?.contains("'bad name'") == true)
        #expect(registry.resolve("FAST", for: .claude) == "b")
        #expect(registry.resolve("slow", for: .claude) == "a")
        #expect(registry.resolve("quick", for: .codex) == "m2")
        #expect(registry.resolve("pro", for: .gemini) == "gemini-3-pro")
        #expect(registry.resolve("default", for: .mistral) == "v")
        #expect(registry.resolve("default", for: .grok) == nil)
        #expect(registry.resolve("  ", for: .claude) == nil)
        #expect(registry.resolve("anything", for: .grok) == "anything")
    }

    @Test("says what is wrong with a configuration file")
    func damaged() async throws {
        try await inTemporaryDirectory { home in
            let path = Layout.join(home, "broken.toml")
            try Files().write(Array("model = ".utf8), to: path)
            let registry = ModelRegistry(
                environment: ["CODEX_CONFIG_PATH": path],
                userHome: home,
                files: Files()
            )
            #expect(registry.models[.codex]?.warnings.first?.hasPrefix("'\(path)' is not TOML") == true)
        }
    }
}

@Suite("Finding and probing CLIs")
struct SearchTests {
    private func install(_ script: String, as name: String, in folder: String) throws {
        try Files().makeDirectory(folder)
        try Files().write(Array("#!/bin/sh\n\(script)\n".utf8), to: Layout.join(folder, name), mode: 0o755)
    }

    @Test("searches the user's, the gateway's, the system's and nvm's folders, newest Node first")
    func order() async throws {
        try await inTemporaryDirectory { home in
            for version in ["v9.0.0", "v22.1.0"] {
                try Files().makeDirectory(Layout.join(home, ".nvm/versions/node/\(version)/bin"))
            }
            let search = ProviderSearch(
                environment: ["PATH": "/bin:relative:/usr/bin"],
                userHome: home,
                gatewayFolder: "/gw",
                recordedPath: "/recorded:/bin",
                files: Files()
            )
            let nvm = Layout.join(home, ".nvm/versions/node")
            #expect(
                search.folders == [
                    "\(home)/.local/bin", "/gw", "/usr/local/bin", "/usr/bin", "\(nvm)/v22.1.0/bin",
                    "\(nvm)/v9.0.0/bin", "/bin", "/recorded",
                ]
            )
        }
    }

    @Test("keeps the folders until a version of Node comes or goes, and finds what is installed meanwhile")
    func kept() async throws {
        try await inTemporaryDirectory { home in
            let versions = Layout.join(home, ".nvm/versions/node")
            let seconds = GuardedValue(Int64(3600))
            var clock = WallClock.system
            clock.now = {
                WallClock.system.now().advanced(byMilliseconds: seconds.withLock { $0 } * 1000)
            }
            let cache = SearchCache(
                environment: ["PATH": "/nowhere"],
                userHome: home,
                gatewayFolder: "/gw",
                files: Files(),
                clock: clock
            )
            func found() -> [String] {
                cache.current().folders.filter { $0.hasPrefix(versions) }.map {
                    String($0.dropFirst(versions.count))
                }
            }
            /// Gives the folder a time of its last change of its own.
            func makeVersion(_ name: String, changed second: Int) throws {
                try Files().makeDirectory(Layout.join(versions, "\(name)/bin"))
                var times = [timespec(tv_sec: second, tv_nsec: 0), timespec(tv_sec: second, tv_nsec: 0)]
                #expect(utimensat(AT_FDCWD, versions, &times, 0) == 0)
            }
            #expect(found() == [] && cache.current().find(.grok, files: Files()) == nil)
            try install("echo", as: "grok", in: Layout.join(home, ".local/bin"))
            #expect(cache.current().find(.grok, files: Files()) == Layout.join(home, ".local/bin/grok"))
            let now = Int(WallClock.system.now().milliseconds / 1000)
            try makeVersion("v9.0.0", changed: now)
            #expect(found() == ["/v9.0.0/bin"] && found() == ["/v9.0.0/bin"])
            #expect(cache.current().path.hasSuffix("/v9.0.0/bin:/nowhere"))
            try makeVersion("v10.0.0", changed: now + 1)
            #expect(found() == ["/v10.0.0/bin", "/v9.0.0/bin"])
            // Changed a moment ago, it may be changed again at what the file system takes for the same time.
            seconds.withLock { $0 = 0 }
            try makeVersion("v11.0.0", changed: now + 2)
            #expect(found().count == 3)
            try makeVersion("v12.0.0", changed: now + 2)
            #expect(found().count == 4)
            try Files().removeTree(versions)
            #expect(found() == [] && cache.isKept)
            // In the place of a folder that cannot be read: one whose time stays as it is when it can be read again.
            seconds.withLock { $0 = 60 }
            try Files().write(Array("no folder".utf8), to: versions)
            #expect(found() == [] && !cache.isKept)
        }
    }

    @Test("says where it looked and how to install what is missing")
    func missing() {
        let search = ProviderSearch(
            environment: [:],
            userHome: "/nowhere",
            gatewayFolder: nil,
            files: Files()
        )
        do throws(GatewayError) {
            _ = try search.require(.gemini, files: Files())
            Issue.record("agy is not installed in this place")
        } catch {
            #expect(error.code == "command-not-found")
            #expect(
                error.message
                    == "the 'agy' command was not found (ENOENT); looked in /nowhere/.local/bin, /usr/local/bin, /usr/bin"
            )
            #expect(error.help?.contains("antigravity.google") == true)
        }
    }

    @Test("reports version and login, redacted")
    func probe() async throws {
        try await inTemporaryDirectory { home in
            let folder = Layout.join(home, ".local/bin")
            try install(
                #"case "$1" in --version) echo "2.1.329 (Claude Code) a@b.example";; auth) echo '{"loggedIn": true}';; esac"#,
                as: "claude",
                in: folder
            )
            try install(
                #"[ "$1" = --version ] && echo "codex-cli 0.163.0" || { echo "Not logged in" >&2; exit 1; }"#,
                as: "codex",
                in: folder
            )
            try install("echo broken >&2; exit 3", as: "vibe", in: folder)
            let environment = ["HOME": home, "PATH": "/usr/bin:/bin"]
            let search = ProviderSearch(
                environment: environment,
                userHome: home,
                gatewayFolder: nil,
                files: Files()
            )
            let processes = Processes(clock: .system, reactor: try Reactor())
            func run(_ provider: Provider) async -> VersionProbe.Report {
                await VersionProbe(provider).run(
                    search,
                    environment: environment,
                    processes: processes,
                    files: Files()
                )
            }
            let claude = await run(.claude)
            #expect(claude.version == "2.1.329" && claude.login == .authenticated && claude.error == nil)
            #expect(claude.output == "2.1.329 (Claude Code) [redacted-email]")
            #expect(claude.json["loginGuidance"] == nil)
            let codex = await run(.codex)
            #expect(codex.version == "0.163.0" && codex.login == .notAuthenticated)
            #expect(codex.json["loginGuidance"]?.string?.contains("codex login") == true)
            let vibe = await run(.mistral)
            #expect(vibe.isInstalled && vibe.version == nil && vibe.error?.hasSuffix("exited with 3") == true)
            let grok = await run(.grok)
            #expect(!grok.isInstalled && grok.error?.contains("looked in") == true)
            #expect(grok.json["installed"] == false)
        }
    }

    @Test("takes a key for a login, and redacts keys and ids")
    func redaction() {
        let text = "key sk-ant-REDACTED id 01a1fd1a-1f50-7470-80be-5c531e9bcb0e Bearer abcdefghijklmnop"
        #expect(VersionProbe.redacted(text) == "key [redacted-secret] id [redacted-uuid] [redacted-secret]")
        #expect(
            VersionProbe(.grok).login(output: #"{"loggedIn":false}"#, error: "", status: 0)
                == .notAuthenticated
        )
        #expect(VersionProbe(.grok).login(output: "{}", error: "", status: 0) == .unknown)
        #expect(VersionProbe(.mistral).loginArguments == nil)
    }
}
