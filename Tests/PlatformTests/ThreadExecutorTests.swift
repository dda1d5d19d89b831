import Glibc
import Platform
import Testing

@Suite("A thread of an actor's own")
struct ThreadExecutorTests {
    private actor Owner {
        private let executor = ThreadExecutor("owner")
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        private(set) var calls = 0

        var thread: pthread_t { pthread_self() }

        /// Where somebody runs who is nobody's, called from here.
        func elsewhere() async -> pthread_t { await currentThread() }

        /// The same in a task that prefers this thread.
        func preferred() async -> pthread_t {
            await withTaskExecutorPreference(executor) { await currentThread() }
        }

        /// The thread after a wait that another one ends, and how many calls have been here by then.
        func waited() async -> (thread: pthread_t, calls: Int) {
            await withTaskExecutorPreference(executor) {
                await withCheckedContinuation { continuation in
                    BlockingThread.start("other") { continuation.resume() }
                }
                calls += 1
                return (pthread_self(), calls)
            }
        }
    }

    @Test("runs its actor, and the tasks that prefer it also where they are nobody's")
    func preference() async {
        let owner = Owner()
        let thread = await owner.thread
        #expect(await owner.elsewhere() != thread)
        #expect(await owner.preferred() == thread)
    }

    @Test("goes on with each of many that wait for other threads, one at a time")
    func waits() async {
        let owner = Owner()
        let thread = await owner.thread
        let ends = await withTaskGroup(of: (thread: pthread_t, calls: Int).self) { group in
            for _ in 0..<50 { group.addTask { await owner.waited() } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(ends.allSatisfy { $0.thread == thread })
        #expect(Set(ends.map(\.calls)) == Set(1...50))
    }
}

/// After a wait: what has none does not leave the thread that it is called on.
@concurrent private func currentThread() async -> pthread_t {
    await Task.yield()
    return pthread_self()
}
