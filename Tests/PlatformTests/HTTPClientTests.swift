import Appliance
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Platform

private let client = HTTPClient(environment: [:])

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// A file server that knows ranges, redirects and failure.
private let file: [UInt8] = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }

private let routes = HTTPServer.Routes { request in
    switch request.target {
    case "/file":
        let range = request.fields["Range"].flatMap { Int($0.dropFirst(6).dropLast()) }
        guard let range, request.fields["If-Range"] == "\"v1\"" else {
            return HTTPResponse(status: 200, fields: ["ETag": "\"v1\""], body: .bytes(file))
        }
        guard range < file.count else {
            return HTTPResponse(status: 416, body: .bytes(bytes("no such range")))
        }
        return HTTPResponse(
            status: 206,
            fields: ["ETag": "\"v1\"", "Content-Range": "bytes \(range)-\(file.count - 1)/\(file.count)"],
            body: .bytes(Array(file[range...]))
        )
    case "/hop": return HTTPResponse(status: 302, fields: ["Location": "/file"], body: .bytes(bytes("moved")))
    case "/away": return HTTPResponse(status: 302, fields: ["Location": "http://192.0.2.1/file"])
    case "/garbled": return HTTPResponse(status: 302, fields: ["Location": "http://host:x/file"])
    case "/loop": return HTTPResponse(status: 302, fields: ["Location": "/loop"])
    case "/chatty/1", "/chatty/2", "/chatty/3":
        let next = request.target.last == "3" ? "/file" : "/chatty/\(request.target.last == "1" ? 2 : 3)"
        return HTTPResponse(
            status: 302,
            fields: ["Location": next],
            body: .bytes([UInt8](repeating: 0x20, count: 100 << 10))
        )
    case "/tarry/1", "/tarry/2", "/tarry/3":
        try? await Task.sleep(for: .milliseconds(400))
        let next = request.target.last == "3" ? "/echo" : "/tarry/\(request.target.last == "1" ? 2 : 3)"
        return HTTPResponse(status: 302, fields: ["Location": next])
    case "/missing": return HTTPResponse(status: 404, body: .bytes(bytes("nope")))
    case "/slow":
        return HTTPResponse(
            status: 200,
            body: .stream { writer in
                try? await writer.write(bytes("first"))
                try? await Task.sleep(for: .seconds(20))
            }
        )
    case "/echo":
        let fields = request.fields
        let text = "\(request.method) \(fields["User-Agent"] ?? "") \(fields["Authorization"] ?? "-") "
        return HTTPResponse(status: 200, body: .bytes(bytes(text) + request.body))
    default: return HTTPResponse(status: 200, body: .bytes(bytes("ok")))
    }
}

private func withFiles(_ body: (String) async throws -> Void) async throws {
    try await withServer(routes) { try await body("http://\($0.listener.name)") }
}

private final class Collector: Sendable {
    let state = Mutex<(bytes: [UInt8], offset: Int64?)>(([], nil))
    var bytes: [UInt8] { state.withLock { $0.bytes } }
}

private func fetch(
    _ url: String,
    resuming: HTTPClient.Resumption? = nil,
    limits: HTTPClient.Limits = .download(size: 10 << 20)
) async throws(GatewayError) -> (HTTPClient.Answer, Collector) {
    let collector = Collector()
    let answer = try await client.download(
        url,
        resuming: resuming,
        limits: limits,
        began: { (answer) throws(GatewayError) in collector.state.withLock { $0.offset = answer.offset } },
        sink: { (bytes) throws(GatewayError) in collector.state.withLock { $0.bytes += bytes } }
    )
    return (answer, collector)
}

@Suite("The HTTP client", .timeLimit(.minutes(1)))
struct HTTPClientTests {
    @Test("sends a request and returns the whole answer, whatever its status")
    func sends() async throws {
        try await withFiles { base in
            let answer = try await client.send(
                HTTPRequest(
                    "POST",
                    "\(base)/echo",
                    fields: ["Authorization": "Bearer x"],
                    body: bytes("body")
                )
            )
            #expect(
                String(decoding: answer.body, as: UTF8.self)
                    == "POST \(Product.name)/\(Product.version) Bearer x body"
            )
            let missing = try await client.send(HTTPRequest("GET", "\(base)/missing"))
            #expect(missing.status == 404 && missing.body == bytes("nope"))
        }
    }

    @Test("downloads a file through a redirect")
    func downloads() async throws {
        try await withFiles { base in
            let (answer, collector) = try await fetch("\(base)/hop")
            #expect(collector.bytes == file)
            #expect(answer.status == 200 && answer.url == "\(base)/file" && answer.fields["ETag"] == "\"v1\"")
        }
    }

    @Test("goes on where an earlier download stopped")
    func resumes() async throws {
        try await withFiles { base in
            let (answer, collector) = try await fetch(
                "\(base)/file",
                resuming: .init(offset: 1_000_000, validator: "\"v1\"")
            )
            #expect(answer.status == 206)
            #expect(collector.state.withLock { $0.offset } == 1_000_000)
            #expect(collector.bytes == Array(file[1_000_000...]))
        }
    }

    @Test(
        "hands over the whole file when it has changed, and the refusal when there is nothing left to fetch"
    )
    func notResumed() async throws {
        try await withFiles { base in
            let (changed, collector) = try await fetch(
                "\(base)/file",
                resuming: .init(offset: 5, validator: "\"v0\"")
            )
            #expect(changed.status == 200 && changed.fileSize == 3_000_000 && changed.validator == "\"v1\"")
            #expect(collector.state.withLock { $0.offset } == 0 && collector.bytes == file)
            let (complete, _) = try await fetch(
                "\(base)/file",
                resuming: .init(offset: 3_000_000, validator: "\"v1\"")
            )
            #expect(complete.status == 416)
        }
    }

    @Test("names the status and the address, without its secrets")
    func status() async throws {
        try await withFiles { base in
            let url = base.replacing("http://", with: "http://me:pass@") + "/missing?token=abc&x=1"
            let (answer, _) = try await fetch(url)
            let error = HTTPClient.unexpectedStatus(answer)
            let shown = base.replacing("http://", with: "http://<redacted>@")
            #expect(error.code == "http-status")
            #expect(error.message == "'\(shown)/missing?token=<redacted>&x=1' answered with status 404")
        }
    }

    @Test("refuses to be sent to another machine over plain http")
    func redirectedToPlainHTTP() async throws {
        try await withFiles { base in
            let error = await #expect(throws: GatewayError.self) { try await fetch("\(base)/away") }
            #expect(error?.code == "insecure-url")
            #expect(
                error?.message
                    == "'\(base)/away' redirects to 'http://192.0.2.1/file', which is plain http to another machine"
            )
        }
    }

    @Test("stops after so many redirects")
    func redirectLoop() async throws {
        try await withFiles { base in
            let error = await #expect(throws: GatewayError.self) { try await fetch("\(base)/loop") }
            #expect(error?.code == "network")
            #expect(error?.message == "'\(base)/loop' is more than 5 redirects away from where it began")
        }
    }

    @Test("refuses an answer that is larger than allowed")
    func size() async throws {
        try await withFiles { base in
            let error = await #expect(throws: GatewayError.self) {
                try await fetch("\(base)/file", limits: .download(size: 1000))
            }
            #expect(error?.code == "answer-too-large")
            #expect(error?.message == "the answer of '\(base)/file' is larger than the limit of 1000 bytes")
        }
    }

    @Test("counts what the bodies of all redirects on the way have")
    func chattyRedirects() async throws {
        try await withFiles { base in
            // Each of them has less than the limit.
            let error = await #expect(throws: GatewayError.self) {
                try await client.send(HTTPRequest("GET", base + "/chatty/1"))
            }
            #expect(error?.code == "answer-too-large")
            #expect(
                error?.message.hasPrefix("the redirect of '\(base)/chatty/3' is larger than the limit")
                    == true
            )
            let answer = try await client.send(HTTPRequest("GET", base + "/chatty/2"))
            #expect(answer.body == file)
        }
    }

    @Test("has one total time for all redirects on the way together")
    func slowRedirects() async throws {
        try await withFiles { base in
            var limits = HTTPClient.Limits()
            limits.total = .milliseconds(900)
            let short = try await client.send(HTTPRequest("GET", base + "/tarry/3"), limits: limits)
            #expect(short.status == 200)
            let clock = ContinuousClock()
            let start = clock.now
            let error = await #expect(throws: GatewayError.self) {
                try await client.send(HTTPRequest("GET", base + "/tarry/1"), limits: limits)
            }
            #expect(error?.code == "network", "\(String(describing: error))")
            #expect(clock.now - start < .milliseconds(1190))
        }
    }

    @Test("gives up when no byte comes, and says how far it got")
    func stall() async throws {
        try await withFiles { base in
            var limits = HTTPClient.Limits.download(size: 1000)
            limits.stall = .seconds(3)
            let error = await #expect(throws: GatewayError.self) {
                try await fetch("\(base)/slow", limits: limits)
            }
            #expect(error?.code == "network")
            // On a busy machine the five bytes may come too late to count.
            #expect(error?.message.hasPrefix("'\(base.dropFirst(7))' stopped sending after ") == true)
        }
    }

    @Test("gives up after the total time")
    func totalTime() async throws {
        try await withFiles { base in
            var limits = HTTPClient.Limits()
            limits.total = .milliseconds(200)
            let error = await #expect(throws: GatewayError.self) {
                try await client.send(HTTPRequest("GET", "\(base)/slow"), limits: limits)
            }
            #expect(error?.code == "network")
        }
    }

    @Test("ends at once when it is cancelled")
    func cancellation() async throws {
        let asked = Gate()
        let routes = HTTPServer.Routes { _ in
            asked.open()
            await Gate().wait()
            return HTTPResponse(status: 200)
        }
        try await withServer(routes) { server in
            let url = "http://\(server.listener.name)/never"
            let task = Task { try await client.send(HTTPRequest("GET", url)) }
            await asked.wait()
            let clock = ContinuousClock()
            let cancelled = clock.now
            task.cancel()
            let result = await task.result
            #expect(clock.now - cancelled < .seconds(15))
            #expect(throws: GatewayError.self) { try result.get() }
        }
    }

    @Test("ends with the error of a sink that cannot go on")
    func sinkFails() async throws {
        try await withFiles { base in
            let error = await #expect(throws: GatewayError.self) {
                try await client.download("\(base)/file", limits: .download(size: 10 << 20)) {
                    (_) throws(GatewayError) in
                    throw GatewayError("disk-full", "no space is left")
                }
            }
            #expect(error?.code == "disk-full")
        }
    }

    @Test("says plainly why a server cannot be reached")
    func unreachable() async throws {
        let listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        close(listener.descriptor)
        let refused = await #expect(throws: GatewayError.self) {
            try await client.send(HTTPRequest("GET", "http://\(listener.name)/"))
        }
        #expect(refused?.code == "network")
        #expect(refused?.message == "'\(listener.name)' refused the connection")
        let unknown = await #expect(throws: GatewayError.self) {
            try await client.send(HTTPRequest("GET", "http://nowhere.invalid/"))
        }
        #expect(unknown?.message == "host 'nowhere.invalid' was not found")
    }

    @Test(
        "refuses addresses of other kinds",
        arguments: ["ftp://host/x", "file:///etc/passwd", "host/x", "", "https://"]
    )
    func malformed(url: String) async throws {
        let error = await #expect(throws: GatewayError.self) {
            try await client.send(HTTPRequest("GET", url))
        }
        #expect(error?.code == "malformed-url")
        #expect(error?.message.hasPrefix("'\(url)' is not a") == true)
    }

    @Test("says when TLS fails, and why")
    func tls() async throws {
        try await withServer(routes) { server in
            let error = await #expect(throws: GatewayError.self) {
                try await client.send(HTTPRequest("GET", "https://\(server.listener.name)/"))
            }
            #expect(error?.code == "network")
            #expect(
                error?.message.hasPrefix("the TLS connection to '\(server.listener.name)' failed: ") == true
            )
        }
    }

    @Test("asks the proxy of the scheme, and this machine and exceptions without one")
    func proxies() throws {
        let proxies = HTTPProxies(environment: [
            "HTTPS_PROXY": "http://upper:1", "https_proxy": " http://lower:2 ",
            "HTTP_PROXY": "http://plain:3",
            "NO_PROXY": "example.org,.local",
        ])
        #expect(proxies.proxy(for: try WebAddress("https://example.com/x")) == "http://lower:2")
        #expect(proxies.proxy(for: try WebAddress("http://example.com/x")) == "http://plain:3")
        #expect(proxies.proxy(for: try WebAddress("http://127.0.0.1:80/x")) == "")
        #expect(proxies.exceptions == "example.org,.local")
        let all = HTTPProxies(environment: ["ALL_PROXY": "socks5h://all:4", "HTTPS_PROXY": ""])
        #expect(all.proxy(for: try WebAddress("https://example.com/x")) == "socks5h://all:4")
        #expect(HTTPProxies(environment: [:]).proxy(for: try WebAddress("https://example.com/x")) == "")
    }

    @Test("names the server, not the user, for a redirect that is no address")
    func garbledRedirect() async throws {
        try await withFiles { base in
            let error = await #expect(throws: GatewayError.self) { try await fetch(base + "/garbled") }
            #expect(error?.code == "network")
            #expect(error?.message == "'\(base)/garbled' redirects to no address that can be understood")
        }
    }

    @Test("says that a proxy refused, and does not call it a lost connection", arguments: [403, 407])
    func refusingProxy(status: Int) async throws {
        let proxy = HTTPServer.Routes { request in
            HTTPResponse(status: request.method == "CONNECT" ? status : 500)
        }
        try await withServer(proxy) { server in
            let client = HTTPClient(environment: ["HTTPS_PROXY": "http://\(server.listener.name)"])
            let error = await #expect(throws: GatewayError.self) {
                try await client.send(HTTPRequest("GET", "https://files.invalid/x"))
            }
            #expect(error?.code == "proxy-refused" && error?.exitCode == .network)
            #expect(
                error?.message
                    == "the proxy for 'files.invalid:443' refused the connection with status \(status)"
            )
            #expect(error?.help?.contains(status == 407 ? "user name" : "NO_PROXY") == true)
        }
    }

    @Test("goes through a proxy")
    func throughProxy() async throws {
        let proxy = HTTPServer.Routes { request in
            // A proxy gets the whole address.
            HTTPResponse(status: 200, body: .bytes(bytes("proxied \(request.target)")))
        }
        try await withServer(proxy) { server in
            let client = HTTPClient(environment: ["HTTP_PROXY": "http://\(server.listener.name)"])
            let answer = try await client.send(HTTPRequest("GET", "http://somewhere.invalid/file"))
            #expect(String(decoding: answer.body, as: UTF8.self).hasPrefix("proxied "))
            let excepted = HTTPClient(environment: [
                "HTTP_PROXY": "http://\(server.listener.name)", "NO_PROXY": ".invalid",
            ])
            let error = await #expect(throws: GatewayError.self) {
                try await excepted.send(HTTPRequest("GET", "http://somewhere.invalid/file"))
            }
            #expect(error?.message == "host 'somewhere.invalid' was not found")
        }
    }

    @Test("does not send a field that holds a line break")
    func injection() async throws {
        try await withFiles { base in
            await #expect(throws: GatewayError.self) {
                try await client.send(HTTPRequest("GET", "\(base)/echo", fields: ["X": "a\r\nY: b"]))
            }
        }
    }
}

@Suite("Probing a server on loopback", .timeLimit(.minutes(1)))
struct LoopbackProbeTests {
    @Test("returns status and body")
    func answers() async throws {
        try await withFiles { base in
            let port = try #require(Int(base.split(separator: ":").last ?? ""))
            let answer = try await LoopbackProbe.ask(
                host: "0.0.0.0",
                port: port,
                path: "/missing",
                within: .seconds(30)
            )
            #expect(answer.status == 404 && answer.body == bytes("nope"))
            #expect(answer.fields["content-length"] == "4")
        }
    }

    @Test("tells nobody, silence and a foreign protocol apart")
    func failures() async throws {
        let listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        let silent = await #expect(throws: GatewayError.self) {
            try await LoopbackProbe.ask(
                host: "127.0.0.1",
                port: listener.port,
                path: "/",
                within: .milliseconds(100)
            )
        }
        #expect(silent?.code == "timed-out")
        let foreign = Task {
            try await LoopbackProbe.ask(
                host: "127.0.0.1",
                port: listener.port,
                path: "/",
                within: .seconds(5)
            )
        }
        _ = try await onThread {
            // The silent probe's connection is first in the queue.
            for _ in 0..<2 {
                var entry = pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0)
                poll(&entry, 1, 5000)
                let peer = accept(listener.descriptor, nil, nil)
                _ = write(peer, "SSH-2.0-x\r\n", 11)
                shutdown(peer, Int32(SHUT_WR))
                var scratch = [UInt8](repeating: 0, count: 1000)
                _ = read(peer, &scratch, 1000)
                close(peer)
            }
        }
        let result = await foreign.result
        #expect(
            throws: GatewayError(
                "not-http",
                "the program on \(listener.name) does not answer as an HTTP server"
            )
        ) {
            try result.get()
        }
        close(listener.descriptor)
        var nobody: GatewayError?
        // A child that another test is starting has the closed socket until its exec, and the kernel accepts for it.
        for _ in 0..<100 where nobody?.code != "connection-refused" {
            nobody = await #expect(throws: GatewayError.self) {
                try await LoopbackProbe.ask(
                    host: "127.0.0.1",
                    port: listener.port,
                    path: "/",
                    within: .seconds(1)
                )
            }
        }
        #expect(nobody?.code == "connection-refused")
        #expect(nobody?.message == "nothing listens on \(listener.name)")
    }
}

@Suite("Sizes that a server says")
struct AnswerSizeTests {
    private func answer(_ status: Int, _ name: String, _ value: String) -> HTTPClient.Answer {
        HTTPClient.Answer(status: status, fields: HTTPFields([(name, value)]), url: "http://x/", body: [])
    }

    @Test("are believed when a file can have them")
    func possible() {
        #expect(answer(200, "Content-Length", "1024").fileSize == 1024)
        let part = answer(206, "Content-Range", "bytes 5-9/10")
        #expect(part.offset == 5 && part.fileSize == 10)
    }

    @Test(
        "count for nothing when no file can: sums of them must not overflow",
        arguments: ["9223372036854775807", "-1", "+5", "1e3", "", "99999999999999999999"]
    )
    func impossible(text: String) {
        #expect(answer(200, "Content-Length", text).fileSize == nil)
        #expect(answer(206, "Content-Range", "bytes 0-99/\(text)").fileSize == nil)
    }
}
