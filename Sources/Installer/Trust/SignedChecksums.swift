import Appliance

/// Checksums whose signature is right; only verification makes one.
struct VerifiedChecksums: Sendable {
    let checksums: Checksums
    /// Who vouched for them, and where that is written: for the receipt.
    let signature: VerifiedSignature

    fileprivate init(checksums: Checksums, signature: VerifiedSignature) {
        self.checksums = checksums
        self.signature = signature
    }

    /// The digest of a file of the release, 64 lower-case hexadecimal digits.
    ///
    /// Throws `checksum-missing`.
    func digest(of name: String) throws(GatewayError) -> String { try checksums.digest(of: name) }
}

/// The first rung of the trust ladder: a release's `SHA256SUMS` with the Sigstore bundle over it.
enum SignedChecksums {
    /// Verifies the bundle over exactly these bytes, then reads them.
    ///
    /// Only a signature over the bytes will do, as `releases/sign` makes it. A signed statement (in-toto) that names their
    /// digest proves that the signer said something about them, which may as well be that they failed a test: no
    /// specification asks to take that for a signature of a release. Throws the code of the step that refused
    /// (`SignatureStep`), or `checksums-malformed`.
    static func verify(
        sums: [UInt8],
        bundle: [UInt8],
        trustRoot: TrustRoot,
        policy: SignerPolicy
    ) throws(GatewayError) -> VerifiedChecksums {
        let verification = SignatureVerification(
            trustRoot: trustRoot,
            policy: policy,
            takesStatements: false
        )
        let signature = try verification.run(bundle, over: Artifact(sums))
        return VerifiedChecksums(checksums: try Checksums(sums), signature: signature)
    }
}
