import Appliance

/// Whom to believe: transparency logs, certificate authorities and logs, time-stamp authorities, each with the time in
/// which it was in use.
///
/// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto
struct TrustRoot: Sendable {
    /// A span of time; both ends belong to it, and without an end it goes on.
    struct Validity: Sendable, Equatable {
        var start: Timestamp
        var end: Timestamp?

        func contains(_ instant: Timestamp) -> Bool {
            start <= instant && end.map { instant <= $0 } ?? true
        }
    }

    /// A log and its key.
    struct Log: Sendable {
        var address: String
        var identifier: [UInt8]
        var keyDetails: String
        var key: [UInt8]
        var validity: Validity?
    }

    /// An authority: its issuing certificate first, its root last, in DER.
    struct Authority: Sendable {
        var name: String
        var certificates: [[UInt8]]
        var validity: Validity
    }

    static let limit = 4 << 20

    var logs: [Log]
    var certificateLogs: [Log]
    var certificateAuthorities: [Authority]
    var timestampAuthorities: [Authority]

    /// Reads a `trusted_root.json`.
    ///
    /// Throws `trust-root-invalid`.
    init(_ bytes: [UInt8]) throws(GatewayError) {
        self = try SignatureStep.trustRoot.checking { () throws(Malformed) in try TrustRoot(reading: bytes) }
    }

    private init(reading bytes: [UInt8]) throws(Malformed) {
        guard bytes.count <= TrustRoot.limit else {
            throw Malformed("it has \(bytes.count) bytes, more than the \(TrustRoot.limit) allowed")
        }
        let json: JSON
        do throws(JSONSyntaxError) {
            json = try JSON.parse(bytes, maximumDepth: 32)
        } catch {
            throw Malformed(error.description)
        }
        let root = try ProtoMembers(
            json,
            "",
            known: ["mediaType", "tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"]
        )
        let mediaType = try root.string("mediaType")
        guard
            [
                "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "application/vnd.dev.sigstore.trustedroot.v0.2+json",
            ].contains(mediaType)
        else {
            throw Malformed(
                "its media type is '\(ForeignText.shown(mediaType))', expected a Sigstore trusted root 0.1 or 0.2"
            )
        }
        logs = try TrustRoot.logs(root, "tlogs")
        certificateLogs = try TrustRoot.logs(root, "ctlogs")
        certificateAuthorities = try TrustRoot.authorities(root, "certificateAuthorities")
        timestampAuthorities = try TrustRoot.authorities(root, "timestampAuthorities")
        guard !logs.isEmpty else { throw Malformed("it names no transparency log") }
    }

    private static func logs(_ root: ProtoMembers, _ name: String) throws(Malformed) -> [Log] {
        var found: [Log] = []
        for member in try root.objects(
            name,
            known: ["baseUrl", "hashAlgorithm", "publicKey", "logId", "checkpointKeyId", "operator"],
            limit: 256
        ) {
            let key = try member.object("publicKey", known: ["rawBytes", "keyDetails", "validFor"])
            guard try member.string("hashAlgorithm") == "SHA2_256" else {
                throw Malformed("'\(member.place)' is a log with another hash than SHA2_256")
            }
            found.append(
                Log(
                    address: try member.string("baseUrl"),
                    identifier: try member.object("logId", known: ["keyId"]).bytes("keyId"),
                    keyDetails: try key.string("keyDetails"),
                    key: try key.bytes("rawBytes"),
                    validity: key.has("validFor") ? try validity(key) : nil
                )
            )
        }
        return found
    }

    private static func authorities(_ root: ProtoMembers, _ name: String) throws(Malformed) -> [Authority] {
        var found: [Authority] = []
        for member in try root.objects(
            name,
            known: ["subject", "uri", "certChain", "validFor", "operator"],
            limit: 256
        ) {
            let commonName = try member.object("subject", known: ["organization", "commonName"])
                .string("commonName")
            let uri = try member.optionalString("uri")
            let certificates = try SignatureBundle.certificates(
                try member.object("certChain", known: ["certificates"])
            )
            guard !certificates.isEmpty else { throw Malformed("'\(member.place)' has no certificate") }
            found.append(
                Authority(
                    name: uri ?? commonName,
                    certificates: certificates,
                    validity: try validity(member)
                )
            )
        }
        return found
    }

    private static func validity(_ members: ProtoMembers) throws(Malformed) -> Validity {
        let range = try members.object("validFor", known: ["start", "end"])
        return Validity(start: try instant(range, "start"), end: try optionalInstant(range, "end"))
    }

    private static func optionalInstant(_ range: ProtoMembers, _ name: String) throws(Malformed) -> Timestamp?
    {
        range.has(name) ? try instant(range, name) : nil
    }

    private static func instant(_ range: ProtoMembers, _ name: String) throws(Malformed) -> Timestamp {
        let text = try range.string(name)
        guard let instant = Timestamp(iso8601: text) else {
            throw Malformed("'\(range.place).\(name)' is '\(ForeignText.shown(text))', expected a time")
        }
        return instant
    }

    /// The public instance's, as it was when this program was built.
    static func builtIn() throws(GatewayError) -> TrustRoot {
        try TrustRoot(PackageResources.trusted_root_json)
    }
}

extension TrustRoot.Log {
    /// Whether the log's key made this signature; a key of a kind that is not supported made none.
    func verifies(_ signature: [UInt8], over message: [UInt8]) -> Bool {
        do throws(Malformed) {
            guard let scheme else { return false }
            let key =
                keyDetails == "PKCS1_RSA_PKCS1V5" && !isInfo
                ? try PublicKey(rsa: key) : try PublicKey(info: key)
            return key.verifies(signature, over: message, scheme)
        } catch {
            return false
        }
    }

    /// The deprecated kind of RSA key comes with its algorithm or without.
    private var isInfo: Bool {
        (try? DER(key[...]).elements().first?.tag == DER.Tag.sequence) ?? false
    }

    private var scheme: PublicKey.Scheme? {
        switch keyDetails {
        case "PKIX_ECDSA_P256_SHA_256": .ecdsa(.sha256)
        case "PKIX_ECDSA_P384_SHA_384": .ecdsa(.sha384)
        case "PKIX_ECDSA_P521_SHA_512": .ecdsa(.sha512)
        case "PKIX_ED25519": .ed25519
        case "PKCS1_RSA_PKCS1V5", "PKIX_RSA_PKCS1V5", "PKIX_RSA_PKCS1V15_2048_SHA256",
            "PKIX_RSA_PKCS1V15_3072_SHA256", "PKIX_RSA_PKCS1V15_4096_SHA256":
            .rsaPKCS1(.sha256)
        case "PKIX_RSA_PSS", "PKIX_RSA_PSS_2048_SHA256", "PKIX_RSA_PSS_3072_SHA256",
            "PKIX_RSA_PSS_4096_SHA256":
            .rsaPSS(.sha256)
        default: nil
        }
    }
}

extension [TrustRoot.Log] {
    /// The logs that may have signed something: those of the identifier, or all when none has it, because it is only a
    /// hint; those not in use at the time are left out.
    func candidates(_ identifier: [UInt8], at instant: Timestamp) -> [TrustRoot.Log] {
        let named = filter { $0.identifier == identifier }
        return (named.isEmpty ? self : named).filter { $0.validity?.contains(instant) ?? true }
    }
}
