import Glibc
import TestSupport
import Testing

@testable import Platform

@Suite("The threads that run tasks", .timeLimit(.minutes(1)))
struct WorkerPoolTests {
    /// Has the tasks that prefer it run by a pool.
    private final class Forwarder: TaskExecutor {
        let pool = WorkerPool(limit: 4)

        func enqueue(_ job: consuming ExecutorJob) { pool.add(UnownedJob(job)) }
    }

    /// When all of a round wait for each other, a wake-up that was lost is the end of it.
    @Test("wake up for everything that there is to do")
    func wakes() async {
        let executor = Forwarder()
        let steps = GuardedValue(0)
        await withTaskExecutorPreference(executor) {
            for round in 0..<3000 {
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<1 + round % 9 {
                        group.addTask {
                            await Task.yield()
                            await withCheckedContinuation { continuation in
                                Task { continuation.resume() }
                            }
                            steps.withLock { $0 += 1 }
                        }
                    }
                }
            }
        }
        var expected = 0
        for round in 0..<3000 { expected += 1 + round % 9 }
        #expect(steps.withLock(\.self) == expected)
    }

    @Test("go on while others of them are blocked")
    func blocked() async {
        let executor = Forwarder()
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let gates = (0..<3).map { _ in Gate() }
        await withTaskExecutorPreference(executor) { [ends] in
            await withTaskGroup(of: Int.self) { group in
                for gate in gates {
                    group.addTask {
                        gate.open()
                        var byte: UInt8 = 0
                        return read(ends[0], &byte, 1)
                    }
                }
                for gate in gates { await gate.wait() }
                let sum = await withTaskGroup(of: Int.self) { group in
                    for number in 0..<200 {
                        group.addTask {
                            await Task.yield()
                            return number
                        }
                    }
                    return await group.reduce(0, +)
                }
                #expect(sum == 199 * 200 / 2)
                #expect(write(ends[1], "xxx", 3) == 3)
                #expect(await group.reduce(0, +) == 3)
            }
        }
    }
}
