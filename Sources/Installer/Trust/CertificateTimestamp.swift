import Appliance
import Platform

/// A certificate log's promise to publish a certificate, embedded in that certificate (RFC 6962 section 3.2).
struct CertificateTimestamp: Sendable, Equatable {
    /// The SHA-256 of the log's key.
    var logID: [UInt8]
    /// Milliseconds since the epoch.
    var time: UInt64
    var extensions: [UInt8]
    /// Hash and signature algorithm, as TLS 1.2 numbers them.
    var algorithm: [UInt8]
    var signature: [UInt8]

    /// Reads the value of the certificate's extension, which must hold exactly one.
    init(extension value: [UInt8]) throws(Malformed) {
        let list = try DER(value[...]).expecting(DER.Tag.octetString, "the certificate timestamp").content
        var outer = Reader(list)
        var entries = Reader(try outer.vector())
        var entry = Reader(try entries.vector())
        guard outer.isAtEnd, entries.isAtEnd else {
            throw Malformed("the certificate has more than one certificate timestamp")
        }
        guard try entry.take(1).first == 0 else {
            throw Malformed("the certificate timestamp is not of version 1")
        }
        logID = Array(try entry.take(32))
        time = try entry.take(8).reduce(0) { $0 << 8 | UInt64($1) }
        extensions = Array(try entry.vector())
        algorithm = Array(try entry.take(2))
        signature = Array(try entry.vector())
        guard entry.isAtEnd else { throw Malformed("there is something behind the certificate timestamp") }
    }

    /// What the log signed for a certificate: its promise, the issuer's key and the certificate without the promise.
    func signed(_ certificate: CertificateFields, issuer: CertificateFields) throws(Malformed) -> [UInt8] {
        let precertificate = certificate.precertificate
        guard precertificate.count < 1 << 24 else { throw Malformed("the certificate is too large") }
        // version 1, a certificate timestamp, for a precertificate
        var text: [UInt8] = [0, 0]
        text += CertificateTimestamp.bytes(time, 8)
        text += [0, 1]
        text += SHA256.digest(issuer.publicKeyInfo)
        text += CertificateTimestamp.bytes(UInt64(precertificate.count), 3)
        text += precertificate
        text += CertificateTimestamp.bytes(UInt64(extensions.count), 2)
        text += extensions
        return text
    }

    private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }

    /// Reads TLS structures (RFC 5246 section 4).
    private struct Reader {
        private var rest: ArraySlice<UInt8>

        init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

        var isAtEnd: Bool { rest.isEmpty }

        mutating func take(_ count: Int) throws(Malformed) -> ArraySlice<UInt8> {
            guard rest.count >= count else { throw Malformed("the certificate timestamp is cut off") }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count)
        }

        /// Bytes behind their number, which has two bytes.
        mutating func vector() throws(Malformed) -> ArraySlice<UInt8> {
            try take(try take(2).reduce(0) { $0 << 8 | Int($1) })
        }
    }
}
