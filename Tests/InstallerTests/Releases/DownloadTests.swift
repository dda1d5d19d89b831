import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

/// Serves paths of a table on loopback while the body runs.
private func serving<Value>(
    _ paths: [String: HTTPResponse],
    _ body: (String) async throws -> Value
) async throws -> Value {
    let server = try HTTPServer.start(
        HTTPServer.Options(),
        routes: HTTPServer.Routes { request in
            let missing = HTTPResponse(status: 404, body: .bytes(Array("<h1>not found</h1>".utf8)))
            return .answered(paths[request.target] ?? missing)
        }
    )
    do {
        let value = try await body("http://127.0.0.1:\(server.listener.port)")
        await server.stop(within: .seconds(1))
        return value
    } catch {
        await server.stop(within: .seconds(1))
        throw error
    }
}

@Suite("Downloading a bundle")
struct DownloadTests {
    private let client = HTTPClient(environment: [:])

    @Test("installs from loopback, in every kind of archive, and reports progress")
    func installs() async throws {
        let fixture = BundleFixture()
        let archives = [
            "/b.tar.gz": try await fixture.tarGzip(), "/b.tar.zst": try await fixture.tarZstd(),
            "/b.zip": try await fixture.zip(),
        ]
        try await serving(archives.mapValues { HTTPResponse(status: 200, body: .bytes($0)) }) { base in
            for (path, bytes) in archives {
                let home = try ScratchHome()
                let last = Mutex<FetchProgress?>(nil)
                var installation = try home.installation(transport: client)
                installation.progress = { progress in last.withLock { $0 = progress } }
                let request = try BundleRequest.resolve(environment: [
                    "RVWR_GATEWAY_BUNDLE_URL": base + path + "?token=secret",
                    "RVWR_GATEWAY_BUNDLE_SHA256": SHA256.hex(bytes),
                ])
                let report = try await installation.install(request)
                #expect(report.json["bundle_source"]?.string == "env")
                #expect(report.json["bundle"]?.string == base + path)
                #expect(try await home.runs() == "9.9.9")
                #expect(
                    last.withLock { $0 }
                        == FetchProgress(received: Int64(bytes.count), total: Int64(bytes.count))
                )
                #expect(try Files().list(home.layout.cache).isEmpty)
            }
        }
    }

    @Test(
        "unpacks what was digested, also where a zip file of this machine is replaced or written over meanwhile",
        arguments: [true, false]
    )
    func changedMeanwhile(isReplaced: Bool) async throws {
        let good = try await BundleFixture(version: "1.0.0").zip()
        let evil = try await BundleFixture(version: "6.6.6").zip()
        let home = try ScratchHome()
        let request = try home.request(good, name: "bundle.zip")
        let path = home.scratch.path("bundle.zip")
        var installation = try home.installation()
        installation.progress = { progress in
            guard progress.received == progress.total else { return }
            // All of it has been read; nothing is unpacked yet.
            if isReplaced {
                try? Files().write(evil, to: path, durable: false)
            } else {
                let descriptor = open(path, O_WRONLY | O_TRUNC)
                _ = evil.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                close(descriptor)
            }
        }
        let report = try await installation.install(request)
        #expect(report.installed.version == "1.0.0")
        #expect(try await home.runs() == "1.0.0")
        #expect(try Files().read(path) == evil)
        #expect(try Files().list(home.layout.cache).isEmpty)
    }

    @Test("prints both digests and removes the file when what came is something else")
    func wrongDigest() async throws {
        let page = Array("<!doctype html>please log in".utf8)
        try await serving(["/b": HTTPResponse(status: 200, body: .bytes(page))]) { base in
            let home = try ScratchHome()
            let pinned = String(repeating: "1", count: 64)
            let request = try BundleRequest.resolve(url: base + "/b", sha256: pinned)
            let error = await refusal { try await home.installation(transport: client).install(request) }
            #expect(error.code == "digest-mismatch")
            #expect(error.message == "the SHA-256 of '\(base)/b' is \(SHA256.hex(page)), expected \(pinned)")
            #expect(
                error.help
                    == "what was fetched is removed; check the address and the digest, and do not use this file"
            )
            #expect(error.cause?.contains("looks like a web page") == true)
            #expect(try Files().list(home.layout.cache).isEmpty)
            #expect(try Files().list(home.layout.staging).isEmpty)
        }
    }

    @Test("says which status the server gave")
    func notFound() async throws {
        try await serving([:]) { base in
            let home = try ScratchHome()
            let request = try BundleRequest.resolve(
                url: base + "/b",
                sha256: String(repeating: "1", count: 64)
            )
            let error = await refusal { try await home.installation(transport: client).install(request) }
            #expect(error.code == "http-status")
            #expect(error.message.contains("404"))
            #expect(error.exitCode == .network)
            #expect(try Receipt.read(home.layout, files: Files()).operation == nil)
        }
    }

    @Test("refuses more bytes than the limit")
    func tooLarge() async throws {
        let bytes = [UInt8](repeating: 0x1F, count: 3 << 20)
        try await serving(["/b": HTTPResponse(status: 200, body: .bytes(bytes))]) { base in
            let scratch = try TemporaryDirectory()
            try Files().makeDirectory(scratch.path("staging"))
            let request = try BundleRequest.resolve(url: base + "/b", sha256: SHA256.hex(bytes))
            var fetch = BundleFetch(request: request, cache: scratch.root, files: Files(), transport: client)
            fetch.limit = 1 << 20
            let error = await refusal {
                try await fetch.run(into: Unpacking(directory: scratch.path("staging"), files: Files()))
            }
            #expect(error.code == "answer-too-large")
            #expect(try Files().list(scratch.root) == ["staging"])
        }
    }

    @Test("says that nobody listens")
    func refused() async throws {
        let home = try ScratchHome()
        let request = try BundleRequest.resolve(
            url: "http://127.0.0.1:1/b",
            sha256: String(repeating: "1", count: 64)
        )
        let error = await refusal { try await home.installation(transport: client).install(request) }
        #expect(error.code == "network")
        #expect(error.message.contains("127.0.0.1"))
    }

    @Test(
        "ends with the disk full and the old version in use",
        .enabled(if: getuid() == 0, "mounting a small disk needs root")
    )
    func smallDisk() async throws {
        let scratch = try TemporaryDirectory()
        let disk = scratch.path("disk")
        try Files().makeDirectory(disk)
        guard mount("none", disk, "tmpfs", 0, "size=12m") == 0 else {
            try Test.cancel("a tmpfs cannot be mounted here")
        }
        defer { umount2(disk, Int32(MNT_DETACH)) }
        var fixture = BundleFixture(version: "2.0.0")
        var noise = [UInt8](repeating: 0, count: 9 << 20)
        for index in noise.indices { noise[index] = UInt8(truncatingIfNeeded: index &* index >> 7) }
        fixture.files.append(.init(path: "lib/large", content: noise))
        let archive = try await fixture.tarGzip()
        try await serving(["/b": HTTPResponse(status: 200, body: .bytes(archive))]) { base in
            let home = try ScratchHome(in: disk)
            _ = try await home.installation().install(
                try home.request(try await BundleFixture(version: "1.0.0").tarGzip())
            )
            let request = try BundleRequest.resolve(url: base + "/b", sha256: SHA256.hex(archive))
            let error = await refusal { try await home.installation(transport: client).install(request) }
            #expect(error.code == "disk-full")
            #expect(error.help?.contains("free some space") == true)
            #expect(try await home.runs() == "1.0.0")
            #expect(try Files().list(home.layout.staging).isEmpty)
            #expect(try Files().list(home.layout.cache).isEmpty)
        }
    }
}
