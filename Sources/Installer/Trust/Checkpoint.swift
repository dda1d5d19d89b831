import Appliance

/// The head of a log's tree, signed by the log and perhaps by witnesses.
///
/// A signed note (https://c2sp.org/signed-note) whose text is a checkpoint (https://c2sp.org/tlog-checkpoint).
struct Checkpoint: Sendable, Equatable {
    struct Signature: Sendable, Equatable {
        /// The name that the signer gives itself; nothing vouches for it.
        var name: String
        /// The first four bytes of a key's identifier.
        var hint: [UInt8]
        var bytes: [UInt8]
    }

    static let limit = 64 << 10
    private static let signatures = 100

    /// What is signed, with its last line end.
    var text: String
    var origin: String
    var size: Int64
    /// The root of the tree, 32 bytes.
    var root: [UInt8]
    /// One or more.
    var signatures: [Signature]

    /// Reads a note.
    init(_ note: String) throws(Malformed) {
        guard note.utf8.count <= Checkpoint.limit else {
            throw Malformed("the checkpoint has more than \(Checkpoint.limit) bytes")
        }
        let lines = note.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).map { Substring($0) }
        // The text, an empty line, the signatures, and nothing after the last line end.
        guard let blank = lines.firstIndex(of: ""), lines.last == "", blank < lines.count - 1 else {
            throw Malformed("the checkpoint has no empty line between its text and its signatures")
        }
        text = lines[..<blank].map { $0 + "\n" }.joined()
        guard blank >= 3 else {
            throw Malformed("the checkpoint has \(blank) lines, expected origin, size and root hash")
        }
        origin = String(lines[0])
        let digits = lines[1]
        guard digits.utf8.count <= 19, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            digits == "0" || digits.first != "0", let size = Int64(digits)
        else {
            throw Malformed(
                "the checkpoint's size is '\(ForeignText.shown(String(digits)))', expected a number"
            )
        }
        self.size = size
        guard let root = Base64.decode(String(lines[2])), root.count == 32 else {
            throw Malformed("the checkpoint's root hash is not the base 64 of 32 bytes")
        }
        self.root = root
        signatures = []
        for line in lines[(blank + 1)..<(lines.count - 1)] {
            signatures.append(try Checkpoint.signature(line))
        }
        guard !signatures.isEmpty else { throw Malformed("the checkpoint has no signature") }
        guard signatures.count <= Checkpoint.signatures else {
            throw Malformed("the checkpoint has more than \(Checkpoint.signatures) signatures")
        }
    }

    /// A line such as `— rekor.example wNI9ajBF…`.
    private static func signature(_ line: Substring) throws(Malformed) -> Signature {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[0] == "\u{2014}", !words[1].isEmpty,
            let bytes = Base64.decode(String(words[2])), bytes.count > 4
        else { throw Malformed("the checkpoint has a signature line that is none") }
        return Signature(name: String(words[1]), hint: Array(bytes[..<4]), bytes: Array(bytes[4...]))
    }
}
