import Appliance
import CShims
import Glibc
import Synchronization

/// Tells when a client closes its connection while the server library is not looking.
///
/// libmicrohttpd takes a suspended connection out of its own poll set and would learn of the close only on the
/// second write. So every connection that was ever suspended also stands in an epoll set of ours, edge-triggered and
/// for EPOLLRDHUP alone: data never wakes the thread, and closing a descriptor removes it from the set.
///
/// The same thread cuts clients that send their request too slowly. The library only counts silence, so that one byte a
/// minute would hold a connection for ever. While there are connections the thread looks at them when the first of them
/// could be late, at most once in the time that a head may take; while there are none it sleeps.
final class HTTPDisconnects: Sendable {
    private struct State {
        /// The open ones by number.
        var connections: [UInt64: HTTPConnection] = [:]
        /// Whether the thread will look at them by itself.
        var isTimed = false
        var isStopped = false
    }

    private let set: Int32
    private let bell: Int32
    private let headTimeout: UInt64
    private let bodyTimeout: UInt64
    private let state = Mutex(State())

    init(headTimeout: Duration, bodyTimeout: Duration) throws(GatewayError) {
        self.headTimeout = headTimeout.nanoseconds
        self.bodyTimeout = bodyTimeout.nanoseconds
        set = epoll_create1(Int32(EPOLL_CLOEXEC))
        bell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u64: 0))
        guard set >= 0, bell >= 0, epoll_ctl(set, EPOLL_CTL_ADD, bell, &event) == 0 else {
            let number = errno
            close(set)
            close(bell)
            throw GatewayError(
                "server-failed",
                "cannot watch connections: \(String(cString: strerror(number)))"
            )
        }
        BlockingThread.start("http-disconnect") { self.run() }
    }

    deinit {
        close(set)
        close(bell)
    }

    /// Ends the thread.
    func stop() {
        state.withLock { $0.isStopped = true }
        ring()
    }

    private func ring() {
        var one: UInt64 = 1
        _ = write(bell, &one, 8)
    }

    /// A connection that is open now, and whose client owes a request.
    func opened(_ connection: HTTPConnection) {
        connection.awaitHead()
        let mustRing = state.withLock { state in
            state.connections[connection.number] = connection
            defer { state.isTimed = true }
            return !state.isTimed
        }
        if mustRing { ring() }
    }

    /// When a head, or a body, that is awaited from now on is late; nanoseconds of uptime.
    func deadline(ofBody isBody: Bool) -> UInt64 {
        WallClock.system.uptime() &+ (isBody ? bodyTimeout : headTimeout)
    }

    /// Tells the exchange of a connection when its client leaves.
    func watch(_ connection: HTTPConnection) {
        var event = epoll_event(
            events: EPOLLRDHUP.rawValue | EPOLLET.rawValue,
            data: epoll_data_t(u64: connection.number)
        )
        epoll_ctl(set, EPOLL_CTL_ADD, connection.descriptor, &event)
    }

    /// Forgets a connection whose descriptor is about to be closed.
    func forget(_ connection: HTTPConnection) { state.withLock { $0.connections[connection.number] = nil } }

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 32)
        var next: UInt64?
        while true {
            let before = WallClock.system.uptime()
            let wait = next.map { Int32(clamping: (max($0, before) - before) / 1_000_000 + 1) } ?? -1
            let count = epoll_wait(set, &events, Int32(events.count), wait)
            if count < 0 && errno != EINTR { return }
            for event in events.prefix(Int(max(0, count))) {
                let number = event.data.u64
                if number == 0 {
                    var rings: UInt64 = 0
                    _ = read(bell, &rings, 8)
                    if state.withLock({ $0.isStopped }) { return }
                }
                state.withLock { $0.connections[number] }?.clientLeft()
            }
            let now = WallClock.system.uptime()
            if next.map({ $0 <= now }) ?? true { next = cutLate(now) }
        }
    }

    /// Cuts who is late; when to look again, `nil` when nobody is there.
    private func cutLate(_ now: UInt64) -> UInt64? {
        state.withLock { state in
            state.isTimed = !state.connections.isEmpty
            guard state.isTimed else { return nil }
            // Who owes nothing now may owe a head from now on.
            var next = now &+ headTimeout
            for connection in state.connections.values {
                let due = connection.due.load(ordering: .relaxed)
                if due > now {
                    next = min(next, due)
                } else if due > 0 {
                    // Under the lock, because the number of a descriptor that is closed may be another's.
                    connection.awaitNothing()
                    shutdown(connection.descriptor, Int32(SHUT_RDWR))
                }
            }
            return next
        }
    }
}

/// A client's connection, from accept to close.
final class HTTPConnection: Sendable {
    private struct State {
        var isWatched = false
        var isGone = false
        var exchange: HTTPExchange?
        /// Requests from their first line to the end of their answer: one at most.
        var isBusy = false
        /// Whether any request was ever made on it.
        var hasSpoken = false
        var isRetired = false
        var isClosed = false
    }

    /// Unique in its server, never 0.
    let number: UInt64
    let descriptor: Int32
    /// When what its client owes is late, in nanoseconds of uptime; 0 while it owes nothing.
    fileprivate let due = Atomic<UInt64>(0)
    private let disconnects: HTTPDisconnects
    private let state = Mutex(State())

    init(number: UInt64, descriptor: Int32, disconnects: HTTPDisconnects) {
        self.number = number
        self.descriptor = descriptor
        self.disconnects = disconnects
    }

    /// The client owes a request's line and headers.
    func awaitHead() { due.store(disconnects.deadline(ofBody: false), ordering: .relaxed) }

    /// The client owes the body of a request.
    func awaitBody() { due.store(disconnects.deadline(ofBody: true), ordering: .relaxed) }

    /// The client owes nothing: the request is here and is being answered.
    func awaitNothing() { due.store(0, ordering: .relaxed) }

    /// From now on the exchange learns when the client leaves; at once if it has.
    func watch(for exchange: HTTPExchange) {
        let (isNew, isGone) = state.withLock { state in
            defer { state.isWatched = true }
            state.exchange = exchange
            return (!state.isWatched, state.isGone)
        }
        if isNew { disconnects.watch(self) }
        if isGone { exchange.clientLeft() }
    }

    /// The exchange is over.
    func unwatch() { state.withLock { $0.exchange = nil } }

    /// The client closed its sending side or everything.
    func clientLeft() {
        let exchange = state.withLock { state -> HTTPExchange? in
            // A connection that we retired looks as if its client had left.
            guard !state.isRetired else { return nil }
            state.isGone = true
            return state.exchange
        }
        exchange?.clientLeft()
    }

    /// A request has begun.
    func requestBegan() {
        state.withLock { state in
            state.isBusy = true
            state.hasSpoken = true
        }
    }

    /// Its answer is sent, or will not be.
    func requestEnded() { state.withLock { $0.isBusy = false } }

    /// Ends the connection in order unless a request is under way on it: nothing more is read than what has arrived, so
    /// that the library answers that and closes.
    ///
    /// `sparingSilent` leaves a connection alone whose client has not said anything yet: its first request is on the way.
    func retire(sparingSilent: Bool) {
        state.withLock { state in
            guard !state.isClosed, !state.isRetired, !state.isBusy, state.hasSpoken || !sparingSilent else {
                return
            }
            // What waits to be read is a request; its end brings us here again.
            var byte: UInt8 = 0
            if recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) > 0 { return }
            state.isRetired = true
            shutdown(descriptor, Int32(SHUT_RD))
        }
    }

    /// The descriptor is about to be closed.
    func closed() {
        state.withLock { $0.isClosed = true }
        disconnects.forget(self)
    }
}
