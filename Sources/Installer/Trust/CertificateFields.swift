import Appliance

/// What a certificate says, as far as it matters here (RFC 5280 section 4.1).
///
/// Read from the bytes that its issuer signed; whether the issuer is to be believed is another question.
struct CertificateFields: Sendable {
    struct Extension: Sendable {
        var identifier: [UInt8]
        var isCritical: Bool
        var value: [UInt8]
        /// Where it lies in the list of extensions.
        fileprivate var encoded: [UInt8]
    }

    /// Object identifiers, in the content form of their DER.
    enum Identifier {
        static let keyUsage: [UInt8] = [0x55, 0x1D, 0x0F]
        static let alternativeName: [UInt8] = [0x55, 0x1D, 0x11]
        static let extendedUsage: [UInt8] = [0x55, 0x1D, 0x25]
        static let anyUsage: [UInt8] = [0x55, 0x1D, 0x25, 0x00]
        static let codeSigning: [UInt8] = [0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03]
        static let timeStamping: [UInt8] = [0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08]
        /// 1.3.6.1.4.1.11129.2.4.2 (RFC 6962 section 3.3).
        static let certificateTimestamps: [UInt8] = [
            0x2B, 0x06, 0x01, 0x04, 0x01, 0xD6, 0x79, 0x02, 0x04, 0x02,
        ]
        /// Number N of 1.3.6.1.4.1.57264.1 (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md).
        static func fulcio(_ number: UInt8) -> [UInt8] {
            [0x2B, 0x06, 0x01, 0x04, 0x01, 0x83, 0xBF, 0x30, 0x01, number]
        }
    }

    private let toBeSigned: [DER]
    /// The key with its algorithm, in DER.
    let publicKeyInfo: [UInt8]
    let extensions: [Extension]

    /// Reads a certificate of version 3.
    init(_ der: [UInt8]) throws(Malformed) {
        let certificate = try DER(der[...]).expecting(DER.Tag.sequence, "the certificate").elements()
        guard certificate.count == 3 else { throw Malformed("the certificate is no X.509 certificate") }
        toBeSigned = try certificate[0].expecting(DER.Tag.sequence, "the certificate").elements()
        // version, serial number, algorithm, issuer, validity, subject, key, extensions
        guard toBeSigned.count >= 8, toBeSigned[0].tag == DER.Tag.context(0),
            toBeSigned[0].content.elementsEqual([0x02, 0x01, 0x02]),
            let last = toBeSigned.last, last.tag == DER.Tag.context(3)
        else { throw Malformed("the certificate is no X.509 certificate of version 3 with extensions") }
        publicKeyInfo = Array(
            try toBeSigned[6].expecting(DER.Tag.sequence, "the certificate's key").encoded
        )
        var extensions: [Extension] = []
        for element in try DER(last.content).expecting(DER.Tag.sequence, "the extensions").elements() {
            let found = try CertificateFields.one(element)
            guard !extensions.contains(where: { $0.identifier == found.identifier }) else {
                throw Malformed("the certificate has an extension twice")
            }
            extensions.append(found)
        }
        self.extensions = extensions
    }

    private static func one(_ element: DER) throws(Malformed) -> Extension {
        var parts = try element.expecting(DER.Tag.sequence, "an extension").elements()[...]
        let identifier = parts.popFirst()
        var isCritical = false
        if let flag = parts.first, flag.tag == DER.Tag.boolean {
            isCritical = flag.content.elementsEqual([0xFF])
            parts = parts.dropFirst()
        }
        guard let identifier, identifier.tag == DER.Tag.objectIdentifier, parts.count == 1,
            let value = parts.first, value.tag == DER.Tag.octetString
        else { throw Malformed("an extension of the certificate is none") }
        return Extension(
            identifier: Array(identifier.content),
            isCritical: isCritical,
            value: Array(value.content),
            encoded: Array(element.encoded)
        )
    }

    /// Whether issuer and subject have the same name, as only roots do.
    var isSelfIssued: Bool { toBeSigned[3].encoded == toBeSigned[5].encoded }

    subscript(identifier: [UInt8]) -> Extension? { extensions.first { $0.identifier == identifier } }

    /// Whether the key may make signatures (the first bit of the key usage).
    func allowsSignatures() throws(Malformed) -> Bool {
        guard let usage = self[Identifier.keyUsage] else { return false }
        let bits = try DER(usage.value[...]).expecting(DER.Tag.bitString, "the key usage").content
        return bits.count >= 2 && bits[bits.startIndex + 1] & 0x80 != 0
    }

    /// The purposes of the extended key usage; `nil` when it has none, which restricts nothing.
    func purposes() throws(Malformed) -> [[UInt8]]? {
        guard let usage = self[Identifier.extendedUsage] else { return nil }
        return try DER(usage.value[...]).expecting(DER.Tag.sequence, "the extended key usage").elements()
            .map { Array($0.content) }
    }

    /// Whom the certificate was issued to: e-mail addresses, addresses of workloads, and names of Sigstore's own kind.
    func names() throws(Malformed) -> [String] {
        guard let names = self[Identifier.alternativeName] else { return [] }
        var found: [String] = []
        for name in try DER(names.value[...]).expecting(DER.Tag.sequence, "the alternative name").elements() {
            switch name.tag {
            case 0x81, 0x86: found.append(try CertificateFields.text(name.content))
            case DER.Tag.context(0):
                let parts = try name.elements()
                guard parts.count == 2, parts[0].content.elementsEqual(Identifier.fulcio(7)) else { continue }
                let value = try DER(parts[1].content).expecting(DER.Tag.utf8String, "the signer's name")
                found.append(try CertificateFields.text(value.content))
            default: continue
            }
        }
        return found
    }

    /// Who said that the signer is who the names say.
    func identityProvider() throws(Malformed) -> String? {
        let old = self[Identifier.fulcio(1)]
        let new = self[Identifier.fulcio(8)]
        let oldText: String? = if let old { try CertificateFields.text(old.value[...]) } else { nil }
        guard let new else { return oldText }
        let newText = try CertificateFields.text(
            try DER(new.value[...]).expecting(DER.Tag.utf8String, "the identity provider").content
        )
        guard oldText?.utf8.elementsEqual(newText.utf8) != false else {
            throw Malformed(
                "the certificate names two identity providers, '\(ForeignText.shown(oldText ?? ""))' and '\(ForeignText.shown(newText))'"
            )
        }
        return newText
    }

    private static func text(_ bytes: ArraySlice<UInt8>) throws(Malformed) -> String {
        guard let text = String(validating: bytes, as: UTF8.self), !text.utf8.contains(0) else {
            throw Malformed("a name in the certificate is not UTF-8")
        }
        return text
    }

    /// What a certificate log signed before the certificate was issued: the same without the log's own extension.
    ///
    /// RFC 6962 section 3.2.
    var precertificate: [UInt8] {
        let rest = extensions.filter { $0.identifier != Identifier.certificateTimestamps }
        let list = DER.encode(DER.Tag.sequence, Array(rest.map(\.encoded).joined()))
        let fields = toBeSigned.dropLast().flatMap(\.encoded) + DER.encode(DER.Tag.context(3), list)
        return DER.encode(DER.Tag.sequence, fields)
    }
}
