import Appliance
import CShims
import Glibc
import Platform

@testable import Installer

/// A parser of data from outside: what it is given may be anything, and it must come to an end without a crash.
///
/// Its seeds are in `Tests/Fuzz/seeds/<name>`.
struct Parser: Sendable {
    var name: String
    var parse: @Sendable ([UInt8]) -> Void
}

extension Parser {
    static let all = [
        Parser(name: "checksums") { bytes in
            if let sums = try? Checksums(bytes) {
                for name in sums.names { _ = try? sums.digest(of: name) }
            }
        },
        // The whole verification; a bundle that parses goes through every step that it gets to.
        Parser(name: "bundle") { bytes in
            verify(bytes)
        },
        Parser(name: "trust-root") { bytes in
            guard let root = try? TrustRoot(bytes) else { return }
            for log in root.logs + root.certificateLogs { _ = log.verifies([1, 2, 3], over: [4]) }
            for authority in root.certificateAuthorities + root.timestampAuthorities {
                for certificate in authority.certificates { read(certificate) }
            }
        },
        Parser(name: "checkpoint") { bytes in _ = try? Checkpoint(String(decoding: bytes, as: UTF8.self)) },
        Parser(name: "certificate") { bytes in read(bytes) },
        Parser(name: "certificate-timestamp") { bytes in _ = try? CertificateTimestamp(extension: bytes) },
        Parser(name: "time-stamp") { bytes in
            guard let token = try? TimestampToken(bytes), let root = try? trustRoot.get() else { return }
            for authority in root.timestampAuthorities {
                try? token.verify(over: [1], by: authority.certificates.map { try Certificate($0) })
            }
        },
        Parser(name: "log-entry") { bytes in
            guard var entry = try? bundle.get().logEntry else { return }
            entry.body = bytes
            for (kind, version) in [
                ("hashedrekord", "0.0.1"), ("hashedrekord", "0.0.2"), ("dsse", "0.0.1"), ("dsse", "0.0.2"),
                ("intoto", "0.0.2"),
            ] {
                entry.kind = kind
                entry.version = version
                _ = try? LogEntryBody(entry)
            }
        },
        Parser(name: "manifest") { bytes in _ = try? BundleManifest(bytes) },
        Parser(name: "release-index") { bytes in
            let releases =
                ((try? ReleaseIndex.releases(bytes, in: .web("https://releases.test"))) ?? [])
                + ((try? ReleaseIndex.serviceReleases(bytes, from: "https://example.org/latest")) ?? [])
            for release in releases { _ = release.file("SHA256SUMS") }
        },
        Parser(name: "release-manifest") { bytes in _ = try? ReleaseManifest(bytes) },
        Parser(name: "archive") { bytes in unpack(bytes) },
    ]

    /// Unpacks an archive, compressed or not, and stops everything when a file lands beside the directory it is for.
    private static func unpack(_ bytes: [UInt8]) {
        let files = Files()
        var template = Array((Machine.currentEnvironment()["TMPDIR"] ?? "/tmp").utf8CString.dropLast())
        template += Array("/llm-gateway-fuzz-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { try? files.removeTree(folder) }
        let archive = Layout.join(folder, "archive"), staging = Layout.join(folder, "staging")
        do {
            try files.write(bytes, to: archive, durable: false)
            try files.makeDirectory(staging)
        } catch {
            return
        }
        let descriptor = shim_open(archive, O_RDONLY, 0)
        defer { close(descriptor) }
        let unpacking = Unpacking(
            directory: staging,
            files: files,
            limits: ArchiveLimits(entries: 200, bytes: 4 << 20),
            platform: "linux-amd64"
        )
        _ = try? unpacking.run(.descriptor(descriptor))
        precondition(
            (try? files.list(folder).sorted()) == ["archive", "staging"],
            "a file left its directory"
        )
    }

    private static func read(_ der: [UInt8]) {
        guard let certificate = try? Certificate(der) else { return }
        _ = try? certificate.validity()
        _ = try? certificate.publicKey()
        _ = try? certificate.fields.allowsSignatures()
        _ = try? certificate.fields.purposes()
        _ = try? certificate.fields.names()
        _ = try? certificate.fields.identityProvider()
        _ = certificate.fields.precertificate
        if let promise = certificate.fields[CertificateFields.Identifier.certificateTimestamps] {
            _ = try? CertificateTimestamp(extension: promise.value)
        }
        _ = try? CertificateChain.build(certificate, anchors: [certificate], at: Timestamp(milliseconds: 0))
    }

    // MARK: surroundings, which are good bundles of the seeds and their trust root

    private static let trustRoot = Result { try TrustRoot(Seeds.read("trust-root/own.json")) }
    private static let bundle = Result { try SignatureBundle(Seeds.read("bundle/second-log.json")) }

    private static func verify(_ bundle: [UInt8]) {
        guard let root = try? trustRoot.get() else { return }
        let policy = SignerPolicy.identity(
            .pattern(NamePattern("**")),
            issuer: "https://token.actions.githubusercontent.com"
        )
        _ = try? SignatureVerification(trustRoot: root, policy: policy).run(
            bundle,
            over: Artifact(Array("what is signed\n".utf8))
        )
    }
}

/// What the search begins with, in `Tests/Fuzz/seeds`.
enum Seeds {
    static let folder = Files.parent(of: Files.parent(of: #filePath)) + "/seeds"

    static func read(_ name: String) throws -> [UInt8] { try Files().read(Layout.join(folder, name)) }
}
