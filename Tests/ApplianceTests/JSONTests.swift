import Appliance
import Testing

@Suite("JSON")
struct JSONTests {
    @Test(
        "comes out as it went in",
        arguments: [
            "null", "true", "[]", "{}", "[1,2,3]", #"{"b":1,"a":{"z":null,"y":[false]}}"#, "-0.5", "1e-07",
            "123456789012",
            #""a\"b\\c\nd\u0001""#, #""grün 🙂""#, "9223372036854775807", "-9223372036854775808",
            "999999999999999999", "-999999999999999999",
            "1000000000000000000", "1.5e+300",
        ]
    )
    func roundTrip(text: String) throws {
        #expect(try JSON.parse(text).compactText == text)
    }

    @Test(
        "reads escapes, surrogate pairs and white space",
        arguments: [
            (#""\u00e4\/\b\f\t""#, JSON.string("ä/\u{8}\u{c}\t")), (#""\ud83d\ude42""#, .string("🙂")),
            (#""\ud83d!""#, .string("\u{FFFD}!")), (" [ 1 , 2 ] \n", JSON.array([1, 2])), ("1.0", .double(1)),
            ("-0", .int(0)),
        ]
    )
    func reads(text: String, expected: JSON) throws {
        #expect(try JSON.parse(text) == expected)
    }

    @Test(
        "refuses what is not JSON and says where",
        arguments: [
            ("", "the text ends where a value is expected", 0),
            ("{", "expected a member name in double quotes", 1),
            ("[1,]", "expected a value", 3), (#"{"a":1,}"#, "expected a member name in double quotes", 7),
            ("01", "a number may not start with 0", 2), ("nul", "expected null", 0),
            ("[1] x", "unexpected text after the value", 4),
            ("\"a\nb\"", "a control character in a string", 2), (#""\x""#, "an unknown escape", 3),
            ("1e999", "the number is out of range", 5), ("{\"a\" 1}", "expected ':'", 5),
            ("+1", "expected a value", 0),
            ("\"abc", "the text ends inside a string", 4),
            (#""\u12g4""#, "expected four hexadecimal digits", 5),
        ]
    )
    func refuses(text: String, reason: String, offset: Int) {
        #expect(throws: JSONSyntaxError(reason: reason, offset: offset)) { try JSON.parse(text) }
    }

    @Test("refuses invalid UTF-8")
    func invalidBytes() {
        #expect(throws: JSONSyntaxError.self) { try JSON.parse([0x22, 0xFF, 0x22] as [UInt8]) }
        #expect(throws: JSONSyntaxError.self) {
            try JSON.parse([0x22, 0x5C, 0x6E, 0xC0, 0x80, 0x22] as [UInt8])
        }
    }

    @Test("bounds the depth, so that hostile text cannot exhaust the stack")
    func depth() throws {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: JSONSyntaxError.self) { try JSON.parse(deep) }
        let allowed = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
        #expect(try JSON.parse(allowed).compactText == allowed)
    }

    @Test("of two members of one name the last counts")
    func duplicates() throws {
        #expect(try JSON.parse(#"{"a":1,"a":2}"#)["a"] == 2)
    }

    @Test("escapes what has to be wherever it stands in a text, and nothing else")
    func escapes() throws {
        let marks: [UInt8] = Array(0..<0x80) + [0xC3]
        for mark in marks {
            for length in 0..<19 {
                for place in 0...length {
                    var bytes = [UInt8](repeating: 0x21, count: length)
                    bytes.insert(contentsOf: mark == 0xC3 ? [0xC3, 0xA9] : [mark], at: place)
                    let text = String(decoding: bytes, as: UTF8.self)
                    let written = JSON.string(text).compact
                    let isPlain = mark >= 0x20 && mark != 0x22 && mark != 0x5C
                    #expect(isPlain == (written == [0x22] + bytes + [0x22]))
                    #expect(try JSON.parse(written) == .string(text))
                    #expect(!written.contains { $0 < 0x20 })
                }
            }
        }
    }

    @Test("is printed with two spaces, as the reference prints it")
    func pretty() {
        let value: JSON = ["ok": true, "list": [1, "a"], "empty": [:], "none": []]
        #expect(
            value.prettyText == """
                {
                  "ok": true,
                  "list": [
                    1,
                    "a"
                  ],
                  "empty": {},
                  "none": []
                }
                """
        )
    }

    @Test("members can be set and removed through subscripts")
    func subscripts() {
        var value: JSON = ["a": 1]
        value["b"] = "x"
        value["a"] = nil
        #expect(value.compactText == #"{"b":"x"}"#)
        #expect(value["b"]?.string == "x")
        #expect(value["c"] == nil)
    }

    @Test("numbers that JSON lacks become null")
    func notANumber() {
        #expect(JSON.array([.double(.nan), .double(.infinity), .double(3)]).compactText == "[null,null,3]")
    }
}
