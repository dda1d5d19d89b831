import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

/// Unpacks bytes as an installation does and returns the directory.
private func unpack(
    _ bytes: [UInt8],
    limits: ArchiveLimits = ArchiveLimits(),
    into scratch: TemporaryDirectory,
    name: String = "bundle"
) async throws -> Unpacking.Unpacked {
    let path = try scratch.write(bytes, name)
    try Files().makeDirectory(scratch.path("staging"))
    let request = try BundleRequest.resolve(url: "file://\(path)", sha256: SHA256.hex(bytes))
    let fetch = BundleFetch(request: request, cache: scratch.root, files: Files(), transport: NoTransport())
    return try await fetch.run(
        into: Unpacking(directory: scratch.path("staging"), files: Files(), limits: limits)
    )
}

/// The refusal of a bundle with one more entry, and what was left in the staging directory's surroundings.
private func refusal(adding more: @escaping (inout TarWriter) -> Void) async throws -> GatewayError {
    let scratch = try TemporaryDirectory()
    var fixture = BundleFixture()
    fixture.more = more
    let bytes = try await fixture.tarGzip()
    let error = await refusal { try await unpack(bytes, into: scratch) }
    // Nothing outside the staging directory, whatever the archive tried.
    #expect(try Files().list(scratch.root) == ["bundle", "staging"])
    return error
}

@Suite("Unpacking a bundle")
struct UnpackingTests {
    enum Kind: CaseIterable { case tarGzip, tarZstd, zip }

    @Test("unpacks tar.gz, tar.zst and zip to the same files and modes", arguments: Kind.allCases)
    func unpacks(kind: Kind) async throws {
        let scratch = try TemporaryDirectory()
        let fixture = BundleFixture()
        let bytes =
            switch kind {
            case .tarGzip: try await fixture.tarGzip()
            case .tarZstd: try await fixture.tarZstd()
            case .zip: try await fixture.zip()
            }
        let unpacked = try await unpack(bytes, into: scratch)
        #expect(unpacked.manifest.version.description == "9.9.9")
        #expect(unpacked.manifestDigest == SHA256.hex(fixture.manifest))
        for file in fixture.files {
            let path = scratch.path("staging/\(file.path)")
            #expect(try Files().read(path) == file.content)
            #expect(try Files().status(path)?.mode == file.mode)
        }
    }

    @Test("gives files the modes of the manifest when the archive has others")
    func modes() async throws {
        let scratch = try TemporaryDirectory()
        var fixture = BundleFixture()
        fixture.listed = fixture.files
        for index in fixture.files.indices { fixture.files[index].mode = 0o600 }
        _ = try await unpack(try await fixture.tarGzip(), into: scratch)
        #expect(try Files().status(scratch.path("staging/bin/llm-gateway"))?.mode == 0o755)
        #expect(try Files().status(scratch.path("staging/setup/ui/index.html"))?.mode == 0o644)
    }

    @Test("unpacks links that stay inside")
    func links() async throws {
        let scratch = try TemporaryDirectory()
        var fixture = BundleFixture()
        let manifest = String(decoding: fixture.manifest, as: UTF8.self).replacing(
            "\"files\": [",
            with: "\"files\": [{\"path\":\"lib/libexample.so\",\"target\":\"../lib/libexample.so.1\"},"
        )
        var writer = TarWriter()
        writer.add("./manifest.json", Array(manifest.utf8))
        for file in fixture.files { writer.add("./\(file.path)", file.content, mode: file.mode) }
        writer.add("./lib/libexample.so", type: "2", link: "../lib/libexample.so.1")
        _ = try await unpack(try await filter("gzip", ["-c"], writer.finished), into: scratch)
        #expect(
            Files().destination(ofLink: scratch.path("staging/lib/libexample.so")) == "../lib/libexample.so.1"
        )
        fixture.files = []
    }

    @Test(
        "refuses a symlink that leads outside",
        arguments: ["/etc/passwd", "../../outside", "a/../../../x", ""]
    )
    func outwardLink(target: String) async throws {
        let error = try await refusal { $0.add("lib/evil", type: "2", link: target) }
        #expect(error.code == "unsafe-archive")
        #expect(error.message.contains("'lib/evil' is a symbolic link to '\(target)', outside the bundle"))
    }

    @Test(
        "refuses names that lead outside",
        arguments: [
            ("/etc/cron.d/evil", "is an absolute path"), ("../evil", "has '..' in its path"),
            ("lib/../../evil", "has '..' in its path"), ("lib\\..\\evil", "not printable ASCII"),
            ("lib/\u{1B}[2J", "not printable ASCII"),
        ]
    )
    func outwardName(name: String, rule: String) async throws {
        let error = try await refusal { $0.add(name, [1, 2, 3]) }
        #expect(error.code == "unsafe-archive")
        #expect(error.message.contains(rule))
        #expect(!error.message.contains("\u{1B}"))
        #expect(error.exitCode == .verificationRefused)
    }

    @Test("does not write through a directory that the archive turned into a symlink")
    func throughLink() async throws {
        let error = try await refusal { writer in
            writer.add("share", type: "2", link: "lib")
            writer.add("share/evil", [1])
        }
        #expect(error.code == "unsafe-archive")
        #expect(
            error.message.contains(
                "'share/evil' lies below 'share', which an earlier entry made no directory"
            )
        )
    }

    @Test(
        "refuses hard links to anything but an earlier file",
        arguments: ["/etc/passwd", "../x", "lib/none", "lib"]
    )
    func hardLinks(target: String) async throws {
        let error = try await refusal { $0.add("lib/evil", type: "1", link: target) }
        #expect(error.code == "unsafe-archive")
    }

    @Test("makes a hard link to an earlier file, which the manifest must name")
    func innerHardLink() async throws {
        let error = try await refusal { $0.add("lib/again", type: "1", link: "lib/libexample.so.1") }
        #expect(error.code == "manifest-mismatch")
        #expect(error.message.contains("'lib/again' is not in the manifest"))
    }

    @Test(
        "refuses devices and FIFOs",
        arguments: [("3", "character device"), ("4", "block device"), ("6", "FIFO")] as [(Character, String)]
    )
    func devices(type: Character, name: String) async throws {
        let error = try await refusal { $0.add("lib/device", type: type) }
        #expect(error.code == "unsafe-archive")
        #expect(error.message.contains("'lib/device' is a \(name)"))
    }

    @Test("refuses setuid, setgid and sticky bits", arguments: [0o4755, 0o2755, 0o1644] as [UInt32])
    func setuid(mode: UInt32) async throws {
        let error = try await refusal { $0.add("bin/evil", [1], mode: mode) }
        #expect(error.message.contains("'bin/evil' has a setuid, setgid or sticky bit"))
    }

    @Test("refuses a file that occurs twice, and a file in the place of a directory and the other way round")
    func duplicates() async throws {
        var error = try await refusal { $0.add("bin/llm-gateway", [1]) }
        #expect(error.message.contains("'bin/llm-gateway' occurs twice"))
        error = try await refusal { $0.add("bin", [1]) }
        #expect(error.message.contains("'bin' is a file where an earlier entry is a directory"))
        error = try await refusal { $0.add("bin/llm-gateway", type: "5", mode: 0o755) }
        #expect(error.message.contains("'bin/llm-gateway' is a directory where an earlier entry is a file"))
    }

    @Test("stops at a million entries")
    func millionEntries() async throws {
        let error = try await refusal { writer in
            for number in 0..<30_000 { writer.add("e/\(number)") }
        }
        #expect(error.code == "archive-too-large")
        #expect(error.message.contains("more than 20000 entries"))
    }

    @Test("stops at a decompression bomb of 10,000:1 long before it is unpacked")
    func bomb() async throws {
        let scratch = try TemporaryDirectory()
        var fixture = BundleFixture()
        fixture.files.append(.init(path: "bomb", content: [UInt8](repeating: 0, count: 200 << 20)))
        fixture.listed = Array(fixture.files.dropLast())
        let bytes = try await filter("zstd", ["-q", "-c", "-19", "--long=27"], fixture.tar)
        #expect(bytes.count < 30_000)
        let error = await refusal { try await unpack(bytes, into: scratch) }
        #expect(error.code == "archive-too-large")
        #expect(error.message.contains("200 times its size"))
        let written = try Files().status(scratch.path("staging/bomb"))?.size ?? 0
        #expect(written < 20 << 20)
    }

    @Test("refuses a file that claims more than the limit before writing it")
    func claimedSize() async throws {
        let error = try await refusal { $0.add("huge", claimedSize: 7 << 30) }
        #expect(error.code == "archive-too-large")
        #expect(error.message.contains("2048 MiB"))
    }

    @Test("names a truncated archive as damaged, wherever it was cut")
    func truncated() async throws {
        for kind in [Kind.tarGzip, .tarZstd] {
            let fixture = BundleFixture()
            let bytes = kind == .tarGzip ? try await fixture.tarGzip() : try await fixture.tarZstd()
            for count in stride(from: 20, to: bytes.count - 8, by: max(1, bytes.count / 12)) {
                let scratch = try TemporaryDirectory()
                let error = await refusal { try await unpack(Array(bytes.prefix(count)), into: scratch) }
                #expect(
                    ["archive-damaged", "manifest-missing"].contains(error.code),
                    "\(kind) cut at \(count): \(error)"
                )
            }
        }
    }

    @Test("names a garbled archive as damaged")
    func garbled() async throws {
        var bytes = try await BundleFixture().tarGzip()
        for index in bytes.count / 3..<bytes.count / 3 + 40 { bytes[index] ^= 0x5A }
        let scratch = try TemporaryDirectory()
        let error = await refusal { try await unpack(bytes, into: scratch) }
        #expect(
            ["archive-damaged", "manifest-mismatch", "manifest-invalid", "unsafe-archive"].contains(
                error.code
            )
        )
    }

    @Test("says what a file that is no archive looks like")
    func notAnArchive() async throws {
        let scratch = try TemporaryDirectory()
        var error = await refusal { try await unpack(Array("<!doctype html><p>404".utf8), into: scratch) }
        #expect(error.code == "archive-damaged")
        #expect(error.message.contains("looks like a web page"))
        error = await refusal { try await unpack([], into: scratch) }
        #expect(error.message.contains("it is empty"))
    }

    @Test("names missing, extra and altered files")
    func mismatches() async throws {
        let scratch = try TemporaryDirectory()
        var fixture = BundleFixture()
        fixture.listed = fixture.files + [.init(path: "lib/absent", content: [1])]
        fixture.files[3].content += [0x21]
        fixture.files.append(.init(path: "lib/surplus", content: [2]))
        let error = await refusal { try await unpack(try await fixture.tarGzip(), into: scratch) }
        #expect(error.code == "manifest-mismatch")
        #expect(error.message.contains("'lib/absent' is missing"))
        #expect(error.message.contains("'lib/surplus' is not in the manifest"))
        #expect(error.message.contains("'setup/ui/index.html' has other content than the manifest says"))
    }

    @Test("refuses an archive without a manifest, and one for another platform")
    func wrongBundle() async throws {
        var scratch = try TemporaryDirectory()
        var writer = TarWriter()
        writer.add("readme", [1])
        let bytes = try await filter("gzip", ["-c"], writer.finished)
        var error = await refusal { try await unpack(bytes, into: scratch) }
        #expect(error.code == "manifest-missing")
        var fixture = BundleFixture()
        fixture.platform = "linux-mips"
        scratch = try TemporaryDirectory()
        error = await refusal { [fixture] in try await unpack(try await fixture.tarGzip(), into: scratch) }
        #expect(error.code == "wrong-platform")
        #expect(error.message == "the bundle is for linux-mips, but this machine is \(Product.platform)")
    }

    @Test("recognises a bundle of the Node.js gateway", arguments: ["gateway/package.json", "runtime/node"])
    func reference(path: String) async throws {
        let scratch = try TemporaryDirectory()
        var writer = TarWriter()
        writer.add(path, [1])
        let bytes = try await filter("gzip", ["-c"], writer.finished)
        let error = await refusal { try await unpack(bytes, into: scratch) }
        #expect(error.code == "reference-bundle")
        #expect(error.message.contains("a bundle of the Node.js gateway (it contains '\(path)')"))
    }

    @Test(
        "says which part of a manifest is wrong",
        arguments: [
            ("\"bundle-manifest.v1\"", "\"v9\"", "'schema_version' is v9"),
            ("\"9.9.9\"", "\"9\"", "'version'"),
            ("\"mode\": \"0644\"", "\"mode\": \"4644\"", ".mode is no octal mode"),
            ("\"size\": 100000", "\"size\": -1", ".size is no number of bytes"),
            ("lib/libexample.so.1", "../libexample.so.1", ".path is no path inside the bundle"),
            ("bin/llm-gateway", "bin/other", "'bin/llm-gateway' is not among its executable files"),
            ("setup/ui/index.html", "lib/libexample.so.1", "'lib/libexample.so.1' is listed twice"),
            ("{", "", "invalid JSON"),
        ]
    )
    func manifests(find: String, put: String, reason: String) async {
        let text = String(decoding: BundleFixture().manifest, as: UTF8.self)
            .replacing(find, with: put, maxReplacements: 1)
        let error = await refusal { try BundleManifest(Array(text.utf8)) }
        #expect(error.code == "manifest-invalid")
        #expect(error.message.contains(reason), "\(error.message)")
    }
}
