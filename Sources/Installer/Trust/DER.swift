/// One element of a structure in the distinguished encoding rules of ASN.1 (X.690): a tag and its content.
///
/// Definite lengths in their shortest form only; tags of one byte, which is all that certificates use.
struct DER: Sendable, Equatable {
    enum Tag {
        static let boolean: UInt8 = 0x01
        static let bitString: UInt8 = 0x03
        static let octetString: UInt8 = 0x04
        static let objectIdentifier: UInt8 = 0x06
        static let utf8String: UInt8 = 0x0C
        static let sequence: UInt8 = 0x30

        /// A constructed tag of this structure's own: `[3]`.
        static func context(_ number: UInt8) -> UInt8 { 0xA0 | number }
    }

    let tag: UInt8
    let content: ArraySlice<UInt8>
    /// The element as it was found: tag, length and content.
    let encoded: ArraySlice<UInt8>

    /// The first element of bytes, which are advanced past it.
    init(next bytes: inout ArraySlice<UInt8>) throws(Malformed) {
        let start = bytes
        guard let tag = bytes.popFirst(), tag & 0x1F != 0x1F, let first = bytes.popFirst() else {
            throw Malformed("an ASN.1 element is cut off")
        }
        var length = Int(first)
        if first & 0x80 != 0 {
            let count = Int(first & 0x7F)
            guard (1...4).contains(count), bytes.count >= count else {
                throw Malformed("an ASN.1 element has a length that is not allowed")
            }
            length = bytes.prefix(count).reduce(0) { $0 << 8 | Int($1) }
            bytes = bytes.dropFirst(count)
            guard length >= 0x80, count == 1 || length >> (8 * (count - 1)) != 0 else {
                throw Malformed("an ASN.1 element has a length that is not in its shortest form")
            }
        }
        guard length <= bytes.count else { throw Malformed("an ASN.1 element is longer than what holds it") }
        self.tag = tag
        content = bytes.prefix(length)
        bytes = bytes.dropFirst(length)
        encoded = start[start.startIndex..<bytes.startIndex]
    }

    /// The only element of bytes.
    init(_ bytes: ArraySlice<UInt8>) throws(Malformed) {
        var rest = bytes
        try self.init(next: &rest)
        guard rest.isEmpty else { throw Malformed("there is something behind an ASN.1 element") }
    }

    /// The elements inside.
    func elements() throws(Malformed) -> [DER] {
        var rest = content
        var found: [DER] = []
        while !rest.isEmpty { found.append(try DER(next: &rest)) }
        return found
    }

    /// This element, if it has the tag.
    func expecting(_ tag: UInt8, _ what: String) throws(Malformed) -> DER {
        guard self.tag == tag else {
            throw Malformed("\(what) has the ASN.1 tag \(self.tag), expected \(tag)")
        }
        return self
    }

    /// The encoding of a tag and its content.
    static func encode(_ tag: UInt8, _ content: some Collection<UInt8>) -> [UInt8] {
        var length: [UInt8] = []
        if content.count < 0x80 {
            length = [UInt8(content.count)]
        } else {
            var rest = content.count
            while rest > 0 {
                length.insert(UInt8(truncatingIfNeeded: rest), at: 0)
                rest >>= 8
            }
            length.insert(0x80 | UInt8(length.count), at: 0)
        }
        return [tag] + length + content
    }
}
