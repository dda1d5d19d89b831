import Appliance
import COpenSSL
import Glibc

/// An X.509 certificate: its bytes, what they say, and libcrypto's view of them.
final class Certificate {
    let der: [UInt8]
    let fields: CertificateFields
    /// Lives as long as this object.
    let handle: OpaquePointer

    /// Reads a certificate in DER.
    init(_ der: [UInt8]) throws(Malformed) {
        fields = try CertificateFields(der)
        let handle = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var position = buffer.baseAddress
            return d2i_X509(nil, &position, buffer.count)
        }
        guard let handle else {
            ERR_clear_error()
            throw Malformed("the certificate is no X.509 certificate in DER")
        }
        self.der = der
        self.handle = handle
    }

    deinit { X509_free(handle) }

    /// The key that it is about.
    func publicKey() throws(Malformed) -> PublicKey { try PublicKey(info: fields.publicKeyInfo) }

    /// When it is valid.
    func validity() throws(Malformed) -> TrustRoot.Validity {
        guard let start = Certificate.instant(X509_get0_notBefore(handle)),
            let end = Certificate.instant(X509_get0_notAfter(handle))
        else { throw Malformed("the certificate has no dates between which it is valid") }
        return TrustRoot.Validity(start: start, end: end)
    }

    private static func instant(_ time: UnsafePointer<ASN1_TIME>?) -> Timestamp? {
        var parts = tm()
        guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
        return Timestamp(milliseconds: Int64(timegm(&parts)) * 1000)
    }
}

/// Certificates in the form that libcrypto takes them; it holds a reference to each.
final class CertificateStack {
    let handle: OpaquePointer?

    init(_ certificates: some Sequence<Certificate>) {
        handle = OPENSSL_sk_new_null()
        for certificate in certificates where X509_up_ref(certificate.handle) == 1 {
            OPENSSL_sk_push(handle, UnsafeRawPointer(certificate.handle))
        }
    }

    deinit {
        OPENSSL_sk_pop_free(handle) { X509_free($0.map { OpaquePointer($0) }) }
    }
}
