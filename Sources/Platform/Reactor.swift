package import Appliance
import CShims
import Glibc

/// One thread that waits for descriptors and deadlines with epoll(7), for every task that has to wait for one.
package final class Reactor: Sendable {
    private struct Wait {
        /// Called without the lock: whether the descriptor became readable.
        var end: @Sendable (Bool) -> Void
        var descriptor: Int32
        var deadline: UInt64
    }

    private struct State {
        var waits: [UInt64: Wait] = [:]
        var deadlines = DeadlineQueue()
        var next: UInt64 = 1
        var isRunning = false
        /// Until when the thread sleeps at the longest, unless a descriptor becomes readable.
        var alarm: UInt64 = 0
    }

    private let state = GuardedValue(State())
    private let epoll: Int32
    /// Written to when an earlier deadline was added.
    private let bell: Int32
    private let clock: WallClock

    /// A reactor without a thread; the first wait starts it.
    ///
    /// Throws `internal-error` when the kernel has no room.
    package init(clock: WallClock = .system) throws(GatewayError) {
        self.clock = clock
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        bell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard epoll >= 0, bell >= 0 else {
            throw GatewayError("internal-error", "cannot make an epoll descriptor: error \(errno)")
        }
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u64: 0))
        epoll_ctl(epoll, EPOLL_CTL_ADD, bell, &event)
    }

    /// Waits until a descriptor is readable (a pid descriptor: until the process has ended).
    ///
    /// `false` when the deadline passed or the task was cancelled first. One wait at a time for each descriptor.
    package func readable(_ descriptor: Int32, within limit: Duration? = nil) async -> Bool {
        let token = newToken()
        return await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
                register(token, descriptor, limit) { continuation.resume(returning: $0) }
                if Task.isCancelled { complete(token, false) }
            }
        } onCancel: {
            complete(token, false)
        }
    }

    /// Has something done after a while, on the reactor's thread, where nothing may wait; `disarm` keeps it from being done.
    ///
    /// Where many wait for what nearly always comes before, that takes less than a task of each that sleeps.
    package func arm(after limit: Duration, _ body: @escaping @Sendable () -> Void) -> UInt64 {
        let token = newToken()
        register(token, Reactor.noDescriptor, limit) { _ in body() }
        return token
    }

    /// What was armed is not done any more, unless it is being done just now.
    package func disarm(_ token: UInt64) {
        _ = state.withLock { state in state.waits.removeValue(forKey: token) }
    }

    /// Waits so long.
    ///
    /// `false` when the task was cancelled first.
    ///
    /// A process that only waits here is not woken before the time, unlike with `Task.sleep`, whose timer wakes it about
    /// once a second.
    package func sleep(_ duration: Duration) async -> Bool {
        _ = await readable(Reactor.noDescriptor, within: duration)
        return !Task.isCancelled
    }

    private static let noDescriptor: Int32 = -1

    private func newToken() -> UInt64 {
        state.withLock { state in
            state.next += 1
            return state.next - 1
        }
    }

    private func register(
        _ token: UInt64,
        _ descriptor: Int32,
        _ limit: Duration?,
        _ end: @escaping @Sendable (Bool) -> Void
    ) {
        let deadline = limit.map { clock.uptime() &+ $0.nanoseconds } ?? .max
        let (starts, rings, failure) = state.withLock { state in
            let failure = watch(descriptor, for: token)
            // What could not be watched is not to be forgotten either: another wait may watch it.
            let watched = failure == 0 ? descriptor : Reactor.noDescriptor
            state.waits[token] = Wait(end: end, descriptor: watched, deadline: deadline)
            if deadline != .max { state.deadlines.add(deadline, token) }
            // The thread is woken for a deadline that it does not know and would sleep through.
            let rings = deadline < state.alarm
            if rings { state.alarm = deadline }
            let starts = !state.isRunning
            state.isRunning = true
            return (starts, rings, failure)
        }
        if starts {
            BlockingThread.start("reactor") { self.run() }
        } else if rings {
            ring()
        }
        // A regular file or a closed descriptor: reading it tells the caller at once.
        if failure != 0 { complete(token, failure == EPERM) }
    }

    /// Only with the lock held: a wait that ends meanwhile would otherwise be forgotten before it is watched, and its
    /// descriptor, closed and given out again by then, be watched for nobody.
    private func watch(_ descriptor: Int32, for token: UInt64) -> Int32 {
        guard descriptor != Reactor.noDescriptor else { return 0 }
        var event = epoll_event(
            events: EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLONESHOT.rawValue,
            data: epoll_data_t(u64: token)
        )
        return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 ? 0 : errno
    }

    private func ring() {
        var one: UInt64 = 1
        write(bell, &one, 8)
    }

    private func complete(_ token: UInt64, _ result: Bool) {
        guard let wait = state.withLock({ $0.waits.removeValue(forKey: token) }) else { return }
        if wait.descriptor != Reactor.noDescriptor {
            var unused = epoll_event()
            epoll_ctl(epoll, EPOLL_CTL_DEL, wait.descriptor, &unused)
        }
        wait.end(result)
    }

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        while true {
            let now = clock.uptime()
            let (due, next) = state.withLock { state in
                let due = state.deadlines.takeDue(now)
                let waits = state.waits
                state.deadlines.forget { waits[$0] == nil }
                state.alarm = state.deadlines.next
                return (due, state.alarm)
            }
            for token in due { complete(token, false) }
            let timeout: Int32 = next == .max ? -1 : Int32(clamping: (next - now + 999_999) / 1_000_000)
            let count = epoll_wait(epoll, &events, Int32(events.count), timeout)
            guard count > 0 else { continue }
            for event in events[..<Int(count)] {
                if event.data.u64 == 0 {
                    var value: UInt64 = 0
                    read(bell, &value, 8)
                } else {
                    complete(event.data.u64, true)
                }
            }
        }
    }
}

/// Threads for calls that block.
package enum BlockingThread {
    private final class Body {
        let name: String
        let run: @Sendable () -> Void
        init(_ name: String, _ run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts a detached thread with a small stack.
    package static func start(_ name: String, _ body: @escaping @Sendable () -> Void) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        pthread_attr_setstacksize(&attributes, 512 << 10)
        defer { pthread_attr_destroy(&attributes) }
        let box = Unmanaged.passRetained(Body(name, body)).toOpaque()
        var thread = pthread_t()
        let number = pthread_create(&thread, &attributes, { BlockingThread.enter($0) }, box)
        // No thread is to be had: the work is done here rather than never.
        if number != 0 { run(box) }
    }

    /// Runs a blocking function on a thread of its own and waits for it without holding up the cooperative pool.
    package static func run<Value: Sendable>(
        _ name: String,
        _ body: @escaping @Sendable () throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        let result = await withCheckedContinuation {
            (continuation: CheckedContinuation<Result<Value, GatewayError>, Never>) in
            start(name) {
                do throws(GatewayError) {
                    continuation.resume(returning: .success(try body()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try result.get()
    }

    private static func enter(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        guard let box else { return nil }
        run(box, named: true)
        return nil
    }

    private static func run(_ box: UnsafeMutableRawPointer, named: Bool = false) {
        let body = Unmanaged<Body>.fromOpaque(box).takeRetainedValue()
        if named { shim_name_thread(String(body.name.prefix(15))) }
        body.run()
    }
}
