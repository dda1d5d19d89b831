package import Appliance
import CShims
import Glibc
import Synchronization

/// An HTTP/1.1 server on libmicrohttpd, which is loaded when the first server starts.
///
/// Nothing wakes up while nothing happens: the server's threads and the disconnect thread wait in epoll without a
/// time limit, idle connections excepted.
package final class HTTPServer: Sendable {
    /// How a server listens and what it bears.
    package struct Options: Sendable {
        /// A numeric address or a name of this machine.
        package var host = "127.0.0.1"
        /// 0 picks a free one.
        package var port = 0
        /// A listening socket to use instead of `host` and `port`; it is left open when the server stops.
        package var inheritedSocket: Int32?
        /// Bytes of a request body; more is answered with 413.
        package var bodyLimit = 8 << 20
        /// Bytes of a refused body that are read and dropped so that the client sees the answer.
        package var drainLimit = 256 << 20
        /// Connections at once; more wait in the socket's backlog.
        package var connectionLimit = 4096
        /// Bytes of buffer for each connection; a request head must fit.
        package var connectionMemory = 16 << 10
        /// How long a connection may be silent between and inside requests; one whose handler works is exempt.
        package var idleTimeout = Duration.seconds(75)
        /// How long a request's line and headers may take, however steadily they come.
        package var headTimeout = Duration.seconds(15)
        /// How long a request's body may take, however steadily it comes.
        package var bodyTimeout = Duration.seconds(600)
        /// Threads that wait for connections, at least 1; handlers do not run on them.
        package var threads = 1
        /// The library's file; its name is tried when this is `nil` or does not load.
        package var library: String?

        /// The defaults: loopback, a free port, 8 MiB bodies.
        package init() {}
    }

    /// What the server asks for an answer.
    package struct Routes: Sendable {
        /// Called once the headers are there, before the body is read; an answer refuses the request.
        package var admit: @Sendable (HTTPRequest) -> HTTPResponse?
        /// Called with the whole request on the server's thread; must not wait.
        package var receive: @Sendable (HTTPRequest) -> HTTPReception

        /// Routes that admit everything unless told otherwise.
        package init(
            admit: @escaping @Sendable (HTTPRequest) -> HTTPResponse? = { _ in nil },
            receive: @escaping @Sendable (HTTPRequest) -> HTTPReception
        ) {
            self.admit = admit
            self.receive = receive
        }
    }

    private struct State {
        /// Connections from their accept to their close.
        var open: [UInt64: HTTPConnection] = [:]
        /// Exchanges with a task, which must be cut before the library may be stopped.
        var tracked: [ObjectIdentifier: HTTPExchange] = [:]
        var isClosed = false
        var waiting: [CheckedContinuation<Void, Never>] = []

        /// Whether the library may be stopped: what is not tracked, it can end by itself.
        var isIdle: Bool { open.isEmpty || isClosed && tracked.isEmpty }

        mutating func wake() -> [CheckedContinuation<Void, Never>] {
            guard isIdle, !waiting.isEmpty else { return [] }
            defer { waiting = [] }
            return waiting
        }
    }

    let options: Options
    let routes: Routes
    /// Where the server listens.
    package let listener: HTTPListener
    private let disconnects: HTTPDisconnects
    private let stopping = Atomic(false)
    private let connections = Atomic<UInt64>(0)
    /// The uptime at which the server's thread began what it is doing for a request; 0 while it waits.
    private let busySince = Atomic<UInt64>(0)
    private let state = Mutex(State())
    private let daemon = Mutex<Daemon?>(nil)

    /// The library's server and what it points to.
    private struct Daemon: @unchecked Sendable {
        // Unchecked: both pointers are only handed from start to stop, through the lock of `daemon`.
        var handle: OpaquePointer
        var callbacks: UnsafeMutablePointer<shim_mhd_callbacks>
    }

    private init(_ options: Options, _ routes: Routes, _ listener: HTTPListener) throws(GatewayError) {
        self.options = options
        self.routes = routes
        self.listener = listener
        // A connection may first be silent for as long as the library lets it.
        disconnects = try HTTPDisconnects(
            headTimeout: options.idleTimeout + options.headTimeout,
            bodyTimeout: options.bodyTimeout
        )
    }

    /// Binds and serves until `stop`.
    ///
    /// Throws what `HTTPListener.open` throws, and `libmicrohttpd-missing` or `server-failed`.
    package static func start(_ options: Options, routes: Routes) throws(GatewayError) -> HTTPServer {
        try load(options.library)
        let listener =
            if let socket = options.inheritedSocket {
                try HTTPListener.adopt(socket)
            } else {
                try HTTPListener.open(host: options.host, port: options.port)
            }
        do {
            let server = try HTTPServer(options, routes, listener)
            try server.run()
            return server
        } catch {
            if options.inheritedSocket == nil { close(listener.descriptor) }
            throw error
        }
    }

    /// Where a bundle has the library: in `lib/` beside the `bin/` of the program.
    package static func bundledLibrary(executable: String) -> String {
        let directory = executable.split(separator: "/").dropLast(2).joined(separator: "/")
        return "/\(directory)/lib/libmicrohttpd.so.12"
    }

    private static let loading = Mutex(())

    private static func load(_ path: String?) throws(GatewayError) {
        let reason = loading.withLock { _ in shim_mhd_load(path).map { String(cString: $0) } }
        guard let reason else { return }
        throw GatewayError(
            "libmicrohttpd-missing",
            "the HTTP server needs libmicrohttpd.so.12, which could not be loaded: \(reason)",
            help: "run 'llm-cli-gateway repair', or install the package libmicrohttpd12"
        )
    }

    private func run() throws(GatewayError) {
        let callbacks = UnsafeMutablePointer<shim_mhd_callbacks>.allocate(capacity: 1)
        let context = Unmanaged.passRetained(self)
        callbacks.initialize(to: HTTPServer.callbacks(context.toOpaque()))
        let seconds = options.idleTimeout.components.seconds
        var settings = shim_mhd_options(
            socket: listener.descriptor,
            threads: UInt32(clamping: max(1, options.threads)),
            connection_limit: UInt32(clamping: options.connectionLimit),
            connection_memory: options.connectionMemory,
            idle_seconds: UInt32(clamping: seconds)
        )
        guard let handle = shim_mhd_start(&settings, callbacks) else {
            let number = errno
            callbacks.deallocate()
            context.release()
            disconnects.stop()
            throw GatewayError(
                "server-failed",
                "the HTTP server on \(listener.name) did not start: \(String(cString: strerror(number)))"
            )
        }
        daemon.withLock { $0 = Daemon(handle: handle, callbacks: callbacks) }
    }

    private static func callbacks(_ context: UnsafeMutableRawPointer) -> shim_mhd_callbacks {
        shim_mhd_callbacks(
            context: context,
            began: { context, uri, connection in
                let server = Unmanaged<HTTPServer>.fromOpaque(context).takeUnretainedValue()
                return Unmanaged.passRetained(HTTPExchange(server, connection, uri: uri)).toOpaque()
            },
            access: { request, _, method, bytes, size in
                guard let request else { return false }
                let exchange = Unmanaged<HTTPExchange>.fromOpaque(request).takeUnretainedValue()
                exchange.server.busySince.store(WallClock.system.uptime(), ordering: .relaxed)
                defer { exchange.server.busySince.store(0, ordering: .relaxed) }
                return exchange.access(method: method, bytes: bytes, size: size)
            },
            completed: { request, whole in
                guard let request else { return }
                Unmanaged<HTTPExchange>.fromOpaque(request).takeRetainedValue().completed(whole: whole)
            },
            opened: { context, descriptor in
                let server = Unmanaged<HTTPServer>.fromOpaque(context).takeUnretainedValue()
                let number = server.connections.add(1, ordering: .relaxed).newValue
                let connection = HTTPConnection(
                    number: number,
                    descriptor: descriptor,
                    disconnects: server.disconnects
                )
                server.disconnects.opened(connection)
                server.state.withLock { $0.open[number] = connection }
                return Unmanaged.passRetained(connection).toOpaque()
            },
            closed: { context, connection in
                guard let connection else { return }
                let server = Unmanaged<HTTPServer>.fromOpaque(context).takeUnretainedValue()
                server.closed(Unmanaged<HTTPConnection>.fromOpaque(connection).takeRetainedValue())
            }
        )
    }

    // MARK: exchanges

    /// Whether answers should end their connections.
    var isStopping: Bool { stopping.load(ordering: .relaxed) }

    /// Counts an exchange among those with a task; false when the server is closed.
    func track(_ exchange: HTTPExchange) -> Bool {
        state.withLock { state in
            guard !state.isClosed else { return false }
            state.tracked[ObjectIdentifier(exchange)] = exchange
            return true
        }
    }

    /// An exchange is over.
    func ended(_ exchange: HTTPExchange) {
        let waiting = state.withLock { state in
            if !state.tracked.isEmpty { state.tracked[ObjectIdentifier(exchange)] = nil }
            return state.wake()
        }
        for continuation in waiting { continuation.resume() }
    }

    private func closed(_ connection: HTTPConnection) {
        connection.closed()
        let waiting = state.withLock { state in
            state.open[connection.number] = nil
            return state.wake()
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Whether the server's thread has not been at one request for longer than this: nothing that it calls may wait.
    ///
    /// Says nothing of a server with several threads.
    package func isResponsive(within limit: Duration) -> Bool {
        let start = busySince.load(ordering: .relaxed)
        let now = WallClock.system.uptime()
        return options.threads > 1 || start == 0 || now < start || now - start < limit.nanoseconds
    }

    /// Connections that are open.
    package var connectionCount: Int { state.withLock(\.open.count) }

    // MARK: stopping

    /// How long a stopping server waits for the first request on a connection that it has accepted.
    static let silence = Duration.milliseconds(200)

    /// Ends in order, so that no request is lost to whoever listens next on an inherited socket.
    ///
    /// 1. Nothing more is accepted: what connects now waits in the socket's backlog, which an inherited socket keeps.
    /// 2. Answers say that their connection ends. Connections on which nothing is under way are closed after what has
    ///    arrived on them was answered; a fresh one gets a moment for its first request.
    /// 3. What is not over by the deadline is cut; then the server's threads end.
    ///
    /// Only the first call stops; a second one returns at once.
    package func stop(within deadline: Duration) async {
        guard let daemon = daemon.withLock({ $0.take() }) else { return }
        stopping.store(true, ordering: .relaxed)
        shim_mhd_quiesce(daemon.handle)
        if options.inheritedSocket == nil { close(listener.descriptor) }
        retireConnections(sparingSilent: true)
        let alarm = Task { [self] in
            let patience = min(HTTPServer.silence, deadline)
            try? await Task.sleep(for: patience)
            if !Task.isCancelled { retireConnections(sparingSilent: false) }
            try? await Task.sleep(for: deadline - patience)
            if !Task.isCancelled { cut() }
        }
        await whenIdle()
        alarm.cancel()
        cut()
        await whenIdle()
        // The threads are joined; the library's hold on this object ends with them.
        try? await BlockingThread.run("http-stop") { () throws(GatewayError) in
            shim_mhd_stop(daemon.handle)
            daemon.callbacks.deallocate()
            Unmanaged.passUnretained(self).release()
        }
        disconnects.stop()
    }

    private func retireConnections(sparingSilent: Bool) {
        for connection in state.withLock({ Array($0.open.values) }) {
            connection.retire(sparingSilent: sparingSilent)
        }
    }

    /// Cuts every exchange that has a task, and lets none begin.
    private func cut() {
        let (tracked, waiting) = state.withLock { state in
            state.isClosed = true
            return (Array(state.tracked.values), state.wake())
        }
        for exchange in tracked { exchange.abort() }
        for continuation in waiting { continuation.resume() }
    }

    private func whenIdle() async {
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                if state.isIdle { return true }
                state.waiting.append(continuation)
                return false
            }
            if isIdle { continuation.resume() }
        }
    }
}
