import Appliance
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Platform

private func text(_ text: String, status: Int = 200) -> HTTPResponse {
    HTTPResponse(status: status, fields: ["Content-Type": "text/plain"], body: .bytes(Array(text.utf8)))
}

private let echo = HTTPServer.Routes(
    immediately: { $0.target == "/now" ? text("now") : nil },
    handler: { request in
        let body = String(decoding: request.body, as: UTF8.self)
        return text(
            "\(request.method) \(request.target) [\(request.query)] \(request.fields["x-test"] ?? "-") \(body)"
        )
    }
)

@Suite("The HTTP server", .timeLimit(.minutes(1)))
struct HTTPServerTests {
    @Test("answers immediately and from a task, on one kept connection")
    func answers() async throws {
        try await withServer(echo) { server in
            let port = server.listener.port
            #expect(port > 0 && server.listener.name == "127.0.0.1:\(port)")
            let answers = try await onThread {
                let client = try RawConnection(port: port)
                client.send("GET /now HTTP/1.1\r\nHost: x\r\n\r\n")
                let first = client.answer()
                client.send(
                    "POST /a%20b?c=d&e=%2F HTTP/1.1\r\nHost: x\r\nX-Test: yes\r\nContent-Length: 5\r\n\r\nhello"
                )
                let second = client.answer()
                return [first, second]
            }
            #expect(answers[0].status == 200 && answers[0].body == "now")
            #expect(answers[1].body == "POST /a%20b [c=d&e=%2F] yes hello")
        }
    }

    /// Sends a piece again and again, and says after how many seconds the server has had enough; `nil`: it never had.
    private static func drip(_ beginning: String, _ piece: String, to port: Int) async throws -> Double? {
        try await onThread {
            let client = try RawConnection(port: port)
            let start = WallClock.system.uptime()
            client.send(beginning)
            for _ in 0..<60 {
                var item = pollfd(fd: client.descriptor, events: Int16(POLLIN), revents: 0)
                if poll(&item, 1, 100) > 0, client.read(1).isEmpty {
                    return Double(WallClock.system.uptime() - start) / 1e9
                }
                client.send(piece)
            }
            return nil
        }
    }

    @Test("cuts a client that drips its headers, or its body, however steadily")
    func dripping() async throws {
        let limits: (inout HTTPServer.Options) -> Void = { options in
            options.idleTimeout = .seconds(1)
            options.headTimeout = .seconds(1)
            options.bodyTimeout = .seconds(2)
        }
        try await withServer(echo, configure: limits) { server in
            let port = server.listener.port
            async let line = Self.drip("GET /", "a", to: port)
            async let head = Self.drip("GET / HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", to: port)
            async let body = Self.drip(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n",
                "a",
                to: port
            )
            for seconds in [try await line, try await head, try await body] {
                let seconds = try #require(seconds)
                #expect(seconds > 1.8 && seconds < 4)
            }
        }
    }

    @Test("leaves a client alone that keeps its connection, and one whose request takes its time")
    func patience() async throws {
        let routes = HTTPServer.Routes(handler: { request in
            if request.target == "/slow" { try? await Task.sleep(for: .seconds(4)) }
            return text("done")
        })
        let limits: (inout HTTPServer.Options) -> Void = { options in
            options.idleTimeout = .seconds(1)
            options.headTimeout = .milliseconds(500)
        }
        try await withServer(routes, configure: limits) { server in
            let port = server.listener.port
            async let slow = onThread {
                let client = try RawConnection(port: port)
                client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
                return client.answer().body
            }
            async let kept = onThread {
                let client = try RawConnection(port: port)
                return (0..<8).map { _ in
                    usleep(500_000)
                    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    return client.answer().body
                }
            }
            let answers = [try await slow] + (try await kept)
            #expect(answers == [String](repeating: "done", count: 9))
        }
    }

    @Test("knows when its thread is stuck with a request, and when it is free again")
    func responsiveness() async throws {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let (gate, opener) = (ends[0], ends[1])
        let (entered, entry) = AsyncStream.makeStream(of: Void.self)
        let routes = HTTPServer.Routes(
            immediately: { _ in
                entry.yield()
                var byte: UInt8 = 0
                _ = read(gate, &byte, 1)
                return text("at last")
            },
            handler: { _ in text("never") }
        )
        try await withServer(routes) { server in
            let port = server.listener.port
            #expect(server.isResponsive(within: .zero))
            let answer = Task {
                try await onThread {
                    let client = try RawConnection(port: port)
                    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    return client.answer()
                }
            }
            for await _ in entered { break }
            #expect(!server.isResponsive(within: .zero))
            #expect(server.isResponsive(within: .seconds(600)))
            var byte: UInt8 = 1
            #expect(write(opener, &byte, 1) == 1)
            let answered = try await answer.value
            #expect(answered.body == "at last")
            #expect(server.isResponsive(within: .zero))
        }
    }

    @Test("refuses before the body is read, and keeps the connection")
    func admission() async throws {
        let routes = HTTPServer.Routes(
            admit: { $0.fields["authorization"] == nil ? .json(401, ["error": "Unauthorized"]) : nil },
            handler: { _ in text("in") }
        )
        try await withServer(routes) { server in
            let port = server.listener.port
            let answers = try await onThread {
                let client = try RawConnection(port: port)
                client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                client.send([UInt8](repeating: 120, count: 100_000))
                let first = client.answer()
                client.send("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer y\r\n\r\n")
                return [first, client.answer()]
            }
            #expect(answers[0].status == 401 && answers[0].body == #"{"error":"Unauthorized"}"#)
            #expect(answers[1].status == 200 && answers[1].body == "in")
        }
    }

    @Test("tells a client that asks with Expect before it sends the body")
    func expectation() async throws {
        try await withServer(echo, configure: { $0.bodyLimit = 10 }) { server in
            let port = server.listener.port
            let answer = try await onThread {
                let client = try RawConnection(port: port)
                client.send(
                    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"
                )
                return client.answer()
            }
            #expect(answer.status == 413 && answer.body == #"{"error":"Payload too large"}"#)
        }
    }

    @Test(
        "answers a 100 MB body with 413, without holding it, and keeps the connection",
        arguments: [false, true]
    )
    func hugeBody(chunked: Bool) async throws {
        try await withServer(echo) { server in
            let port = server.listener.port
            let before = peakMemory()
            let answers = try await onThread {
                let client = try RawConnection(port: port)
                let megabyte = [UInt8](repeating: 97, count: 1 << 20)
                client.send(
                    "POST / HTTP/1.1\r\nHost: x\r\n"
                        + (chunked
                            ? "Transfer-Encoding: chunked\r\n\r\n" : "Content-Length: 104857600\r\n\r\n")
                )
                for _ in 0..<100 {
                    if chunked { client.send("100000\r\n") }
                    client.send(megabyte)
                    if chunked { client.send("\r\n") }
                }
                if chunked { client.send("0\r\n\r\n") }
                let first = client.answer()
                client.send("GET /now HTTP/1.1\r\nHost: x\r\n\r\n")
                return [first, client.answer()]
            }
            #expect(answers[0].status == 413 && answers[0].body == #"{"error":"Payload too large"}"#)
            #expect(answers[1].status == 200)
            #expect(peakMemory() - before < 40 << 20)
        }
    }

    @Test("cuts a body that is longer than it would drain")
    func endlessBody() async throws {
        try await withServer(
            echo,
            configure: {
                $0.bodyLimit = 1000
                $0.drainLimit = 100_000
            }
        ) { server in
            let port = server.listener.port
            let isCut = try await onThread {
                let client = try RawConnection(port: port)
                client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in 0..<1000 {
                    let isSent = client.send("1000\r\n" + String(repeating: "x", count: 4096) + "\r\n")
                    if !isSent { return true }
                }
                return false
            }
            #expect(isCut)
        }
    }

    @Test("names the address that is in use")
    func portInUse() async throws {
        try await withServer(echo) { server in
            var options = HTTPServer.Options()
            options.port = server.listener.port
            let error = #expect(throws: GatewayError.self) { try HTTPServer.start(options, routes: echo) }
            #expect(error?.code == "address-in-use")
            #expect(error?.message == "127.0.0.1:\(options.port) is already in use by another program")
        }
    }

    @Test("refuses an address that is not of this machine")
    func foreignAddress() {
        var options = HTTPServer.Options()
        options.host = "192.0.2.1"
        let error = #expect(throws: GatewayError.self) { try HTTPServer.start(options, routes: echo) }
        #expect(error?.code == "address-unavailable")
    }

    @Test("cancels the handler when its client leaves")
    func disconnect() async throws {
        let started = Gate(), cancelled = Gate()
        let routes = HTTPServer.Routes { _ in
            started.open()
            try? await Task.sleep(for: .seconds(30))
            if Task.isCancelled { cancelled.open() }
            return text("late")
        }
        try await withServer(routes) { server in
            let port = server.listener.port
            let client = Mutex<RawConnection?>(try RawConnection(port: port))
            client.withLock { _ = $0?.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
            await started.wait()
            let clock = ContinuousClock()
            let left = clock.now
            client.withLock { $0 = nil }
            await cancelled.wait()
            #expect(clock.now - left < .seconds(15))
        }
    }

    @Test("streams pieces as they are written, and ends the answer with the task")
    func streaming() async throws {
        let proceed = Gate()
        let routes = HTTPServer.Routes { _ in
            HTTPResponse(
                status: 200,
                fields: ["Content-Type": "text/event-stream"],
                body: .stream { writer in
                    try? await writer.write(Array("data: 1\n\n".utf8))
                    await proceed.wait()
                    try? await writer.write(Array("data: 2\n\n".utf8))
                }
            )
        }
        try await withServer(routes) { server in
            let client = try RawConnection(port: server.listener.port)
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            let first = try await onThread { client.read { $0.contains("data: 1") } }
            #expect(first.contains("200 OK") && !first.contains("data: 2"))
            proceed.open()
            let rest = try await onThread { client.read { $0.contains("0\r\n\r\n") } }
            #expect(rest.contains("data: 2") && rest.hasSuffix("0\r\n\r\n"))
        }
    }

    @Test("makes a writer wait for a slow client, and loses nothing")
    func backPressure() async throws {
        let written = Atomic(0)
        let routes = HTTPServer.Routes { request in
            if request.target == "/whole" { return tildes() }
            return tildes { written.add(1, ordering: .relaxed) }
        }
        try await withServer(routes) { server in
            let client = try RawConnection(port: server.listener.port)
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await onThread { client.read(1) }
            // In the time in which another client gets everything, this one could have been sent everything.
            #expect(try await countTildes(from: server) == 400 * (64 << 10))
            // Kernel buffers take some megabytes of the 25; the rest has to wait.
            #expect(written.load(ordering: .relaxed) < 300)
            #expect(try await onThread { client.countTildes() } == 400 * (64 << 10))
        }
    }

    @Test("ends a stream when its client leaves, also one that waits for space", arguments: [1, 1 << 20])
    func streamDisconnect(size: Int) async throws {
        let ended = Gate(), began = Gate()
        let routes = HTTPServer.Routes { request in
            if request.target == "/whole" { return tildes() }
            return HTTPResponse(
                status: 200,
                body: .stream { writer in
                    do {
                        try await writer.write([UInt8](repeating: 46, count: size))
                        began.open()
                        while size > 1 { try await writer.write([UInt8](repeating: 46, count: size)) }
                        try await Task.sleep(for: .seconds(30))
                    } catch is CancellationError {
                        ended.open()
                    } catch {}
                }
            )
        }
        try await withServer(routes) { server in
            let client = Mutex<RawConnection?>(try RawConnection(port: server.listener.port))
            client.withLock { _ = $0?.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
            await began.wait()
            // Meanwhile the kernel's buffers fill, and the writer of the large pieces comes to wait for space.
            #expect(try await countTildes(from: server) == 400 * (64 << 10))
            client.withLock { $0 = nil }
            let clock = ContinuousClock()
            let left = clock.now
            await ended.wait()
            #expect(clock.now - left < .seconds(15))
        }
    }

    @Test("lets requests finish when it stops, and says that the connection ends")
    func gracefulStop() async throws {
        let started = Gate(), proceed = Gate()
        let routes = HTTPServer.Routes { _ in
            started.open()
            await proceed.wait()
            return text("done")
        }
        let server = try HTTPServer.start(HTTPServer.Options(), routes: routes)
        let port = server.listener.port
        let client = try RawConnection(port: port)
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        async let stopped: Void = server.stop(within: .seconds(5))
        while !server.isStopping { await Task.yield() }
        proceed.open()
        let answer = try await onThread { client.answer() }
        await stopped
        #expect(answer.body == "done" && answer.head.contains("Connection: close"))
        #expect(throws: GatewayError.self) { try RawConnection(port: port) }
    }

    @Test("cuts what does not finish within the deadline")
    func forcedStop() async throws {
        let started = Gate()
        let routes = HTTPServer.Routes { _ in
            started.open()
            try? await Task.sleep(for: .seconds(30))
            return text("late")
        }
        let server = try HTTPServer.start(HTTPServer.Options(), routes: routes)
        let client = try RawConnection(port: server.listener.port)
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        let clock = ContinuousClock()
        let took = await clock.measure { await server.stop(within: .milliseconds(100)) }
        #expect(took < .seconds(15))
        #expect(client.read().isEmpty)
    }

    @Test("is not held up by a client that does not read, or one that does not send")
    func stopWithSlowClients() async throws {
        let began = Gate()
        let routes = HTTPServer.Routes { _ in
            HTTPResponse(
                status: 200,
                body: .stream { writer in
                    while (try? await writer.write([UInt8](repeating: 46, count: 1 << 20))) != nil {
                        began.open()
                    }
                }
            )
        }
        let server = try HTTPServer.start(HTTPServer.Options(), routes: routes)
        let reader = try RawConnection(port: server.listener.port)
        reader.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        let sender = try RawConnection(port: server.listener.port)
        sender.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        await began.wait()
        let took = await ContinuousClock().measure { await server.stop(within: .milliseconds(200)) }
        #expect(took < .seconds(15))
        withExtendedLifetime((reader, sender)) {}
    }

    @Test("leaves an inherited socket open, so that the next server loses no connection")
    func inheritedSocket() async throws {
        let listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        defer { close(listener.descriptor) }
        let first = try await withServer(echo, configure: { $0.inheritedSocket = listener.descriptor }) {
            $0.listener.port
        }
        #expect(first == listener.port)
        let client = try RawConnection(port: first)
        client.send("GET /now HTTP/1.1\r\nHost: x\r\n\r\n")
        try await withServer(echo, configure: { $0.inheritedSocket = listener.descriptor }) { _ in
            let answer = try await onThread { client.answer() }
            #expect(answer.body == "now")
        }
    }

    @Test("looks for its library in the bundle first, and by name when there is none")
    func library() async throws {
        let path = HTTPServer.bundledLibrary(
            executable: "/home/x/.llm-cli-gateway/versions/1/bin/llm-gateway"
        )
        #expect(path == "/home/x/.llm-cli-gateway/versions/1/lib/libmicrohttpd.so.12")
        try await withServer(echo, configure: { $0.library = "/nonexistent/libmicrohttpd.so.12" }) { server in
            let port = server.listener.port
            let answer = try await LoopbackProbe.ask(
                host: "127.0.0.1",
                port: port,
                path: "/now",
                within: .seconds(5)
            )
            #expect(answer.status == 200)
        }
    }

    @Test("answers many connections at once")
    func concurrency() async throws {
        try await withServer(echo, configure: { $0.threads = 2 }) { server in
            let port = server.listener.port
            let good = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<32 {
                    group.addTask {
                        try await onThread {
                            let client = try RawConnection(port: port)
                            var good = 0
                            for round in 0..<50 {
                                let body = "\(number).\(round)"
                                client.send(
                                    "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                                )
                                if client.answer().body == "POST /x [] - \(body)" { good += 1 }
                            }
                            return good
                        }
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(good == 32 * 50)
        }
    }

    @Test("closes a connection that is silent too long")
    func silence() async throws {
        try await withServer(echo, configure: { $0.idleTimeout = .seconds(1) }) { server in
            let port = server.listener.port
            let bytes = try await onThread {
                let client = try RawConnection(port: port)
                client.send("GET / HTTP/1.1\r\nHo")
                return client.read { _ in false }
            }
            #expect(!bytes.contains("200"))
        }
    }

    @Test("leaves no descriptor behind")
    func descriptors() async throws {
        try await withServer(echo) { _ in }
        let before = openDescriptors()
        for _ in 0..<20 {
            try await withServer(echo) { server in
                let port = server.listener.port
                _ = try await onThread {
                    let client = try RawConnection(port: port)
                    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    return client.answer().status
                }
            }
        }
        // Other suites run at the same time and open a few of their own; a leak would show 20 times over.
        #expect(openDescriptors() < before + 20)
    }
}

/// 400 pieces of 64 KiB; `after` is called when a piece was taken.
private func tildes(after: @escaping @Sendable () -> Void = {}) -> HTTPResponse {
    HTTPResponse(
        status: 200,
        body: .stream { writer in
            for _ in 0..<400 {
                do { try await writer.write([UInt8](repeating: 126, count: 64 << 10)) } catch { return }
                after()
            }
        }
    )
}

/// Fetches `/whole` on a connection of its own.
private func countTildes(from server: HTTPServer) async throws -> Int {
    let port = server.listener.port
    return try await onThread {
        let client = try RawConnection(port: port)
        client.send("GET /whole HTTP/1.1\r\nHost: x\r\n\r\n")
        return client.countTildes()
    }
}

private func openDescriptors() -> Int { ((try? Files().list("/proc/self/fd")) ?? []).count }

private func peakMemory() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
}
