import Appliance
import Glibc
import Platform
import Synchronization
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
        try Files().makeDirectory(session.layout.versions)
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

    @Test("a stop ends the start that is under way, and those that wait behind it start nothing")
    func stopBesideManyStarts() async throws {
        let supervisor = try ScriptedSupervisor.neverReady()
        let service = supervisor.service, settings = supervisor.settings
        async let first = refusal { try await service.start(settings) }
        try #require(try await supervisor.isKnown())
        // They come to their turn while the stop waits for its own, or after it: then they are ended as the first was.
        async let others = withTaskGroup(of: String.self) { group in
            for _ in 0..<4 { group.addTask { await refusal { try await service.start(settings) }.code } }
            return await group.reduce(into: [String]()) { $0.append($1) }
        }
        let wish = try #require(ServiceTurn.wish(supervisor.layout))
        #expect(try await service.stop())
        #expect(await first.message == "it was stopped")
        #expect(await others == Array(repeating: "service-stopped", count: 4))
        withExtendedLifetime(wish) {}
        #expect(try service.record() == nil)
        #expect(try supervisor.launched == 1)
    }

    @Test("a start that comes to its turn while somebody waits to stop the gateway starts nothing")
    func wish() async throws {
        let supervisor = try ScriptedSupervisor.quick()
        var wish = ServiceTurn.wish(supervisor.layout)
        #expect(wish != nil && ServiceTurn.wish(supervisor.layout) == nil)
        let error = await refusal { try await supervisor.service.start(supervisor.settings) }
        #expect(error.code == "service-stopped")
        #expect(error.message == "another command stops the gateway, so it was not started")
        #expect(try supervisor.launched == 0)
        wish = nil
        try await supervisor.service.start(supervisor.settings)
        await supervisor.end()
    }

    @Test("a supervisor that is killed while it replaces the gateway is not waited for")
    func killedWhileReplacing() async throws {
        let supervisor = try ScriptedSupervisor.quick()
        let service = supervisor.service, settings = supervisor.settings
        try await service.start(settings)
        let pid = try #require(try service.record()).supervisor
        try #require(try await supervisor.launches(1))
        async let replacement = refusal {
            try await service.replaceGateway(settings, within: .seconds(300))
        }
        try #require(try await supervisor.launches(2))
        for entry in ProcessTable.descendants(of: pid.pid) { ProcessTable.signal(entry.identity, SIGKILL) }
        ProcessTable.signal(pid, SIGKILL)
        #expect(
            await replacement.message == "the supervising process was killed while it replaced the gateway"
        )
        waitpid(pid.pid, nil, 0)
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
            await replacement.message == "the gateway was stopped while it was being replaced"
        )
    }

    @Test("one that waits in vain says for what")
    func busy() async throws {
        let session = try Session()
        let homeless = await refusal { try await ServiceTurn.take(session.layout, say: { _ in }) }
        #expect(homeless.code == "file-not-found")
        try Files().makeDirectory(session.layout.home)
        let turn = try ServiceTurn.attempt(session.layout)
        let said = Mutex<[String]>([])
        let error = await refusal {
            try await ServiceTurn.take(
                session.layout,
                patience: .milliseconds(10),
                within: .seconds(2),
                say: { text in said.withLock { $0.append(text) } }
            )
        }
        #expect(error.code == "busy" && error.exitCode == .busy)
        let holder = "process \(getpid()) ("
        #expect(error.message.hasPrefix("waited 2 s for \(holder)"))
        #expect(error.message.hasSuffix("), which is still starting or stopping this gateway"))
        let sentences = said.withLock { $0 }
        #expect(sentences.count == 1 && sentences[0].hasPrefix("waiting for \(holder)"))
        #expect(sentences.first?.hasSuffix("), which is starting or stopping this gateway") == true)
        withExtendedLifetime(turn) {}
        #expect(try Files().list(session.layout.home) == [])
    }

    @Test("nothing is said where nobody is waited for")
    func silence() async throws {
        let session = try Session()
        try Files().makeDirectory(session.layout.home)
        let said = Mutex(0)
        _ = try await ServiceTurn.take(session.layout, patience: .zero) { _ in said.withLock { $0 += 1 } }
        #expect(said.withLock { $0 } == 0)
    }
}
