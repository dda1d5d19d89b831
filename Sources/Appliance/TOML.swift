/// A TOML 1.0.0 value (https://toml.io/en/v1.0.0).
///
/// Dates and times stay validated text: `T` and `Z` in upper case, the fraction as written.
package enum TOML: Sendable, Equatable {
    case string(String)
    case integer(Int64)
    case float(Double)
    case boolean(Bool)
    /// With an offset: `1979-05-27T07:32:00Z`.
    case offsetDateTime(String)
    /// Without an offset: no instant, but what a clock on the wall shows.
    case localDateTime(String)
    /// `1979-05-27`.
    case localDate(String)
    /// `07:32:00`, with a fraction where there was one.
    case localTime(String)
    /// Each element with its place in the text, for error messages.
    case array([TOMLElement])
    /// Also an inline one, and the tables of dotted keys.
    case table(TOMLTable)

    /// The text of a string.
    package var string: String? { if case .string(let value) = self { value } else { nil } }
    /// The value of an integer.
    package var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
    /// The value of a boolean.
    package var boolean: Bool? { if case .boolean(let value) = self { value } else { nil } }
    /// The value of a float or an integer.
    package var number: Double? {
        switch self {
        case .float(let value): value
        case .integer(let value): Double(value)
        default: nil
        }
    }
    /// The elements of an array.
    package var array: [TOMLElement]? { if case .array(let value) = self { value } else { nil } }
    /// The entries of a table.
    package var table: TOMLTable? { if case .table(let value) = self { value } else { nil } }

    /// The type with its article, for messages: `a string`, `an array`.
    package var typeName: String {
        switch self {
        case .string: "a string"
        case .integer: "an integer"
        case .float: "a float"
        case .boolean: "a boolean"
        case .offsetDateTime, .localDateTime: "a date and time"
        case .localDate: "a date"
        case .localTime: "a time"
        case .array: "an array"
        case .table: "a table"
        }
    }

    /// Parses a document in UTF-8; a byte order mark at its start is skipped.
    ///
    /// `maximumDepth` bounds tables and arrays within each other, because recursion is bounded by it. Takes time linear
    /// in the length of the document.
    package static func parse(
        _ bytes: some Sequence<UInt8>,
        maximumDepth: Int = 64
    ) throws(TOMLError) -> TOMLTable {
        var parser = TOMLParser(Array(bytes), maximumDepth: maximumDepth)
        return try parser.document()
    }

    /// Where the comments of a document stand, in bytes: from the `#` to before the end of the line.
    package static func comments(in bytes: [UInt8], maximumDepth: Int = 64) throws(TOMLError) -> [Range<Int>]
    {
        var parser = TOMLParser(bytes, maximumDepth: maximumDepth)
        _ = try parser.document()
        return parser.comments
    }

    /// Parses a document.
    package static func parse(_ text: String, maximumDepth: Int = 64) throws(TOMLError) -> TOMLTable {
        try parse(text.utf8, maximumDepth: maximumDepth)
    }
}

/// A value and the line it starts on.
package struct TOMLElement: Sendable, Equatable {
    /// The value.
    package var value: TOML
    /// Its line, counted from 1.
    package var line: Int

    /// A value on a line, counted from 1.
    package init(_ value: TOML, line: Int) {
        self.value = value
        self.line = line
    }
}

/// The entries of a table in the order of the document.
package struct TOMLTable: Sendable, Equatable {
    /// One key with its value.
    package struct Entry: Sendable, Equatable {
        /// The key, unquoted.
        package var key: String
        /// The line of the key, counted from 1.
        package var line: Int
        /// The value and its line.
        package var element: TOMLElement
    }

    /// The entries in the order of the document; keys are unique.
    package private(set) var entries: [Entry] = []
    /// The line of the table's header, brace or first dotted key, counted from 1.
    package var line: Int
    private var places: [String: Int] = [:]

    /// An empty table that starts on a line, counted from 1.
    package init(line: Int = 1) { self.line = line }

    /// The value of a key.
    package subscript(key: String) -> TOML? { places[key].map { entries[$0].element.value } }
    /// The key's entry.
    package func entry(_ key: String) -> Entry? { places[key].map { entries[$0] } }
    /// The line of a key, counted from 1.
    package func line(of key: String) -> Int? { entry(key)?.line }
    /// The keys in the order of the document.
    package var keys: [String] { entries.map(\.key) }
    /// Whether there is no entry.
    package var isEmpty: Bool { entries.isEmpty }

    /// Adds an entry; one with the same key is replaced in its place.
    package mutating func set(_ key: String, to element: TOMLElement, line: Int) {
        let entry = Entry(key: key, line: line, element: element)
        if let place = places[key] {
            entries[place] = entry
        } else {
            places[key] = entries.count
            entries.append(entry)
        }
    }
}

/// Why a document is not TOML, and where.
package struct TOMLError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was found and what was expected: lower-case start, no final period.
    package let reason: String
    /// The line, counted from 1.
    package let line: Int
    /// The column, in Unicode scalars, counted from 1.
    package let column: Int

    /// One sentence for an error message: where, and why.
    package var description: String { "line \(line), column \(column): \(reason)" }
}
