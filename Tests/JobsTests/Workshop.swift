import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Jobs

/// A temporary home with a scheduler whose runner is the gateway that was built beside the tests.
struct Workshop {
    let directory: TemporaryDirectory
    let layout: Layout
    let machine: Machine
    let store: Store
    let scheduler: JobScheduler
    let findings = Journal()
    let ended = Journal()
    private let doorway: Doorway

    /// The built gateway: it lies beside the test bundle.
    static let gateway: String = {
        let own = Files().destination(ofLink: "/proc/self/exe") ?? ""
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? own
        let folder = Files.parent(of: Files().realPath(bundle) ?? bundle)
        return Layout.join(folder, "llm-gateway")
    }()

    init(
        in directory: TemporaryDirectory? = nil,
        limits: Configuration.Limits = Configuration.Limits(),
        store given: Store? = nil,
        files: Files = Files(),
        clock: WallClock = .system,
        budget: Configuration.Budget = Configuration.Budget(),
        judge: @escaping JobScheduler.Judge = { _ in FailedAttempt() },
        verdict: @escaping @Sendable () -> RunVerdict = { RunVerdict() },
        runner: String = Workshop.gateway
    ) throws {
        let directory = try directory ?? TemporaryDirectory()
        self.directory = directory
        doorway = try Doorway(directory.path("gate"))
        let environment = ["HOME": directory.root]
        layout = try Layout(environment: environment)
        machine = Machine(
            environment: environment,
            files: files,
            clock: clock,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        let store = given ?? Store(path: layout.database, clock: clock)
        self.store = store
        let findings = findings, ended = ended
        scheduler = JobScheduler(
            layout: layout,
            store: store,
            limits: limits,
            budget: budget,
            machine: machine,
            runnerExecutable: runner,
            report: { findings.note($0.description) },
            judge: judge,
            onEnd: {
                ended.note("\($0.spec.id) \($0.status.rawValue)")
                return verdict()
            }
        )
    }

    /// A request that runs a shell script.
    func script(_ text: String, id: String? = nil, provider: String = "claude") -> JobRequest {
        var request = JobRequest(
            id: id ?? machine.random.uuid(),
            provider: provider,
            executable: "/bin/sh",
            arguments: ["-c", text],
            environment: ["PATH": "/usr/bin:/bin"],
            correlationID: machine.random.uuid()
        )
        request.limits = ProcessLimits(
            output: 50 << 20,
            wall: .seconds(60),
            idle: nil,
            grace: .milliseconds(300)
        )
        return request
    }

    /// Shell text that waits until `openGate` is called.
    var gate: String { ": <'\(doorway.path)'" }

    /// Lets every script pass its gate.
    func openGate() throws { try doorway.open() }

    /// Runs a request to its end.
    func run(_ request: JobRequest) async throws -> JobOutcome {
        let handle = try await scheduler.submit(request)
        return try #require(await handle.outcome(within: .seconds(60)))
    }
}

/// Where scripts wait: a FIFO that they open for reading, which lasts until somebody has it open for writing.
final class Doorway: Sendable {
    let path: String
    private let writer = GuardedValue<Int32>(-1)

    init(_ path: String) throws {
        self.path = path
        guard mkfifo(path, 0o600) == 0 || errno == EEXIST else { throw Files.failure("make FIFO", path) }
    }

    /// Lets through who waits and who comes later, as long as this value lives.
    func open() throws {
        // For reading too, because that does not wait for a reader.
        let descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw Files.failure("open", path) }
        writer.withLock { $0 = descriptor }
    }

    deinit {
        let descriptor = writer.withLock { $0 }
        if descriptor >= 0 { close(descriptor) }
    }
}

/// The machine's clock, set by hand.
final class HandClock: Sendable {
    private let offset: GuardedValue<Int64>
    private let passed = GuardedValue<Int64>(0)

    /// Right, or at an instant.
    init(at instant: Timestamp? = nil) {
        let now = WallClock.system.now().milliseconds
        offset = GuardedValue(instant.map { $0.milliseconds - now } ?? 0)
    }

    var clock: WallClock {
        var clock = WallClock.system
        clock.now = { WallClock.system.now().advanced(byMilliseconds: self.offset.withLock { $0 }) }
        clock.uptime = {
            WallClock.system.uptime() &+ UInt64(max(0, self.passed.withLock { $0 })) * 1_000_000
        }
        return clock
    }

    /// Lets time pass.
    func advance(seconds: Int64) {
        passed.withLock { $0 += seconds * 1000 }
        set(by: seconds)
    }

    /// Sets the time of day forward or back, while no time passes.
    func set(by seconds: Int64) { offset.withLock { $0 += seconds * 1000 } }
}

/// Waits for what no event tells: that a process of somebody else has collected one that ended.
///
/// A pidfd is readable from that end on and says nothing of the collection, and waitpid(2) is for the parent alone.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
    let clock = ContinuousClock()
    let end = clock.now + .seconds(20)
    while clock.now < end {
        if try await condition() { return true }
        try await Task.sleep(for: .milliseconds(10))
    }
    return false
}

extension Intake {
    /// The job that answers the request.
    var shared: SharedRow? {
        if case .shared(let row) = decision { row } else { nil }
    }
}

extension Store {
    /// The stored output of a job; what is long comes to a file in the place for temporary files.
    func output(of job: String) async throws(GatewayError) -> JobOutput? {
        try await output(of: job, staging: "/tmp")
    }
}
