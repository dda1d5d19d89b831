import Appliance
import Platform
import Testing

@testable import Installer

/// The official cases for Sigstore clients, where the sibling folder has them.
///
/// https://github.com/sigstore/sigstore-conformance
@Suite("The Sigstore client conformance cases")
struct ConformanceTests {
    private static let folder: String = {
        let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        return "/\(root)/../shared/conformance/sigstore"
    }()

    private static let identity =
        "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/"
        + "extremely-dangerous-oidc-beacon.yml@refs/heads/main"

    private static let outside = (SignatureStep.chain, "the certificate was valid from")

    /// The step that must refuse each bad case, and a part of its reason.
    private static let refusals: [String: (step: SignatureStep, reason: String)] = [
        "bundle-empty-certificate-chain": (.bundle, "certificate chain is empty"),
        "bundle-from-wrong-instance": (.chain, "issued by nobody whom the trust root knows"),
        "bundle-invalid-base64-signature": (.bundle, "'messageSignature.signature' is not base 64"),
        "bundle-malformed-json": (.bundle, "invalid JSON"),
        "bundle-negative-log-index": (.bundle, "logIndex' is '-1'"),
        "bundle-unknown-version": (.bundle, "version=99.9"),
        "bundle-with-root-cert": (.bundle, "its own root certificate"),
        "checkpoint-bad-keyhint": (.logEntry, "not signed by the log that the entry names"),
        "checkpoint-wrong-roothash": (.logEntry, "another tree than the signed checkpoint"),
        "dsse-invalid-sig": (.artifact, "not made over this statement"),
        "dsse-mismatch-envelope": (.binding, "another statement"),
        "dsse-mismatch-sig": (.binding, "another signature"),
        "inclusion-proof-corrupted-hash": (.logEntry, "does not lead from the entry to the tree's root"),
        // Its entry has another key than was logged.
        "incorrect-public-key": (.logEntry, "does not lead from the entry to the tree's root"),
        // Long after the certificate.
        "integrated-time-in-future": (.chain, "says the log"),
        "intoto-expired-certificate": outside,
        "intoto-log-entry-mismatch": (.binding, "another signature"),
        "intoto-missing-inclusion-proof": (.bundle, "no inclusion proof"),
        "intoto-set-outside-signing-cert-validity": (.chain, "says the log"),
        "intoto-tsa-timestamp-outside-cert-validity": (.chain, "says the time-stamp authority"),
        "invalid-checkpoint-signature": (.logEntry, "the checkpoint was signed by no log"),
        "invalid-ct-key": (.certificateLog, "signed by no certificate log"),
        "invalid-inclusion-proof": (.bundle, "no signed checkpoint"),
        "managed-key-no-key": (.key, "with a key that it does not contain"),
        "managed-key-wrong-key": (.key, "cannot be read as a public key"),
        "message-digest-mismatch": (.artifact, "the bundle is about a1cfc712"),
        "rekor2-checkpoint-missing-log-signature": (.bundle, "the checkpoint has no signature"),
        "rekor2-checkpoint-missing-origin": (.bundle, "expected origin, size and root hash"),
        "rekor2-checkpoint-missing-root-hash": (.bundle, "expected origin, size and root hash"),
        "rekor2-checkpoint-missing-size": (.bundle, "expected origin, size and root hash"),
        "rekor2-checkpoint-no-matching-signature": (.logEntry, "the checkpoint was signed by no log"),
        "rekor2-dsse-invalid-sig": (.artifact, "not made over this statement"),
        "rekor2-dsse-mismatch-envelope": (.binding, "another envelope"),
        "rekor2-dsse-mismatch-sig": (.binding, "another signature"),
        "rekor2-no-inclusion-proof": (.bundle, "no inclusion proof"),
        "rekor2-no-timestamp": (.bundle, "neither the log's signed entry timestamp nor one"),
        "rekor2-timestamp-outside-trust-root-tsa-validity": (.time, "was in use at 2025-06-12T12:02:20.000Z"),
        "rekor2-timestamp-outside-tsa-cert-validity": (
            .time, "the time-stamp authority's certificate was valid"
        ),
        "rekor2-timestamp-payload-mismatch": (.time, "about another signature"),
        "rekor2-timestamp-untrusted-tsa-with-embedded-cert": (.time, "not signed by a time-stamp authority"),
        "rekor2-timestamp-untrusted-tsa-without-embedded-cert": (
            .time, "not signed by a time-stamp authority"
        ),
        "rekor2-timestamp-with-incorrect-time": (.chain, "says the time-stamp authority"),
        "set-invalid-signature": (.logEntry, "did not promise this entry"),
        "signature-mismatch": (.artifact, "not made over this file"),
        "trust-root-tlog-missing-validity-start": (
            .trustRoot, "'tlogs[1].publicKey.validFor.start' is missing"
        ),
        "wrong-hashedrekord-artifact": (.binding, "another artifact"),
        "wrong-hashedrekord-cert-and-sig": (.binding, "another signature"),
        "wrong-hashedrekord-entry": (.binding, "another artifact"),
        "wrong-material": (.artifact, "the bundle is about a0cfc712"),
    ]

    @Test("accepts every good bundle, and refuses every bad one for its own reason")
    func cases() throws {
        let files = Files()
        guard files.exists(ConformanceTests.folder) else {
            print("skipped: no conformance cases in \(ConformanceTests.folder)")
            return
        }
        var accepted = 0, refused = 0
        for name in try files.list(ConformanceTests.folder) where name != "a.txt" {
            let result = Result { () throws(GatewayError) in try verify(name) }
            guard name.hasSuffix("_fail") else {
                accepted += 1
                #expect(throws: Never.self, "\(name)") { try result.get() }
                continue
            }
            refused += 1
            let wanted = try #require(ConformanceTests.refusals[String(name.dropLast(5))], "\(name) is new")
            switch result {
            case .success: Issue.record("\(name) was accepted")
            case .failure(let error):
                #expect(error.code == wanted.step.rawValue, "\(name): \(error)")
                #expect(error.exitCode == .verificationRefused, "\(name)")
                #expect(error.message.contains(wanted.reason), "\(name): \(error)")
            }
        }
        print(
            "Sigstore conformance: \(accepted) bundles accepted, \(refused) refused, each for its own reason"
        )
        #expect(accepted + refused >= 69)
        #expect(refused == ConformanceTests.refusals.count)
    }

    private func verify(_ name: String) throws(GatewayError) -> VerifiedSignature {
        let files = Files()
        let folder = Layout.join(ConformanceTests.folder, name)
        func text(_ file: String) throws(GatewayError) -> String? {
            try files.readIfPresent(Layout.join(folder, file)).map {
                String(decoding: $0, as: UTF8.self).trimmed
            }
        }
        let root = try files.readIfPresent(Layout.join(folder, "trusted_root.json"))
        let artifact = try files.readIfPresent(Layout.join(folder, "artifact"))
        let policy: SignerPolicy =
            if let key = try files.readIfPresent(Layout.join(folder, "key.pub")) {
                .key(key)
            } else {
                .identity(
                    .exact(try text("identity") ?? ConformanceTests.identity),
                    issuer: try text("issuer") ?? "https://token.actions.githubusercontent.com"
                )
            }
        let trustRoot: TrustRoot = if let root { try TrustRoot(root) } else { try .builtIn() }
        let content: [UInt8] =
            if let artifact {
                artifact
            } else {
                try files.read(Layout.join(ConformanceTests.folder, "a.txt"))
            }
        return try SignatureVerification(trustRoot: trustRoot, policy: policy).run(
            try files.read(Layout.join(folder, "bundle.sigstore.json")),
            over: Artifact(content)
        )
    }
}
