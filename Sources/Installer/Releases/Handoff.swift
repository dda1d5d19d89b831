import Glibc

/// A bounded queue between two threads that may block.
///
/// The sender waits while the queue is full, the receiver while it is empty. Either side can end it: `finish` lets the
/// receiver take what is left, `abandon` throws everything away and turns the sender off.
final class Handoff<Element: Sendable>: @unchecked Sendable {
    // Every member below is guarded by `mutex`.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var elements: [Element?]
    private var first = 0
    private var count = 0
    private var isFinished = false
    private var isAbandoned = false

    /// A queue of at most `capacity` elements.
    init(capacity: Int) {
        elements = [Element?](repeating: nil, count: max(1, capacity))
        mutex = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Adds an element; `false` when nobody will take it.
    @discardableResult
    func put(_ element: Element) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while count == elements.count, !isAbandoned, !isFinished { pthread_cond_wait(changed, mutex) }
        guard !isAbandoned, !isFinished else { return false }
        elements[(first + count) % elements.count] = element
        count += 1
        pthread_cond_broadcast(changed)
        return true
    }

    /// The next element; `nil` when there will be none.
    func take() -> Element? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while count == 0, !isFinished, !isAbandoned { pthread_cond_wait(changed, mutex) }
        guard count > 0, !isAbandoned else { return nil }
        let element = elements[first]
        elements[first] = nil
        first = (first + 1) % elements.count
        count -= 1
        pthread_cond_broadcast(changed)
        return element
    }

    /// Says that nothing more comes.
    func finish() { end { isFinished = true } }

    /// Says that nothing more is wanted.
    func abandon() { end { isAbandoned = true } }

    private func end(_ change: () -> Void) {
        pthread_mutex_lock(mutex)
        change()
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }
}

/// A piece of memory that travels between two threads and is used again.
///
/// Whoever took it out of a `Handoff` last owns it alone; that queue's lock orders the accesses.
final class Slab: @unchecked Sendable {
    /// The memory; `capacity` bytes.
    let bytes: UnsafeMutableRawPointer
    let capacity: Int
    /// How many of the bytes mean something.
    var count = 0

    /// Memory of so many bytes.
    init(capacity: Int) {
        bytes = .allocate(byteCount: capacity, alignment: 64)
        self.capacity = capacity
    }

    deinit { bytes.deallocate() }

    /// The bytes that mean something.
    var contents: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: count) }

    /// Copies as much as there is room for and says how much that was.
    func append(_ source: UnsafeRawBufferPointer) -> Int {
        let taken = min(source.count, capacity - count)
        if taken > 0, let start = source.baseAddress {
            (bytes + count).copyMemory(from: start, byteCount: taken)
        }
        count += taken
        return taken
    }
}

/// Bytes from one thread to another through a fixed number of slabs.
final class ByteFeed: Sendable {
    private let free: Handoff<Slab>
    private let full: Handoff<Slab>

    /// A feed that holds at most `slabs` × `size` bytes.
    init(slabs: Int = 8, size: Int = 256 << 10) {
        free = Handoff(capacity: slabs)
        full = Handoff(capacity: slabs)
        for _ in 0..<slabs { free.put(Slab(capacity: size)) }
    }

    /// An empty slab to fill; `nil` when the receiver has gone.
    func empty() -> Slab? { free.take() }
    /// Sends a filled slab.
    func send(_ slab: Slab) { full.put(slab) }
    /// Says that nothing more comes.
    func finish() { full.finish() }

    /// The next filled slab; `nil` at the end.
    func receive() -> Slab? { full.take() }
    /// Gives a slab back.
    func recycle(_ slab: Slab) {
        slab.count = 0
        free.put(slab)
    }
    /// Says that nothing more is wanted: the sender gets no slab any more.
    func abandon() {
        full.abandon()
        free.abandon()
    }
}
