import Appliance
import COpenSSL

/// A key that can check signatures, held by libcrypto.
final class PublicKey {
    enum Kind: Sendable, Equatable {
        /// A curve by the bits of its field: 256, 384 or 521.
        case ellipticCurve(Int)
        case rsa
        case ed25519
    }

    /// How a signature is made with a key.
    enum Scheme: Sendable, Equatable {
        case ecdsa(HashAlgorithm)
        case rsaPKCS1(HashAlgorithm)
        case rsaPSS(HashAlgorithm)
        case ed25519
    }

    let kind: Kind
    /// The key with its algorithm (RFC 5280 SubjectPublicKeyInfo), in DER.
    let info: [UInt8]
    private let handle: OpaquePointer

    private init(owning handle: OpaquePointer) throws(Malformed) {
        var info: UnsafeMutablePointer<UInt8>?
        let count = Int(i2d_PUBKEY(handle, &info))
        defer { CRYPTO_free(info, #fileID, #line) }
        guard count > 0, let info, let kind = PublicKey.kind(handle) else {
            EVP_PKEY_free(handle)
            throw Malformed("the key is of a kind that is not supported, expected ECDSA, RSA or Ed25519")
        }
        self.kind = kind
        self.info = Array(UnsafeBufferPointer(start: info, count: count))
        self.handle = handle
    }

    deinit { EVP_PKEY_free(handle) }

    /// Reads a key with its algorithm, in DER.
    convenience init(info bytes: [UInt8]) throws(Malformed) {
        let key = bytes.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var position = buffer.baseAddress
            guard let key = d2i_PUBKEY(nil, &position, buffer.count) else { return nil }
            guard position == buffer.baseAddress.map({ $0 + buffer.count }) else {
                EVP_PKEY_free(key)
                return nil
            }
            return key
        }
        guard let key else {
            ERR_clear_error()
            throw Malformed("the key cannot be read as a public key")
        }
        try self.init(owning: key)
    }

    /// Reads a bare RSA key (RFC 8017 appendix A.1.1), in DER.
    convenience init(rsa bytes: [UInt8]) throws(Malformed) {
        let key = bytes.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var position = buffer.baseAddress
            return d2i_PublicKey(EVP_PKEY_RSA, nil, &position, buffer.count)
        }
        guard let key else {
            ERR_clear_error()
            throw Malformed("the key cannot be read as an RSA key")
        }
        try self.init(owning: key)
    }

    /// Reads a key in PEM or DER.
    convenience init(file bytes: [UInt8]) throws(Malformed) {
        if bytes.first == 0x30 {
            try self.init(info: bytes)
        } else {
            try self.init(info: try PEM.decode(bytes, "PUBLIC KEY"))
        }
    }

    private static func kind(_ handle: OpaquePointer) -> Kind? {
        switch EVP_PKEY_get_base_id(handle) {
        case EVP_PKEY_ED25519: return .ed25519
        // Shorter ones can be broken.
        case EVP_PKEY_RSA: return (2048...16_384).contains(EVP_PKEY_get_bits(handle)) ? .rsa : nil
        case EVP_PKEY_EC:
            var name = [CChar](repeating: 0, count: 64)
            var count = 0
            guard EVP_PKEY_get_group_name(handle, &name, name.count, &count) == 1 else { return nil }
            switch String(decoding: name.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) {
            case "prime256v1": return .ellipticCurve(256)
            case "secp384r1": return .ellipticCurve(384)
            case "secp521r1": return .ellipticCurve(521)
            default: return nil
            }
        default: return nil
        }
    }

    /// The ways in which this key's signatures over a digest of this kind may have been made.
    func schemes(_ hash: HashAlgorithm) -> [Scheme] {
        switch kind {
        case .ellipticCurve: [.ecdsa(hash)]
        case .rsa: [.rsaPKCS1(hash), .rsaPSS(hash)]
        case .ed25519: [.ed25519]
        }
    }

    /// Whether a signature was made over this message.
    func verifies(_ signature: [UInt8], over message: [UInt8], _ scheme: Scheme) -> Bool {
        guard fits(scheme), let context = EVP_MD_CTX_new() else { return false }
        defer {
            EVP_MD_CTX_free(context)
            ERR_clear_error()
        }
        // The context owns it.
        var keyContext: OpaquePointer?
        guard EVP_DigestVerifyInit(context, &keyContext, scheme.hash?.method, nil, handle) == 1,
            pad(keyContext, scheme)
        else { return false }
        return EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    }

    /// Whether a signature was made over the message with this digest; never for Ed25519, which has none.
    func verifies(_ signature: [UInt8], overDigest digest: [UInt8], _ scheme: Scheme) -> Bool {
        guard fits(scheme), let hash = scheme.hash, let context = EVP_PKEY_CTX_new(handle, nil) else {
            return false
        }
        defer {
            EVP_PKEY_CTX_free(context)
            ERR_clear_error()
        }
        guard EVP_PKEY_verify_init(context) == 1, pad(context, scheme),
            EVP_PKEY_CTX_set_signature_md(context, hash.method) == 1
        else { return false }
        return EVP_PKEY_verify(context, signature, signature.count, digest, digest.count) == 1
    }

    private func fits(_ scheme: Scheme) -> Bool {
        switch (scheme, kind) {
        case (.ecdsa, .ellipticCurve), (.rsaPKCS1, .rsa), (.rsaPSS, .rsa), (.ed25519, .ed25519): true
        default: false
        }
    }

    private func pad(_ context: OpaquePointer?, _ scheme: Scheme) -> Bool {
        switch scheme {
        case .rsaPKCS1: EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1
        case .rsaPSS: EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1
        case .ecdsa, .ed25519: true
        }
    }
}

extension PublicKey.Scheme {
    /// What is signed in place of the message.
    var hash: HashAlgorithm? {
        switch self {
        case .ecdsa(let hash), .rsaPKCS1(let hash), .rsaPSS(let hash): hash
        case .ed25519: nil
        }
    }
}

/// Base 64 between lines that say what it is (RFC 7468).
enum PEM {
    /// The bytes of the first block of a kind.
    static func decode(_ bytes: [UInt8], _ label: String) throws(Malformed) -> [UInt8] {
        let lines = bytes.split { $0 == 0x0A || $0 == 0x0D }.map { String(decoding: $0, as: UTF8.self) }
        guard let begin = lines.firstIndex(of: "-----BEGIN \(label)-----"),
            let end = lines[begin...].firstIndex(of: "-----END \(label)-----")
        else { throw Malformed("there is no '\(label)' in PEM or DER") }
        guard let decoded = Base64.decode(lines[(begin + 1)..<end].joined(), ignoresTrailingBits: true) else {
            throw Malformed("the '\(label)' in PEM is not base 64")
        }
        return decoded
    }
}
