/// The four kinds of string.
extension TOMLParser {
    mutating func basicString() throws(TOMLError) -> String {
        position += 1
        let start = position
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                return text(start..<position - 1)
            case UInt8(ascii: "\\"): return try escapedString(from: start)
            default: try stringByte(byte)
            }
        }
        throw error("the document ends inside a string")
    }

    private mutating func escapedString(from start: Int) throws(TOMLError) -> String {
        var out = Array(bytes[start..<position])
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                return String(decoding: out, as: UTF8.self)
            case UInt8(ascii: "\\"): try escape(into: &out)
            default:
                try stringByte(byte)
                out.append(byte)
            }
        }
        throw error("the document ends inside a string")
    }

    mutating func literalString() throws(TOMLError) -> String {
        position += 1
        let start = position
        while let byte = peek {
            if byte == UInt8(ascii: "'") {
                position += 1
                return text(start..<position - 1)
            }
            try stringByte(byte)
        }
        throw error("the document ends inside a string")
    }

    mutating func multilineBasicString() throws(TOMLError) -> String {
        try openMultiline()
        var out: [UInt8] = []
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "\""):
                if try closes(byte, into: &out) { return String(decoding: out, as: UTF8.self) }
            case UInt8(ascii: "\\"):
                if try !lineContinuation() { try escape(into: &out) }
            default: try multilineByte(byte, into: &out)
            }
        }
        throw error("the document ends inside a multi-line string")
    }

    mutating func multilineLiteralString() throws(TOMLError) -> String {
        try openMultiline()
        var out: [UInt8] = []
        while let byte = peek {
            if byte == UInt8(ascii: "'") {
                if try closes(byte, into: &out) { return String(decoding: out, as: UTF8.self) }
            } else {
                try multilineByte(byte, into: &out)
            }
        }
        throw error("the document ends inside a multi-line string")
    }

    /// Consumes the opening quotes and a newline that follows at once.
    private mutating func openMultiline() throws(TOMLError) {
        position += 3
        if peek == 0x0A || peek == 0x0D { try newline() }
    }

    /// Consumes a run of quotes: up to two are text, three close, and up to two may stand before the closing three.
    private mutating func closes(_ quote: UInt8, into out: inout [UInt8]) throws(TOMLError) -> Bool {
        var count = 0
        while peek == quote, count < 6 {
            position += 1
            count += 1
        }
        guard count < 6 else {
            position -= 1
            throw error("too many quotes at the end of a multi-line string")
        }
        out.append(contentsOf: repeatElement(quote, count: count >= 3 ? count - 3 : count))
        return count >= 3
    }

    private mutating func multilineByte(_ byte: UInt8, into out: inout [UInt8]) throws(TOMLError) {
        if byte == 0x0A || byte == 0x0D {
            let start = position
            try newline()
            out.append(contentsOf: bytes[start..<position])
        } else {
            try stringByte(byte)
            out.append(byte)
        }
    }

    private mutating func stringByte(_ byte: UInt8) throws(TOMLError) {
        guard byte != 0x0A, byte != 0x0D else { throw error("the line ends inside a string") }
        guard !TOMLParser.isControl(byte) else { throw controlCharacter(in: "a string") }
        position += 1
    }

    /// A backslash at the end of a line drops all blanks and newlines up to the next character.
    private mutating func lineContinuation() throws(TOMLError) -> Bool {
        var ahead = position + 1
        while ahead < bytes.count, bytes[ahead] == 0x20 || bytes[ahead] == 0x09 { ahead += 1 }
        guard ahead < bytes.count, bytes[ahead] == 0x0A || bytes[ahead] == 0x0D else { return false }
        position = ahead
        while let byte = peek {
            switch byte {
            case 0x20, 0x09: position += 1
            case 0x0A, 0x0D: try newline()
            default: return true
            }
        }
        return true
    }

    private mutating func escape(into out: inout [UInt8]) throws(TOMLError) {
        let start = position
        position += 1
        guard let byte = peek else { throw error("the document ends inside a string") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): out.append(byte)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "n"): out.append(0x0A)
        case UInt8(ascii: "f"): out.append(0x0C)
        case UInt8(ascii: "r"): out.append(0x0D)
        case UInt8(ascii: "u"): try unicodeEscape(digits: 4, from: start, into: &out)
        case UInt8(ascii: "U"): try unicodeEscape(digits: 8, from: start, into: &out)
        default:
            throw error(
                "an unknown escape sequence; a backslash is written '\\\\', or the string put in single quotes",
                at: start
            )
        }
    }

    private mutating func unicodeEscape(
        digits: Int,
        from start: Int,
        into out: inout [UInt8]
    ) throws(TOMLError) {
        var value: UInt32 = 0
        for _ in 0..<digits {
            guard let byte = peek, let digit = Hex.value(ofDigit: byte) else {
                throw error("expected \(digits) hexadecimal digits in the escape sequence", at: start)
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        guard let scalar = Unicode.Scalar(value) else {
            throw error("the escape sequence is no Unicode character", at: start)
        }
        out.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    }
}
