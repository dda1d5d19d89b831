import Appliance
import Testing

@testable import MCP

@Suite("Checking a value against a JSON schema")
struct SchemaTests {
    /// A schema, a value, and what is said about it.
    struct Example: Sendable, CustomTestStringConvertible {
        let schema: String
        let value: String
        let violations: [String]

        init(_ schema: String, _ value: String, _ violations: String...) {
            self.schema = schema
            self.value = value
            self.violations = violations
        }

        var testDescription: String { "\(value) in \(schema)" }
    }

    static let examples = [
        Example(#"{"type":"string"}"#, #""a""#),
        Example(#"{"type":"string"}"#, "1", "/: expected string, got integer"),
        Example(#"{"type":["string","null"]}"#, "null"),
        Example(#"{"type":["string","null"]}"#, "1.5", "/: expected string or null, got number"),
        Example(#"{"type":"integer"}"#, "1.0"),
        Example(#"{"type":"integer"}"#, "1.5", "/: expected integer, got number"),
        Example(#"{"type":"number"}"#, "1"),
        Example(#"{"type":"boolean"}"#, #""true""#, "/: expected boolean, got string"),
        Example(
            #"{"enum":["low","high"]}"#,
            #""hihg""#,
            #"/: expected one of "low" or "high", got "hihg", did you mean "high"?"#
        ),
        Example(#"{"enum":[1,2]}"#, "1.0"),
        Example(#"{"const":{"a":[1]}}"#, #"{"a":[1.0]}"#),
        Example(#"{"const":"x"}"#, #""y""#, #"/: expected "x", got "y""#),
        Example(
            #"{"properties":{"prompt":{"type":"string"},"n":{"type":"integer"}},"required":["prompt","model"]}"#,
            #"{"prompt":1,"n":"x"}"#,
            "/model: is required",
            "/prompt: expected string, got integer",
            "/n: expected integer, got string"
        ),
        Example(
            #"{"properties":{"prompt":{}},"additionalProperties":false}"#,
            #"{"promt":1,"zzz":2}"#,
            "/promt: is unknown, did you mean 'prompt'?",
            "/zzz: is unknown"
        ),
        Example(
            #"{"additionalProperties":{"type":"string"},"patternProperties":{"^x-":true}}"#,
            #"{"x-a":1,"b":2}"#,
            "/b: expected string, got integer"
        ),
        Example(
            #"{"propertyNames":{"maxLength":2}}"#,
            #"{"abc":1}"#,
            "/abc: expected at most 2 characters, got 3"
        ),
        Example(#"{"minProperties":1}"#, "{}", "/: expected at least 1 members, got 0"),
        Example(#"{"dependentRequired":{"a":["b"]}}"#, #"{"a":1}"#, "/b: is required together with 'a'"),
        Example(
            #"{"type":"array","items":{"type":"string"}}"#,
            #"["a",1,{"b":2}]"#,
            "/1: expected string, got integer",
            "/2: expected string, got object"
        ),
        Example(
            #"{"prefixItems":[{"type":"string"}],"items":false}"#,
            #"[1,2]"#,
            "/0: expected string, got integer",
            "/1: is not allowed"
        ),
        Example(#"{"minItems":1,"maxItems":2}"#, "[]", "/: expected at least 1 elements, got 0"),
        Example(#"{"maxItems":2}"#, "[1,2,3]", "/: expected at most 2 elements, got 3"),
        Example(
            #"{"uniqueItems":true}"#,
            #"[{"a":1,"b":2},{"b":2,"a":1.0}]"#,
            "/1: repeats an earlier element"
        ),
        Example(#"{"uniqueItems":true}"#, #"[1,"1",true,null]"#),
        Example(
            #"{"contains":{"const":1},"maxContains":1}"#,
            "[1,1]",
            "/: expected at most 1 matching elements, got 2"
        ),
        Example(#"{"contains":{"const":1}}"#, "[2]", "/: expected at least 1 matching elements, got 0"),
        Example(#"{"minLength":2,"maxLength":3}"#, #""é""#, "/: expected at least 2 characters, got 1"),
        Example(#"{"maxLength":3}"#, #""🙂🙂🙂""#),
        Example(#"{"pattern":"^[a-z]+$"}"#, #""abc""#),
        Example(#"{"pattern":"^[a-z]+$"}"#, #""abc\n""#, "/: does not match the pattern ^[a-z]+$"),
        Example(#"{"pattern":"b"}"#, #""abc""#),
        Example(#"{"pattern":"^[$]\\$$"}"#, #""$$""#),
        Example(#"{"minimum":1,"maximum":3}"#, "0", "/: expected at least 1, got 0"),
        Example(#"{"maximum":3}"#, "3.5", "/: expected at most 3, got 3.5"),
        Example(#"{"exclusiveMinimum":0}"#, "0", "/: expected more than 0, got 0"),
        Example(#"{"exclusiveMaximum":1}"#, "1", "/: expected less than 1, got 1"),
        Example(#"{"multipleOf":0.1}"#, "0.3"),
        Example(#"{"multipleOf":5}"#, "12", "/: expected a multiple of 5, got 12"),
        Example(
            #"{"anyOf":[{"type":"string"},{"type":"object"}]}"#,
            "1",
            "/: expected string or object, got integer"
        ),
        Example(
            #"{"anyOf":[{"properties":{"a":{"type":"string"}},"required":["a","b"]},{"required":["c"]}]}"#,
            #"{"a":1}"#,
            "/: fits none of the 2 alternatives",
            "/c: is required"
        ),
        Example(#"{"oneOf":[{"type":"integer"},{"minimum":2}]}"#, "1"),
        Example(
            #"{"oneOf":[{"type":"integer"},{"minimum":2}]}"#,
            "3",
            "/: fits 2 alternatives, expected exactly one"
        ),
        Example(
            #"{"allOf":[{"minLength":1},{"maxLength":2}]}"#,
            #""abc""#,
            "/: expected at most 2 characters, got 3"
        ),
        Example(#"{"not":{"const":1}}"#, "1", "/: is one of the values that are not allowed"),
        Example(
            #"{"if":{"const":1},"then":{"type":"string"},"else":true}"#,
            "1",
            "/: expected string, got integer"
        ),
        Example(
            #"{"if":{"const":1},"then":false,"else":{"maximum":5}}"#,
            "6",
            "/: expected at most 5, got 6"
        ),
        Example(#"false"#, "1", "/: is not allowed"),
        Example(#"{"format":"email"}"#, #""no""#),
        Example(
            ##"{"$defs":{"a/b":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a~1b"}}}"##,
            #"{"x":1}"#,
            "/x: expected string, got integer"
        ),
        Example(
            ##"{"$defs":{"n":{"$anchor":"tree","type":"object","properties":{"next":{"$ref":"#tree"}}}},"$ref":"#/$defs/n"}"##,
            #"{"next":{"next":[]}}"#,
            "/next/next: expected object, got array"
        ),
        Example(##"{"$ref":"#"}"##, "1", "/: is nested too deeply"),
        Example(
            #"{"properties":{"a/b~c":{"type":"null"}}}"#,
            #"{"a/b~c":1}"#,
            "/a~1b~0c: expected null, got integer"
        ),
    ]

    @Test("names every violation with its path", arguments: examples)
    func violations(_ example: Example) throws {
        let schema = try Schema(parsed(example.schema))
        #expect(schema.violations(of: parsed(example.value)).map(\.description) == example.violations)
    }

    @Test("keeps long values and endless lists of violations out of its answer")
    func bounded() throws {
        let schema = try Schema(["items": ["enum": ["a", "b"]]])
        let long = String(repeating: "x", count: 1_000_000)
        let violations = schema.violations(of: .array(Array(repeating: .string(long), count: 1000)))
        #expect(violations.count == 64)
        #expect(violations[0].message.utf8.count < 120)
    }

    @Test(
        "refuses a schema that means nothing",
        arguments: [
            (#"{"type":"text"}"#, "the schema at '/type' names an unknown type 'text'"),
            (
                #"{"properties":{"a":1}}"#,
                "the schema at '/properties/a' must be an object or a boolean, got integer"
            ),
            (##"{"$ref":"#/$defs/none"}"##, "the schema refers to '/$defs/none', which is not in it"),
            (
                #"{"$ref":"https://example.org/s"}"#,
                "the schema at '/$ref' must be a reference within the schema, got \"https://example.org/s\""
            ),
            (#"{"pattern":"["}"#, "the schema at '/pattern' is no regular expression: '['"),
            (#"{"maxLength":-1}"#, "the schema at '/maxLength' must be a count"),
        ]
    )
    func refused(_ schema: String, _ message: String) {
        let error = #expect(throws: GatewayError.self) { _ = try Schema(parsed(schema)) }
        #expect(error?.message == message)
        #expect(error?.code == "invalid-schema")
    }

    @Test("looks for no better name once no more is said")
    func manyUnknown() throws {
        let names = (0..<200).map { "parameter\($0)" }
        let properties = JSONObject(names.map { (name: $0, value: JSON.object(JSONObject())) })
        let schema = try Schema(["properties": .object(properties), "additionalProperties": false])
        let unknown = JSONObject((0..<20_000).map { (name: "unknown\($0)", value: JSON.null) })
        let start = ContinuousClock.now
        #expect(schema.violations(of: .object(unknown)).count == Schema.maximumViolations)
        // Each suggestion costs some 100 µs here: all of them would take seconds.
        #expect(ContinuousClock.now - start < .seconds(2))
    }
}
