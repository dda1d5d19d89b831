/// Booleans, numbers, dates and times.
extension TOMLParser {
    mutating func scalar() throws(TOMLError) -> TOML {
        let start = position
        while let byte = peek, TOMLParser.isScalar(byte) { position += 1 }
        guard position > start else { throw error("expected a value, found \(found)") }
        let token = bytes[start..<position]
        switch text(start..<position) {
        case "true": return .boolean(true)
        case "false": return .boolean(false)
        case "inf", "+inf": return .float(.infinity)
        case "-inf": return .float(-.infinity)
        case "nan", "+nan": return .float(.nan)
        case "-nan": return .float(-.nan)
        default: break
        }
        if token.count > 4, token[start + 4] == UInt8(ascii: "-"), token.prefix(4).allSatisfy(isDigit) {
            // A blank may stand between date and time.
            if token.count == 10, peek == 0x20, position + 1 < bytes.count, isDigit(bytes[position + 1]) {
                position += 1
                while let byte = peek, TOMLParser.isScalar(byte) { position += 1 }
            }
            return try dateTime(start..<position)
        }
        if token.count > 2, token[start + 2] == UInt8(ascii: ":") {
            return .localTime(try time(Array(token), at: start))
        }
        guard let first = token.first,
            isDigit(first) || first == UInt8(ascii: "+") || first == UInt8(ascii: "-")
        else {
            throw error(
                "expected a value, found '\(text(start..<position))'; text is written in quotes",
                at: start
            )
        }
        return try number(start..<position)
    }

    private static func isScalar(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "_"),
            UInt8(ascii: "."), UInt8(ascii: ":"):
            true
        default: false
        }
    }

    // MARK: numbers

    private func number(_ range: Range<Int>) throws(TOMLError) -> TOML {
        let token = bytes[range]
        let isSigned = token.first == UInt8(ascii: "+") || token.first == UInt8(ascii: "-")
        let body = isSigned ? token.dropFirst() : token
        if body.first == UInt8(ascii: "0"), body.count > 1, let radix = radix(body[body.startIndex + 1]) {
            guard !isSigned else {
                throw error("a number in base \(radix) cannot have a sign", at: range.lowerBound)
            }
            let digits = try digits(body.dropFirst(2), radix: radix, of: range)
            return .integer(try integer(digits, radix: radix, of: range))
        }
        let mark = body.firstIndex { $0 == UInt8(ascii: ".") || $0 | 0x20 == UInt8(ascii: "e") }
        let whole = try digits(body[..<(mark ?? body.endIndex)], radix: 10, of: range)
        guard whole.count == 1 || whole.first != UInt8(ascii: "0") else {
            throw error("a number cannot start with a zero", at: range.lowerBound)
        }
        let sign: [UInt8] = token.first == UInt8(ascii: "-") ? [UInt8(ascii: "-")] : []
        guard var mark else { return .integer(try integer(sign + whole, radix: 10, of: range)) }
        var float = sign + whole
        if body[mark] == UInt8(ascii: ".") {
            let rest = body[(mark + 1)...]
            mark = rest.firstIndex { $0 | 0x20 == UInt8(ascii: "e") } ?? body.endIndex
            float += [UInt8(ascii: ".")] + (try digits(rest[..<mark], radix: 10, of: range))
        }
        if mark < body.endIndex {
            var exponent = body[(mark + 1)...]
            float.append(UInt8(ascii: "e"))
            if let first = exponent.first, first == UInt8(ascii: "+") || first == UInt8(ascii: "-") {
                float.append(first)
                exponent = exponent.dropFirst()
            }
            float += try digits(exponent, radix: 10, of: range)
        }
        guard let value = Double(String(decoding: float, as: UTF8.self)) else { throw malformed(range) }
        return .float(value)
    }

    private func radix(_ letter: UInt8) -> Int? {
        switch letter {
        case UInt8(ascii: "x"): 16
        case UInt8(ascii: "o"): 8
        case UInt8(ascii: "b"): 2
        default: nil
        }
    }

    /// The digits without the underscores, each of which must stand between two digits.
    private func digits(
        _ part: ArraySlice<UInt8>,
        radix: Int,
        of range: Range<Int>
    ) throws(TOMLError) -> [UInt8] {
        var out: [UInt8] = []
        var previousIsDigit = false
        for byte in part {
            if byte == UInt8(ascii: "_"), previousIsDigit {
                previousIsDigit = false
            } else if let digit = Hex.value(ofDigit: byte), Int(digit) < radix {
                out.append(byte)
                previousIsDigit = true
            } else {
                throw malformed(range)
            }
        }
        guard previousIsDigit else { throw malformed(range) }
        return out
    }

    private func integer(_ digits: [UInt8], radix: Int, of range: Range<Int>) throws(TOMLError) -> Int64 {
        guard let value = Int64(String(decoding: digits, as: UTF8.self), radix: radix) else {
            throw error("the integer '\(text(range))' does not fit in 64 bits", at: range.lowerBound)
        }
        return value
    }

    private func malformed(_ range: Range<Int>) -> TOMLError {
        error("'\(text(range))' is not a number, a date or a time", at: range.lowerBound)
    }

    // MARK: dates and times

    private func dateTime(_ range: Range<Int>) throws(TOMLError) -> TOML {
        var token = Array(bytes[range])
        guard let year = number(token, 0..<4), token.count >= 10, token[7] == UInt8(ascii: "-"),
            let month = number(token, 5..<7), let day = number(token, 8..<10)
        else { throw malformed(range) }
        guard (1...12).contains(month), (1...TOMLParser.days(in: month, of: year)).contains(day) else {
            throw error("'\(text(range))' is not a day of the calendar", at: range.lowerBound)
        }
        guard token.count > 10 else { return .localDate(text(range)) }
        guard token[10] | 0x20 == UInt8(ascii: "t") || token[10] == 0x20 else { throw malformed(range) }
        token[10] = UInt8(ascii: "T")
        var end = token.count
        let date = String(decoding: token[..<11], as: UTF8.self)
        if token[end - 1] | 0x20 == UInt8(ascii: "z") {
            end -= 1
            return .offsetDateTime(date + (try time(Array(token[11..<end]), at: range.lowerBound)) + "Z")
        }
        guard token.count > 17,
            token[end - 6] == UInt8(ascii: "+") || token[end - 6] == UInt8(ascii: "-")
        else { return .localDateTime(date + (try time(Array(token[11...]), at: range.lowerBound))) }
        end -= 6
        guard let hours = number(token, end + 1..<end + 3), token[end + 3] == UInt8(ascii: ":"),
            let minutes = number(token, end + 4..<end + 6), hours < 24, minutes < 60
        else { throw error("'\(text(range))' has an impossible offset", at: range.lowerBound) }
        let offset = String(decoding: token[end...], as: UTF8.self)
        return .offsetDateTime(date + (try time(Array(token[11..<end]), at: range.lowerBound)) + offset)
    }

    /// Checks `HH:MM:SS[.fraction]` and gives it back.
    private func time(_ token: [UInt8], at position: Int) throws(TOMLError) -> String {
        let text = String(decoding: token, as: UTF8.self)
        guard let hour = number(token, 0..<2), let minute = number(token, 3..<5),
            let second = number(token, 6..<8),
            token[2] == UInt8(ascii: ":"), token[5] == UInt8(ascii: ":"),
            token.count == 8
                || (token[8] == UInt8(ascii: ".") && token.count > 9 && token[9...].allSatisfy(isDigit))
        else { throw error("'\(text)' is not a time of the form HH:MM:SS", at: position) }
        // 60 is the leap second of RFC 3339.
        guard hour < 24, minute < 60, second <= 60 else {
            throw error("'\(text)' is not a time of the day", at: position)
        }
        return text
    }

    private func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    private func number(_ token: [UInt8], _ range: Range<Int>) -> Int? {
        guard range.upperBound <= token.count else { return nil }
        var value = 0
        for byte in token[range] {
            guard isDigit(byte) else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        return value
    }

    private static func days(in month: Int, of year: Int) -> Int {
        switch month {
        case 2: (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}
