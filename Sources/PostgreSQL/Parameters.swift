import SQL

/// What is bound to a statement, as the server takes it: binary.
struct Parameters {
    private enum Form {
        case null
        case number([UInt8])
        case text(String)
        case bytes([UInt8])
    }

    private let forms: [Form]
    /// Bytes of the longest value.
    let longest: Int

    /// The type that a value is sent as; 0 leaves it to the server, which knows where the value goes: a text may go into a column
    /// of bytes.
    static func type(of value: SQLValue) -> UInt32 {
        switch value {
        case .integer: ResultRow.Kind.integer
        case .real: ResultRow.Kind.double
        case .null, .text, .blob: 0
        }
    }

    /// `types` are those that the server has said it expects.
    init(_ values: [SQLValue], types: [UInt32]) {
        forms = values.enumerated().map { index, value in
            switch value {
            case .null: return .null
            case .integer(let number): return .number(Parameters.bytes(UInt64(bitPattern: number)))
            case .real(let number): return .number(Parameters.bytes(number.bitPattern))
            case .blob(let bytes): return .bytes(bytes)
            case .text(let text):
                let isKeptWhole = index < types.count && types[index] == ResultRow.Kind.bytes
                return .text(isKeptWhole ? text : Parameters.key(text))
            }
        }
        longest = values.reduce(0) { longest, value in
            switch value {
            case .text(let text): max(longest, text.utf8.count)
            case .blob(let bytes): max(longest, bytes.count)
            case .null, .integer, .real: longest
            }
        }
    }

    /// A text as a column of text takes it: without the one character that it refuses, and as long as an index takes it at most.
    ///
    /// The same text always becomes the same, so that what was written is found.
    static func key(_ text: String) -> String {
        let clean = text.utf8.contains(0) ? text.replacing("\0", with: "\u{FFFD}") : text
        guard clean.utf8.count > longestKey else { return clean }
        // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv: the rest only has to differ from another rest.
        let hash = clean.utf8.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        return String(decoding: clean.utf8.prefix(longestKey), as: UTF8.self) + "…" + String(hash, radix: 16)
    }

    /// Bytes; an entry of an index holds 2,700.
    private static let longestKey = 2000

    private static func bytes(_ bits: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: bits >> (56 - 8 * $0)) }
    }

    /// Calls `body` with pointers to the values, their lengths and their formats, which are good until it returns.
    mutating func withPointers<Result>(
        _ body: ([UnsafePointer<CChar>?], [Int32], [Int32]) -> Result
    ) -> Result {
        var pointers: [UnsafePointer<CChar>?] = []
        var lengths: [Int32] = []
        return with(forms[...], &pointers, &lengths) { pointers, lengths in
            body(pointers, lengths, [Int32](repeating: 1, count: lengths.count))
        }
    }

    /// One after the other inside each other, because a long text is not to be copied for this.
    private func with<Result>(
        _ rest: ArraySlice<Form>,
        _ pointers: inout [UnsafePointer<CChar>?],
        _ lengths: inout [Int32],
        _ body: ([UnsafePointer<CChar>?], [Int32]) -> Result
    ) -> Result {
        guard let form = rest.first else { return body(pointers, lengths) }
        func go(_ bytes: UnsafeRawBufferPointer) -> Result {
            // An empty value needs an address too: none means null.
            Parameters.somewhere.withUnsafeBytes { empty in
                let start = bytes.baseAddress ?? empty.baseAddress
                pointers.append(start?.assumingMemoryBound(to: CChar.self))
                lengths.append(Int32(bytes.count))
                return with(rest.dropFirst(), &pointers, &lengths, body)
            }
        }
        switch form {
        case .null:
            pointers.append(nil)
            lengths.append(0)
            return with(rest.dropFirst(), &pointers, &lengths, body)
        case .number(let bytes), .bytes(let bytes): return bytes.withUnsafeBytes(go)
        case .text(var text): return text.withUTF8 { go(UnsafeRawBufferPointer($0)) }
        }
    }

    private static let somewhere: [UInt8] = [0]
}
