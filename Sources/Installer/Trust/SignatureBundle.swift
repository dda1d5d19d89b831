import Appliance

/// A Sigstore bundle: a signature and what is needed to believe it, of the media types 0.1 to 0.3.
///
/// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto
struct SignatureBundle: Sendable {
    enum Version: Sendable { case v01, v02, v03 }

    /// What the signature is to be checked with.
    enum Material: Sendable {
        /// DER of the signer's certificate; what else came with it proves nothing.
        case certificate([UInt8])
        /// A key that the verifier has already.
        case publicKey
    }

    /// What was signed.
    enum Content: Sendable {
        /// The artifact itself; the digest only tells which one it is about.
        case message(signature: [UInt8], digest: Digest?)
        /// A statement about the artifact.
        case envelope(Envelope)
    }

    /// A digest and how it was made.
    struct Digest: Sendable, Equatable {
        var algorithm: HashAlgorithm
        var bytes: [UInt8]
    }

    /// Bounds of what is read at all: bytes, and numbers of elements.
    enum Limits {
        static let bundle = 16 << 20
        static let certificate = 64 << 10
        static let certificates = 16
        static let timestamps = 32
        static let timestamp = 64 << 10
    }

    var version: Version
    var material: Material
    var logEntry: LogEntry
    /// Answers of time-stamp authorities (RFC 3161), in DER.
    var timestamps: [[UInt8]]
    var content: Content

    /// The bytes of the signature; time-stamp authorities saw these.
    var signature: [UInt8] {
        switch content {
        case .message(let signature, _): signature
        case .envelope(let envelope): envelope.signature
        }
    }

    /// Reads a bundle.
    init(_ bytes: [UInt8]) throws(Malformed) {
        guard bytes.count <= Limits.bundle else {
            throw Malformed("it has \(bytes.count) bytes, more than the \(Limits.bundle) allowed")
        }
        let json: JSON
        do throws(JSONSyntaxError) {
            json = try JSON.parse(bytes, maximumDepth: 32)
        } catch {
            throw Malformed(error.description)
        }
        let bundle = try ProtoMembers(
            json,
            "",
            known: ["mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope"]
        )
        version = try SignatureBundle.version(try bundle.string("mediaType"))
        let material = try bundle.object(
            "verificationMaterial",
            known: [
                "publicKey", "x509CertificateChain", "certificate", "tlogEntries",
                "timestampVerificationData",
            ]
        )
        self.material = try SignatureBundle.material(material, version)
        timestamps = try SignatureBundle.timestamps(material)
        let entries = try material.objects("tlogEntries", known: LogEntry.members, limit: 32)
        guard entries.count == 1 else {
            throw Malformed("it has \(entries.count) transparency log entries, expected exactly one")
        }
        logEntry = try LogEntry(entries[0])
        content = try SignatureBundle.content(bundle)
        if version == .v01 {
            guard logEntry.promise != nil else {
                throw Malformed("a bundle of version 0.1 needs the log's signed entry timestamp")
            }
        } else if logEntry.promise == nil, timestamps.isEmpty {
            throw Malformed(
                "it has neither the log's signed entry timestamp nor one of a time-stamp authority"
            )
        }
    }

    private static func version(_ mediaType: String) throws(Malformed) -> Version {
        switch mediaType {
        case "application/vnd.dev.sigstore.bundle+json;version=0.1": return .v01
        case "application/vnd.dev.sigstore.bundle+json;version=0.2": return .v02
        case "application/vnd.dev.sigstore.bundle+json;version=0.3",
            "application/vnd.dev.sigstore.bundle.v0.3+json":
            return .v03
        default:
            throw Malformed(
                "its media type is '\(ForeignText.shown(mediaType))', expected a Sigstore bundle 0.1 to 0.3"
            )
        }
    }

    private static func material(
        _ members: ProtoMembers,
        _ version: Version
    ) throws(Malformed) -> Material {
        let key = try members.optionalObject("publicKey", known: ["hint"])
        let chain = try members.optionalObject("x509CertificateChain", known: ["certificates"])
        let single = try members.optionalObject("certificate", known: ["rawBytes"])
        switch (key, chain, single) {
        case (let key?, nil, nil):
            _ = try key.optionalString("hint")
            return .publicKey
        case (nil, let chain?, nil) where version != .v03:
            let found = try certificates(chain)
            guard let leaf = found.first else { throw Malformed("its certificate chain is empty") }
            for other in found.dropFirst() where try CertificateFields(other).isSelfIssued {
                throw Malformed("it brings its own root certificate, which could be anybody's")
            }
            return .certificate(leaf)
        case (nil, nil, let single?) where version == .v03:
            return .certificate(try certificate(single))
        case (nil, nil, nil):
            throw Malformed("it has neither a certificate nor the hint of a key")
        default:
            throw Malformed(
                version == .v03
                    ? "a bundle of version 0.3 needs one 'certificate' or one 'publicKey', and nothing else"
                    : "a bundle before version 0.3 needs one 'x509CertificateChain' or one 'publicKey'"
            )
        }
    }

    /// The certificates of a chain, in DER.
    static func certificates(_ chain: ProtoMembers) throws(Malformed) -> [[UInt8]] {
        var found: [[UInt8]] = []
        for member in try chain.objects("certificates", known: ["rawBytes"], limit: Limits.certificates) {
            found.append(try certificate(member))
        }
        return found
    }

    private static func certificate(_ members: ProtoMembers) throws(Malformed) -> [UInt8] {
        let der = try members.bytes("rawBytes")
        guard !der.isEmpty, der.count <= Limits.certificate else {
            throw Malformed(
                "'\(members.place)' has \(der.count) bytes, expected 1 to \(Limits.certificate)"
            )
        }
        return der
    }

    private static func timestamps(_ material: ProtoMembers) throws(Malformed) -> [[UInt8]] {
        guard
            let data = try material.optionalObject("timestampVerificationData", known: ["rfc3161Timestamps"])
        else { return [] }
        var found: [[UInt8]] = []
        for member in try data.objects(
            "rfc3161Timestamps",
            known: ["signedTimestamp"],
            limit: Limits.timestamps
        ) {
            let answer = try member.bytes("signedTimestamp")
            guard answer.count <= Limits.timestamp else {
                throw Malformed("'\(member.place)' has more than \(Limits.timestamp) bytes")
            }
            guard !found.contains(answer) else { throw Malformed("'\(member.place)' is there twice") }
            found.append(answer)
        }
        return found
    }

    private static func content(_ bundle: ProtoMembers) throws(Malformed) -> Content {
        let message = try bundle.optionalObject("messageSignature", known: ["messageDigest", "signature"])
        let envelope = try bundle.optionalObject(
            "dsseEnvelope",
            known: ["payload", "payloadType", "signatures"]
        )
        switch (message, envelope) {
        case (let message?, nil):
            var digest: Digest?
            if let found = try message.optionalObject("messageDigest", known: ["algorithm", "digest"]) {
                let name = try found.string("algorithm")
                guard let algorithm = HashAlgorithm(protobufName: name) else {
                    throw Malformed(
                        "'\(found.place).algorithm' is '\(ForeignText.shown(name))', expected SHA2_256, SHA2_384 or SHA2_512"
                    )
                }
                digest = Digest(algorithm: algorithm, bytes: try found.bytes("digest"))
            }
            let signature = try message.bytes("signature")
            guard !signature.isEmpty else { throw Malformed("its signature is empty") }
            return .message(signature: signature, digest: digest)
        case (nil, let envelope?): return .envelope(try Envelope(envelope))
        default: throw Malformed("it needs either a 'messageSignature' or a 'dsseEnvelope'")
        }
    }
}
