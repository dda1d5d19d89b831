import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

/// A release source in a folder, made of small bundles.
final class ReleaseShelf: Sendable {
    let scratch: TemporaryDirectory
    /// The signature that the test's trust believes.
    static let signature = Array("signed".utf8)
    static let signer = Receipt.Signer(
        identity: "https://example.org/workflow",
        issuer: "https://issuer.example.org",
        logIndex: 42
    )

    init() throws { scratch = try TemporaryDirectory() }

    var root: String { scratch.path("shelf") }

    /// Makes a release and lists all of them; gives the digest of its bundle.
    @discardableResult
    func add(
        _ version: String,
        bundleVersion: String? = nil,
        isSigned: Bool = true,
        change: (inout [String: [UInt8]]) -> Void = { _ in }
    ) async throws -> String {
        let name = "llm-cli-gateway-bundle-\(version)-\(Product.platform).tar.gz"
        let bundle = try await BundleFixture(version: bundleVersion ?? version).tarGzip()
        let digest = SHA256.hex(bundle)
        let parts = Product.platform.split(separator: "-").map(String.init)
        let manifest: JSON = [
            "schema_version": "release-manifest.v1", "version": .string(version),
            "artifacts": [
                [
                    "name": .string(name), "os": .string(parts[0]), "arch": .string(parts[1]),
                    "role": "platform-bundle", "size": .integer(bundle.count), "unpacked_size": 200_000,
                    "sha256": .string(digest),
                ]
            ],
        ]
        var files = [
            name: bundle, ReleaseManifest.name: Array(manifest.prettyText.utf8),
            ReleaseReader.signature: ReleaseShelf.signature,
        ]
        let sums = [name, ReleaseManifest.name].map { "\(SHA256.hex(files[$0] ?? []))  \($0)\n" }.joined()
        files[ReleaseReader.checksums] = Array(sums.utf8)
        if !isSigned { files[ReleaseReader.signature] = nil }
        change(&files)
        let disk = Files()
        let folder = Layout.join(root, version)
        try disk.removeTree(folder)
        try disk.makeDirectory(folder)
        for (name, bytes) in files { try disk.write(bytes, to: Layout.join(folder, name), durable: false) }
        let entries = try disk.list(root).filter { SemanticVersion($0) != nil }.map { name -> JSON in
            ["version": .string(name), "channel": .string(name.contains("-") ? "prerelease" : "stable")]
        }
        let index: JSON = ["schema_version": "release-index.v1", "releases": .array(entries)]
        try disk.write(Array(index.prettyText.utf8), to: Layout.join(root, ReleaseIndex.name), durable: false)
        return digest
    }

    /// Believes checksums that come with the one signature.
    static let trust = ReleaseTrust { (sums, signature) throws(GatewayError) in
        guard signature == ReleaseShelf.signature else {
            throw GatewayError("signature-mismatch", "the signature is of something else")
        }
        return VouchedChecksums(checksums: try Checksums(sums), signer: ReleaseShelf.signer)
    }

    func reader(
        _ trust: ReleaseTrust = ReleaseShelf.trust,
        transport: any BundleTransport = NoTransport()
    ) -> ReleaseReader {
        var documents = ReleaseDocuments(transport: transport, files: Files(), clock: .system)
        documents.policy.firstWait = .milliseconds(2)
        return ReleaseReader(documents: documents, trust: trust)
    }

    /// The request for a version.
    func request(
        _ version: String,
        pinned: String? = nil,
        trust: ReleaseTrust = ReleaseShelf.trust
    ) async throws -> BundleRequest {
        let reader = reader(trust)
        let releases = try await reader.releases(of: .folder(root))
        let release = try #require(releases.first { $0.version.description == version })
        return try await reader.request(for: release, origin: .local, pinned: pinned)
    }
}

@Suite("Looking up a release")
struct ReleaseReaderTests {
    private func folder(_ shelf: ReleaseShelf, _ version: String) -> String {
        Layout.join(shelf.root, version)
    }

    @Test("believes a signed release, and keeps who signed it in the receipt")
    func signed() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3")
        let request = try await shelf.request("1.2.3")
        #expect(
            request.sha256 == digest && request.trust == .sigstore && request.signer == ReleaseShelf.signer
        )
        #expect(
            request.size != nil && request.unpackedSize == 200_000 && request.version?.description == "1.2.3"
        )
        let home = try ScratchHome()
        let report = try await home.installation().install(request)
        #expect(report.json["trust"]?.string == "sigstore")
        #expect(report.json["signer"]?["identity"]?.string == "https://example.org/workflow")
        #expect(report.json["bundle_source"]?.string == "local")
        let receipt = try Receipt.read(home.layout, files: Files())
        #expect(receipt.active?.trust == .sigstore && receipt.active?.signer == ReleaseShelf.signer)
        #expect(try await home.runs() == "1.2.3")
    }

    @Test("refuses a release without a signature, unless its digest is given")
    func unsigned() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3", isSigned: false)
        let error = await refusal { try await shelf.request("1.2.3") }
        #expect(error.code == "unsigned-release" && error.exitCode == .verificationRefused)
        #expect(error.message == "release 1.2.3 is not signed: there is no SHA256SUMS.sigstore.json")
        #expect(error.help == "if you know the bundle's digest from elsewhere, pin it with --sha256")
        let request = try await shelf.request("1.2.3", pinned: digest)
        #expect(request.trust == .pinnedChecksum && request.signer == nil && request.sha256 == digest)
        try await shelf.add("1.2.4") { $0[ReleaseReader.checksums] = nil }
        let bare = await refusal { try await shelf.request("1.2.4") }
        #expect(bare.code == "unsigned-release")
        #expect(bare.message == "release 1.2.4 has no SHA256SUMS, so nothing vouches for it")
    }

    @Test("says that this build knows no signer")
    func noSigner() async throws {
        let shelf = try ReleaseShelf()
        try await shelf.add("1.2.3")
        let error = await refusal {
            try await shelf.request("1.2.3", trust: .sigstore(nil, trustRoot: nil, files: Files()))
        }
        #expect(error.code == "no-release-signer" && error.exitCode == .usage)
        #expect(error.message.hasPrefix("this build does not know who signs releases"))
        #expect(error.help?.contains("--identity and --issuer") == true)
    }

    @Test("refuses checksums that another signature is over")
    func wrongSignature() async throws {
        let shelf = try ReleaseShelf()
        try await shelf.add("1.2.3") { $0[ReleaseReader.signature] = [1, 2, 3] }
        #expect(await refusal { try await shelf.request("1.2.3") }.code == "signature-mismatch")
        // The real verifier says of these three bytes that they are no bundle.
        let policy = SignerPolicy.identity(.exact("me"), issuer: "https://issuer.example.org")
        let error = await refusal {
            try await shelf.request("1.2.3", trust: .sigstore(policy, trustRoot: nil, files: Files()))
        }
        #expect(error.code == "signature-bundle-invalid" && error.exitCode == .verificationRefused)
    }

    @Test("refuses a manifest that is not the signed one, or says other digests")
    func manifest() async throws {
        let shelf = try ReleaseShelf()
        try await shelf.add("1.2.3") { $0[ReleaseManifest.name]?.append(0x0A) }
        let altered = await refusal { try await shelf.request("1.2.3") }
        #expect(altered.code == "digest-mismatch")
        #expect(altered.message.hasPrefix("the SHA-256 of 'release-manifest.json' is "))
        #expect(altered.message.contains("in the signed SHA256SUMS"))
        try await shelf.add("1.2.3") { files in
            let text = String(decoding: files[ReleaseReader.checksums] ?? [], as: UTF8.self)
            let lines = text.split(separator: "\n").map { line in
                line.contains(ReleaseManifest.name)
                    ? String(line) : String(repeating: "0", count: 64) + line.dropFirst(64)
            }
            files[ReleaseReader.checksums] = Array((lines.joined(separator: "\n") + "\n").utf8)
        }
        let other = await refusal { try await shelf.request("1.2.3") }
        #expect(other.code == "digest-mismatch" && other.message.contains("0000 in the signed SHA256SUMS"))
    }

    /// Checksums without the manifest, as releases had them once, and a manifest that lies about the bundle's size.
    private func unlist(_ files: inout [String: [UInt8]]) {
        let text = String(decoding: files[ReleaseReader.checksums] ?? [], as: UTF8.self)
        let line = text.split(separator: "\n").first { !$0.contains(ReleaseManifest.name) } ?? ""
        files[ReleaseReader.checksums] = Array((line + "\n").utf8)
        let manifest = String(decoding: files[ReleaseManifest.name] ?? [], as: UTF8.self)
        files[ReleaseManifest.name] = Array(
            manifest.replacing("\"unpacked_size\": 200000", with: "\"unpacked_size\": 1").utf8
        )
    }

    @Test("refuses a signed release whose manifest nobody signed")
    func unlistedManifest() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3", change: unlist)
        let error = await refusal { try await shelf.request("1.2.3") }
        #expect(error.code == "checksum-missing" && error.exitCode == .verificationRefused)
        #expect(
            error.message
                == "the signed SHA256SUMS of release 1.2.3 does not list release-manifest.json, so nobody vouches for what that says"
        )
        // Whoever has the digest needs nobody's signature.
        #expect(try await shelf.request("1.2.3", pinned: digest).sha256 == digest)
    }

    @Test("believes nothing of a manifest that an old release of a release service does not list")
    func unlistedAsset() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3", change: unlist)
        let folder = ReleaseFolder.directory(folder(shelf, "1.2.3"))
        let names = try Files().list(Layout.join(shelf.root, "1.2.3"))
        var release = try #require(try await shelf.reader().releases(of: .folder(shelf.root)).first)
        release.place = .assets(
            Dictionary(
                uniqueKeysWithValues: names.map { ($0, Release.Asset(location: folder.file($0), size: nil)) }
            )
        )
        let request = try await shelf.reader().request(for: release, origin: .service, pinned: nil)
        #expect(request.sha256 == digest && request.trust == .sigstore)
        #expect(request.size == nil && request.unpackedSize == nil)
    }

    @Test("refuses a release that is another version than the list says")
    func mixedUp() async throws {
        let shelf = try ReleaseShelf()
        try await shelf.add("1.2.3", bundleVersion: "1.0.0")
        let home = try ScratchHome()
        let request = try await shelf.request("1.2.3")
        let bundle = await refusal { try await home.installation().install(request) }
        #expect(bundle.code == "wrong-version" && bundle.exitCode == .verificationRefused)
        #expect(bundle.message == "the bundle of the release 1.2.3 has version 1.0.0")
        try await shelf.add("1.2.3")
        try Files().rename(folder(shelf, "1.2.3"), to: folder(shelf, "1.2.4"))
        try await shelf.add("1.2.5")
        let error = await refusal { try await shelf.request("1.2.4") }
        #expect(error.message == "the manifest of the release 1.2.4 is of version 1.2.3")
    }

    @Test("says what a source or a release lacks")
    func incomplete() async throws {
        let shelf = try ReleaseShelf()
        try Files().makeDirectory(shelf.root)
        let empty = await refusal { try await shelf.reader().releases(of: .folder(shelf.root)) }
        #expect(empty.code == "release-incomplete" && empty.exitCode == .network)
        #expect(empty.message == "'\(shelf.root)' has neither releases.json nor release-manifest.json")
        try await shelf.add("1.2.3") { $0[ReleaseManifest.name] = nil }
        let bare = await refusal { try await shelf.request("1.2.3") }
        #expect(bare.message == "release 1.2.3 lacks its release-manifest.json")
        try await shelf.add("1.2.4")
        let reader = shelf.reader()
        let release = try #require(try await reader.releases(of: .folder(shelf.root)).last)
        var elsewhere = reader
        elsewhere.platform = "linux-riscv64"
        let foreign = await refusal {
            try await elsewhere.request(for: release, origin: .local, pinned: nil)
        }
        #expect(foreign.message == "release 1.2.4 has no bundle for linux-riscv64")
    }

    @Test("takes a folder that is a single release, and a bundle file beside its checksums")
    func single() async throws {
        let shelf = try ReleaseShelf()
        let digest = try await shelf.add("1.2.3")
        let reader = shelf.reader()
        let releases = try await reader.releases(of: .folder(folder(shelf, "1.2.3")))
        #expect(releases.map(\.version.description) == ["1.2.3"])
        let release = try #require(releases.first)
        #expect(try await reader.request(for: release, origin: .local, pinned: nil).sha256 == digest)
        let name = "llm-cli-gateway-bundle-1.2.3-\(Product.platform).tar.gz"
        let path = Layout.join(folder(shelf, "1.2.3"), name)
        let request = try await reader.request(forFile: path)
        #expect(request.location == .file(path) && request.sha256 == digest && request.trust == .sigstore)
        let alone = shelf.scratch.path("alone.tar.gz")
        try Files().write([1], to: alone)
        let error = await refusal { try await reader.request(forFile: alone) }
        #expect(error.message == "'\(alone)' has no SHA256SUMS, so nothing vouches for it")
        let beside = Layout.join(folder(shelf, "1.2.3"), "other.tar.gz")
        try Files().write([1], to: beside)
        let unlisted = await refusal { try await reader.request(forFile: beside) }
        #expect(unlisted.code == "checksum-missing" && unlisted.exitCode == .verificationRefused)
    }
}

@Suite("Reading the small files of a release source", .timeLimit(.minutes(1)))
struct ReleaseDocumentsTests {
    private func documents() -> ReleaseDocuments {
        var documents = ReleaseDocuments(
            transport: HTTPClient(environment: [:]),
            files: Files(),
            clock: .system
        )
        documents.policy.firstWait = .milliseconds(2)
        return documents
    }

    private func read(_ scripts: [HostileServer.Script], limit: Int = 1000) async throws -> ([UInt8]?, Int) {
        let server = try HostileServer(scripts)
        defer { server.close() }
        let bytes = try await documents().read(.web(server.base + "/releases.json"), limit: limit)
        return (bytes, server.requests.count)
    }

    @Test("tries again when the server has a problem or the connection breaks, and knows what is not there")
    func patience() async throws {
        let text = Array("{}".utf8)
        let (bytes, count) = try await read([
            HostileServer.status(503), HostileServer.file([UInt8](repeating: 1, count: 500), cut: 100),
            HostileServer.file(text),
        ])
        #expect(bytes == text && count == 3)
        for status in [404, 410] {
            let (nothing, count) = try await read([HostileServer.status(status)])
            #expect(nothing == nil && count == 1)
        }
        #expect(try await documents().read(.file("/nowhere/releases.json"), limit: 10) == nil)
    }

    @Test("ends with what the server said last")
    func failures() async throws {
        let denied = await refusal { try await read([HostileServer.status(403)]) }
        #expect(denied.code == "http-status" && denied.message.hasSuffix("answered with status 403"))
        let broken = await refusal { try await read([HostileServer.status(500)]) }
        #expect(broken.message.hasSuffix("answered with status 500"))
        let large = await refusal {
            try await read([HostileServer.file([UInt8](repeating: 1, count: 2000))])
        }
        #expect(large.code == "answer-too-large")
        let away = await refusal {
            try await read([HostileServer.status(302, ["Location": "http://192.0.2.1/releases.json"])])
        }
        #expect(away.code == "insecure-url")
    }
}
