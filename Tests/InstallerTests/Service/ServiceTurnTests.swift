import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

/// A home whose supervisor is a shell script, which does what a supervisor does for the commands that talk to it.
private struct ScriptedSupervisor {
    let session: Session
    let machine: Machine
    let settings: Settings
    var layout: Layout { session.layout }
    var service: DetachedService { DetachedService(machine: machine, layout: layout) }
    /// A pipe by name: the supervisor waits for somebody to open it before it does what it was told to wait for.
    private var gate: String { session.scratch.path("gate") }
    private var launches: String { session.scratch.path("launches") }

    private enum Step: String {
        /// Writes the record.
        case record
        /// Waits for `open`.
        case wait
        /// Says that the gateway is ready, and lets go of the turn.
        case ready
    }

    /// One that is not known before it may be.
    static func slowToBeKnown() throws -> ScriptedSupervisor {
        try ScriptedSupervisor([.wait, .record, .ready])
    }

    /// One that is known at once, and whose gateway is never ready.
    static func neverReady() throws -> ScriptedSupervisor { try ScriptedSupervisor([.record]) }

    /// One whose gateway is ready at once.
    static func quick() throws -> ScriptedSupervisor { try ScriptedSupervisor([.record, .ready]) }

    private init(_ steps: [Step]) throws {
        session = try Session()
        let free = try HTTPListener.open(host: "127.0.0.1", port: 0)
        settings = try Settings(environment: ["LLM_GATEWAY_HTTP_PORT": "\(free.port)"])
        close(free.descriptor)
        machine = Machine(
            environment: session.environment,
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: Terminal(write: { _ in }, writeError: { _ in })
        )
        try Files().makeDirectory(session.scratch.path("launches"))
        try #require(mkfifo(session.scratch.path("gate"), 0o600) == 0)
        let record = session.layout.supervisor
        let lines = steps.map { step in
            switch step {
            case .record:
                """
                born=$(cut -d' ' -f22 /proc/$$/stat)
                echo "{\\"supervisor\\":{\\"pid\\":$$,\\"startTime\\":$born},\\"address\\":\\"\(settings.listenAddress)\\",\\
                \\"startedAt\\":\\"2026-01-01T00:00:00.000Z\\"}" > '\(record).tmp'
                mv '\(record).tmp' '\(record)'
                """
            case .wait: ": < '\(session.scratch.path("gate"))'"
            case .ready: "echo '{\"ready\":true}' >&3; exec 3>&- 0</dev/null"
            }
        }
        let stopped = #"{"error":{"code":"start-failed","message":"it was stopped"}}"#
        let script = """
            #!/bin/sh
            trap 'echo '\\''\(stopped)'\\'' >&3; rm '\\''\(record)'\\''; kill $!; exit 0' TERM
            trap ': > '\''\(session.scratch.path("launches/again"))'\''' HUP
            \(lines.joined(separator: "\n"))
            : > '\(session.scratch.path("launches"))'/$$
            while :; do sleep 300 & wait; done

            """
        try session.write(script, session.layout.currentManager, mode: 0o700)
    }

    func open() async throws {
        let gate = gate
        try await BlockingThread.run("gate") { () throws(GatewayError) in
            let descriptor = Glibc.open(gate, O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw Files.failure("open", gate) }
            close(descriptor)
        }
    }

    /// How many came to the end of their steps, and one more once another gateway was asked for.
    var launched: Int { get throws { try Files().list(launches).count } }

    func launches(_ count: Int) async throws -> Bool {
        try await changes(in: launches) { try launched == count }
    }

    func isKnown() async throws -> Bool {
        try await changes(in: layout.home) { try service.record() != nil }
    }

    /// Ends what a test has left running.
    func end() async { _ = try? await service.stop() }
}

@Suite("Commands that start and stop one gateway at once")
struct ServiceTurnTests {
    @Test("start it once: the first does, and the others find it running")
    func starts() async throws {
        let supervisor = try ScriptedSupervisor.slowToBeKnown()
        let service = supervisor.service, settings = supervisor.settings
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<5 { group.addTask { try await service.start(settings) } }
            try await supervisor.open()
            try await group.waitForAll()
        }
        #expect(try await supervisor.launches(1))
        await supervisor.end()
        #expect(try supervisor.launched == 1)
    }

    @Test("wait for a supervisor whose command was killed before anybody could know of it")
    func killedStarter() async throws {
        let supervisor = try ScriptedSupervisor.slowToBeKnown()
        var turn = try ServiceTurn.attempt(supervisor.layout)
        let command = Command(
            supervisor.layout.currentManager,
            [Supervisor.verb],
            environment: supervisor.machine.environment,
            input: .descriptor(try #require(turn).descriptor)
        )
        let nothing = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
        let pid = try supervisor.machine.processes.launch(command, extra: nothing)
        close(nothing)
        turn = nil
        async let start: Void = supervisor.service.start(supervisor.settings)
        try await supervisor.open()
        try await start
        #expect(try supervisor.service.record()?.supervisor.pid == pid.pid)
        await supervisor.end()
    }

    @Test("a stop ends a start that is under way, which says so, and does not wait for it to be ready")
    func stopBesideStart() async throws {
        let supervisor = try ScriptedSupervisor.neverReady()
        let service = supervisor.service, settings = supervisor.settings
        async let start = refusal { try await service.start(settings) }
        try #require(try await supervisor.isKnown())
        #expect(try await service.stop())
        #expect(await start.message == "it was stopped")
        #expect(try service.record() == nil)
    }

    @Test("a stop ends a replacement that is under way, and whoever waits for that hears of it at once")
    func stopBesideReplacement() async throws {
        let supervisor = try ScriptedSupervisor.quick()
        let service = supervisor.service, settings = supervisor.settings
        try await service.start(settings)
        try #require(try await supervisor.launches(1))
        async let replacement = refusal {
            try await service.replaceGateway(settings, within: .seconds(300))
        }
        try #require(try await supervisor.launches(2))
        #expect(try await service.stop())
        #expect(
            await replacement.message == "the supervising process ended while it replaced the gateway"
        )
    }

    @Test("one that waits in vain says for what")
    func busy() async throws {
        let session = try Session()
        #expect(await refusal { try await ServiceTurn.take(session.layout) }.code == "file-not-found")
        try Files().makeDirectory(session.layout.home)
        let turn = try ServiceTurn.attempt(session.layout)
        let error = await refusal { try await ServiceTurn.take(session.layout, within: .milliseconds(50)) }
        #expect(error.code == "busy" && error.exitCode == .busy)
        #expect(error.message == "waited 0 s for another command that starts or stops this gateway")
        withExtendedLifetime(turn) {}
        #expect(try Files().list(session.layout.home) == [])
    }
}
