import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

/// A bundle of some hundred thousand bytes, so that a connection can be cut in its middle.
private func archive() async throws -> [UInt8] {
    var fixture = BundleFixture()
    var noise = [UInt8](repeating: 0, count: 600_000)
    var value: UInt32 = 1
    for index in noise.indices {
        value = value &* 1_664_525 &+ 1_013_904_223
        noise[index] = UInt8(truncatingIfNeeded: value >> 24)
    }
    fixture.files.append(.init(path: "lib/large", content: noise))
    return try await fixture.tarGzip()
}

/// A cache, a staging directory, and a server of scripts.
private final class Place: Sendable {
    let scratch: TemporaryDirectory
    let server: HostileServer
    let said = Mutex<[String]>([])
    /// The same as it is said.
    let words: AsyncStream<String>
    private let voice: AsyncStream<String>.Continuation
    let progress = Mutex<[FetchProgress]>([])
    let archive: [UInt8]

    init(_ archive: [UInt8], _ scripts: [HostileServer.Script]) throws {
        scratch = try TemporaryDirectory()
        (words, voice) = AsyncStream.makeStream()
        self.archive = archive
        server = try HostileServer(scripts)
        try Files().makeDirectory(scratch.path("cache"))
    }

    deinit { server.close() }

    var part: PartialDownload {
        PartialDownload(cache: scratch.path("cache"), sha256: SHA256.hex(archive), files: Files())
    }

    /// Fetches once, without waiting long between attempts.
    @discardableResult
    func fetch(
        size: Int64? = nil,
        limit: Int64 = 1 << 30,
        unpacksTo: Int64? = nil,
        environment: [String: String] = [:],
        stall: Duration = .seconds(30),
        change: (inout DownloadState.Policy) -> Void = { _ in }
    ) async throws -> Unpacking.Unpacked {
        var request = try BundleRequest.resolve(url: server.base + "/b.tar.gz", sha256: SHA256.hex(archive))
        request.size = size
        request.unpackedSize = unpacksTo
        let staging = scratch.path("staging-\(said.withLock { $0.count })-\(UInt32.random(in: 0 ... .max))")
        try Files().makeDirectory(staging)
        defer { try? Files().removeTree(staging) }
        var fetch = BundleFetch(
            request: request,
            cache: scratch.path("cache"),
            files: Files(),
            transport: Impatient(client: HTTPClient(environment: environment), stall: stall)
        )
        fetch.policy.firstWait = .milliseconds(2)
        change(&fetch.policy)
        fetch.limit = limit
        fetch.say = { text in
            self.said.withLock { $0.append(text) }
            self.voice.yield(text)
        }
        fetch.progress = { step in self.progress.withLock { $0.append(step) } }
        let unpacked = try await fetch.run(into: Unpacking(directory: staging, files: Files()))
        let large = try Files().read(Layout.join(staging, "lib/large"))
        guard large.count == 600_000 else { throw GatewayError("test", "the file was unpacked wrongly") }
        return unpacked
    }

    var ranges: [String?] { server.requests.map { $0.fields["range"] } }
    var cached: [String] { get throws { try Files().list(scratch.path("cache")) } }
}

/// The client, with a shorter patience for silence.
private struct Impatient: BundleTransport {
    var client: HTTPClient
    var stall: Duration

    func transfer(
        _ transfer: BundleTransfer,
        began: @escaping @Sendable (HTTPClient.Answer) throws(GatewayError) -> Void,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError) {
        var limits = HTTPClient.Limits.download(size: transfer.limit)
        limits.stall = stall
        limits.total = transfer.total
        try await client.download(
            transfer.url,
            resuming: transfer.offset > 0
                ? .init(offset: transfer.offset, validator: transfer.validator) : nil,
            limits: limits,
            began: began,
            sink: sink
        )
    }
}

@Suite("Resuming a download", .timeLimit(.minutes(2)))
struct ResumingTests {
    private typealias Server = HostileServer

    @Test("goes on where the connection was cut, twice, with the validator of the first answer")
    func cut() async throws {
        let bytes = try await archive()
        let place = try Place(
            bytes,
            [Server.file(bytes, cut: 200_000), Server.file(bytes, cut: 100_000), Server.file(bytes)]
        )
        try await place.fetch(size: Int64(bytes.count))
        #expect(place.ranges == [nil, "bytes=200000-", "bytes=300000-"])
        #expect(place.server.requests.map { $0.fields["if-range"] } == [nil, "\"v1\"", "\"v1\""])
        #expect(place.said.withLock { $0.count } == 2)
        #expect(place.said.withLock { $0.first }?.contains("was lost after 200000 bytes") == true)
        #expect(place.said.withLock { $0.first }?.hasSuffix("trying again in 1 s") == true)
        #expect(try place.cached.isEmpty)
    }

    @Test("keeps the partial file when the network drops, and the next command goes on with it")
    func nextCommand() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.file(bytes, cut: 200_000), Server.status(503)])
        let error = await refusal { try await place.fetch() }
        #expect(error.code == "http-status" && error.message.hasSuffix("answered with status 503"))
        #expect(error.help == "what came (0.2 MB) is kept; run the command again to go on")
        #expect(try place.part.size() == 200_000)
        let again = try Place(bytes, [Server.file(bytes)])
        for name in try place.cached {
            try Files().rename(
                Layout.join(place.scratch.path("cache"), name),
                to: Layout.join(again.scratch.path("cache"), name)
            )
        }
        try await again.fetch(size: Int64(bytes.count))
        // Another server's validator is not this one's: the digest alone vouches for the whole.
        #expect(again.ranges == ["bytes=200000-"])
        #expect(again.server.requests.first?.fields["if-range"] == nil)
        let first = try #require(again.progress.withLock { $0.first { $0.resumed > 0 } })
        #expect(first.resumed == 200_000 && first.total == Int64(bytes.count))
        #expect(again.said.withLock { $0 } == ["going on with the 0.2 MB that an earlier command downloaded"])
        #expect(try again.cached.isEmpty)
    }

    @Test("needs no server when everything came before the command was ended")
    func complete() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.status(500)])
        try Files().write(bytes, to: place.part.path)
        try await place.fetch(size: Int64(bytes.count))
        #expect(place.server.requests.isEmpty)
        #expect(try place.cached.isEmpty)
    }

    @Test(
        "fetches everything anew when the kept beginning is no beginning of the file",
        arguments: [200_000, 10, 600_000]
    )
    func wrongBeginning(count: Int) async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.file(bytes)])
        try Files().write([UInt8](repeating: 0x1F, count: count), to: place.part.path)
        try await place.fetch(size: Int64(bytes.count))
        #expect(place.ranges == ["bytes=\(count)-", nil])
        #expect(
            place.said.withLock { $0.last }
                == "what came in parts does not make up the right file; downloading all of it again"
        )
        #expect(try place.cached.isEmpty)
    }

    @Test("starts over when the server's file has changed")
    func changedTag() async throws {
        let bytes = try await archive()
        let old = [UInt8](repeating: 3, count: bytes.count)
        let place = try Place(
            bytes,
            [Server.file(old, tag: "\"old\"", cut: 100_000), Server.file(bytes, tag: "\"new\"")]
        )
        try await place.fetch()
        #expect(place.ranges == [nil, "bytes=100000-", nil])
        #expect(try place.cached.isEmpty)
    }

    @Test("starts over on a server that knows no ranges, and gives up when it never comes to the end")
    func noRanges() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.whole(bytes, cut: 100_000), Server.whole(bytes)])
        try await place.fetch()
        #expect(place.ranges == [nil, "bytes=100000-", nil])
        let never = try Place(bytes, [Server.whole(bytes, cut: 100_000)])
        let error = await refusal { try await never.fetch() }
        #expect(error.code == "download-failed" && error.exitCode == .network)
        #expect(error.message == "'\(never.server.base)/b.tar.gz' changed while it was downloaded, 4 times")
        #expect(never.server.requests.count == 8)
    }

    @Test("ends with both digests when the wrong bytes come in one piece, and keeps nothing")
    func wrongBytes() async throws {
        let bytes = try await archive()
        var other = bytes
        other[300_000] ^= 1
        let place = try Place(bytes, [Server.file(other)])
        let error = await refusal { try await place.fetch(size: Int64(bytes.count)) }
        #expect(error.code == "digest-mismatch" && error.exitCode == .verificationRefused)
        #expect(error.message.contains("\(SHA256.hex(other)), expected \(SHA256.hex(bytes))"))
        #expect(place.server.requests.count == 1)
        #expect(try place.cached.isEmpty)
    }

    @Test("starts over once when wrong bytes came in parts, then ends with the digests")
    func wrongBytesInParts() async throws {
        let bytes = try await archive()
        var other = bytes
        other[100] ^= 1
        let place = try Place(bytes, [Server.file(other, cut: 200_000), Server.file(other)])
        let error = await refusal { try await place.fetch() }
        #expect(error.code == "digest-mismatch")
        #expect(place.ranges == [nil, "bytes=200000-", nil])
        #expect(try place.cached.isEmpty)
    }
}

@Suite("Downloading from a bad server", .timeLimit(.minutes(2)))
struct BadServerTests {
    private typealias Server = HostileServer

    @Test("waits as long as the server says, then goes on")
    func retryAfter() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.status(503, ["Retry-After": "1"]), Server.file(bytes)])
        let clock = ContinuousClock()
        let start = clock.now
        try await place.fetch()
        #expect(clock.now - start >= .seconds(1))
        #expect(
            place.said.withLock { $0 }
                == ["'\(place.server.base)/b.tar.gz' answered with status 503; trying again in 1 s"]
        )
    }

    @Test("understands a date as well")
    func retryAfterDate() async throws {
        let bytes = try await archive()
        let place = try Place(
            bytes,
            [
                Server.status(
                    429,
                    [
                        "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
                        "Retry-After": "Sun, 06 Nov 1994 09:49:37 GMT",
                    ]
                )
            ]
        )
        let error = await refusal { try await place.fetch() }
        #expect(
            error.message
                == "the server of '\(place.server.base)/b.tar.gz' is busy and wants to be asked again in 60 min"
        )
        #expect(error.code == "http-status" && error.help == "run the command again then")
    }

    @Test("asks six times in all, then gives the server's last word")
    func alwaysBroken() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.status(502)])
        let error = await refusal { try await place.fetch() }
        #expect(error.message == "'\(place.server.base)/b.tar.gz' answered with status 502")
        #expect(error.help == "the server has a problem; try again later")
        #expect(place.server.requests.count == 6)
    }

    @Test("asks once for what is not there", arguments: [401, 404, 410])
    func refusals(status: Int) async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.status(status)])
        let error = await refusal { try await place.fetch() }
        #expect(error.message == "'\(place.server.base)/b.tar.gz' answered with status \(status)")
        #expect(place.server.requests.count == 1)
    }

    @Test("does not wait for a server that has stopped sending")
    func stall() async throws {
        let bytes = try await archive()
        let stalling: HostileServer.Script = { _ in
            [
                Server.head(200, ["Content-Length": "\(bytes.count)", "ETag": "\"v1\""]),
                .send(Array(bytes.prefix(50_000))), .pause(.seconds(20)),
            ]
        }
        let place = try Place(bytes, [stalling, Server.file(bytes)])
        try await place.fetch(stall: .seconds(2))
        #expect(place.ranges == [nil, "bytes=50000-"])
        #expect(place.said.withLock { $0.first }?.contains("stopped sending after 50000 bytes") == true)
    }

    @Test("goes on after a server that ended before the size it had promised")
    func tooShort() async throws {
        let bytes = try await archive()
        let lying: HostileServer.Script = { _ in
            [Server.head(200, ["Content-Length": "\(bytes.count)"]), .send(Array(bytes.prefix(1000)))]
        }
        // Without a length only the release knows that something is missing.
        let silent: HostileServer.Script = { request in
            let offset = request.fields["range"].flatMap { Int($0.dropFirst(6).dropLast()) } ?? 0
            return [
                Server.head(206, ["Content-Range": "bytes \(offset)-\(bytes.count - 1)/*"]),
                .send(Array(bytes[offset..<offset + 1000])),
            ]
        }
        let place = try Place(bytes, [lying, silent, Server.file(bytes)])
        try await place.fetch(size: Int64(bytes.count))
        #expect(place.ranges == [nil, "bytes=1000-", "bytes=2000-"])
        #expect(
            place.said.withLock { $0.last }?
                .contains("ended after 2000 of \(bytes.count) bytes") == true
        )
    }

    @Test("refuses a file of another size than the release says, before its bytes come")
    func wrongSize() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.file(bytes)])
        let error = await refusal { try await place.fetch(size: 12_345) }
        #expect(error.code == "wrong-size" && error.exitCode == .verificationRefused)
        #expect(
            error.message
                == "'\(place.server.base)/b.tar.gz' has \(bytes.count) bytes on the server, but 12345 in the release"
        )
        #expect(try place.cached.isEmpty)
    }

    @Test("stops a server that sends more than it promised, and more than the release says")
    func tooMuch() async throws {
        let bytes = try await archive()
        let endless: HostileServer.Script = { _ in [Server.head(200, [:]), .send(bytes + bytes)] }
        let place = try Place(bytes, [endless])
        let error = await refusal { try await place.fetch(size: Int64(bytes.count)) }
        #expect(error.code == "answer-too-large")
        #expect(error.message.contains("larger than the limit of \(bytes.count) bytes"))
        #expect(try place.cached.isEmpty)
        let capped = await refusal { try await place.fetch(size: 2000, limit: 1000) }
        #expect(capped.code == "archive-too-large")
        #expect(
            capped.message == "'\(place.server.base)/b.tar.gz' has 2000 bytes, more than the 1000 allowed"
        )
    }

    @Test("does not follow to plain http on another machine, nor in a circle")
    func redirects() async throws {
        let bytes = try await archive()
        let away = try Place(bytes, [Server.status(302, ["Location": "http://192.0.2.1/b.tar.gz"])])
        let error = await refusal { try await away.fetch() }
        #expect(error.code == "insecure-url" && error.exitCode == .verificationRefused)
        #expect(
            error.message.hasSuffix(
                "redirects to 'http://192.0.2.1/b.tar.gz', which is plain http to another machine"
            )
        )
        #expect(away.server.requests.count == 1)
        let loop = try Place(bytes, [Server.status(302, ["Location": "/b.tar.gz"])])
        let circle = await refusal { try await loop.fetch() }
        #expect(circle.message.contains("is more than 5 redirects away"))
    }

    @Test(
        "ends with a sentence when it is redirected to nowhere",
        arguments: [
            nil, "", " ", "http://", "https://", "//", "http://[::1", "http://127.0.0.1:99999999/b",
            "ftp://example.org/b",
            "file:///etc/passwd", "javascript:alert(1)", "http://exa mple.org/b", "\u{1B}[2J",
        ] as [String?]
    )
    func nowhere(location: String?) async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.status(302, location.map { ["Location": $0] } ?? [:])])
        let error = await refusal { try await place.fetch { $0.firstContact = 1 } }
        #expect(["network", "http-status", "malformed-url", "insecure-url"].contains(error.code), "\(error)")
        #expect(error.message.contains("/b.tar.gz") || error.code == "malformed-url", "\(error)")
        #expect(try place.part.size() == 0)
    }

    @Test("refuses an answer with more header lines than anybody needs")
    func boastfulHead() async throws {
        var fields: [String: String] = [:]
        for number in 0..<70 { fields["X-\(number)"] = String(repeating: "x", count: 4000) }
        let place = try Place(try await archive(), [Server.status(200, fields)])
        let error = await refusal { try await place.fetch() }
        #expect(error.code == "answer-too-large" && error.exitCode == .network, "\(error)")
        #expect(
            error.message
                == "the head of '\(place.server.base)/b.tar.gz' is larger than the limit of 262144 bytes"
        )
    }

    @Test(
        "does not crash on sizes that no file can have, and takes nothing wrong",
        arguments: [
            ["Content-Length": "-1"], ["Content-Length": "99999999999999999999999"],
            ["Content-Length": "9223372036854775807"], ["Content-Length": "1e3"],
            ["Content-Range": "bytes -5--1/-1"],
            ["Content-Range": "bytes 9223372036854775807-0/9223372036854775807"],
            ["Content-Range": "bytes 0-9223372036854775807/18446744073709551616"],
            ["Content-Range": "bytes 5-9/3"], ["Content-Range": "bytes */*"],
            ["Content-Range": "bytes 0-9, 5-20/30"],
            ["Content-Range": "bytes 1152921504606846976-1152921504606846977/1152921504606846978"],
        ]
    )
    func absurdSizes(fields: [String: String]) async throws {
        let bytes = try await archive()
        let lie: HostileServer.Script = { request in
            let status = fields["Content-Range"] == nil ? 200 : 206
            return [Server.head(status, fields), .send(Array(bytes.prefix(2000)))]
        }
        for size in [nil, Int64(bytes.count)] {
            // An honest beginning, so that the lie meets a download under way as well.
            for scripts in [[lie], [Server.file(bytes, cut: 1000), lie]] {
                let place = try Place(bytes, scripts)
                let error = await refusal {
                    try await place.fetch(size: size) { policy in
                        policy.patience = 2
                        policy.firstContact = 2
                        policy.restarts = 1
                    }
                }
                #expect(
                    [
                        "network", "wrong-size", "download-failed", "answer-too-large", "digest-mismatch",
                        "http-status", "disk-full",
                    ]
                    .contains(error.code),
                    "\(fields) \(error)"
                )
            }
        }
    }

    @Test("says how much room is needed and how much there is, before anything is written")
    func room() async throws {
        let bytes = try await archive()
        let place = try Place(bytes, [Server.file(bytes)])
        let error = await refusal { try await place.fetch(unpacksTo: 1 << 50) }
        #expect(error.code == "disk-full")
        #expect(
            error.message.contains("needs 10737418") && error.message.contains("of free space, but has only ")
        )
        #expect(try place.cached.isEmpty)
    }

    @Test("ends after the total time, and keeps what came")
    func totalTime() async throws {
        let bytes = try await archive()
        let slow: HostileServer.Script = { _ in
            [Server.head(200, ["Content-Length": "\(bytes.count)"])]
                + (0..<100).flatMap {
                    [.send(Array(bytes[$0 * 1000..<$0 * 1000 + 1000])), .pause(.milliseconds(100))]
                }
        }
        let place = try Place(bytes, [slow])
        let error = await refusal { try await place.fetch { $0.total = .seconds(2) } }
        #expect(error.code == "network")
        #expect(error.message == "the download of '\(place.server.base)/b.tar.gz' took longer than 2 s")
        #expect(error.help?.contains("is kept; run the command again to go on") == true)
        #expect(try place.part.size() > 0)
    }

    @Test("stops at once when it is cancelled, and keeps what came")
    func cancelled() async throws {
        let bytes = try await archive()
        let place = try Place(
            bytes,
            [Server.file(bytes, cut: 200_000), Server.status(503, ["Retry-After": "60"])]
        )
        let task = Task { try await place.fetch() }
        // It says so when it begins to wait for the minute that the server asks for.
        for await text in place.words where text.hasSuffix("trying again in 60 s") {
            task.cancel()
            break
        }
        let error = await refusal { try await task.value }
        #expect(error.code == "cancelled")
        #expect(try place.part.size() == 200_000)
    }
}

@Suite("Keeping partial downloads")
struct PartialDownloadTests {
    @Test("keeps the two youngest for a week, and names everything else of that kind as left over")
    func leftovers() throws {
        let scratch = try TemporaryDirectory()
        let files = Files()
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        func part(_ digit: Character, age days: Int, _ name: String = ".part") throws {
            let path = try scratch.write([1], String(repeating: digit, count: 64) + name)
            let seconds = Int(now.milliseconds / 1000) - days * 86_400
            var times = [timeval(tv_sec: seconds, tv_usec: 0), timeval(tv_sec: seconds, tv_usec: 0)]
            guard utimes(path, &times) == 0 else { throw Files.failure("touch", path) }
        }
        try part("a", age: 1)
        try part("a", age: 1, ".part.json")
        try part("b", age: 0)
        try part("c", age: 3)
        try part("d", age: 8)
        try part("e", age: 0, ".part.json")
        try part("f", age: 0, "")
        try part("f", age: 0, ".part.json.tmp.12.34")
        _ = try scratch.write([1], "notes.part")
        try files.makeDirectory(scratch.path(String(repeating: "0", count: 64) + ".part"))
        let found = try PartialDownload.leftovers(in: scratch.root, files: files, now: now)
        #expect(
            found.map { Files.name(of: $0) }
                == ["0", "c", "d"].map { String(repeating: $0, count: 64) + ".part" } + [
                    String(repeating: "e", count: 64) + ".part.json",
                    String(repeating: "f", count: 64) + ".part.json.tmp.12.34",
                ]
        )
    }

    @Test("does not go on with a link, nor with a note that cannot be read")
    func foreign() throws {
        let scratch = try TemporaryDirectory()
        let part = PartialDownload(
            cache: scratch.root,
            sha256: String(repeating: "1", count: 64),
            files: Files()
        )
        #expect(try part.size() == 0)
        try Files().link(part.path, to: try scratch.write([1, 2, 3], "elsewhere"))
        #expect(try part.size() == 0)
        _ = try scratch.write(Array("{".utf8), Files.name(of: part.path) + ".json")
        #expect(try part.note(of: "https://example.org/b") == nil)
        try part.write(size: 10, validator: "\"x\"", url: "https://example.org/b")
        #expect(try part.note(of: "https://example.org/b")?.validator == "\"x\"")
        #expect(try part.note(of: "https://example.org/other") == nil)
    }
}
