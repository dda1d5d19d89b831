import Glibc

/// A thread of an actor's own, for an actor whose calls block.
///
/// The thread is started by the first call, sleeps without wake-ups while there is none, and ends with this value.
///
/// As the executor of a task it is where the task goes on after everything that it waits for. A task of the actor without that
/// preference would go on with a worker first, whose only work is to bring it back here: two threads are woken for one.
package final class ThreadExecutor: SerialExecutor, TaskExecutor {
    private let queue: JobQueue

    /// An executor without a thread; `name` is what the thread will be called, at most 15 bytes.
    package init(_ name: String) { queue = JobQueue(name) }

    deinit { queue.close() }

    /// Runs a job on the thread, after those that came before it.
    package func enqueue(_ job: consuming ExecutorJob) {
        queue.add(UnownedJob(job), asUnownedSerialExecutor(), asUnownedTaskExecutor())
    }

    /// What an actor hands out as its `unownedExecutor`; the actor must keep the executor alive.
    package func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        UnownedSerialExecutor(ordinary: self)
    }

    /// What a task is given as its preference.
    package func asUnownedTaskExecutor() -> UnownedTaskExecutor {
        UnownedTaskExecutor(ordinary: self)
    }
}

/// What is to be run, in order.
///
/// Shared by the executor and its thread, so that neither keeps the other alive.
///
/// `@unchecked Sendable`: every variable is read and written with `mutex` held.
private final class JobQueue: @unchecked Sendable {
    private let name: String
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [Entry] = []
    private var hasThread = false
    private var isClosed = false

    init(_ name: String) {
        self.name = name
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// A job, and as whose it runs: of both kinds, so that a task that goes on here is on its actor at once.
    private typealias Entry = (job: UnownedJob, serial: UnownedSerialExecutor, task: UnownedTaskExecutor)

    func add(_ job: UnownedJob, _ serial: UnownedSerialExecutor, _ task: UnownedTaskExecutor) {
        // Done with the job, its actor may go before this returns.
        let own = Unmanaged.passRetained(self)
        defer { own.release() }
        pthread_mutex_lock(mutex)
        jobs.append((job, serial, task))
        let starts = !hasThread
        hasThread = true
        pthread_mutex_unlock(mutex)
        // After the unlocking, for which the woken thread would have to wait.
        pthread_cond_signal(condition)
        if starts { BlockingThread.start(name) { self.run() } }
    }

    func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    private func run() {
        while let batch = next() {
            for entry in batch {
                entry.job.runSynchronously(isolatedTo: entry.serial, taskExecutor: entry.task)
            }
        }
    }

    private func next() -> [Entry]? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while jobs.isEmpty {
            if isClosed { return nil }
            pthread_cond_wait(condition, mutex)
        }
        defer { jobs = [] }
        return jobs
    }
}
