import Appliance
import Jobs
import Platform
import SQL
import SQLite
import Testing

@testable import Doctor

@Suite("What the doctor advises")
struct AdviceTests {
    @Test("puts the missing token first, and never leaves the list empty")
    func nothing() async throws {
        let world = try World()
        try world.files.removeTree(world.home)
        let report = try await world.examine()
        #expect(report.findings.first?.code == "token-missing")
        #expect(report.nextActions.first == "run 'llm-cli-gateway setup'")
        #expect(report.codes == ["token-missing", "not-installed", "no-provider"])
        #expect(!world.files.exists(world.home), "the doctor made something")
    }

    @Test("offers to connect a client where everything runs")
    func healthy() async throws {
        let world = try World()
        try world.setUp()
        try world.install("claude", World.claude)
        try world.write("config.toml", "[[workspaces.repos]]\nalias = \"here\"\npath = \"\(world.root)\"\n")
        let report = try await world.examine(service: World.running, install: World.installed)
        #expect(report.findings.isEmpty, "\(report.findings)")
        #expect(report.nextActions.first?.hasPrefix("connect a client") == true)
        #expect(report.exitCode == .done)
        #expect(report.json["ok"]?.bool == true)
        #expect(!report.rows.contains { $0.mark == .warning || $0.mark == .error })
    }

    @Test("keeps the gravest first, whatever was noticed first")
    func order() async throws {
        let world = try World()
        try world.setUp()
        try world.write("auth-token", "secret-0123456789\n", mode: 0o644)
        try world.write("config.toml", "[limits]\nmax_runing_jobs = 1\n[acp]\nenabled = true\n")
        let owner = ServiceFacts.PortOwner(pid: 12, command: "nc -l 3333")
        let report = try await world.examine(service: ServiceFacts(manager: .none, portOwner: owner))
        #expect(report.findings.map(\.severity) == report.findings.map(\.severity).sorted(by: >))
        #expect(
            report.findings.first?.text
                == "port 3333 is taken by process 12 (nc -l 3333), which is not this gateway"
        )
        #expect(report.finding("token-mode-loose")?.text.contains("its mode is 0644, expected 0600") == true)
        #expect(report.finding("config-unknown-key")?.help?.contains("max_running_jobs") == true)
        #expect(report.finding("feature-not-available")?.severity == .info)
        #expect(report.nextActions.first?.hasPrefix("stop that process") == true)
    }

    @Test("does not call missing what it could not read")
    func unreadable() async throws {
        let world = try World()
        try world.setUp()
        let damaged = InstallFacts(findings: [
            Finding("receipt-damaged", .error, "receipt", "the receipt is damaged")
        ])
        let report = try await world.examine(install: damaged)
        #expect(report.finding("receipt-damaged") != nil)
        #expect(report.finding("not-installed") == nil)
    }

    @Test("tells a gateway that does not answer from one that does not run")
    func service() async throws {
        let world = try World()
        try world.setUp()
        let stopped = try await world.examine(install: World.installed)
        #expect(stopped.finding("not-running")?.severity == .warning)
        var facts = World.running
        facts.isHealthy = false
        let mute = try await world.examine(service: facts, install: World.installed)
        #expect(mute.finding("not-answering")?.severity == .error)
        #expect(mute.finding("not-answering")?.text.contains("http://127.0.0.1:3333/healthz") == true)
    }

    @Test("says whether the gateway starts at boot")
    func boot() async throws {
        let world = try World()
        try world.setUp()
        var facts = World.running
        func wording() async throws -> String? {
            try await world.examine(service: facts, install: World.installed).rows
                .first { $0.subject == "starts" }?.text
        }
        #expect(try await wording()?.hasPrefix("with your session, not at boot") == true)
        facts.lingers = true
        #expect(try await wording() == "at boot, without a login")
        #expect(facts.json["starts_at_boot"]?.bool == true)
        facts.isEnabled = false
        #expect(try await wording()?.hasPrefix("not by itself") == true)
        #expect(facts.json["starts_at_boot"]?.bool == false)
        facts = ServiceFacts(manager: .none)
        #expect(try await wording() == nil)
        #expect(facts.json["starts_at_boot"] == .null)
    }

    @Test("tells of upgrades by the timer that failed or have no timer, and of what they found")
    func upgrades() async throws {
        let world = try World()
        try world.setUp()
        var facts = World.running
        var install = World.installed
        let time = Timestamp(milliseconds: 1_795_255_860_497)
        func report() async throws -> DoctorReport {
            try await world.examine(service: facts, install: install)
        }
        facts.upgrades = UpgradeFacts(mode: .on, isScheduled: true)
        #expect(try await !report().codes.contains { $0.contains("upgrade") })
        facts.upgrades.isScheduled = false
        #expect(try await report().nextActions.contains("run 'llm-cli-gateway upgrade --auto on'"))
        let error = GatewayError("network", "no route to 'example.org'")
        facts.upgrades = UpgradeFacts(
            mode: .on,
            isScheduled: true,
            last: .init(at: time, outcome: "failed", failures: 3, error: error)
        )
        let failed = try await report().finding("auto-upgrade-failed")
        #expect(failed?.severity == .warning)
        #expect(
            failed?.text
                == "the last 3 automatic upgrades failed, at 2026-11-21T10:11:00.497Z: no route to 'example.org'"
        )
        // An upgrade by hand came later.
        install.installedAt = time.advanced(byMilliseconds: 1)
        #expect(try await !report().codes.contains("auto-upgrade-failed"))
        install.installedAt = nil
        facts.upgrades = UpgradeFacts(
            mode: .notify,
            isScheduled: true,
            last: .init(at: time, outcome: "available", version: "1.3.0")
        )
        #expect(try await report().finding("upgrade-available")?.text == "version 1.3.0 can be installed")
        install.version = "1.3.0"
        #expect(try await !report().codes.contains("upgrade-available"))
    }

    @Test("warns of a workspace that gives away the gateway's own folder, and of one that is gone")
    func workspaces() async throws {
        let world = try World()
        try world.setUp()
        try world.write(
            "config.toml",
            """
            [[workspaces.repos]]
            alias = "self"
            path = "\(world.home)"
            [[workspaces.repos]]
            alias = "gone"
            path = "\(world.root)/gone"
            """
        )
        let report = try await world.examine()
        #expect(report.json["workspaces"]?["gateway_app_dir_is_workspace"]?.bool == true)
        #expect(report.codes.contains("home-is-workspace"))
        #expect(report.finding("workspace-missing")?.text.contains("'gone'") == true)
        #expect(report.json["workspaces"]?["repo_count"]?.int == 2)
    }

    @Test("says that a Vibe that keeps no sessions cannot resume, in files that are read and never changed")
    func vibe() async throws {
        let world = try World()
        try world.setUp()
        try world.install("vibe", "echo 'vibe 3.0.2'")
        let path = Layout.join(world.user, ".vibe/config.toml")
        for (text, enabled) in [
            ("active_model = \"x\"\n", true), ("[session_logging]\nenabled = false\n", false),
            ("[session", false),
        ] {
            try world.files.makeDirectory(Files.parent(of: path))
            try world.files.write(Array(text.utf8), to: path)
            let report = try await world.examine()
            let logging = report.json["client_config"]?["vibe_session_logging"]
            #expect(logging?["session_logging_enabled"]?.bool == enabled, "\(text)")
            #expect(report.nextActions.contains { $0.contains("[session_logging]") } == !enabled, "\(text)")
            #expect(try world.files.readText(path) == text)
        }
    }

    @Test("warns where nobody needs a token")
    func withoutAuthorization() async throws {
        let world = try World()
        let report = try await world.examine(["LLM_GATEWAY_AUTH_DISABLED": "1"])
        #expect(report.codes.contains("auth-disabled"))
        #expect(report.json["auth"]?["source"]?.string == "disabled")
        #expect(!report.codes.contains("token-missing"))
    }
}

@Suite("How requests used prompt caches")
struct CacheTests {
    private func record(_ world: World, closing: Bool) throws -> Connection? {
        let connection = try Connection(Layout.join(world.home, "logs.db"))
        try Migration.apply(Schema.migrations, to: connection, appliedAt: "2026-01-01T00:00:00.000Z")
        let now = WallClock.system.now()
        let rows: [(String, String, String, Int?, Int64)] = [
            ("1", "claude", "opus", 1_000_000, 0), ("2", "claude", "opus", nil, 0),
            ("3", "codex", "gpt-5", 0, 0),
            ("4", "mistral", "unheard-of", 50, 0), ("5", "claude", "opus", 7, -25 * 3_600_000),
        ]
        for (id, provider, model, tokens, age) in rows {
            try connection.execute(
                "INSERT INTO requests (id, cli, model, datetime_utc, cache_read_tokens) VALUES (?1, ?2, ?3, ?4, ?5)",
                [
                    .text(id), .text(provider), .text(model),
                    .text(now.advanced(byMilliseconds: age).iso8601), .optional(tokens),
                ]
            )
        }
        return closing ? nil : connection
    }

    @Test(
        "counts the last 24 hours, with a gateway that has the database open and without one",
        arguments: [false, true]
    )
    func counts(_ closing: Bool) async throws {
        let world = try World()
        try world.setUp()
        let open = try record(world, closing: closing)
        let before = try world.files.list(world.home)
        let report = try await world.examine()
        let cache = try #require(report.json["cache_awareness"])
        #expect(cache["last_24h"]?["total_requests"]?.int == 4)
        #expect(cache["last_24h"]?["total_hits"]?.int == 2)
        #expect(cache["last_24h"]?["hit_rate"]?.number == 0.5)
        // A million tokens of opus at 15 dollars, of which a cached one costs a tenth.
        #expect(
            cache["last_24h"]?["estimated_savings_usd"]?.number.map { ($0 - 13.5).magnitude < 1e-9 } == true
        )
        #expect(cache["per_cli"]?["claude"]?["total_cache_read_tokens"]?.int == 1_000_000)
        #expect(cache["per_cli"]?["codex"]?["total_hits"]?.int == 0)
        #expect(try world.files.list(world.home) == before, "the doctor made a file")
        _ = open
    }

    @Test("is zero without a database, and a finding with a damaged one, which stays as it is")
    func none() async throws {
        let world = try World()
        try world.setUp()
        #expect(try await world.examine().json["cache_awareness"]?["last_24h"]?["total_requests"]?.int == 0)
        #expect(!world.files.exists(Layout.join(world.home, "logs.db")))
        let damage = String(repeating: "this is no database. ", count: 200)
        try world.write("logs.db", damage)
        let report = try await world.examine()
        #expect(report.finding("database-corrupt")?.severity == .warning)
        #expect(report.finding("database-corrupt")?.text.contains("logs.db") == true)
        #expect(try world.files.readText(Layout.join(world.home, "logs.db")) == damage)
    }
}
