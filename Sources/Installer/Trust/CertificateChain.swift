import Appliance
import COpenSSL

/// The way from a certificate to an authority that is trusted.
enum CertificateChain {
    /// The certificates from the leaf's issuer up to the trusted one.
    ///
    /// Every certificate must be valid at the instant, which has whole seconds. `anchors` are the authority's, its root last;
    /// nothing else is trusted or even looked at.
    static func build(
        _ leaf: Certificate,
        anchors: [Certificate],
        at instant: Timestamp
    ) throws(Malformed) -> [Certificate] {
        guard let root = anchors.last else { throw Malformed("the authority has no certificate") }
        let store = CertificateStore(root)
        let between = CertificateStack(anchors.dropLast())
        guard let context = X509_STORE_CTX_new() else { throw Malformed("libcrypto has no memory") }
        defer {
            X509_STORE_CTX_free(context)
            ERR_clear_error()
        }
        guard X509_STORE_CTX_init(context, store.handle, leaf.handle, between.handle) == 1 else {
            throw Malformed("libcrypto cannot check certificates")
        }
        guard X509_verify_cert(context) == 1 else {
            throw Malformed(reason(X509_STORE_CTX_get_error(context)))
        }
        let built = X509_STORE_CTX_get0_chain(context)
        var chain: [Certificate] = []
        // The leaf itself comes first.
        for index in 1..<max(1, OPENSSL_sk_num(built)) {
            guard let found = OPENSSL_sk_value(built, index).map({ OpaquePointer($0) }),
                let anchor = anchors.first(where: { X509_cmp($0.handle, found) == 0 })
            else { throw Malformed("the chain has a certificate that is not the authority's") }
            chain.append(anchor)
        }
        guard !chain.isEmpty else { throw Malformed("the certificate is an authority's own") }
        try check(leaf, "the certificate", instant)
        for certificate in chain { try check(certificate, "the authority's certificate", instant) }
        return chain
    }

    /// Checks that a certificate is valid at an instant.
    static func check(_ certificate: Certificate, _ what: String, _ instant: Timestamp) throws(Malformed) {
        let validity = try certificate.validity()
        guard !validity.contains(instant) else { return }
        throw Malformed(
            "\(what) was valid from \(validity.start.iso8601) to \(validity.end?.iso8601 ?? ""), but not at \(instant.iso8601)"
        )
    }

    private static func reason(_ code: Int32) -> String {
        switch code {
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            return "it was issued by nobody whom the trust root knows"
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
            return "it was not signed by the authority that it names"
        default:
            return
                "libcrypto says: \(X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "")"
        }
    }
}

/// Trust in one certificate and what it issued, whatever the time: instants are compared apart, with both ends of a
/// validity belonging to it, which libcrypto does not do.
final class CertificateStore {
    let handle: OpaquePointer?

    init(_ anchor: Certificate) {
        handle = X509_STORE_new()
        X509_STORE_add_cert(handle, anchor.handle)
        let parameters = X509_STORE_get0_param(handle)
        X509_VERIFY_PARAM_set_flags(
            parameters,
            UInt(X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_X509_STRICT)
        )
        X509_VERIFY_PARAM_set_depth(parameters, 8)
        // 112 bits: no SHA-1, no short RSA keys.
        X509_VERIFY_PARAM_set_auth_level(parameters, 2)
    }

    deinit { X509_STORE_free(handle) }
}
