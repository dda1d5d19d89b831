import Appliance
import CShims
import Glibc
import Synchronization

/// Tells when a client closes its connection while the server library is not looking.
///
/// libmicrohttpd takes a suspended connection out of its own poll set and would learn of the close only on the
/// second write. So every connection that was ever suspended also stands in an epoll set of ours, edge-triggered and
/// for EPOLLRDHUP alone: data never wakes the thread, and closing a descriptor removes it from the set.
final class HTTPDisconnects: Sendable {
    private let set: Int32
    private let stopper: Int32
    private let watched = Mutex<[UInt64: HTTPConnection]>([:])

    init() throws(GatewayError) {
        set = epoll_create1(Int32(EPOLL_CLOEXEC))
        stopper = eventfd(0, Int32(EFD_CLOEXEC))
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u64: 0))
        guard set >= 0, stopper >= 0, epoll_ctl(set, EPOLL_CTL_ADD, stopper, &event) == 0 else {
            let number = errno
            close(set)
            close(stopper)
            throw GatewayError(
                "server-failed",
                "cannot watch connections: \(String(cString: strerror(number)))"
            )
        }
        BlockingThread.start("http-disconnect") { self.run() }
    }

    deinit {
        close(set)
        close(stopper)
    }

    /// Ends the thread.
    func stop() {
        var one: UInt64 = 1
        _ = write(stopper, &one, 8)
    }

    /// Watches a connection until its descriptor is closed.
    func watch(_ connection: HTTPConnection) {
        watched.withLock { $0[connection.number] = connection }
        var event = epoll_event(
            events: EPOLLRDHUP.rawValue | EPOLLET.rawValue,
            data: epoll_data_t(u64: connection.number)
        )
        epoll_ctl(set, EPOLL_CTL_ADD, connection.descriptor, &event)
    }

    /// Forgets a connection whose descriptor is closed.
    func forget(_ connection: HTTPConnection) { watched.withLock { $0[connection.number] = nil } }

    private func run() {
        var events = [epoll_event](repeating: epoll_event(), count: 32)
        while true {
            let count = epoll_wait(set, &events, Int32(events.count), -1)
            if count < 0 && errno != EINTR { return }
            for event in events.prefix(Int(max(0, count))) {
                let number = event.data.u64
                if number == 0 { return }
                watched.withLock { $0[number] }?.clientLeft()
            }
        }
    }
}

/// A client's connection, from accept to close.
final class HTTPConnection: Sendable {
    private struct State {
        var isWatched = false
        var isGone = false
        var exchange: HTTPExchange?
    }

    /// Unique in its server, never 0.
    let number: UInt64
    let descriptor: Int32
    private let disconnects: HTTPDisconnects
    private let state = Mutex(State())

    init(number: UInt64, descriptor: Int32, disconnects: HTTPDisconnects) {
        self.number = number
        self.descriptor = descriptor
        self.disconnects = disconnects
    }

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
        let exchange = state.withLock { state in
            state.isGone = true
            return state.exchange
        }
        exchange?.clientLeft()
    }

    /// The descriptor is closed.
    func closed() {
        if state.withLock({ $0.isWatched }) { disconnects.forget(self) }
    }
}
