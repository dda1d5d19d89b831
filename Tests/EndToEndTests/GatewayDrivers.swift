import Platform
import Testing

@Suite(
    "The built gateway, among programs that nobody here wrote",
    .serialized,
    .enabled(if: Driver.isProvided, Driver.missing)
)
struct GatewayDrivers {
    @Test("answers the official Python MCP client of both generations, on stdio and HTTP")
    func officialClient() async throws {
        try await Driver("mcp_clients.py").run()
    }

    @Test("serves claude, codex and vibe as MCP clients over HTTP")
    func providerClients() async throws {
        try await Driver("claude_as_client.py").run()
    }

    @Test("runs the real claude, codex and vibe, and tells their failures from their answers")
    func realProviders() async throws {
        try await Driver("real_providers.py").run(within: .seconds(1200))
    }

    @Test("finishes the jobs of the real CLIs after a crash, and ends them with what they run")
    func realJobs() async throws {
        try await Driver("real_jobs.py").run()
    }

    @Test("keeps to the contracts of agy and grok, and ends whatever misbehaves")
    func fakeProviders() async throws {
        try await Driver("fake_providers.py").run()
    }

    @Test("keeps of requests what it was told to keep, and no more")
    func records() async throws {
        try await Driver("records.py").run()
    }

    @Test("runs jobs that are watched, read in parts, cancelled and handed over, also when it is killed")
    func jobs() async throws {
        try await Driver("jobs.py").run()
    }

    @Test("runs the same request once, through however many gateways, and whichever of them die")
    func exactlyOnce() async throws {
        try await Driver("exactly_once.py").run()
    }

    /// One seed that stays, and one of the moment; all surroundings only in the long run.
    private static let surroundings =
        [["--mode", "one", "--seed", "1"], ["--mode", "three"]]
        + (Machine.currentEnvironment()["LLM_GATEWAY_DEEP_TESTS"] == nil
            ? [] : [["--mode", "systemd"], ["--mode", "postgres"]])

    @Test(
        "ends every job truly and once, whatever is killed, full or set meanwhile",
        arguments: surroundings
    )
    func chaos(arguments: [String]) async throws {
        try await Driver("chaos.py", arguments).run(within: .seconds(3600))
    }

    @Test(
        "shares jobs and records with gateways of other machines in one PostgreSQL database, through its restarts"
    )
    func postgres() async throws {
        try await Driver("postgres.py").run()
    }

    @Test("reports its state in the published schema, whatever is wrong")
    func doctor() async throws {
        try await Driver("doctor.py").run()
    }

    @Test("meets broken and hostile clients with the right refusal")
    func faults() async throws {
        try await Driver("protocol_faults.py").run()
    }
}
