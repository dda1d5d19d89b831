import Appliance
import Platform

/// An answer as its record has it: without secrets, and of a long one the beginning.
///
/// As much is kept as `llm_request_result` shows at most. The rest is in the output of the run, where it is read in parts, so that
/// nothing long is stored twice.
struct RecordedText: Sendable {
    /// Characters that are kept, in UTF-16 units.
    static let longest = 2_000_000
    /// Characters behind those that are looked at, so that the beginning of a secret is not kept for want of its end.
    private static let margin = 64 << 10

    /// What is kept.
    let text: String
    /// How many characters the answer has when not all of them are kept; `nil` when they are.
    let characters: Int?

    /// What is kept of an answer; a long one is read on a thread of its own.
    ///
    /// Throws what the file system throws.
    static func read(_ answer: WrittenText, _ redacts: Bool) async throws(GatewayError) -> RecordedText {
        try await BlockingThread.run("answer") { () throws(GatewayError) in try RecordedText(answer, redacts)
        }
    }

    /// Whether an answer is read before the store's thread has to do with it.
    static func isLong(_ answer: WrittenText) -> Bool { answer.size > longest }

    /// What is kept of an answer.
    ///
    /// Throws what the file system throws.
    init(_ answer: WrittenText, _ redacts: Bool) throws(GatewayError) {
        if let text = answer.inMemory, text.utf8.count <= RecordedText.longest {
            self.text = RecordedText.clean(text, redacts)
            characters = nil
            return
        }
        var beginning = TextWindow(limit: RecordedText.longest + RecordedText.margin)
        var whole = TextWindow(offset: .max, limit: 0)
        try answer.forEachPiece { piece throws(GatewayError) in
            beginning.take(piece)
            whole.take(piece)
            return true
        }
        beginning.finish()
        whole.finish()
        let clean = RecordedText.clean(beginning.text, redacts)
        let kept = RecordedText.prefix(clean, RecordedText.longest)
        text = kept.text
        characters = kept.isShortened || beginning.isTruncated ? whole.next : nil
    }

    /// A text without the secrets in it, if that is wanted.
    static func clean(_ text: String, _ redacts: Bool) -> String {
        redacts ? Redaction.secrets(in: text) : text
    }

    /// At most so many characters, counted as the contract's JavaScript does, in UTF-16 units.
    static func prefix(_ text: String, _ maximum: Int) -> (text: String, isShortened: Bool) {
        guard
            let end = text.utf16.index(
                text.utf16.startIndex,
                offsetBy: maximum,
                limitedBy: text.utf16.endIndex
            ),
            end < text.utf16.endIndex
        else { return (text, false) }
        // A pair of units is one character; half of it would be none.
        return (String(text[..<end.roundedDown(in: text)]), true)
    }
}

extension String.Index {
    fileprivate func roundedDown(in text: String) -> String.Index {
        samePosition(in: text.unicodeScalars) ?? text.utf16.index(before: self)
    }
}
