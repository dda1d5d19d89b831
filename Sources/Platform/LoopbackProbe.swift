package import Appliance
import CShims
import Glibc

/// One GET to a server on this machine, without libcurl, which alone would cost `status` a third of its time.
package enum LoopbackProbe {
    /// Asks and waits on the calling thread, at most until the limit.
    ///
    /// `host` is a numeric address; a wildcard address is asked on loopback. Throws `connection-refused` when nobody
    /// listens, `timed-out`, `not-http` when the answer is none, and `network` for the rest.
    package static func get(
        host: String,
        port: Int,
        path: String,
        fields: HTTPFields = [:],
        within limit: Duration
    ) throws(GatewayError) -> HTTPClient.Answer {
        let target = host == "0.0.0.0" || host == "localhost" ? "127.0.0.1" : host == "::" ? "::1" : host
        let name = HTTPListener.name(target, port)
        let clock = WallClock.system
        let deadline = clock.uptime() &+ limit.nanoseconds
        let descriptor = try connected(target, port, name, deadline)
        defer { close(descriptor) }
        var request = "GET \(path) HTTP/1.0\r\nHost: \(name)\r\n"
        for (name, value) in fields.all where !value.utf8.contains(10) { request += "\(name): \(value)\r\n" }
        let head = Array((request + "\r\n").utf8)
        var sent = 0
        while sent < head.count {
            let count = head[sent...].withUnsafeBytes {
                send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                sent += count
            } else {
                try wait(descriptor, Int16(POLLOUT), name, deadline, count)
            }
        }
        var bytes: [UInt8] = []
        while bytes.count < 1 << 20 {
            var count = 0
            bytes.append(
                contentsOf: [UInt8](unsafeUninitializedCapacity: 16 << 10) { buffer, initialized in
                    count = recv(descriptor, buffer.baseAddress, 16 << 10, 0)
                    initialized = max(0, count)
                }
            )
            if count == 0 || isWhole(bytes) { break }
            if count < 0 { try wait(descriptor, Int16(POLLIN), name, deadline, count) }
        }
        guard let answer = parse(bytes, url: "http://\(name)\(path)") else {
            throw GatewayError("not-http", "the program on \(name) does not answer as an HTTP server")
        }
        return answer
    }

    /// `get` on a thread of its own, for callers on the cooperative pool.
    package static func ask(
        host: String,
        port: Int,
        path: String,
        fields: HTTPFields = [:],
        within limit: Duration
    ) async throws(GatewayError) -> HTTPClient.Answer {
        try await BlockingThread.run("probe") { () throws(GatewayError) in
            try get(host: host, port: port, path: path, fields: fields, within: limit)
        }
    }

    private static func connected(
        _ host: String,
        _ port: Int,
        _ name: String,
        _ deadline: UInt64
    ) throws(GatewayError) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let bare = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
        let resolution = getaddrinfo(bare, String(port), &hints, &found)
        defer { if let found { freeaddrinfo(found) } }
        guard resolution == 0, let info = found else {
            throw GatewayError("network", "'\(host)' is not a numeric address")
        }
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(info.pointee.ai_family, kind, 0)
        guard descriptor >= 0 else { throw lost(name, errno) }
        do throws(GatewayError) {
            guard connect(descriptor, info.pointee.ai_addr, info.pointee.ai_addrlen) != 0 else {
                return descriptor
            }
            guard errno == EINPROGRESS else { throw lost(name, errno) }
            errno = EAGAIN
            try wait(descriptor, Int16(POLLOUT), name, deadline, -1)
            var number: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &size)
            guard number == 0 else { throw lost(name, number) }
            return descriptor
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// Waits after a call that returned `result`.
    private static func wait(
        _ descriptor: Int32,
        _ events: Int16,
        _ name: String,
        _ deadline: UInt64,
        _ result: Int
    ) throws(GatewayError) {
        if result < 0, errno != EAGAIN, errno != EINTR { throw lost(name, errno) }
        let now = WallClock.system.uptime()
        guard now < deadline else {
            throw GatewayError("timed-out", "the program on \(name) did not answer in time")
        }
        var entry = pollfd(fd: descriptor, events: events, revents: 0)
        _ = poll(&entry, 1, Int32(clamping: (deadline - now + 999_999) / 1_000_000))
    }

    private static func lost(_ name: String, _ number: Int32) -> GatewayError {
        number == ECONNREFUSED
            ? GatewayError("connection-refused", "nothing listens on \(name)")
            : GatewayError("network", "\(name) cannot be reached: \(String(cString: strerror(number)))")
    }

    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        bytes.indices.dropLast(3).first {
            bytes[$0] == 13 && bytes[$0 + 1] == 10 && bytes[$0 + 2] == 13 && bytes[$0 + 3] == 10
        }
    }

    private static func isWhole(_ bytes: [UInt8]) -> Bool {
        guard let end = headEnd(bytes), let length = parse(bytes, url: "")?.contentLength else {
            return false
        }
        return Int64(bytes.count - end - 4) >= length
    }

    private static func parse(_ bytes: [UInt8], url: String) -> HTTPClient.Answer? {
        guard let end = headEnd(bytes) else { return nil }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
        guard let first = lines.first, first.hasPrefix("HTTP/1."),
            let status = first.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { return nil }
        var fields = HTTPFields()
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields.add(String(line[..<colon]), String(line[line.index(after: colon)...].drop { $0 == " " }))
        }
        return HTTPClient.Answer(status: status, fields: fields, url: url, body: Array(bytes[(end + 4)...]))
    }
}
