import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Checksums with a signature")
struct SignedChecksumsTests {
    private static let digest = String(repeating: "c", count: 64)
    private let sums = Array("\(digest)  bundle.tar.gz\n".utf8)

    @Test("are believed when the wanted signer signed exactly these bytes, and tell where that is written")
    func believed() throws {
        let instance = try SigningInstance()
        let verified = try SignedChecksums.verify(
            sums: sums,
            bundle: instance.sign(sums),
            trustRoot: instance.trustRoot(),
            policy: instance.policy
        )
        #expect(try verified.digest(of: "bundle.tar.gz") == Self.digest)
        #expect(verified.signature.log == "https://log.test")
        #expect(verified.signature.logIndex == 7)
        #expect(verified.signature.time.iso8601 == "2026-03-01T12:00:00.000Z")
        #expect(verified.signature.isKey)
        #expect(verified.signature.sha256 == SHA256.hex(sums))
        let error = #expect(throws: GatewayError.self) { try verified.digest(of: "another.tar.gz") }
        #expect(error?.code == "checksum-missing")
    }

    @Test("are refused when they are altered, when somebody else signed, and when another log vouches")
    func refused() throws {
        let instance = try SigningInstance(), other = try SigningInstance()
        let bundle = try instance.sign(sums)
        func code(_ sums: [UInt8], _ root: TrustRoot, _ policy: SignerPolicy) -> String? {
            #expect(throws: GatewayError.self) {
                try SignedChecksums.verify(sums: sums, bundle: bundle, trustRoot: root, policy: policy)
            }?.code
        }
        let root = try instance.trustRoot()
        #expect(code(sums + [0x0A], root, instance.policy) == "signature-mismatch")
        #expect(code(sums, root, other.policy) == "signature-mismatch")
        #expect(code(sums, try other.trustRoot(), instance.policy) == "signature-log-unproven")
        #expect(code(sums, root, .identity(.exact("a"), issuer: "b")) == "signature-key-refused")
    }

    @Test("are read only after their signature is right, and refused when they are no checksums")
    func order() throws {
        let instance = try SigningInstance()
        let noise = Array("no checksums\n".utf8)
        let error = #expect(throws: GatewayError.self) {
            try SignedChecksums.verify(
                sums: noise,
                bundle: instance.sign(noise),
                trustRoot: instance.trustRoot(),
                policy: instance.policy
            )
        }
        #expect(error?.code == "checksums-malformed")
    }

    @Test("are refused when only a statement about them is signed")
    func statement() throws {
        let instance = try SigningInstance()
        let bundle = try instance.sign(sums, asStatement: true)
        let verification = SignatureVerification(trustRoot: try instance.trustRoot(), policy: instance.policy)
        // The statement itself is in order: `verify` says who made it.
        #expect(try verification.run(bundle, over: Artifact(sums)).logIndex == 7)
        let error = #expect(throws: GatewayError.self) {
            try SignedChecksums.verify(
                sums: sums,
                bundle: bundle,
                trustRoot: instance.trustRoot(),
                policy: instance.policy
            )
        }
        #expect(error?.code == "signature-bundle-invalid" && error?.exitCode == .verificationRefused)
        #expect(error?.message.contains("a signed statement about the file, not a signature over it") == true)
    }

    @Test("are refused when the log's promise has no time, or a promise is of another time")
    func untimedPromise() throws {
        let instance = try SigningInstance()
        func refusal(_ time: String?) throws -> GatewayError? {
            let bundle = try instance.sign(sums, claimedTime: .some(time))
            return #expect(throws: GatewayError.self) {
                try SignedChecksums.verify(
                    sums: sums,
                    bundle: bundle,
                    trustRoot: instance.trustRoot(),
                    policy: instance.policy
                )
            }
        }
        for time in [nil, "0"] {
            let error = try refusal(time)
            #expect(error?.code == "signature-bundle-invalid")
            #expect(
                error?.message.contains("not the time that was signed") == true,
                "\(error?.message ?? "")"
            )
        }
        #expect(try refusal("1772366401")?.code == "signature-log-unproven")
    }

    @Test("this build names no signer of releases, or a signer and who vouches for it")
    func releases() {
        #expect(Product.releaseSigner.isEmpty == Product.releaseSignerIssuer.isEmpty)
        let isThere = if case .identity = SignerPolicy.releases { true } else { false }
        #expect(isThere == !Product.releaseSigner.isEmpty)
    }
}

@Suite("The command verify")
struct VerifyCommandTests {
    private func files(_ session: Session) throws -> (file: String, bundle: String, root: String, key: String)
    {
        let instance = try SigningInstance()
        let content = Array("a release\n".utf8)
        let paths = ["file", "file.sigstore.json", "root.json", "key"].map(session.scratch.path)
        guard case .key(let key) = instance.policy else { throw GatewayError("internal-error", "no key") }
        let contents = [content, try instance.sign(content), instance.trustRootJSON.compact, key]
        for (path, bytes) in zip(paths, contents) { try Files().write(bytes, to: path, durable: false) }
        return (paths[0], paths[1], paths[2], paths[3])
    }

    @Test("says who signed, for people and for programs")
    func verified() async throws {
        let session = try Session()
        let made = try files(session)
        let words = [
            "verify", made.file, "--bundle", made.bundle, "--trust-root", made.root, "--key", made.key,
        ]
        let text = await session.run(words)
        #expect(text.code == .done, "\(text.error)")
        #expect(text.output.contains("signed with key  sha256:"))
        #expect(text.output.contains("recorded as      entry 7 of https://log.test"))
        let json = await session.run(words + ["--json"]).json
        #expect(json["verified"] == true)
        #expect(json["trust"] == "sigstore")
        #expect(json["log_index"] == 7)
        #expect(json["issuer"]?.isNull == true)
        #expect(json["sha256"]?.string == SHA256.hex(Array("a release\n".utf8)))
    }

    @Test("ends with status 3 and the step when it refuses")
    func refused() async throws {
        let session = try Session()
        let made = try files(session)
        try Files().write(Array("another\n".utf8), to: made.file, durable: false)
        let answer = await session.run(
            "verify",
            made.file,
            "--bundle",
            made.bundle,
            "--trust-root",
            made.root,
            "--key",
            made.key,
            "--json"
        )
        #expect(answer.code == .verificationRefused)
        #expect(answer.json["error"]?["code"] == "signature-mismatch")
        #expect(answer.error.contains("at the step 'signature over the artifact': the file has the SHA-256"))
        #expect(answer.error.contains("help: take the file and the bundle from the same release"))
    }

    @Test(
        "asks for what is missing, and refuses what excludes itself",
        arguments: [
            (["verify"], "which file"),
            (["verify", "F"], "where the Sigstore bundle of 'F' is"),
            (["verify", "F", "--bundle", "B"], "who should have signed the file"),
            (
                ["verify", "F", "--bundle", "B", "--issuer", "I"],
                "'--issuer' is given without '--identity' or '--identity-pattern'"
            ),
            (
                ["verify", "F", "--bundle", "B", "--identity", "A"],
                "'--identity' is given without '--issuer': a name says nothing without who vouches for it"
            ),
            (
                ["verify", "F", "--bundle", "B", "--identity", "A"],
                "help: add --issuer: https://token.actions.githubusercontent.com for a workflow of GitHub"
            ),
            (
                ["verify", "F", "--bundle", "B", "--identity-pattern", "A*", "--issuer", " "],
                "'--identity-pattern' is given without '--issuer'"
            ),
            (
                ["verify", "F", "--bundle", "B", "--identity", " ", "--issuer", "I"],
                "'--issuer' is given without '--identity'"
            ),
            (["verify", "F", "--bundle", "B", "--identity", "A", "--key", "K"], "exclude each other"),
            (
                ["verify", "F", "--bundle", "B", "--identity", "A", "--identity-pattern", "P"],
                "exclude each other"
            ),
            (["verify", "F", "--bundle", "B", "--key", "K", "--issuer", "I"], "means nothing with '--key'"),
        ]
    )
    func usage(words: [String], says: String) async throws {
        let answer = await (try Session()).run(words)
        #expect(answer.code == .usage)
        #expect(answer.error.contains(says), "\(answer.error)")
    }

    @Test("says which of the files is not there")
    func missing() async throws {
        let session = try Session()
        let made = try files(session)
        for flag in ["--bundle", "--trust-root", "--key"] {
            var words = [
                "verify", made.file, "--bundle", made.bundle, "--trust-root", made.root, "--key", made.key,
            ]
            let place = try #require(words.firstIndex(of: flag))
            words[place + 1] = session.scratch.path("absent")
            let answer = await session.run(words)
            #expect(answer.code == .failed, "\(flag): \(answer.error)")
            #expect(answer.error.contains("absent"))
        }
        let answer = await session.run(
            "verify",
            session.scratch.path("absent"),
            "--bundle",
            made.bundle,
            "--trust-root",
            made.root,
            "--key",
            made.key
        )
        #expect(answer.error.contains("absent' does not exist"))
    }
}
