/// Secrets taken out of text that a person or a log will see.
///
/// Every function takes time linear in its input.
package enum Redaction {
    /// What stands where a secret was.
    package static let mark = "<redacted>"

    // MARK: addresses

    /// A URL without user information and without the values of query and fragment pairs whose names speak of
    /// secrets; a URL with neither comes back byte for byte.
    package static func url(_ url: String) -> String {
        guard let scheme = url.firstRange(of: "://") else { return pairs(in: url) }
        let rest = url[scheme.upperBound...]
        let authority = rest[..<endOfAuthority(in: rest)]
        var out = String(url[..<scheme.upperBound])
        if let at = authority.lastIndex(of: "@") {
            out += mark + authority[at...]
        } else {
            out += authority
        }
        return out + pairs(in: String(rest[authority.endIndex...]))
    }

    /// Where the part of host and port ends.
    ///
    /// A password that holds `/`, `?` or `#` as they are makes a URL that nobody can use, and it must not be printed for
    /// that: where what follows the last `:` is no port, everything up to the last `@` counts.
    private static func endOfAuthority(in rest: Substring) -> Substring.Index {
        func end(from start: Substring.Index) -> Substring.Index {
            rest[start...].firstIndex { "/?#".contains($0) } ?? rest.endIndex
        }
        let plain = rest[..<end(from: rest.startIndex)]
        let host = plain.lastIndex(of: "@").map { plain[plain.index(after: $0)...] } ?? plain
        guard !host.hasPrefix("["), let colon = host.lastIndex(of: ":"),
            !host[host.index(after: colon)...].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let at = rest.lastIndex(of: "@")
        else { return plain.endIndex }
        return end(from: at)
    }

    /// The text from a path on, with secret values after `?` and `#` replaced.
    private static func pairs(in text: String) -> String {
        var out: [UInt8] = [], name: [UInt8] = []
        var isPair = false, isHidden = false
        for byte in text.utf8 {
            let separates = isPair ? "&;#" : "?#"
            if separates.utf8.contains(byte) {
                isPair = true
                isHidden = false
                name = []
                out.append(byte)
            } else if byte == UInt8(ascii: "="), isPair, !isHidden, isSecretName(name) {
                isHidden = true
                out.append(byte)
                out += mark.utf8
            } else {
                if !isHidden { out.append(byte) }
                if isPair, name.count < 128 { name.append(byte) }
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    private static let secretWords = [
        "auth", "bearer", "token", "secret", "credential", "password", "signature", "apikey", "accesskey",
        "jwt",
        "cookie", "session",
    ]

    /// Too short to be looked for inside other names: the signature of a shared address, and plain keys.
    private static let secretNames: Set<String> = ["sig", "key", "pass", "pwd"]

    private static func isSecretName(_ name: [UInt8]) -> Bool {
        var plain: [UInt8] = []
        var index = 0
        while index < name.count {
            var byte = name[index]
            if byte == UInt8(ascii: "%"), index + 2 < name.count,
                let high = Hex.value(ofDigit: name[index + 1]),
                let low = Hex.value(ofDigit: name[index + 2])
            {
                byte = high << 4 | low
                index += 2
            }
            index += 1
            if byte != UInt8(ascii: "_"), byte != UInt8(ascii: "-") { plain.append(lower(byte)) }
        }
        let text = String(decoding: plain, as: UTF8.self)
        return secretNames.contains(text) || secretWords.contains { text.contains($0) }
    }

    // MARK: text

    /// A text without private keys, provider keys, access tokens, passwords in URLs and `password=` values.
    package static func secrets(in text: String) -> String { counting(secretsIn: text).text }

    /// The same, with the number of times that a byte was looked at, for a test that the time is linear.
    package static func counting(secretsIn text: String) -> (text: String, looks: Int) {
        var text = text
        let effort = Effort()
        let redacted: [UInt8]? = text.withUTF8 { bytes in
            let scan = SecretScan(bytes: bytes, effort: effort)
            var out: [UInt8] = []
            var copied = 0, index = 0
            while index < bytes.count {
                let start = scan.next(from: index)
                effort.looks += start - index + 1
                index = start
                guard index < bytes.count else { break }
                guard let found = scan.secret(at: index) else {
                    index += 1
                    continue
                }
                out += bytes[copied..<found.lowerBound]
                out += mark.utf8
                copied = found.upperBound
                index = found.upperBound
            }
            return copied == 0 ? nil : out + bytes[copied...]
        }
        return (redacted.map { String(decoding: $0, as: UTF8.self) } ?? text, effort.looks)
    }

    fileprivate static func lower(_ byte: UInt8) -> UInt8 {
        (0x41...0x5A).contains(byte) ? byte | 0x20 : byte
    }
}

/// How often a scan has looked at a byte; of one scan, on one thread.
private final class Effort {
    var looks = 0
}

/// Finds secrets in bytes.
///
/// A pattern begins at one byte; what a failed attempt has looked at is either of bounded
/// length or lies before the next place where the same pattern can begin, so that the whole scan stays linear.
private struct SecretScan {
    let bytes: UnsafeBufferPointer<UInt8>
    let effort: Effort

    /// The bytes with which `secret` begins, as bits: those below 64, and those from 64 to 127.
    private static let beginnings: (UInt64, UInt64) = {
        var bits: (UInt64, UInt64) = (0, 0)
        for byte in "-:=sxAgebB".utf8 {
            if byte < 64 { bits.0 |= 1 << UInt64(byte) } else { bits.1 |= 1 << UInt64(byte - 64) }
        }
        return bits
    }()

    /// Where the next byte is with which a pattern can begin; the end when there is none.
    ///
    /// Most of a long text is passed over here.
    func next(from start: Int) -> Int {
        let (low, high) = SecretScan.beginnings
        var index = start
        while index < bytes.count {
            let byte = bytes[index]
            if byte < 128, (byte < 64 ? low : high) >> UInt64(byte & 63) & 1 != 0 { return index }
            index += 1
        }
        return index
    }

    /// The secret that a pattern beginning at `index` finds; it lies at or after `index`.
    func secret(at index: Int) -> Range<Int>? {
        switch bytes[index] {
        case UInt8(ascii: "-"): privateKey(at: index)
        case UInt8(ascii: ":"): credentials(at: index) ?? assignment(at: index)
        case UInt8(ascii: "="): assignment(at: index)
        case UInt8(ascii: "s"), UInt8(ascii: "x"), UInt8(ascii: "A"), UInt8(ascii: "g"), UInt8(ascii: "e"),
            UInt8(ascii: "b"), UInt8(ascii: "B"):
            index == 0 || !isWord(bytes[index - 1]) ? token(at: index) : nil
        default: nil
        }
    }

    private func privateKey(at index: Int) -> Range<Int>? {
        guard has("-----BEGIN ", at: index) else { return nil }
        let name = index + 11
        let end = run(from: name, limit: 40) { (0x41...0x5A).contains($0) || $0 == 0x20 }
        guard has("-----", at: end), end >= name + 11, has("PRIVATE KEY", at: end - 11) else { return nil }
        var next = end
        while next < bytes.count {
            if bytes[next] == UInt8(ascii: "-"), has("-----END ", at: next) {
                let last = run(from: next + 9, limit: 60) { (0x41...0x5A).contains($0) || $0 == 0x20 }
                return index..<run(from: last, limit: 5) { $0 == UInt8(ascii: "-") }
            }
            next += 1
            effort.looks += 1
        }
        return index..<bytes.count
    }

    private func token(at index: Int) -> Range<Int>? {
        func tail(_ prefix: String, _ least: Int, _ isPart: (UInt8) -> Bool) -> Range<Int>? {
            guard has(prefix, at: index) else { return nil }
            let start = index + prefix.utf8.count
            let end = run(from: start, isPart)
            return end - start >= least ? index..<end : nil
        }
        switch bytes[index] {
        case UInt8(ascii: "s"): return tail("sk-ant-", 1, isDashed) ?? tail("sk-", 16, isDashed)
        case UInt8(ascii: "x"):
            if has("xox", at: index), index + 4 < bytes.count, "baprs".utf8.contains(bytes[index + 3]),
                bytes[index + 4] == UInt8(ascii: "-")
            {
                let end = run(from: index + 5, isDashed)
                return end > index + 5 ? index..<end : nil
            }
            return tail("xai-", 16, isDashed)
        case UInt8(ascii: "A"):
            return tail("AIza", 35, isDashed)
                ?? tail("AKIA", 16) { isAlphanumeric($0) } ?? tail("ASIA", 16) { isAlphanumeric($0) }
        case UInt8(ascii: "g"):
            guard has("gh", at: index), index + 2 < bytes.count, "pousr".utf8.contains(bytes[index + 2])
            else {
                return nil
            }
            let start = index + 4
            guard has("_", at: index + 3) else { return nil }
            let end = run(from: start, isAlphanumeric)
            return end - start >= 36 ? index..<end : nil
        case UInt8(ascii: "e"): return webToken(at: index)
        default: return bearer(at: index)
        }
    }

    private func webToken(at index: Int) -> Range<Int>? {
        guard has("eyJ", at: index), index == 0 || !isDashed(bytes[index - 1]) else { return nil }
        let first = run(from: index, isDashed)
        guard has(".", at: first) else { return nil }
        let second = run(from: first + 1, isDashed)
        guard second > first + 1, has(".", at: second) else { return nil }
        return index..<run(from: second + 1, isDashed)
    }

    private func bearer(at index: Int) -> Range<Int>? {
        guard hasWord("bearer", at: index) else { return nil }
        let start = run(from: index + 6, limit: 8) { $0 == 0x20 }
        let end = run(from: start) { isDashed($0) || ".~+/=".utf8.contains($0) }
        return start > index + 6 && end - start >= 12 ? start..<end : nil
    }

    /// `://user:password@`: from the user to before the `@`.
    private func credentials(at index: Int) -> Range<Int>? {
        guard has("://", at: index) else { return nil }
        let end = run(from: index + 3) { $0 > 0x20 && !"/?#\"'<>@".utf8.contains($0) }
        effort.looks += end - index
        guard has("@", at: end), bytes[(index + 3)..<end].contains(UInt8(ascii: ":")) else { return nil }
        return (index + 3)..<end
    }

    private static let names = [
        "password", "passwd", "pwd", "secretkey", "clientsecret", "apikey", "accesskey", "authtoken",
    ].map { Array($0.utf8) }

    /// The value after `password=`, `"api_key": "`, and the like.
    private func assignment(at index: Int) -> Range<Int>? {
        var end = index
        while end > 0, index - end < 3,
            bytes[end - 1] == 0x20 || isQuote(bytes[end - 1]) || bytes[end - 1] == 0x5C
        {
            end -= 1
        }
        var name: [UInt8] = []
        var start = end
        while start > 0, end - start < 40, isDashed(bytes[start - 1]) {
            start -= 1
            if bytes[start] != UInt8(ascii: "_"), bytes[start] != UInt8(ascii: "-") {
                name.append(Redaction.lower(bytes[start]))
            }
        }
        effort.looks += index - start
        name.reverse()
        guard name.count >= 3, SecretScan.names.contains(where: { name.suffix($0.count).elementsEqual($0) })
        else {
            return nil
        }
        let value = run(from: index + 1, limit: 4) { $0 == 0x20 || isQuote($0) || $0 == 0x5C }
        let quote = value > index + 1 && isQuote(bytes[value - 1]) ? bytes[value - 1] : nil
        let last = run(from: value) { byte in
            // Between quotes a value may hold anything but the line's end, where a forgotten quote ends at the latest.
            if let quote { return byte != quote && byte != 0x0A && byte != 0x5C }
            return byte > 0x20 && !isQuote(byte) && !",;&)}]\\<".utf8.contains(byte)
        }
        return last - value >= 6 ? value..<last : nil
    }

    // MARK: bytes

    private func has(_ text: StaticString, at index: Int) -> Bool {
        effort.looks += text.utf8CodeUnitCount
        guard index >= 0, index + text.utf8CodeUnitCount <= bytes.count else { return false }
        return UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
            .elementsEqual(bytes[index..<(index + text.utf8CodeUnitCount)])
    }

    private func has(_ text: String, at index: Int) -> Bool {
        effort.looks += text.utf8.count
        guard index + text.utf8.count <= bytes.count else { return false }
        return text.utf8.elementsEqual(bytes[index..<(index + text.utf8.count)])
    }

    private func hasWord(_ word: String, at index: Int) -> Bool {
        effort.looks += word.utf8.count
        guard index + word.utf8.count <= bytes.count else { return false }
        return word.utf8.elementsEqual(bytes[index..<(index + word.utf8.count)].lazy.map(Redaction.lower))
    }

    /// Where a run of bytes ends.
    private func run(from start: Int, limit: Int = .max, _ isPart: (UInt8) -> Bool) -> Int {
        var end = min(start, bytes.count)
        while end < bytes.count, end - start < limit, isPart(bytes[end]) { end += 1 }
        effort.looks += end - start + 1
        return end
    }

    private func isQuote(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") }

    private func isAlphanumeric(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }

    private func isWord(_ byte: UInt8) -> Bool { isAlphanumeric(byte) || byte == UInt8(ascii: "_") }

    private func isDashed(_ byte: UInt8) -> Bool { isWord(byte) || byte == UInt8(ascii: "-") }
}
