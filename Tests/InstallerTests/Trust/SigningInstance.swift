import Appliance
import COpenSSL
import Platform

@testable import Installer

/// A log and a signer of our own, to sign release files in tests: both with Ed25519 keys, the signer without a certificate.
///
/// `Tests/Fixtures/sigstore_instance.py` makes bundles with certificates.
struct SigningInstance {
    private let log: Key
    private let signer: Key
    /// When everything is signed.
    private let time: Int64 = 1_772_366_400

    init() throws {
        log = try Key()
        signer = try Key()
    }

    /// The policy that wants this instance's signer.
    var policy: SignerPolicy { .key(signer.publicKey) }

    /// The trust root that believes this instance's log.
    func trustRoot() throws -> TrustRoot { try TrustRoot(trustRootJSON.compact) }

    /// The same as a file has it.
    var trustRootJSON: JSON {
        [
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                [
                    "baseUrl": "https://log.test", "hashAlgorithm": "SHA2_256",
                    "publicKey": [
                        "rawBytes": .string(Base64.encode(log.publicKey)), "keyDetails": "PKIX_ED25519",
                        "validFor": ["start": "2026-01-01T00:00:00Z"],
                    ],
                    "logId": ["keyId": .string(Base64.encode(logID))],
                ]
            ],
            "ctlogs": [], "certificateAuthorities": [], "timestampAuthorities": [],
        ]
    }

    private var logID: [UInt8] { SHA256.digest(log.publicKey) }

    /// A bundle over these bytes, or over a statement about them; `claimedTime` is what it says instead of the log's time.
    func sign(
        _ artifact: [UInt8],
        asStatement: Bool = false,
        claimedTime: String?? = nil
    ) throws -> [UInt8] {
        let statement: JSON = [
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/failed",
            "predicate": [:],
            "subject": [["name": "SHA256SUMS", "digest": ["sha256": .string(SHA256.hex(artifact))]]],
        ]
        let kind = "application/vnd.in-toto+json"
        let payload = statement.compact
        let signed =
            asStatement
            ? Array("DSSEv1 \(kind.utf8.count) \(kind) \(payload.count) ".utf8) + payload : artifact
        let signature = try signer.sign(signed)
        let pem =
            "-----BEGIN PUBLIC KEY-----\n\(Base64.encode(signer.publicKey))\n-----END PUBLIC KEY-----\n"
        let pemText = JSON.string(Base64.encode(Array(pem.utf8)))
        let envelopeEntry: JSON = [
            "apiVersion": "0.0.1", "kind": "dsse",
            "spec": [
                "payloadHash": ["algorithm": "sha256", "value": .string(SHA256.hex(payload))],
                "signatures": [["signature": .string(Base64.encode(signature)), "verifier": pemText]],
            ],
        ]
        let artifactEntry: JSON = [
            "apiVersion": "0.0.1", "kind": "hashedrekord",
            "spec": [
                "data": ["hash": ["algorithm": "sha256", "value": .string(SHA256.hex(artifact))]],
                "signature": [
                    "content": .string(Base64.encode(signature)),
                    "publicKey": ["content": pemText],
                ],
            ],
        ]
        let body = asStatement ? envelopeEntry : artifactEntry
        let root = SHA256.digest([0] + body.compact)
        let note = "log.test\n1\n\(Base64.encode(root))\n"
        let mark = Base64.encode(Array(logID[..<4]) + (try log.sign(Array(note.utf8))))
        let promised: JSON = [
            "body": .string(Base64.encode(body.compact)), "integratedTime": .int(time),
            "logID": .string(Hex.encode(logID)), "logIndex": 7,
        ]
        var entry: JSON = [
            "logIndex": "7", "logId": ["keyId": .string(Base64.encode(logID))],
            "kindVersion": ["kind": body["kind"] ?? .null, "version": "0.0.1"],
            "integratedTime": .string("\(time)"),
            "inclusionPromise": [
                "signedEntryTimestamp": .string(Base64.encode(try log.sign(promised.compact)))
            ],
            "inclusionProof": [
                "logIndex": "0", "treeSize": "1", "rootHash": .string(Base64.encode(root)), "hashes": [],
                "checkpoint": ["envelope": .string("\(note)\n\u{2014} log.test \(mark)\n")],
            ],
            "canonicalizedBody": .string(Base64.encode(body.compact)),
        ]
        if let claimedTime { entry["integratedTime"] = .optional(claimedTime) }
        var bundle: JSON = [
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": ["publicKey": ["hint": "test"], "tlogEntries": [entry]],
        ]
        if asStatement {
            bundle["dsseEnvelope"] = [
                "payload": .string(Base64.encode(payload)), "payloadType": .string(kind),
                "signatures": [["sig": .string(Base64.encode(signature))]],
            ]
        } else {
            bundle["messageSignature"] = [
                "messageDigest": [
                    "algorithm": "SHA2_256", "digest": .string(Base64.encode(SHA256.digest(artifact))),
                ],
                "signature": .string(Base64.encode(signature)),
            ]
        }
        return bundle.compact
    }

    /// An Ed25519 key pair.
    private final class Key: Sendable {
        private let seed: [UInt8]
        /// With its algorithm, in DER (RFC 8410).
        let publicKey: [UInt8]

        init() throws {
            let seed = Randomness.system.bytes(32)
            self.seed = seed
            var raw = [UInt8](repeating: 0, count: 32)
            var count = 32
            let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
            defer { EVP_PKEY_free(key) }
            guard EVP_PKEY_get_raw_public_key(key, &raw, &count) == 1 else {
                throw GatewayError("internal-error", "libcrypto makes no Ed25519 key")
            }
            publicKey = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00] + raw
        }

        func sign(_ message: [UInt8]) throws -> [UInt8] {
            let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
            let context = EVP_MD_CTX_new()
            defer {
                EVP_MD_CTX_free(context)
                EVP_PKEY_free(key)
            }
            var out = [UInt8](repeating: 0, count: 64)
            var count = 64
            guard EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
                EVP_DigestSign(context, &out, &count, message, message.count) == 1
            else { throw GatewayError("internal-error", "libcrypto signs nothing with Ed25519") }
            return out
        }
    }
}
