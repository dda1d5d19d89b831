import Appliance
import COpenSSL

/// SHA-256 (FIPS 180-4) by libcrypto, which uses the processor's instructions for it.
package final class SHA256 {
    private let context: OpaquePointer?

    /// An empty digest.
    package init() {
        context = EVP_MD_CTX_new()
        let began = EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1
        // No digest at all must not look like one that is equal to another.
        precondition(began, "libcrypto has no SHA-256")
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Adds bytes.
    package func update(_ bytes: UnsafeRawBufferPointer) {
        let added = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
        precondition(added, "libcrypto made no SHA-256")
    }

    /// The 32 bytes; the digest must not be used after.
    package func finish() -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        let finished = EVP_DigestFinal_ex(context, &out, nil) == 1
        precondition(finished, "libcrypto made no SHA-256")
        return out
    }

    /// The 32 bytes of the digest of bytes.
    package static func digest(_ bytes: [UInt8]) -> [UInt8] {
        let digest = SHA256()
        bytes.withUnsafeBytes { digest.update($0) }
        return digest.finish()
    }

    /// The digest of bytes, as 64 lower-case hexadecimal digits.
    package static func hex(_ bytes: [UInt8]) -> String { Hex.encode(digest(bytes)) }
}

/// Comparison whose time does not depend on where two secrets differ.
package enum ConstantTime {
    /// Whether two byte strings are equal.
    ///
    /// Their lengths are not secret.
    package static func equal(_ first: some Sequence<UInt8>, _ second: some Sequence<UInt8>) -> Bool {
        let first = Array(first), second = Array(second)
        return first.count == second.count && CRYPTO_memcmp(first, second, first.count) == 0
    }
}

extension SHA256 {
    /// The 32 bytes that prove a message to whoever has the key (HMAC, RFC 2104).
    package static func authentication(of message: [UInt8], key: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 32)
        _ = key.withUnsafeBufferPointer { key in
            message.withUnsafeBufferPointer { message in
                HMAC(
                    EVP_sha256(),
                    key.baseAddress,
                    Int32(key.count),
                    message.baseAddress,
                    message.count,
                    &out,
                    nil
                )
            }
        }
        return out
    }
}
