import Platform

/// Lines that several tasks and threads add, for tests to read and to wait for.
package final class Journal: Sendable {
    private let lines = GuardedValue<[String]>([])
    private let gates = GuardedValue<[(line: String, gate: Gate)]>([])

    /// An empty journal.
    package init() {}

    /// Adds a line.
    package func note(_ line: String) {
        lines.withLock { $0.append(line) }
        for waiting in gates.withLock({ $0.filter { $0.line == line } }) { waiting.gate.open() }
    }

    /// The lines in their order.
    package var all: [String] { lines.withLock { $0 } }

    /// Waits until this line was written, at most so long; `false` when it was not.
    package func wait(for line: String, within limit: Duration = .seconds(10)) async -> Bool {
        let gate = Gate()
        gates.withLock { $0.append((line, gate)) }
        defer { gates.withLock { $0.removeAll { $0.gate === gate } } }
        if all.contains(line) { return true }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await gate.wait() }
            group.addTask { try? await Task.sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
        return all.contains(line)
    }
}
