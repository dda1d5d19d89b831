import CShims
import Glibc

/// The threads that run tasks, in place of the runtime's own pool.
///
/// That one, libdispatch's, wakes the process every second for as long as it lives, to look after its threads. A
/// service that does nothing must not be woken; these threads wait for work and for nothing else.
package final class WorkerPool: @unchecked Sendable {
    // Unchecked: everything mutable is guarded by `lock`, a pthread mutex, because a condition goes with it.
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [UnownedJob] = []
    /// Where the queue's first job is; the front is cut off now and then, not with every job.
    private var first = 0
    private var idle = 0
    /// Idle threads that were woken and have not looked yet.
    private var woken = 0
    private var threads = 0
    private let limit: Int

    private static let shared = WorkerPool(limit: max(4, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))

    /// Makes every task of this process run here; to be called once, first thing in `main`.
    package static func takeOver() {
        shim_take_global_jobs { job in
            WorkerPool.shared.add(unsafeBitCast(job, to: UnownedJob.self))
        }
    }

    /// A pool without a thread; those that it starts wait for work as long as the process lives.
    init(limit: Int) {
        self.limit = limit
        lock = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(lock, nil)
        pthread_cond_init(changed, nil)
    }

    /// Has a job run on whichever thread is free first.
    func add(_ job: UnownedJob) {
        pthread_mutex_lock(lock)
        queue.append(job)
        let waiting = queue.count - first
        let starts = waiting > idle && threads < limit
        if starts { threads += 1 }
        let wakes = !starts && wakesOne()
        pthread_mutex_unlock(lock)
        if starts { BlockingThread.start("worker") { self.work() } }
        if wakes { pthread_cond_signal(changed) }
    }

    /// Whether an idle thread is to be woken, with the lock held: one at a time, which wakes the next one when there is more.
    ///
    /// Of many jobs that come at once, most are done by threads that are awake already.
    private func wakesOne() -> Bool {
        guard woken == 0, idle > 0, first < queue.count else { return false }
        woken = 1
        return true
    }

    private func work() {
        while true {
            // As a job of no executor at all: said to run on one of ours, its task would leave that one for the common pool, and so
            // for another thread, with every call of a function that belongs to no actor.
            shim_run_global_job(unsafeBitCast(next(), to: UnsafeMutableRawPointer.self))
        }
    }

    private func next() -> UnownedJob {
        pthread_mutex_lock(lock)
        while first == queue.count {
            idle += 1
            pthread_cond_wait(changed, lock)
            idle -= 1
            woken = 0
        }
        let job = queue[first]
        first += 1
        if first == queue.count {
            queue.removeAll(keepingCapacity: first < 1024)
            first = 0
        } else if first > 1024 {
            queue.removeFirst(first)
            first = 0
        }
        let wakes = wakesOne()
        pthread_mutex_unlock(lock)
        if wakes { pthread_cond_signal(changed) }
        return job
    }
}
