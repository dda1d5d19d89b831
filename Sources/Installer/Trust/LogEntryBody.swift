import Appliance

/// What a transparency log keeps of a signature, in each form that its entries have.
///
/// https://github.com/sigstore/rekor/tree/main/pkg/types
/// https://github.com/sigstore/architecture-docs/blob/main/rekor-v2-spec.md
struct LogEntryBody: Sendable {
    /// A digest that the entry records, and of what.
    enum Recorded: Sendable, Equatable {
        case artifact(SignatureBundle.Digest)
        case payload(SignatureBundle.Digest)
    }

    /// What the entry says the signature is to be checked with.
    enum Verifier: Sendable, Equatable {
        /// PEM of a certificate or a key.
        case pem([UInt8])
        /// DER of a certificate.
        case certificate([UInt8])
        /// DER of a key with its algorithm.
        case key([UInt8])
    }

    var recorded: Recorded
    /// The signature; where logs wrote it in two ways, what either comes to.
    var signatures: [[UInt8]]
    var verifier: Verifier

    /// Reads the body of an entry, which must be of the kind that the entry says it is.
    init(_ entry: LogEntry) throws(Malformed) {
        let json: JSON
        do throws(JSONSyntaxError) {
            json = try JSON.parse(entry.body, maximumDepth: 32)
        } catch {
            throw Malformed("the entry's body is not JSON: \(error.reason)")
        }
        guard json["kind"]?.string == entry.kind, json["apiVersion"]?.string == entry.version else {
            throw Malformed("the entry's body is of another kind than the bundle says")
        }
        let spec = json["spec"] ?? .null
        switch (entry.kind, entry.version) {
        case ("hashedrekord", "0.0.1"): try self.init(hashedRecord: spec)
        case ("hashedrekord", "0.0.2"): try self.init(hashedRecordV2: spec["hashedRekordV002"] ?? .null)
        case ("dsse", "0.0.1"): try self.init(envelope: spec)
        case ("dsse", "0.0.2"): try self.init(envelopeV2: spec["dsseV002"] ?? .null)
        case ("intoto", "0.0.2"): try self.init(statement: spec["content"] ?? .null)
        default:
            throw Malformed(
                "entries of the kind '\(ForeignText.shown(entry.kind)) \(ForeignText.shown(entry.version))' do not bind a signature, or are not known"
            )
        }
    }

    private init(hashedRecord spec: JSON) throws(Malformed) {
        recorded = .artifact(try LogEntryBody.digest(spec["data"]?["hash"]))
        signatures = [try LogEntryBody.bytes(spec["signature"]?["content"])]
        verifier = .pem(try LogEntryBody.bytes(spec["signature"]?["publicKey"]?["content"]))
    }

    private init(hashedRecordV2 record: JSON) throws(Malformed) {
        recorded = .artifact(try LogEntryBody.digestV2(record["data"]))
        signatures = [try LogEntryBody.bytes(record["signature"]?["content"])]
        verifier = try LogEntryBody.verifier(record["signature"]?["verifier"])
    }

    private init(envelope spec: JSON) throws(Malformed) {
        let entry = try LogEntryBody.only(spec["signatures"])
        recorded = .payload(try LogEntryBody.digest(spec["payloadHash"]))
        signatures = [try LogEntryBody.bytes(entry["signature"])]
        verifier = .pem(try LogEntryBody.bytes(entry["verifier"]))
    }

    private init(envelopeV2 record: JSON) throws(Malformed) {
        let entry = try LogEntryBody.only(record["signatures"])
        recorded = .payload(try LogEntryBody.digestV2(record["payloadHash"]))
        signatures = [try LogEntryBody.bytes(entry["content"])]
        verifier = try LogEntryBody.verifier(entry["verifier"])
    }

    private init(statement content: JSON) throws(Malformed) {
        let entry = try LogEntryBody.only(content["envelope"]?["signatures"])
        recorded = .payload(try LogEntryBody.digest(content["payloadHash"]))
        // Most of these entries have what was in base 64 already in base 64 again.
        let once = try LogEntryBody.bytes(entry["sig"])
        let twice = Base64.decode(String(decoding: once, as: UTF8.self), ignoresTrailingBits: true)
        signatures = [once] + (twice.map { [$0] } ?? [])
        verifier = .pem(try LogEntryBody.bytes(entry["publicKey"]))
    }

    private static func only(_ signatures: JSON?) throws(Malformed) -> JSON {
        guard let array = signatures?.array, array.count == 1 else {
            throw Malformed(
                "the entry's body records \(signatures?.array?.count ?? 0) signatures, expected one"
            )
        }
        return array[0]
    }

    private static func bytes(_ json: JSON?) throws(Malformed) -> [UInt8] {
        guard let bytes = json?.string.flatMap({ Base64.decode($0, ignoresTrailingBits: true) }),
            !bytes.isEmpty
        else { throw Malformed("the entry's body lacks a member, or it is not base 64") }
        return bytes
    }

    private static func digest(_ json: JSON?) throws(Malformed) -> SignatureBundle.Digest {
        guard let algorithm = json?["algorithm"]?.string.flatMap(HashAlgorithm.init(rawValue:)),
            let bytes = json?["value"]?.string.flatMap(Hex.decode), bytes.count == algorithm.size
        else { throw Malformed("the entry's body records no digest that is known here") }
        return SignatureBundle.Digest(algorithm: algorithm, bytes: bytes)
    }

    private static func digestV2(_ json: JSON?) throws(Malformed) -> SignatureBundle.Digest {
        guard let algorithm = json?["algorithm"]?.string.flatMap(HashAlgorithm.init(protobufName:)) else {
            throw Malformed("the entry's body records no digest that is known here")
        }
        let digest = try bytes(json?["digest"])
        guard digest.count == algorithm.size else {
            throw Malformed("the entry's body records a digest of \(digest.count) bytes")
        }
        return SignatureBundle.Digest(algorithm: algorithm, bytes: digest)
    }

    private static func verifier(_ json: JSON?) throws(Malformed) -> Verifier {
        switch (json?["x509Certificate"]?["rawBytes"], json?["publicKey"]?["rawBytes"]) {
        case (let certificate?, nil): return .certificate(try bytes(certificate))
        case (nil, let key?): return .key(try bytes(key))
        default: throw Malformed("the entry's body names no certificate or key")
        }
    }

    /// The digest that it records.
    var digest: SignatureBundle.Digest {
        switch recorded {
        case .artifact(let digest), .payload(let digest): digest
        }
    }

    /// Whether the entry was made for this signer.
    func names(_ signer: Signer) -> Bool {
        do throws(Malformed) {
            switch (verifier, signer) {
            case (.pem(let pem), .certificate(let certificate)):
                return try PEM.decode(pem, "CERTIFICATE") == certificate.der
            case (.pem(let pem), .key(let key)): return try PEM.decode(pem, "PUBLIC KEY") == key.info
            case (.certificate(let der), .certificate(let certificate)): return der == certificate.der
            case (.key(let info), .key(let key)): return info == key.info
            default: return false
            }
        } catch {
            return false
        }
    }
}

/// What a signature is checked with: a certificate from the bundle, or a key that the user gave.
enum Signer {
    case certificate(Certificate)
    case key(PublicKey)

    func publicKey() throws(Malformed) -> PublicKey {
        switch self {
        case .certificate(let certificate): try certificate.publicKey()
        case .key(let key): key
        }
    }
}
