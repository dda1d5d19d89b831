import Glibc

/// A value that several threads change, one after the other, under a pthread mutex.
///
/// For what threads really meet at. Where two meet at a `Mutex`, the kernel passes it from one to the other
/// (FUTEX_LOCK_PI), which ThreadSanitizer does not see: it would report a race where there is none.
package final class GuardedValue<Value>: @unchecked Sendable {
    // Unchecked: `value` is read and written with `mutex` held only.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value: Value

    /// Guards a value.
    package init(_ value: sending Value) {
        self.value = value
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Calls `body` with the value while no other thread can; a second call from inside `body` never returns.
    package func withLock<Result, Failure>(
        _ body: (inout Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}
