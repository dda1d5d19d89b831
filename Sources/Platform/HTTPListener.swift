package import Appliance
import CShims
import Glibc

/// A socket that listens for TCP connections.
package struct HTTPListener: Sendable {
    /// Non-blocking, close on exec.
    package let descriptor: Int32
    /// The numeric address that it is bound to.
    package let address: String
    /// The port, also when 0 was asked for.
    package let port: Int

    /// `127.0.0.1:3333`, `[::1]:3333`.
    package var name: String { HTTPListener.name(address, port) }

    /// An address and a port as one reads them in a URL.
    package static func name(_ host: String, _ port: Int) -> String {
        host.contains(":") && !host.hasPrefix("[") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Binds and listens; `port` 0 picks a free one.
    ///
    /// Throws `address-in-use`, `address-unavailable` or `permission-denied`, with the address and port in the message.
    package static func open(host: String, port: Int) throws(GatewayError) -> HTTPListener {
        let descriptor = try bound(host: host, port: port)
        guard listen(descriptor, SOMAXCONN) == 0 else {
            let number = errno
            close(descriptor)
            throw failure(host, port, number)
        }
        awaitFirstBytes(descriptor)
        return try describe(descriptor)
    }

    /// Tries whether one could be opened, without answering anybody; throws what `open` throws.
    package static func tryOpening(host: String, port: Int) throws(GatewayError) {
        close(try bound(host: host, port: port))
    }

    private static func bound(host: String, port: Int) throws(GatewayError) -> Int32 {
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        guard (0...65_535).contains(port) else {
            throw GatewayError("invalid-value", "port \(port) is outside 0 to 65535")
        }
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let resolution = getaddrinfo(bare, String(port), &hints, &found)
        defer { if let found { freeaddrinfo(found) } }
        guard resolution == 0, let info = found else {
            throw GatewayError(
                "address-unavailable",
                "cannot listen on '\(host)': \(String(cString: gai_strerror(resolution)))",
                help: "use an address of this machine, such as 127.0.0.1"
            )
        }
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(info.pointee.ai_family, kind, 0)
        guard descriptor >= 0 else { throw failure(host, port, errno) }
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        guard bind(descriptor, info.pointee.ai_addr, info.pointee.ai_addrlen) == 0 else {
            let number = errno
            close(descriptor)
            throw failure(host, port, number)
        }
        return descriptor
    }

    /// Lets a connection be accepted once its first bytes are there, or after a second without any (tcp(7)).
    ///
    /// So what a stopping server has accepted, it can answer at once; the rest waits for the next one. The kernel accepts
    /// what it likes where it does not know the option.
    private static func awaitFirstBytes(_ descriptor: Int32) {
        var seconds: Int32 = 1
        setsockopt(
            descriptor,
            Int32(IPPROTO_TCP),
            TCP_DEFER_ACCEPT,
            &seconds,
            socklen_t(MemoryLayout<Int32>.size)
        )
    }

    /// Takes over a socket that somebody else opened, for example systemd; it is made non-blocking.
    package static func adopt(_ descriptor: Int32) throws(GatewayError) -> HTTPListener {
        var listening: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0, listening == 1 else {
            throw GatewayError("socket-unusable", "descriptor \(descriptor) is not a listening socket")
        }
        _ = shim_set_nonblocking(descriptor, true)
        _ = shim_set_cloexec(descriptor, true)
        awaitFirstBytes(descriptor)
        return try describe(descriptor)
    }

    private static func describe(_ descriptor: Int32) throws(GatewayError) -> HTTPListener {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: 64), service = [CChar](repeating: 0, count: 8)
        let status = withUnsafeMutableBytes(of: &storage) { raw -> Int32 in
            guard let address = raw.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                getsockname(descriptor, address, &size) == 0
            else { return EAI_SYSTEM }
            return getnameinfo(
                address,
                size,
                &host,
                socklen_t(host.count),
                &service,
                socklen_t(service.count),
                NI_NUMERICHOST | NI_NUMERICSERV
            )
        }
        guard status == 0, let port = Int(text(service)) else {
            throw GatewayError("socket-unusable", "descriptor \(descriptor) has no internet address")
        }
        return HTTPListener(descriptor: descriptor, address: text(host), port: port)
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func failure(_ host: String, _ port: Int, _ number: Int32) -> GatewayError {
        let name = name(host, port)
        switch number {
        case EADDRINUSE:
            return GatewayError(
                "address-in-use",
                "\(name) is already in use by another program",
                help: "stop that program, or choose another port with LLM_GATEWAY_HTTP_PORT"
            )
        case EACCES:
            return GatewayError(
                "permission-denied",
                "this user may not listen on \(name)",
                help: "choose a port above 1023 with LLM_GATEWAY_HTTP_PORT"
            )
        default:
            return GatewayError(
                "address-unavailable",
                "cannot listen on \(name): \(String(cString: strerror(number)))"
            )
        }
    }
}
