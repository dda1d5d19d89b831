import Appliance
import COpenSSL

/// An answer of a time-stamp authority (RFC 3161): this digest existed at this time.
final class TimestampToken {
    /// The instant that it states.
    let time: Timestamp
    private let response: OpaquePointer

    /// Reads an answer in DER that grants what was asked for.
    init(_ der: [UInt8]) throws(Malformed) {
        let response = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var position = buffer.baseAddress
            guard let response = d2i_TS_RESP(nil, &position, buffer.count) else { return nil }
            guard position == buffer.baseAddress.map({ $0 + buffer.count }) else {
                TS_RESP_free(response)
                return nil
            }
            return response
        }
        ERR_clear_error()
        guard let response else { throw Malformed("it is no answer of a time-stamp authority in DER") }
        do throws(Malformed) {
            time = try TimestampToken.time(response)
        } catch {
            TS_RESP_free(response)
            throw error
        }
        self.response = response
    }

    deinit { TS_RESP_free(response) }

    private static func time(_ response: OpaquePointer) throws(Malformed) -> Timestamp {
        guard let status = TS_STATUS_INFO_get0_status(TS_RESP_get_status_info(response)),
            ASN1_INTEGER_get(status) == 0
        else { throw Malformed("the time-stamp authority did not grant what was asked for") }
        guard let statement = TS_RESP_get_tst_info(response), TS_RESP_get_token(response) != nil,
            TS_TST_INFO_get_version(statement) == 1, let time = TS_TST_INFO_get_time(statement),
            let text = ASN1_STRING_get0_data(time),
            let instant = instant(
                Array(UnsafeBufferPointer(start: text, count: Int(ASN1_STRING_length(time))))
            )
        else { throw Malformed("it states no time") }
        return instant
    }

    /// `20250612120220Z` or `20250612120220.123Z`.
    private static func instant(_ bytes: [UInt8]) -> Timestamp? {
        guard bytes.count >= 15 else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        let parts = [(0, 4, "-"), (4, 6, "-"), (6, 8, "T"), (8, 10, ":"), (10, 12, ":"), (12, 14, "")]
        let digits = Array(text.utf8)
        guard digits.count == bytes.count else { return nil }
        let date = parts.map { String(decoding: digits[$0.0..<$0.1], as: UTF8.self) + $0.2 }.joined()
        return Timestamp(iso8601: date + String(decoding: digits[14...], as: UTF8.self))
    }

    /// Checks that an authority signed it, and that it is about this message.
    ///
    /// `authority` holds the certificate that signs, then those above it, the trusted root last.
    func verify(over message: [UInt8], by authority: [Certificate]) throws(Malformed) {
        guard authority.count >= 2, let root = authority.last else {
            throw Malformed("the trust root lacks the certificates of the time-stamp authority")
        }
        defer { ERR_clear_error() }
        let store = CertificateStore(root)
        let others = CertificateStack(authority.dropLast())
        var signer: OpaquePointer?
        defer { X509_free(signer) }
        guard
            TS_RESP_verify_signature(TS_RESP_get_token(response), others.handle, store.handle, &signer) == 1,
            let signer, X509_cmp(signer, authority[0].handle) == 0
        else { throw Malformed("it was not signed by a time-stamp authority of the trust root") }
        guard brings(signer) else {
            throw Malformed("it brings another certificate than the one that signed it")
        }
        guard authority[0].fields[CertificateFields.Identifier.extendedUsage]?.isCritical == true,
            try authority[0].fields.purposes()?.contains(CertificateFields.Identifier.timeStamping) == true
        else { throw Malformed("the time-stamp authority's certificate is not for time-stamping") }
        for certificate in authority {
            try CertificateChain.check(
                certificate,
                "the time-stamp authority's certificate",
                time.wholeSeconds
            )
        }
        guard try states(message) else { throw Malformed("it is about another signature") }
    }

    /// Whether it brings no certificate at all, or the signer's among others.
    private func brings(_ signer: OpaquePointer) -> Bool {
        let certificates = TS_RESP_get_token(response)?.pointee.d.sign?.pointee.cert
        let count = OPENSSL_sk_num(certificates)
        return count <= 0
            || (0..<count).contains { index in
                OPENSSL_sk_value(certificates, index).map { X509_cmp(OpaquePointer($0), signer) == 0 }
                    ?? false
            }
    }

    /// Whether the digest in it is the message's.
    private func states(_ message: [UInt8]) throws(Malformed) -> Bool {
        let imprint = TS_TST_INFO_get_msg_imprint(TS_RESP_get_tst_info(response))
        var identifier: OpaquePointer?
        X509_ALGOR_get0(&identifier, nil, nil, TS_MSG_IMPRINT_get_algo(imprint))
        let hash: HashAlgorithm
        switch OBJ_obj2nid(identifier) {
        case NID_sha256: hash = .sha256
        case NID_sha384: hash = .sha384
        case NID_sha512: hash = .sha512
        default: throw Malformed("its digest is of a kind that is not supported")
        }
        guard let digest = TS_MSG_IMPRINT_get_msg(imprint), let bytes = ASN1_STRING_get0_data(digest) else {
            return false
        }
        return UnsafeBufferPointer(start: bytes, count: Int(ASN1_STRING_length(digest)))
            .elementsEqual(try hash.digest(message))
    }
}

extension Timestamp {
    /// The second that the instant lies in: certificates know no smaller unit.
    var wholeSeconds: Timestamp { Timestamp(milliseconds: milliseconds - milliseconds % 1000) }
}
