import Appliance

/// A `SHA256SUMS`, as `sha256sum` writes it: digests of files in one directory.
struct Checksums: Sendable, Equatable {
    static let limit = 1 << 20
    private static let entries = 10_000

    /// Digests by file name, 64 lower-case hexadecimal digits each.
    private let digests: [String: String]

    /// Reads lines of a digest, a space, a space or `*`, and a name.
    ///
    /// Throws `checksums-malformed` with the line. A name twice is refused even with the same digest: then two programs
    /// made the file, and nobody can say which of them is right about the rest.
    init(_ bytes: [UInt8]) throws(GatewayError) {
        guard bytes.count <= Checksums.limit else {
            throw Checksums.malformed("it has \(bytes.count) bytes, more than the \(Checksums.limit) allowed")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Checksums.malformed("it is not UTF-8")
        }
        var lines = text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false)
        if lines.last?.isEmpty == true { lines.removeLast() }
        guard !lines.isEmpty else { throw Checksums.malformed("it is empty") }
        guard lines.count <= Checksums.entries else {
            throw Checksums.malformed(
                "it has \(lines.count) lines, more than the \(Checksums.entries) allowed"
            )
        }
        var digests: [String: String] = [:]
        for (index, line) in lines.enumerated() {
            let number = index + 1
            let line = line.last == 0x0D ? line.dropLast() : line
            let digest = String(Substring(line.prefix(64)))
            guard SHA256Text.isWellFormed(digest) else {
                throw Checksums.malformed(
                    "line \(number) does not start with a SHA-256 in 64 lower-case hexadecimal digits"
                )
            }
            let rest = line.dropFirst(64)
            guard rest.first == 0x20, let mark = rest.dropFirst().first, mark == 0x20 || mark == 0x2A else {
                throw Checksums.malformed("line \(number) has no '  ' or ' *' between digest and name")
            }
            let name = String(Substring(rest.dropFirst(2)))
            guard Checksums.isName(name) else {
                throw Checksums.malformed(
                    "line \(number) names '\(ForeignText.shown(name))', expected a file beside it"
                )
            }
            guard digests.updateValue(digest, forKey: name) == nil else {
                throw Checksums.malformed("line \(number) names '\(name)' for the second time")
            }
        }
        self.digests = digests
    }

    /// Whether this is the name of a file in the same directory.
    private static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 255 && name != "." && name != ".."
            && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "/") && $0 != 0x5C }
    }

    private static func malformed(_ what: String) -> GatewayError {
        GatewayError(
            "checksums-malformed",
            "the checksums cannot be believed: \(what)",
            help: "take SHA256SUMS from the release again"
        )
    }

    /// The names, sorted.
    var names: [String] { digests.keys.sorted() }

    /// The digest of a file, 64 lower-case hexadecimal digits.
    ///
    /// Throws `checksum-missing`.
    func digest(of name: String) throws(GatewayError) -> String {
        guard let digest = digests[name] else {
            throw GatewayError(
                "checksum-missing",
                "the checksums do not list '\(name)'; they list \(digests.count) other files"
            )
        }
        return digest
    }
}
