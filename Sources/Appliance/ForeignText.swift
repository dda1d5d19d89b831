/// Text that strangers wrote (names in certificates, indexes, archives, answers of servers), made fit for a message.
package enum ForeignText {
    /// One line of it: what steers a terminal, breaks the line or turns the direction of writing is escaped as `\u{1B}`.
    ///
    /// Cut after `limit` characters, with `…` in place of the rest.
    package static func shown(_ text: String, limit: Int = 80) -> String {
        let head = text.unicodeScalars.prefix(limit)
        let clean = escaped(head) { _ in false }
        return head.endIndex == text.unicodeScalars.endIndex ? clean : clean + "…"
    }

    /// All of a text whose own line ends and tabs stay: for the last step before a terminal.
    package static func lines(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { (0x20..<0x7F).contains($0) || $0 == 0x0A || $0 == 0x09 }
        return isPlain ? text : escaped(text.unicodeScalars) { $0 == "\n" || $0 == "\t" }
    }

    private static func escaped(
        _ scalars: some Sequence<Unicode.Scalar>,
        _ stays: (Unicode.Scalar) -> Bool
    ) -> String {
        var out = String.UnicodeScalarView()
        for scalar in scalars {
            if stays(scalar) || !isUnfit(scalar) {
                out.append(scalar)
            } else {
                out += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}".unicodeScalars
            }
        }
        return String(out)
    }

    /// Control characters, ends of lines, and format characters, which nobody sees: but for the two joiners, which belong to
    /// scripts and signs.
    private static func isUnfit(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: scalar.value != 0x200C && scalar.value != 0x200D
        default: false
        }
    }
}
