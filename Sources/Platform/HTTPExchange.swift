import Appliance
import CShims
import Glibc
import Synchronization

/// One request and its answer.
///
/// Order of events: request line (`init`), headers (`admit`), body, complete request (`receive`: the answer, or what makes
/// it in a task while the connection is suspended), answer, `completed`. The library calls on one thread for each
/// connection, and not at all while the connection is suspended.
final class HTTPExchange: @unchecked Sendable {
    private enum Phase {
        case head
        case body
        /// The body is read and dropped, so that the connection can be kept after a refusal.
        case drain
        case waiting
        case answered
    }

    /// What the server's thread, the handler's task and the disconnect thread share.
    private struct Shared {
        var response: HTTPResponse?
        var task: Task<Void, Never>?
        var stream: HTTPStreamBuffer?
        var isSuspended = false
        var hasLeft = false
        var isAborted = false
        /// The connection's socket until the library is done with the request, else -1.
        var descriptor: Int32 = -1
    }

    // Unchecked because of the variables from here to `shared`: they belong to the connection's server thread.
    let server: HTTPServer
    private let connection: OpaquePointer
    private var phase = Phase.head
    private var request: HTTPRequest
    private var refusal: HTTPResponse?
    private var received = 0
    private let client: HTTPConnection?
    private var isWatching = false
    private let shared = Mutex(Shared())

    init(_ server: HTTPServer, _ connection: OpaquePointer, uri: UnsafePointer<CChar>) {
        self.server = server
        self.connection = connection
        client = shim_mhd_connection_value(connection).map {
            Unmanaged<HTTPConnection>.fromOpaque($0).takeUnretainedValue()
        }
        let length = strlen(uri)
        let text = UnsafeRawBufferPointer(start: uri, count: length)
        if let mark = text.firstIndex(of: UInt8(ascii: "?")) {
            request = HTTPRequest(
                "",
                String(decoding: text[..<mark], as: UTF8.self),
                query: String(decoding: text[(mark + 1)...], as: UTF8.self)
            )
        } else {
            request = HTTPRequest("", String(decoding: text, as: UTF8.self))
        }
        client?.requestBegan()
    }

    // MARK: on the server's thread

    /// The library's call; false closes the connection.
    func access(
        method: UnsafePointer<CChar>,
        bytes: UnsafePointer<CChar>?,
        size: UnsafeMutablePointer<Int>
    ) -> Bool {
        switch phase {
        case .head: return readHead(method)
        case .body, .drain:
            guard size.pointee > 0 else { return phase == .drain ? answerRefusal() : decide() }
            defer { size.pointee = 0 }
            return take(UnsafeRawBufferPointer(start: bytes, count: size.pointee))
        case .waiting:
            let (response, isAborted) = shared.withLock { ($0.response.take(), $0.isAborted) }
            if isAborted { return false }
            return response.map(answer) ?? suspend()
        case .answered: return true
        }
    }

    private func readHead(_ method: UnsafePointer<CChar>) -> Bool {
        client?.awaitBody()
        request.method = String(cString: method)
        var fields = HTTPFields()
        withUnsafeMutablePointer(to: &fields) { pointer in
            shim_mhd_each_field(connection, pointer) { context, name, nameLength, value, valueLength in
                let name = UnsafeRawBufferPointer(start: name, count: nameLength)
                let value = UnsafeRawBufferPointer(start: value, count: valueLength)
                context.assumingMemoryBound(to: HTTPFields.self).pointee
                    .add(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
            }
        }
        request.fields = fields
        let length = fields["Content-Length"].map { Int($0) ?? .max } ?? 0
        refusal = server.routes.admit(request)
        if refusal == nil, length > server.options.bodyLimit { refusal = HTTPExchange.tooLarge }
        guard refusal != nil else {
            phase = .body
            request.body.reserveCapacity(min(length, 64 << 10))
            return true
        }
        phase = .drain
        // A client that asks first is told before it sends; one that would send too much is cut off.
        if length > 0, length > server.options.drainLimit || fields["Expect"] != nil {
            return answerRefusal()
        }
        return true
    }

    private func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        received += bytes.count
        if phase == .body {
            if received <= server.options.bodyLimit {
                request.body.append(contentsOf: bytes)
                return true
            }
            request.body = []
            refusal = HTTPExchange.tooLarge
            phase = .drain
        }
        return received <= server.options.drainLimit
    }

    private func answerRefusal() -> Bool {
        client?.awaitNothing()
        return answer(refusal ?? HTTPExchange.tooLarge)
    }

    private func decide() -> Bool {
        client?.awaitNothing()
        let work: @Sendable () async -> HTTPResponse
        switch server.routes.receive(request) {
        case .answered(let response): return answer(response)
        case .pending(let pending): work = pending
        }
        guard server.track(self) else { return false }
        watchClient()
        guard suspend() else { return false }
        phase = .waiting
        request.body = []
        start { exchange in exchange.finish(await work()) }
        return true
    }

    private func suspend() -> Bool {
        shared.withLock { shared in
            // An answer or an abort may have come between the library's call and here.
            if shared.isAborted { return false }
            shim_mhd_suspend(connection)
            shared.isSuspended = true
            if shared.response != nil {
                shared.isSuspended = false
                shim_mhd_resume(connection)
            }
            return true
        }
    }

    private func watchClient() {
        guard !isWatching, let client else { return }
        isWatching = true
        shared.withLock { $0.descriptor = client.descriptor }
        client.watch(for: self)
    }

    private func start(_ work: @escaping @Sendable (HTTPExchange) async -> Void) {
        let task = Task { await work(self) }
        let hasLeft = shared.withLock { shared in
            shared.task = task
            return shared.hasLeft
        }
        if hasLeft { task.cancel() }
    }

    private func answer(_ response: HTTPResponse) -> Bool {
        phase = .answered
        switch response.body {
        case .bytes(let bytes):
            let handle = bytes.withUnsafeBytes { shim_mhd_response_of_bytes($0.baseAddress, $0.count) }
            return send(response, handle)
        case .stream(let produce):
            guard server.track(self) else { return false }
            let stream = HTTPStreamBuffer(connection)
            guard sendStream(response, stream) else { return false }
            watchClient()
            let hasLeft = shared.withLock { shared in
                shared.stream = stream
                return shared.hasLeft || shared.isAborted
            }
            if hasLeft { stream.abort() }
            start { _ in
                await produce(stream)
                stream.finish()
            }
            return true
        }
    }

    private func sendStream(_ response: HTTPResponse, _ stream: HTTPStreamBuffer) -> Bool {
        let handle = shim_mhd_response_of_stream(
            Unmanaged.passRetained(stream).toOpaque(),
            { context, _, buffer, size in
                Unmanaged<HTTPStreamBuffer>.fromOpaque(context).takeUnretainedValue()
                    .read(into: buffer, size: size)
            },
            { context in Unmanaged<HTTPStreamBuffer>.fromOpaque(context).release() }
        )
        return send(response, handle)
    }

    private func send(_ response: HTTPResponse, _ handle: OpaquePointer?) -> Bool {
        guard let handle else { return false }
        var status = response.status
        for (name, value) in response.fields.all where !HTTPExchange.isFraming(name) {
            // A name or value that would break the header is a defect of the handler; its client gets a plain 500.
            if !shim_mhd_add_field(handle, name, value) { status = 500 }
        }
        if server.isStopping { _ = shim_mhd_add_field(handle, "Connection", "close") }
        return shim_mhd_queue(connection, UInt32(clamping: status), handle)
    }

    /// The library frames the answer itself.
    private static func isFraming(_ name: String) -> Bool {
        let name = name.utf8
        switch name.count {
        case 14: return name.elementsEqual("Content-Length".utf8) || name.elementsEqual("content-length".utf8)
        case 17:
            return name.elementsEqual("Transfer-Encoding".utf8)
                || name.elementsEqual("transfer-encoding".utf8)
        default: return false
        }
    }

    /// The library is done with the request: sent, or the connection is gone.
    func completed(whole: Bool) {
        client?.unwatch()
        client?.awaitHead()
        let (task, stream) = shared.withLock { shared in
            defer {
                shared.task = nil
                shared.stream = nil
            }
            shared.isSuspended = false
            shared.descriptor = -1
            return (shared.task, shared.stream)
        }
        if !whole { task?.cancel() }
        stream?.abort()
        client?.requestEnded()
        if server.isStopping { client?.retire(sparingSilent: true) }
        server.ended(self)
    }

    // MARK: from other threads

    private func finish(_ response: HTTPResponse) {
        shared.withLock { shared in
            shared.response = response
            shared.task = nil
            guard shared.isSuspended else { return }
            shared.isSuspended = false
            shim_mhd_resume(connection)
        }
    }

    /// The client has left: the task is cancelled, a stream ends; a handler's late answer is still tried, because a
    /// client may close its sending side alone.
    func clientLeft() {
        let (task, stream) = shared.withLock { shared in
            shared.hasLeft = true
            return (shared.task, shared.stream)
        }
        task?.cancel()
        stream?.abort()
    }

    /// The server ends: the connection is cut without waiting for the handler.
    func abort() {
        let (task, stream) = shared.withLock { shared in
            shared.isAborted = true
            // An answer that waits for a slow client would otherwise wait on.
            if shared.descriptor >= 0 { shutdown(shared.descriptor, Int32(SHUT_RDWR)) }
            if shared.isSuspended {
                shared.isSuspended = false
                shim_mhd_resume(connection)
            }
            return (shared.task, shared.stream)
        }
        task?.cancel()
        stream?.abort()
    }

    private static let tooLarge = HTTPResponse.json(413, ["error": "Payload too large"])
}
