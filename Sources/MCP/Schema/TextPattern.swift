import Synchronization

/// A regular expression of a schema (`pattern`): ECMA 262 in spirit, matched anywhere in the text, by code points.
///
/// It is compiled once when first used and kept behind a lock, because compiling costs more than most matches and a
/// start-up that compiles every tool's patterns would be felt.
final class TextPattern: Sendable {
    let source: String
    private let translated: String
    private let compiled: Mutex<Compiled>

    private struct Compiled {
        var regex: Regex<AnyRegexOutput>?
    }

    /// A pattern.
    ///
    /// Throws the parser's error when it is no regular expression.
    init(_ source: String) throws {
        self.source = source
        translated = TextPattern.translate(source)
        _ = try Regex(translated)
        compiled = Mutex(Compiled())
    }

    /// Whether the text has a match.
    func matches(_ text: String) -> Bool {
        compiled.withLock { compiled in
            let regex: Regex<AnyRegexOutput>
            if let known = compiled.regex {
                regex = known
            } else {
                guard let fresh = try? Regex(translated) else { return false }
                regex = fresh.matchingSemantics(.unicodeScalar)
                compiled.regex = regex
            }
            return (try? regex.firstMatch(in: text)) != nil
        }
    }

    /// ECMA's `$` is the very end; Swift's would let a final line break pass, which must not get through a check.
    private static func translate(_ source: String) -> String {
        var out = ""
        var isEscaped = false, isInClass = false
        for character in source.unicodeScalars {
            if isEscaped {
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == "[" {
                isInClass = true
            } else if character == "]" {
                isInClass = false
            } else if character == "$", !isInClass {
                out += #"\z"#
                continue
            }
            out.unicodeScalars.append(character)
        }
        return out
    }
}
