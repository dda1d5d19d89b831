import Appliance
import Platform
import Testing

@testable import Doctor

/// The program that validates, from the cache of test tools.
struct Validator {
    static let python: String? = {
        let environment = Machine.currentEnvironment()
        let cache = environment["XDG_CACHE_HOME"] ?? Layout.join(environment["HOME"] ?? "/", ".cache")
        let tools = environment["LLM_GATEWAY_TEST_TOOLS"] ?? Layout.join(cache, "llm-cli-gateway-tests")
        let python = Layout.join(tools, "schema/bin/python")
        return Files().isExecutable(python) ? python : nil
    }()

    static let missing: Comment = "the cache of test tools has no jsonschema; setup/test-tools installs it"

    private static let script = """
        import json, sys, jsonschema
        schema = json.load(open(sys.argv[1]))
        kind = jsonschema.validators.validator_for(schema)
        assert kind is jsonschema.Draft202012Validator, kind
        kind.check_schema(schema)
        for error in kind(schema).iter_errors(json.load(sys.stdin)):
            print("/".join(map(str, error.absolute_path)) or "(root)", "-", error.message[:300])
        """

    /// What jsonschema has to say about a report; empty when it is as the schema wants it.
    static func complaints(_ report: DoctorReport) async throws -> String {
        let folder = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let processes = Processes(clock: .system, reactor: try Reactor())
        let result = try await processes.run(
            Command(
                python ?? "/nonexistent",
                ["-I", "-B", "-c", script, "\(folder)/setup/status.schema.json"],
                environment: ["PATH": "/usr/bin:/bin"],
                input: .bytes(Array(report.json.compactText.utf8))
            ),
            limits: ProcessLimits(wall: .seconds(60))
        )
        return result.succeeded ? result.outputText : "validator: \(result.status): \(result.errorText)"
    }
}

@Suite(
    "The doctor's report, held against its published schema by jsonschema",
    .enabled(if: Validator.python != nil, Validator.missing)
)
struct SchemaTests {
    @Test("is valid with upgrades by the timer", arguments: [true, false])
    func upgrades(failed: Bool) async throws {
        let world = try World()
        try world.setUp()
        var service = World.running
        var error = GatewayError("network", "no route", help: "look at the cable")
        error.cause = "a cause"
        let time = Timestamp(milliseconds: 1_795_255_860_497)
        service.upgrades = UpgradeFacts(
            mode: .notify,
            origin: failed
                ? nil
                : .init(
                    source: "https://example.org/releases",
                    signer: "me@example.org",
                    issuer: "https://example.org",
                    key: nil,
                    trustRoot: "/r.json"
                ),
            isScheduled: true,
            last: failed
                ? .init(at: time, outcome: "failed", failures: 2, error: error)
                : .init(at: time, outcome: "available", version: "1.3.0")
        )
        let report = try await world.examine(service: service, install: World.installed)
        #expect(try await Validator.complaints(report) == "")
    }

    @Test("is valid where everything is well")
    func healthy() async throws {
        let world = try World()
        try world.setUp()
        try world.install("claude", World.claude)
        let report = try await world.examine(service: World.running, install: World.installed)
        #expect(try await Validator.complaints(report) == "")
        #expect(report.isOK, "\(report.findings)")
    }

    @Test("is valid where nothing is installed")
    func empty() async throws {
        let world = try World()
        try world.files.removeTree(world.home)
        let report = try await world.examine()
        #expect(try await Validator.complaints(report) == "")
        #expect(report.exitCode == .failed)
    }

    @Test("is valid with settings that are no JSON, and names the file")
    func corruptSettings() async throws {
        let world = try World()
        try world.setUp()
        try world.write("settings.json", "{\"http_port\": 33")
        let report = try await world.examine(install: World.installed)
        #expect(try await Validator.complaints(report) == "")
        #expect(report.finding("settings-corrupt")?.severity == .error)
        #expect(report.finding("settings-corrupt")?.text.contains("settings.json") == true)
    }

    @Test("is valid with a configuration that is no TOML, and leaves the file")
    func corruptConfiguration() async throws {
        let world = try World()
        try world.setUp()
        try world.write("config.toml", "[persistence\nbackend = 5\n")
        let report = try await world.examine(install: World.installed)
        #expect(try await Validator.complaints(report) == "")
        #expect(report.finding("config-unparsable")?.severity == .error)
        #expect(
            try world.files.readText(Layout.join(world.home, "config.toml")) == "[persistence\nbackend = 5\n"
        )
    }

    @Test("is valid with every remote feature asked for")
    func remote() async throws {
        let world = try World()
        try world.setUp("LLM_GATEWAY_OAUTH_ENABLED=1\n")
        try world.write(
            "settings.json",
            #"{"public_url": "https://user:hunter22@box.ts.net/x?token=abcdefgh", "chatgpt_connector_url": "https://x.ts.net/s3cret"}"#
        )
        try world.write(
            "config.toml",
            """
            [cache_awareness]
            emit_anthropic_cache_control = true
            warn_on_ttl_expiry = true
            [providers.xai]
            [[workspaces.repos]]
            alias = "here"
            path = "\(world.root)"
            [persistence]
            backend = "postgres"
            dsn = "postgresql://user:topsecret@localhost:1/database"
            """
        )
        let report = try await world.examine(install: World.installed)
        #expect(try await Validator.complaints(report) == "")
        let text = report.json.compactText
        for secret in ["hunter22", "abcdefgh", "s3cret", "topsecret", "0123456789abcdef-secret"] {
            #expect(!text.contains(secret), "\(secret) is in the report")
        }
        #expect(report.json["endpoint_exposure"]?["mode"]?.string == "tunnel")
        #expect(report.codes.contains("database-unreachable") || report.codes.contains("libpq-missing"))
    }

    @Test(
        "is valid with somebody else on the port, whether that process can be seen or not",
        arguments: [
            ServiceFacts.PortOwner(pid: 99, command: "python3 -m http.server 3333"),
            ServiceFacts.PortOwner(pid: nil, command: nil),
        ]
    )
    func foreignOwner(_ owner: ServiceFacts.PortOwner) async throws {
        let world = try World()
        try world.setUp()
        let service = ServiceFacts(manager: .unreachable, portOwner: owner)
        let report = try await world.examine(service: service, install: World.installed)
        #expect(try await Validator.complaints(report) == "")
        #expect(report.finding("port-in-use")?.text.contains(owner.command ?? "another user") == true)
        #expect(report.exitCode == .failed)
    }
}
