import Appliance
import COpenSSL

/// The digests that signatures of this ecosystem are made over.
enum HashAlgorithm: String, Sendable, CaseIterable {
    case sha256, sha384, sha512

    /// The algorithm of a name such as `SHA2_256`.
    init?(protobufName name: String) {
        switch name {
        case "SHA2_256": self = .sha256
        case "SHA2_384": self = .sha384
        case "SHA2_512": self = .sha512
        default: return nil
        }
    }

    /// libcrypto's description, which lives as long as the program.
    var method: OpaquePointer? {
        switch self {
        case .sha256: EVP_sha256()
        case .sha384: EVP_sha384()
        case .sha512: EVP_sha512()
        }
    }

    /// Bytes of a digest.
    var size: Int {
        switch self {
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }

    /// The digest of bytes, of which there may be none.
    ///
    /// Throws when libcrypto makes none: a digest that is none would be equal to another that is none.
    func digest(_ bytes: [UInt8]) throws(Malformed) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: UInt32 = 0
        guard EVP_Digest(bytes, bytes.count, &out, &count, method, nil) == 1, Int(count) == size else {
            ERR_clear_error()
            throw failure
        }
        return Array(out[..<size])
    }

    /// What is said when libcrypto makes no digest.
    var failure: Malformed { Malformed("libcrypto made no \(rawValue) digest") }
}
