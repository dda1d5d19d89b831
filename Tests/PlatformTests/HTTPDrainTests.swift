import Appliance
import Glibc
import Synchronization
import Testing

@testable import Platform

@Suite("Stopping an HTTP server without losing a request", .serialized)
struct HTTPDrainTests {
    private static func text(_ text: String) -> HTTPResponse {
        HTTPResponse(status: 200, body: .bytes(Array(text.utf8)))
    }

    private static let hello = HTTPServer.Routes(immediately: { _ in text("hello") }) { _ in text("late") }
    private static let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    @Test("closes kept connections that are idle in order, without waiting for their clients")
    func idle() async throws {
        let server = try HTTPServer.start(HTTPServer.Options(), routes: HTTPDrainTests.hello)
        let client = try RawConnection(port: server.listener.port)
        client.send(HTTPDrainTests.request)
        #expect(try await onThread { client.answer() }.body == "hello")
        #expect(server.connectionCount == 1)
        let took = await ContinuousClock().measure { await server.stop(within: .seconds(60)) }
        #expect(took < .seconds(15))
        #expect(server.connectionCount == 0)
        // The end of the stream, where a reset would be an error.
        var byte: UInt8 = 0
        #expect(recv(client.descriptor, &byte, 1, 0) == 0)
    }

    @Test("answers what had arrived on a kept connection before it was told to stop")
    func arrived() async throws {
        // Holds the server's thread, so that a request waits unread.
        let held = Tally(), release = ThreadGate()
        let routes = HTTPServer.Routes(
            immediately: { request in
                if request.target == "/hold" {
                    held.good.add(1, ordering: .relaxed)
                    release.wait()
                }
                return HTTPDrainTests.text(request.target)
            },
            handler: { _ in HTTPDrainTests.text("late") }
        )
        let server = try HTTPServer.start(HTTPServer.Options(), routes: routes)
        let port = server.listener.port
        let kept = try RawConnection(port: port), holder = try RawConnection(port: port)
        kept.send(HTTPDrainTests.request)
        #expect(try await onThread { kept.answer() }.body == "/")
        holder.send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
        while held.good.load(ordering: .relaxed) == 0 { await Task.yield() }
        kept.send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n")
        async let stopped: Void = server.stop(within: .seconds(10))
        while !server.isStopping { await Task.yield() }
        release.open()
        for (client, expected) in [(holder, "/hold"), (kept, "/again")] {
            let answer = try await onThread { client.answer() }
            #expect(answer.body == expected && answer.head.contains("Connection: close"))
        }
        await stopped
    }

    @Test("gives a fresh connection a moment for its first request, and no more than that")
    func fresh() async throws {
        let server = try HTTPServer.start(HTTPServer.Options(), routes: HTTPDrainTests.hello)
        let slow = try RawConnection(port: server.listener.port)
        let silent = try RawConnection(port: server.listener.port)
        for client in [slow, silent] { client.send("GET / HT") }
        while server.connectionCount < 2 { await Task.yield() }
        let clock = ContinuousClock()
        let began = clock.now
        async let stopped: Void = server.stop(within: .seconds(60))
        while !server.isStopping { await Task.yield() }
        slow.send("TP/1.1\r\nHost: x\r\n\r\n")
        let answer = try await onThread { slow.answer() }
        #expect(answer.body == "hello" && answer.head.contains("Connection: close"))
        await stopped
        #expect(clock.now - began < .seconds(15))
        #expect(silent.read().isEmpty)
    }

    @Test("hands a socket over twenty times under load, and every fresh connection is answered")
    func handover() async throws {
        let listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        defer { close(listener.descriptor) }
        let port = listener.port
        let tally = Tally()
        let routes = HTTPServer.Routes(immediately: { $0.target == "/now" ? HTTPDrainTests.text("now") : nil }
        ) { _ in
            await Task.yield()
            return HTTPDrainTests.text("soon")
        }
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<4 {
                let target = number % 2 == 0 ? "now" : "soon"
                group.addTask {
                    try? await onThread {
                        while !tally.isOver.load(ordering: .relaxed) {
                            let client = try RawConnection(port: port)
                            client.send("GET /\(target) HTTP/1.1\r\nHost: x\r\n\r\n")
                            let isGood = client.answer().body == target
                            if isGood {
                                tally.good.add(1, ordering: .relaxed)
                            } else {
                                tally.bad.add(1, ordering: .relaxed)
                            }
                        }
                    }
                }
            }
            var options = HTTPServer.Options()
            options.inheritedSocket = listener.descriptor
            for _ in 0..<20 {
                guard let server = try? HTTPServer.start(options, routes: routes) else {
                    Issue.record("a server did not start")
                    break
                }
                let before = tally.good.load(ordering: .relaxed)
                while tally.good.load(ordering: .relaxed) < before + 20 { await Task.yield() }
                await server.stop(within: .seconds(5))
            }
            tally.isOver.store(true, ordering: .relaxed)
            // Those that wait in the backlog by now.
            let last = try? HTTPServer.start(options, routes: routes)
            await group.waitForAll()
            await last?.stop(within: .seconds(5))
        }
        #expect(tally.bad.load(ordering: .relaxed) == 0)
        #expect(tally.good.load(ordering: .relaxed) >= 400)
    }
}

/// What the threads of a test tell each other.
private final class Tally: Sendable {
    let isOver = Atomic(false)
    let good = Atomic(0)
    let bad = Atomic(0)
}

/// Holds a thread until it is opened.
private final class ThreadGate: Sendable {
    private let reading: Int32
    private let writing: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        pipe(&ends)
        (reading, writing) = (ends[0], ends[1])
    }

    deinit {
        close(reading)
        close(writing)
    }

    func open() { write(writing, "x", 1) }

    func wait() {
        var byte: UInt8 = 0
        read(reading, &byte, 1)
    }
}
