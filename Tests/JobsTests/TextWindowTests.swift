import Platform
import Testing

@testable import Jobs

@Suite("Reading a long text in parts")
struct TextWindowTests {
    private static let text = "añ→🙂 ok\n\u{FFFD}ende"

    /// The parts of a text, read one after the other.
    private func parts(of bytes: [UInt8], limit: Int) throws -> [String] {
        var parts: [String] = []
        var offset = 0
        while true {
            let window = try TextWindow(offset: offset, limit: limit).over(WrittenBytes(bytes))
            parts.append(window.text)
            offset = window.next
            if !window.isTruncated { return parts }
        }
    }

    @Test("gives the whole text, whatever the size of the parts", arguments: 2...16)
    func whole(limit: Int) throws {
        let parts = try parts(of: Array(TextWindowTests.text.utf8), limit: limit)
        #expect(parts.joined() == TextWindowTests.text)
        #expect(parts.allSatisfy { $0.utf16.count <= limit && !$0.isEmpty })
    }

    @Test("counts as JavaScript does, and cuts no character in two")
    func units() {
        let window = TextWindow(limit: 4).over("añ→🙂b")
        #expect(window.text == "añ→" && window.isTruncated && window.next == 3)
        let rest = TextWindow(offset: 3, limit: 3).over("añ→🙂b")
        #expect(rest.text == "🙂b" && !rest.isTruncated && rest.next == 6)
        // In the middle of a pair: the character as a whole.
        #expect(TextWindow(offset: 4, limit: 10).over("añ→🙂b").text == "🙂b")
        #expect(TextWindow(offset: 99, limit: 10).over("añ→🙂b").next == 6)
        #expect(TextWindow(limit: 10).over("") == TextWindow(limit: 10))
    }

    @Test("takes bytes in any pieces for the same text, bytes that are no text among them", arguments: 1...7)
    func pieces(size: Int) {
        let bytes =
            Array("→🙂".utf8) + [0xFF, 0xE2, 0x82, 0x41, 0xF0, 0x9F, 0xC3] + Array("é".utf8) + [0xE2, 0x82]
        var window = TextWindow(limit: 100)
        for start in stride(from: 0, to: bytes.count, by: size) {
            window.take(Array(bytes[start..<min(bytes.count, start + size)]))
        }
        window.finish()
        #expect(window.text == String(decoding: bytes, as: UTF8.self))
        #expect(
            window.text.unicodeScalars.count == String(decoding: bytes, as: UTF8.self).unicodeScalars.count
        )
    }

    @Test("leaves a character that is still being written for the next reading")
    func open() {
        let bytes = Array("a→b🙂".utf8)
        var read = ""
        for count in 0...bytes.count {
            // As a reader comes back again and again while the text grows.
            var window = TextWindow(offset: read.utf16.count, limit: 100)
            window.take(Array(bytes[..<count]))
            read += window.text
        }
        #expect(read == "a→b🙂")
    }
}
