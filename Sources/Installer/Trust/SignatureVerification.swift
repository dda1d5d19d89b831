import Appliance
import Platform

/// Decides whether a Sigstore bundle proves that a signer signed an artifact, without any network.
///
/// The steps, each of which can refuse (`SignatureStep`):
///
/// 1. The bundle is understood, and holds the kind of material that the policy is about.
/// 2. A clock is found: time-stamp authorities of the trust root, and the time that the log promises.
/// 3. The certificate leads to an authority that was in use, and all were valid, at each of these times.
/// 4. The certificate is for signing code.
/// 5. A certificate log has promised to publish it.
/// 6. It was issued to the wanted signer, on the word of the wanted identity provider.
/// 7. The transparency log holds the entry: inclusion proof, signed checkpoint, and promise where there is one. What step
///    2 took from the promise is proven here.
/// 8. The signature was made over the artifact with the certificate's key.
/// 9. The entry is about this artifact, this signature and this certificate.
///
/// With a key instead of an identity there is no certificate, and steps 3 to 6 fall away.
/// https://github.com/sigstore/architecture-docs/blob/main/client-spec.md
struct SignatureVerification {
    var trustRoot: TrustRoot
    var policy: SignerPolicy
    /// Whether a signed statement about the artifact will do; otherwise only a signature over the artifact itself.
    var takesStatements = true

    /// The verdict; a refusal is thrown, with the code of its step.
    func run(_ bundle: [UInt8], over artifact: Artifact) throws(GatewayError) -> VerifiedSignature {
        let bundle = try SignatureStep.bundle.checking { () throws(Malformed) in try SignatureBundle(bundle) }
        if case .envelope = bundle.content, !takesStatements {
            throw SignatureStep.bundle.refusal(
                "it holds a signed statement about the file, not a signature over it, and a statement may say anything, "
                    + "also that the file is bad",
                help: "sign the file itself, as 'cosign sign-blob' does"
            )
        }
        let signer = try signer(bundle)
        let times = try times(bundle)
        let named: (name: String, issuer: String?)
        switch signer {
        case .certificate(let certificate):
            let chain = try chain(certificate, times)
            try checkUsage(certificate, chain)
            try checkCertificateLog(certificate, chain)
            named = try checkIdentity(certificate)
        case .key(let key): named = ("sha256:" + SHA256.hex(key.info), nil)
        }
        let log = try checkLog(bundle.logEntry, times)
        let entry = bundle.logEntry
        let body = try SignatureStep.binding.checking { () throws(Malformed) in try LogEntryBody(entry) }
        try checkSignature(bundle, signer, artifact, body.digest.algorithm)
        try checkBinding(bundle, signer, artifact, body)
        let isKey = if case .key = signer { true } else { false }
        return VerifiedSignature(
            signer: named.name,
            issuer: named.issuer,
            isKey: isKey,
            log: log.address,
            // The place in the log as a whole is only covered by the promise.
            logIndex: times.promised == nil ? entry.proof.index : entry.index,
            time: times.earliest,
            sha256: Hex.encode(artifact.sha256)
        )
    }

    // MARK: 1

    private func signer(_ bundle: SignatureBundle) throws(GatewayError) -> Signer {
        switch (bundle.material, policy) {
        case (.certificate(let leaf), .identity):
            return try SignatureStep.bundle.checking { () throws(Malformed) in
                .certificate(try Certificate(leaf))
            }
        case (.publicKey, .key(let key)):
            return try SignatureStep.key.checking { () throws(Malformed) in .key(try PublicKey(file: key)) }
        case (.publicKey, .identity):
            throw SignatureStep.key.refusal(
                "the bundle was signed with a key that it does not contain, so it proves no identity",
                help: "give the signer's public key with --key"
            )
        case (.certificate, .key):
            throw SignatureStep.key.refusal(
                "the bundle was signed with a certificate, not with a key of the signer's own",
                help: "name the signer with --identity and --issuer instead of --key"
            )
        }
    }

    // MARK: 2

    private struct Times {
        /// By authorities whose signature is right.
        var stamped: [Timestamp]
        /// By the log; proven in step 7.
        var promised: Timestamp?
        /// The first of them all.
        var earliest: Timestamp

        var all: [Timestamp] { stamped + (promised.map { [$0] } ?? []) }
    }

    private func times(_ bundle: SignatureBundle) throws(GatewayError) -> Times {
        var stamped: [Timestamp] = []
        var promised: Timestamp?
        if bundle.logEntry.promise != nil, let seconds = bundle.logEntry.integratedTime {
            guard seconds < 1 << 40 else {
                throw SignatureStep.time.refusal("the log's time, \(seconds) seconds since 1970, is none")
            }
            promised = Timestamp(milliseconds: seconds * 1000)
        }
        if !bundle.timestamps.isEmpty, trustRoot.timestampAuthorities.isEmpty {
            throw SignatureStep.time.refusal(
                "the bundle has a time stamp, but the trust root names no time-stamp authority"
            )
        }
        // Each of them must hold, also beside a clock that does. The official client passes over what it cannot verify
        // there; but a stamp that is wrong was altered or comes from a stranger, and who made the bundle knows which.
        for stamp in bundle.timestamps {
            let token = try SignatureStep.time.checking { () throws(Malformed) in try TimestampToken(stamp) }
            do throws(Malformed) {
                try check(token, over: bundle.signature)
            } catch {
                throw SignatureStep.time.refusal("the time stamp is not believed: \(error.reason)")
            }
            stamped.append(token.time)
        }
        guard let earliest = (stamped + (promised.map { [$0] } ?? [])).min() else {
            throw SignatureStep.time.refusal(
                "the bundle has neither the log's promise with its time nor a time stamp"
            )
        }
        return Times(stamped: stamped, promised: promised, earliest: earliest)
    }

    private func check(_ token: TimestampToken, over signature: [UInt8]) throws(Malformed) {
        var failure = Malformed(
            "no time-stamp authority of the trust root was in use at \(token.time.iso8601)"
        )
        for authority in trustRoot.timestampAuthorities where authority.validity.contains(token.time) {
            do throws(Malformed) {
                return try token.verify(
                    over: signature,
                    by: try SignatureVerification.certificates(authority)
                )
            } catch {
                failure = error
            }
        }
        throw failure
    }

    private static func certificates(_ authority: TrustRoot.Authority) throws(Malformed) -> [Certificate] {
        var certificates: [Certificate] = []
        for der in authority.certificates { certificates.append(try Certificate(der)) }
        return certificates
    }

    // MARK: 3 to 6

    private func chain(_ leaf: Certificate, _ times: Times) throws(GatewayError) -> [Certificate] {
        var chain: [Certificate] = []
        for time in times.all {
            chain = try SignatureStep.chain.checking { () throws(Malformed) in
                var failure = Malformed(
                    "no certificate authority of the trust root was in use at \(time.iso8601)"
                )
                for authority in trustRoot.certificateAuthorities where authority.validity.contains(time) {
                    do throws(Malformed) {
                        return try CertificateChain.build(
                            leaf,
                            anchors: try SignatureVerification.certificates(authority),
                            at: time.wholeSeconds
                        )
                    } catch {
                        failure = error
                    }
                }
                throw Malformed(
                    "\(failure.reason); the signature was made at \(time.iso8601), says the \(time == times.promised ? "log" : "time-stamp authority")"
                )
            }
        }
        return chain
    }

    private func checkUsage(_ leaf: Certificate, _ chain: [Certificate]) throws(GatewayError) {
        try SignatureStep.usage.checking { () throws(Malformed) in
            guard try leaf.fields.allowsSignatures() else {
                throw Malformed("the certificate is not for signatures")
            }
            guard try leaf.fields.purposes()?.contains(CertificateFields.Identifier.codeSigning) == true
            else {
                throw Malformed("the certificate is not for signing code")
            }
            for certificate in chain {
                let purposes = try certificate.fields.purposes() ?? [CertificateFields.Identifier.anyUsage]
                guard
                    purposes.contains(CertificateFields.Identifier.codeSigning)
                        || purposes.contains(CertificateFields.Identifier.anyUsage)
                else { throw Malformed("the authority may not issue certificates for signing code") }
            }
        }
    }

    private func checkCertificateLog(_ leaf: Certificate, _ chain: [Certificate]) throws(GatewayError) {
        try SignatureStep.certificateLog.checking { () throws(Malformed) in
            guard let found = leaf.fields[CertificateFields.Identifier.certificateTimestamps],
                let issuer = chain.first
            else { throw Malformed("the certificate has no promise of a certificate log") }
            let promise = try CertificateTimestamp(extension: found.value)
            let signed = try promise.signed(leaf.fields, issuer: issuer.fields)
            // 4: SHA-256; 3 and 1: ECDSA and RSA (RFC 5246 section 7.4.1.4.1).
            guard promise.algorithm == [4, 3] || promise.algorithm == [4, 1] else {
                throw Malformed("the promise is signed in a way that is not supported")
            }
            let time = Timestamp(milliseconds: Int64(clamping: promise.time))
            let logs = trustRoot.certificateLogs.candidates(promise.logID, at: time)
            guard logs.contains(where: { $0.verifies(promise.signature, over: signed) }) else {
                throw Malformed(
                    "the promise of \(time.iso8601) was signed by no certificate log that the trust root had in use"
                )
            }
        }
    }

    private func checkIdentity(_ leaf: Certificate) throws(GatewayError) -> (name: String, issuer: String?) {
        let names = try SignatureStep.identity.checking { () throws(Malformed) in try leaf.fields.names() }
        let issuer = try SignatureStep.identity.checking { () throws(Malformed) in
            try leaf.fields.identityProvider()
        }
        guard case .identity(let wanted, let wantedIssuer) = policy else {
            throw SignatureStep.identity.refusal("nobody says which signer is expected")
        }
        // By bytes: what Unicode takes for equal may be another name.
        guard let issuer, issuer.utf8.elementsEqual(wantedIssuer.utf8) else {
            let shown = issuer.map { "'\(ForeignText.shown($0, limit: 300))'" } ?? "nobody"
            throw SignatureStep.identity.refusal(
                "the signer was vouched for by \(shown), expected '\(wantedIssuer)'"
            )
        }
        guard let name = names.first(where: wanted.matches) else {
            let shown = names.prefix(8).map { "'\(ForeignText.shown($0, limit: 300))'" }.joined(
                separator: ", "
            )
            throw SignatureStep.identity.refusal(
                "the signer is \(names.isEmpty ? "not named" : shown), expected '\(wanted)'"
            )
        }
        return (name, issuer)
    }

    // MARK: 7

    private func checkLog(_ entry: LogEntry, _ times: Times) throws(GatewayError) -> TrustRoot.Log {
        try SignatureStep.logEntry.checking { () throws(Malformed) in
            guard entry.proof.proves(entry.body) else {
                throw Malformed("the inclusion proof does not lead from the entry to the tree's root")
            }
            guard entry.checkpoint.root == entry.proof.root, entry.checkpoint.size == entry.proof.size else {
                throw Malformed("the inclusion proof is for another tree than the signed checkpoint")
            }
            let hint = Array(entry.logID.prefix(4))
            guard let signature = entry.checkpoint.signatures.first(where: { $0.hint == hint }) else {
                throw Malformed("the checkpoint is not signed by the log that the entry names")
            }
            let logs = times.all.flatMap { trustRoot.logs.candidates(entry.logID, at: $0) }
            let note = Array(entry.checkpoint.text.utf8)
            guard let log = logs.first(where: { $0.verifies(signature.bytes, over: note) }) else {
                throw Malformed("the checkpoint was signed by no log that the trust root had in use")
            }
            if let promise = entry.promise, let seconds = entry.integratedTime {
                let promised = entry.promised(at: seconds)
                let logs = trustRoot.logs.candidates(entry.logID, at: Timestamp(milliseconds: seconds * 1000))
                guard logs.contains(where: { $0.verifies(promise, over: promised) }) else {
                    throw Malformed("the log did not promise this entry at this time")
                }
            }
            return log
        }
    }

    // MARK: 8 and 9

    private func checkSignature(
        _ bundle: SignatureBundle,
        _ signer: Signer,
        _ artifact: Artifact,
        _ algorithm: HashAlgorithm
    ) throws(GatewayError) {
        let key = try SignatureStep.artifact.checking { () throws(Malformed) in try signer.publicKey() }
        switch bundle.content {
        case .message(let signature, let digest):
            if let digest, digest.bytes != (try artifact.digest(digest.algorithm)) {
                throw SignatureStep.artifact.refusal(
                    "the file has the SHA-256 \(Hex.encode(artifact.sha256)), but the bundle is about \(Hex.encode(digest.bytes))",
                    help: "take the file and the bundle from the same release"
                )
            }
            guard try isRight(signature, over: artifact, by: key, algorithm) else {
                throw SignatureStep.artifact.refusal("it was not made over this file with the signer's key")
            }
        case .envelope(let envelope):
            // The first generation of logs does not record the digest that was signed.
            let schemes = key.schemes(algorithm) + key.schemes(key.kind.usualHash)
            guard schemes.contains(where: { key.verifies(envelope.signature, over: envelope.signed, $0) })
            else {
                throw SignatureStep.artifact.refusal(
                    "it was not made over this statement with the signer's key"
                )
            }
            let subjects = try SignatureStep.artifact.checking { () throws(Malformed) in
                try envelope.subjects()
            }
            guard subjects.contains(Hex.encode(artifact.sha256)) else {
                throw SignatureStep.artifact.refusal(
                    "the signed statement is about other files than this one with the SHA-256 \(Hex.encode(artifact.sha256))"
                )
            }
        }
    }

    private func isRight(
        _ signature: [UInt8],
        over artifact: Artifact,
        by key: PublicKey,
        _ algorithm: HashAlgorithm
    ) throws(GatewayError) -> Bool {
        guard key.kind == .ed25519 else {
            let digest = try artifact.digest(algorithm)
            return key.schemes(algorithm).contains {
                key.verifies(signature, overDigest: digest, $0)
            }
        }
        guard let contents = artifact.contents else {
            throw SignatureStep.artifact.refusal(
                "a file of more than \(Artifact.heldInMemory) bytes cannot be checked with an Ed25519 key"
            )
        }
        return key.verifies(signature, over: contents, .ed25519)
    }

    private func checkBinding(
        _ bundle: SignatureBundle,
        _ signer: Signer,
        _ artifact: Artifact,
        _ body: LogEntryBody
    ) throws(GatewayError) {
        let isRecorded: Bool
        let what: String
        switch (bundle.content, body.recorded) {
        case (.message, .artifact(let digest)):
            isRecorded = try digest.bytes == artifact.digest(digest.algorithm)
            what = "artifact"
        case (.envelope(let envelope), .artifact(let digest)) where bundle.logEntry.version == "0.0.2":
            isRecorded = try isDigest(digest, of: envelope.signed)
            what = "envelope"
        case (.envelope(let envelope), .payload(let digest)):
            isRecorded = try isDigest(digest, of: envelope.payload)
            what = "statement"
        default:
            throw SignatureStep.binding.refusal(
                "an entry of the kind '\(ForeignText.shown(bundle.logEntry.kind)) \(ForeignText.shown(bundle.logEntry.version))' does not fit what was signed"
            )
        }
        guard isRecorded else {
            throw SignatureStep.binding.refusal("the entry records another \(what) than this one")
        }
        guard body.signatures.contains(bundle.signature) else {
            throw SignatureStep.binding.refusal("the entry records another signature")
        }
        guard body.names(signer) else {
            throw SignatureStep.binding.refusal("the entry records another certificate or key")
        }
    }

    private func isDigest(_ digest: SignatureBundle.Digest, of bytes: [UInt8]) throws(GatewayError) -> Bool {
        try SignatureStep.binding.checking { () throws(Malformed) in
            try digest.bytes == digest.algorithm.digest(bytes)
        }
    }
}

extension PublicKey.Kind {
    /// The digest that goes with a key (https://github.com/sigstore/architecture-docs/blob/main/algorithm-registry.md).
    fileprivate var usualHash: HashAlgorithm {
        switch self {
        case .ellipticCurve(384): .sha384
        case .ellipticCurve(521): .sha512
        default: .sha256
        }
    }
}

/// What a bundle proved.
struct VerifiedSignature: Sendable, Equatable {
    /// The signer's name, or `sha256:` and the digest of the key.
    var signer: String
    /// The identity provider that vouched for the signer; `nil` for a key.
    var issuer: String?
    var isKey: Bool
    /// The address of the log.
    var log: String
    /// The entry's place in the log.
    var logIndex: Int64
    /// When it was signed at the latest, by the first of the trusted clocks.
    var time: Timestamp
    /// The SHA-256 of the artifact, in lower-case hexadecimal.
    var sha256: String
}
