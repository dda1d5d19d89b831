import Appliance
import Testing

@Suite("Text of strangers in messages")
struct ForeignTextTests {
    @Test(
        "has nothing in it that steers a terminal or turns the line",
        arguments: [
            ("plain – ünïcode 日本", "plain – ünïcode 日本"),
            ("\u{1B}[2Jgone", "\\u{1B}[2Jgone"),
            ("a\nb\r\tc\0", "a\\u{A}b\\u{D}\\u{9}c\\u{0}"),
            ("\u{9B}31m", "\\u{9B}31m"),
            ("gpj.\u{202E}exe", "gpj.\\u{202E}exe"),
            ("zero\u{200B}width\u{FEFF}", "zero\\u{200B}width\\u{FEFF}"),
            ("line\u{2028}end", "line\\u{2028}end"),
            ("👩\u{200D}💻", "👩\u{200D}💻"),
            ("\u{7F}", "\\u{7F}"),
        ]
    )
    func escaped(text: String, expected: String) {
        #expect(ForeignText.shown(text) == expected)
    }

    @Test("is cut where it is too long, and says so")
    func cut() {
        #expect(ForeignText.shown("abcdef", limit: 6) == "abcdef")
        #expect(ForeignText.shown("abcdefg", limit: 6) == "abcdef…")
    }

    @Test("keeps its lines and tabs where it has several")
    func lines() {
        #expect(ForeignText.lines("one\n\ttwo") == "one\n\ttwo")
        #expect(ForeignText.lines("one\r\n\u{1B}two ü") == "one\\u{D}\n\\u{1B}two ü")
    }
}
