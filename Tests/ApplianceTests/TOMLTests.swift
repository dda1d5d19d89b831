import Appliance
import Testing

@Suite("Reading TOML")
struct TOMLTests {
    @Test(
        "reads every kind of value",
        arguments: [
            ("1_000", .integer(1000)), ("-17", .integer(-17)), ("+0", .integer(0)),
            ("-9223372036854775808", .integer(.min)), ("0xDEAD_beef", .integer(0xDEAD_BEEF)),
            ("0o755", .integer(493)), ("0b1010", .integer(10)),
            ("3.14", .float(3.14)), ("-2E-2", .float(-0.02)), ("6.626e-34", .float(6.626e-34)),
            ("1e+1_0", .float(1e10)), ("-inf", .float(-.infinity)),
            ("true", .boolean(true)), ("false", .boolean(false)),
            ("1979-05-27 07:32:00z", .offsetDateTime("1979-05-27T07:32:00Z")),
            ("1979-05-27T00:32:00.999-07:00", .offsetDateTime("1979-05-27T00:32:00.999-07:00")),
            ("1979-05-27t07:32:00.5", .localDateTime("1979-05-27T07:32:00.5")),
            ("2024-02-29", .localDate("2024-02-29")), ("07:32:00", .localTime("07:32:00")),
            (#""tab\t\u00e9\U0001F600""#, .string("tab\té😀")),
            ("'C:\\no\\escape'", .string("C:\\no\\escape")),
            ("\"\"\"\nfirst \\\n   second\"\"\"\"", .string("first second\"")),
            ("'''\r\na'b''c'''", .string("a'b''c")),
        ] as [(String, TOML)]
    )
    func values(text: String, expected: TOML) throws {
        #expect(try TOML.parse("key = \(text) # comment")["key"] == expected)
    }

    @Test("keeps the order and the lines of keys, values and elements")
    func lines() throws {
        let table = try TOML.parse(
            """
            b.c = 1
            a = [
              1,

              { x = 2 }, # comment
            ]
            [[list]]
            [[list]]
            "quoted key" = '''
            text'''
            """
        )
        #expect(table.keys == ["b", "a", "list"])
        #expect(table.line(of: "a") == 2)
        #expect(table["b"]?.table?.line(of: "c") == 1)
        #expect(table["a"]?.array?.map(\.line) == [3, 5])
        #expect(table["list"]?.array?.map(\.line) == [7, 8])
        #expect(table["list"]?.array?.last?.value.table?.entry("quoted key")?.element.line == 9)
    }

    @Test(
        "refuses what is not TOML and says where and why",
        arguments: [
            ("a = 1\nb = ", "line 2, column 5: expected a value, found the end of the document"),
            ("a = yes", "line 1, column 5: expected a value, found 'yes'; text is written in quotes"),
            ("a = 1 b = 2", "line 1, column 7: expected the end of the line, found 'b'"),
            ("a 1", "line 1, column 3: expected '=' after the key"),
            ("a = 1\na = 2", "line 2, column 1: the key 'a' is already defined on line 1"),
            ("[a]\n[a]", "line 2, column 2: the table 'a' is already defined on line 1"),
            ("a = {}\n[a.b]", "line 2, column 2: 'a' is a table and cannot have sub-tables"),
            ("a = []\n[[a]]", "line 2, column 3: the key 'a' is already defined on line 1"),
            ("[a]\n[[a]]", "line 2, column 3: 'a' is already a table, on line 1, not an array"),
            (
                "[a.b]\n[a]\nb.c = 1",
                "line 3, column 1: the table 'b' was defined on line 1; a dotted key cannot add to it"
            ),
            ("[[a]]\n[b]\n[[a.b]]\n[a]", "line 4, column 2: the key 'a' is already defined on line 1"),
            ("[a\nb = 1", "line 1, column 3: expected ']' at the end of the table header"),
            ("a = [1 2]", "line 1, column 8: expected ',' or ']' in the array, found '2'"),
            ("a = {b = 1,}", "line 1, column 12: expected a key, found '}'"),
            (
                "a = {b = 1",
                "line 1, column 11: expected ',' or '}' in the inline table, found the end of the document"
            ),
            ("é = 1", "line 1, column 1: expected a key, found 'é'"),
            (
                "a = \"é\\q\"",
                "line 1, column 7: an unknown escape sequence; a backslash is written '\\\\', or the"
                    + " string put in single quotes"
            ),
            ("a = \"\\ud800\"", "line 1, column 6: the escape sequence is no Unicode character"),
            ("a = \"b\nc\"", "line 1, column 7: the line ends inside a string"),
            ("a = '''b", "line 1, column 9: the document ends inside a multi-line string"),
            ("# \u{1}", "line 1, column 3: a control character (U+0001) in a comment"),
            ("a = 1\rb = 2", "line 1, column 6: a carriage return without a line feed"),
            ("a = 01", "line 1, column 5: a number cannot start with a zero"),
            ("a = 1__0", "line 1, column 5: '1__0' is not a number, a date or a time"),
            (
                "a = 9223372036854775808",
                "line 1, column 5: the integer '9223372036854775808' does not fit in 64 bits"
            ),
            ("a = -0x1", "line 1, column 5: a number in base 16 cannot have a sign"),
            ("a = 2023-02-29", "line 1, column 5: '2023-02-29' is not a day of the calendar"),
            ("a = 24:00:00", "line 1, column 5: '24:00:00' is not a time of the day"),
            ("a = 10:00", "line 1, column 5: '10:00' is not a time of the form HH:MM:SS"),
        ]
    )
    func refusals(text: String, message: String) {
        let error = #expect(throws: TOMLError.self) { try TOML.parse(text) }
        #expect(error?.description == message)
    }

    @Test("refuses invalid UTF-8 and says where")
    func encoding() {
        let error = #expect(throws: TOMLError.self) { try TOML.parse(Array("a = 1\nb = \"".utf8) + [0xC3]) }
        #expect(error?.description == "line 2, column 6: invalid UTF-8")
    }

    @Test("bounds the depth of arrays, braces, headers and dotted keys")
    func depth() {
        let deep = 100_000
        let keys = Array(repeating: "a", count: deep).joined(separator: ".")
        for text in [
            "a = " + String(repeating: "[", count: deep), "a = " + String(repeating: "{a=", count: deep),
            "[\(keys)]", "[[\(keys)]]", "\(keys) = 1",
        ] {
            let error = #expect(throws: TOMLError.self) { try TOML.parse(text) }
            #expect(error?.reason == "tables and arrays are nested more than 64 deep")
        }
    }

    @Test("takes time in proportion to the length, on one line or on many")
    func linearTime() throws {
        func seconds(_ text: String) throws -> Double {
            let start = ContinuousClock.now
            _ = try TOML.parse(text)
            let elapsed = (ContinuousClock.now - start).components
            return Double(elapsed.seconds) + Double(elapsed.attoseconds) / 1e18
        }
        let documents: [(Int) -> String] = [
            { count in "a = {" + (0..<count).map { "k\($0) = 1" }.joined(separator: ", ") + "}" },
            { count in (0..<count).map { "[[a]]\nb.c\($0) = 1\n" }.joined() },
            { count in "a = \"" + String(repeating: "\\n", count: count * 4) + "\"" },
            { count in (0..<count).map { "k.k\($0) = [1]\n" }.joined() },
        ]
        for document in documents {
            let small = try seconds(document(2000)), large = try seconds(document(32_000))
            // Sixteen times the work; a quadratic reader would need 256 times.
            #expect(large < max(small, 0.002) * 90)
        }
    }
}
