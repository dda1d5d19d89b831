/// Why a text is not JSON, and where: a byte offset from the start.
package struct JSONSyntaxError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was expected or found.
    package let reason: String
    /// Bytes from the start of the text.
    package let offset: Int

    /// An error at a byte.
    package init(reason: String, offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    /// One sentence for an error message: where, and why.
    package var description: String { "invalid JSON at byte \(offset): \(reason)" }
}

extension JSON {
    /// Parses UTF-8 text (RFC 8259).
    ///
    /// Depth is bounded, because recursion is.
    ///
    /// `maximumDepth` is the nesting of arrays and objects that is still accepted.
    package static func parse(
        _ bytes: some Collection<UInt8>,
        maximumDepth: Int = 128
    ) throws(JSONSyntaxError) -> JSON {
        var result: Result<JSON, JSONSyntaxError>?
        let parsed: Void? = bytes.withContiguousStorageIfAvailable { buffer in
            result = JSONParser.run(UnsafeRawBufferPointer(buffer), maximumDepth)
        }
        if parsed == nil {
            result = Array(bytes).withUnsafeBytes { JSONParser.run($0, maximumDepth) }
        }
        switch result {
        case .success(let value): return value
        case .failure(let error): throw error
        case nil: throw JSONSyntaxError(reason: "no text", offset: 0)
        }
    }

    /// Parses text.
    package static func parse(_ text: String, maximumDepth: Int = 128) throws(JSONSyntaxError) -> JSON {
        try parse(Array(text.utf8), maximumDepth: maximumDepth)
    }
}

private struct JSONParser {
    let bytes: UnsafeRawBufferPointer
    var position = 0
    var depthLeft: Int

    static func run(_ bytes: UnsafeRawBufferPointer, _ depth: Int) -> Result<JSON, JSONSyntaxError> {
        var parser = JSONParser(bytes: bytes, depthLeft: depth)
        do throws(JSONSyntaxError) {
            let value = try parser.value()
            parser.skipSpace()
            guard parser.position == bytes.count else {
                throw parser.error("unexpected text after the value")
            }
            return .success(value)
        } catch {
            return .failure(error)
        }
    }

    func error(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(reason: reason, offset: position) }

    mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x0A, 0x0D, 0x09: position += 1
            default: return
            }
        }
    }

    mutating func value() throws(JSONSyntaxError) -> JSON {
        skipSpace()
        guard position < bytes.count else { throw error("the text ends where a value is expected") }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try object()
        case UInt8(ascii: "["): return try array()
        case UInt8(ascii: "\""): return .string(try text())
        case UInt8(ascii: "t"):
            try word("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try word("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try word("null")
            return .null
        default: return try number()
        }
    }

    mutating func word(_ word: StaticString) throws(JSONSyntaxError) {
        let count = word.utf8CodeUnitCount
        guard position + count <= bytes.count else { throw error("expected \(word)") }
        for index in 0..<count where bytes[position + index] != word.utf8Start[index] {
            throw error("expected \(word)")
        }
        position += count
    }

    mutating func enter() throws(JSONSyntaxError) {
        depthLeft -= 1
        guard depthLeft >= 0 else { throw error("nested too deeply") }
        position += 1
        skipSpace()
    }

    mutating func object() throws(JSONSyntaxError) -> JSON {
        try enter()
        var members: [(name: String, value: JSON)] = []
        if position < bytes.count, bytes[position] == UInt8(ascii: "}") {
            position += 1
            depthLeft += 1
            return .object(JSONObject())
        }
        while true {
            skipSpace()
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw error("expected a member name in double quotes")
            }
            let name = try text()
            skipSpace()
            guard position < bytes.count, bytes[position] == UInt8(ascii: ":") else {
                throw error("expected ':'")
            }
            position += 1
            members.append((name, try value()))
            if try ends(with: UInt8(ascii: "}")) { break }
        }
        depthLeft += 1
        return .object(JSONObject(members))
    }

    mutating func array() throws(JSONSyntaxError) -> JSON {
        try enter()
        var elements: [JSON] = []
        if position < bytes.count, bytes[position] == UInt8(ascii: "]") {
            position += 1
            depthLeft += 1
            return .array([])
        }
        while true {
            elements.append(try value())
            if try ends(with: UInt8(ascii: "]")) { break }
        }
        depthLeft += 1
        return .array(elements)
    }

    mutating func ends(with close: UInt8) throws(JSONSyntaxError) -> Bool {
        skipSpace()
        guard position < bytes.count else { throw error("the text ends inside an array or object") }
        let byte = bytes[position]
        guard byte == close || byte == UInt8(ascii: ",") else {
            throw error("expected ',' or '\(Unicode.Scalar(close))'")
        }
        position += 1
        return byte == close
    }

    mutating func number() throws(JSONSyntaxError) -> JSON {
        let start = position
        var isInteger = true
        if peek == UInt8(ascii: "-") { position += 1 }
        let digits = position
        // Of as many digits as always fit.
        var magnitude: Int64 = 0
        try skipDigits { digit in magnitude = magnitude &* 10 &+ Int64(digit) }
        if bytes[digits] == UInt8(ascii: "0"), position - digits > 1 {
            throw error("a number may not start with 0")
        }
        if peek == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            try skipDigits()
        }
        if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { position += 1 }
            try skipDigits()
        }
        if isInteger, position - digits <= 18 { return .int(digits > start ? -magnitude : magnitude) }
        let text = String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
        if isInteger, let value = Int64(text) { return .int(value) }
        guard let value = Double(text), value.isFinite else { throw error("the number is out of range") }
        return .double(value)
    }

    var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipDigits(_ take: (UInt8) -> Void = { _ in }) throws(JSONSyntaxError) {
        let start = position
        while let byte = peek, byte >= 0x30, byte <= 0x39 {
            take(byte - 0x30)
            position += 1
        }
        guard position > start else { throw error("expected a value") }
    }

    /// A string, starting at its opening quote.
    ///
    /// The common case, ASCII and no escape, is one copy, and none of it is generic code.
    mutating func text() throws(JSONSyntaxError) -> String {
        position += 1
        let start = position
        var allBits: UInt8 = 0
        while position < bytes.count {
            let byte = bytes[position]
            if byte == 0x22 {
                let found = UnsafeRawBufferPointer(rebasing: bytes[start..<position])
                let isASCII = allBits < 0x80
                guard
                    let text = isASCII
                        ? String(decoding: found, as: UTF8.self) : String(validating: found, as: UTF8.self)
                else { throw error("invalid UTF-8") }
                position += 1
                return text
            }
            if byte == 0x5C { return try escapedText(from: start) }
            if byte < 0x20 { throw error("a control character in a string") }
            allBits |= byte
            position += 1
        }
        throw error("the text ends inside a string")
    }

    mutating func escapedText(from start: Int) throws(JSONSyntaxError) -> String {
        var out = Array(bytes[start..<position])
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case 0x22:
                guard let text = String(validating: out, as: UTF8.self) else { throw error("invalid UTF-8") }
                position += 1
                return text
            case 0x5C:
                position += 1
                try escape(into: &out)
            case 0..<0x20: throw error("a control character in a string")
            default:
                out.append(byte)
                position += 1
            }
        }
        throw error("the text ends inside a string")
    }

    mutating func escape(into out: inout [UInt8]) throws(JSONSyntaxError) {
        guard let byte = peek else { throw error("the text ends inside an escape") }
        position += 1
        switch byte {
        case 0x22, 0x5C, 0x2F: out.append(byte)
        case UInt8(ascii: "n"): out.append(0x0A)
        case UInt8(ascii: "r"): out.append(0x0D)
        case UInt8(ascii: "t"): out.append(0x09)
        case UInt8(ascii: "b"): out.append(0x08)
        case UInt8(ascii: "f"): out.append(0x0C)
        case UInt8(ascii: "u"):
            var scalar = try hexUnit()
            if (0xD800..<0xDC00).contains(scalar) {
                // A lone surrogate has no UTF-8 form: it becomes U+FFFD, as in every browser's TextEncoder.
                if peek == 0x5C, position + 1 < bytes.count, bytes[position + 1] == UInt8(ascii: "u") {
                    let resume = position
                    position += 2
                    let low = try hexUnit()
                    if (0xDC00..<0xE000).contains(low) {
                        scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
                    } else {
                        position = resume
                    }
                }
            }
            out.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{FFFD}").utf8)
        default: throw error("an unknown escape")
        }
    }

    mutating func hexUnit() throws(JSONSyntaxError) -> UInt32 {
        guard position + 4 <= bytes.count else { throw error("the text ends inside an escape") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Hex.value(ofDigit: bytes[position]) else {
                throw error("expected four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}
