/// The form of names and addresses that end up in requests, folders and command lines.
enum Identifiers {
    static let aliasRule = "must be a letter and up to 63 letters, digits, dots, underscores or hyphens"

    static func isAlias(_ text: String) -> Bool {
        guard let first = text.utf8.first, (0x41...0x5A).contains(first & 0xDF) else { return false }
        return isPlain(text, upTo: 64)
    }

    static func isPlain(_ text: String, upTo limit: Int) -> Bool {
        !text.isEmpty && text.utf8.count <= limit
            && text.utf8.allSatisfy { isWord($0) || $0 == UInt8(ascii: ".") }
    }

    /// Letters, digits, underscore, hyphen: the alphabet of base64url.
    static func isWord(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte & 0xDF) || byte == UInt8(ascii: "_")
            || byte == UInt8(ascii: "-")
    }

    /// Whether a shell could have set a variable of this name.
    static func isEnvironmentName(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(0x30...0x39).contains(first) else { return false }
        return text.utf8.allSatisfy { isWord($0) && $0 != UInt8(ascii: "-") }
    }

    /// Whether an address is `https://…`, or `http://…` on this machine.
    ///
    /// User names are refused: what stands before an `@` looks like a host and is none.
    static func isHTTPSOrLoopback(_ text: String) -> Bool {
        guard let address = try? WebAddress(text), address.userInfo == nil, !address.host.isEmpty else {
            return false
        }
        return address.scheme == "https" || (address.scheme == "http" && address.isLoopback)
    }
}
