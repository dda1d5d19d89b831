import Synchronization
import Testing

@testable import Gateway
@testable import Providers

@Suite("Sharing probes")
struct SharedProbesTests {
    /// A CLI that answers once the gate is open.
    private final class Program: Sendable {
        let probes = SharedProbes()
        let started = Mutex(0)
        let gate: AsyncStream<Never>
        let opener: AsyncStream<Never>.Continuation

        init() { (gate, opener) = AsyncStream.makeStream(of: Never.self) }

        func ask() async -> VersionProbe.Report {
            await probes.report(on: .codex) {
                self.started.withLock { $0 += 1 }
                for await _ in self.gate {}
                return VersionProbe.Report(provider: .codex, command: "codex")
            }
        }
    }

    @Test("who asks while a CLI is being probed gets that answer, who asks later a new one")
    func shared() async {
        let program = Program()
        await withTaskGroup(of: VersionProbe.Report.self) { group in
            for _ in 0..<20 { group.addTask { await program.ask() } }
            group.addTask {
                // Time for all of them to ask; without sharing each would have started one by then.
                for _ in 0..<100 { await Task.yield() }
                program.opener.finish()
                return await program.ask()
            }
            for await report in group { #expect(report.command == "codex") }
        }
        let crowd = program.started.withLock { $0 }
        #expect((1...3).contains(crowd))
        _ = await program.ask()
        #expect(program.started.withLock { $0 } == crowd + 1)
    }
}
