import Appliance
import Glibc

@testable import Platform

/// A client's end of a TCP connection, to say things that no HTTP library would.
///
/// Blocking, with a time limit: use it inside `onThread`.
final class RawConnection: Sendable {
    let descriptor: Int32

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port).bigEndian)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if status != 0 { throw GatewayError("network", "connect: \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    /// Sends everything; false when the other side is gone.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor,
                    $0.baseAddress.map { $0 + sent },
                    bytes.count - sent,
                    Int32(MSG_NOSIGNAL)
                )
            }
            if count <= 0 { return false }
            sent += count
        }
        return true
    }

    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    /// One read; empty at the end or after the time limit.
    func read(_ size: Int = 65_536) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = max(0, recv(descriptor, buffer.baseAddress, size, 0))
        }
    }

    /// Reads a chunked answer to its end and counts its tildes.
    func countTildes() -> Int {
        var tildes = 0
        while true {
            let bytes = read(1 << 20)
            for byte in bytes where byte == 126 { tildes += 1 }
            if bytes.isEmpty || bytes.suffix(5) == Array("0\r\n\r\n".utf8)[...] { return tildes }
        }
    }

    /// Reads until the text so far satisfies a condition, or the end.
    func read(until isEnough: (String) -> Bool) -> String {
        var bytes: [UInt8] = []
        while true {
            let text = String(decoding: bytes, as: UTF8.self)
            if isEnough(text) { return text }
            let more = read()
            if more.isEmpty { return text }
            bytes += more
        }
    }

    /// Reads one answer with a Content-Length; its status and body.
    func answer() -> (status: Int, head: String, body: String) {
        let text = read { text in
            guard let (head, body) = RawConnection.halves(text) else { return false }
            let length = head.lowercased().split(separator: "content-length: ").dropFirst().first
            return body.utf8.count >= (length.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0)
        }
        guard let (head, body) = RawConnection.halves(text) else { return (0, text, "") }
        return (Int(head.dropFirst(9).prefix(3)) ?? 0, head, body)
    }

    static func halves(_ text: String) -> (String, String)? {
        let bytes = Array(text.utf8)
        for index in bytes.indices.dropLast(3)
        where bytes[index] == 13 && bytes[index + 1] == 10 && bytes[index + 2] == 13 && bytes[index + 3] == 10
        {
            return (
                String(decoding: bytes[..<index], as: UTF8.self),
                String(decoding: bytes[(index + 4)...], as: UTF8.self)
            )
        }
        return nil
    }
}

/// Runs blocking test code away from the cooperative pool, which the server under test needs.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await BlockingThread.run("test") { () throws(GatewayError) in
        do { return try body() } catch { throw GatewayError.wrapping(error) }
    }
}

extension HTTPServer.Routes {
    /// Routes whose requests `handler` answers, but for those that `immediately` does.
    init(
        admit: @escaping @Sendable (HTTPRequest) -> HTTPResponse? = { _ in nil },
        immediately: @escaping @Sendable (HTTPRequest) -> HTTPResponse? = { _ in nil },
        handler: @escaping @Sendable (HTTPRequest) async -> HTTPResponse
    ) {
        self.init(admit: admit) { request in
            immediately(request).map { .answered($0) } ?? .pending { await handler(request) }
        }
    }
}

/// A server whose test cannot forget to stop it.
func withServer<Value>(
    _ routes: HTTPServer.Routes,
    configure: (inout HTTPServer.Options) -> Void = { _ in },
    _ body: (HTTPServer) async throws -> Value
) async throws -> Value {
    var options = HTTPServer.Options()
    configure(&options)
    let server = try HTTPServer.start(options, routes: routes)
    do {
        let value = try await body(server)
        await server.stop(within: .seconds(2))
        return value
    } catch {
        await server.stop(within: .zero)
        throw error
    }
}
