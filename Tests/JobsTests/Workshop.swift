import Appliance
import Glibc
import Jobs
import Platform
import Synchronization
import Testing

/// A temporary home with a scheduler whose runner is the gateway that was built beside the tests.
struct Workshop {
    let directory: TemporaryDirectory
    let layout: Layout
    let machine: Machine
    let store: Store
    let scheduler: JobScheduler
    let findings = Findings()
    let ended = Findings()

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
        runner: String = Workshop.gateway
    ) throws {
        let directory = try directory ?? TemporaryDirectory()
        self.directory = directory
        let environment = ["HOME": directory.root]
        layout = try Layout(environment: environment)
        machine = Machine(
            environment: environment,
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        let store = given ?? Store(path: layout.database, clock: .system)
        self.store = store
        let findings = findings, ended = ended
        scheduler = JobScheduler(
            layout: layout,
            store: store,
            limits: limits,
            machine: machine,
            runnerExecutable: runner,
            report: { findings.add($0.description) },
            onEnd: { ended.add("\($0.spec.id) \($0.status.rawValue)") }
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
    var gate: String { "while [ ! -e '\(directory.path("gate"))' ]; do sleep 0.02; done" }

    /// Lets every script pass its gate.
    func openGate() throws { try Files().write([], to: directory.path("gate")) }

    /// Runs a request to its end.
    func run(_ request: JobRequest) async throws -> JobOutcome {
        let handle = try await scheduler.submit(request)
        return try #require(await handle.outcome(within: .seconds(60)))
    }
}

/// Lines that several threads add to.
final class Findings: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
}

/// Waits for something that a process outside does; there is no event for it.
func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
    for _ in 0..<500 {
        if try await condition() { return true }
        try await Task.sleep(for: .milliseconds(10))
    }
    return false
}
