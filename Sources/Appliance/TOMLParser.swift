/// Reads a TOML document: first the structure (this file), with strings and scalars in files of their own.
///
/// Tables are built as nodes and frozen into values at the end, because a header may add to a table that was begun
/// anywhere before. What may be added to what is the `origin` of each node.
struct TOMLParser {
    let bytes: [UInt8]
    var position = 0
    var line = 1
    var lineStart = 0
    let maximumDepth: Int
    /// Where comments stand, from the `#` to before the end of the line, in bytes.
    private(set) var comments: [Range<Int>] = []
    /// Counts headers and inline tables: dotted keys may only add to tables that the same section made.
    private var section = 0

    init(_ bytes: [UInt8], maximumDepth: Int) {
        self.bytes = bytes
        self.maximumDepth = maximumDepth
    }

    mutating func document() throws(TOMLError) -> TOMLTable {
        try refuseInvalidUTF8()
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) {
            position = 3
            lineStart = 3
        }
        let root = TOMLNode(origin: .header, line: 1, depth: 0)
        var current = root
        while true {
            skipBlanks()
            switch peek {
            case nil: return root.frozen
            case UInt8(ascii: "#"), 0x0A, 0x0D: break
            case UInt8(ascii: "["): current = try header(in: root)
            default: try keyValue(in: current)
            }
            try endOfLine()
        }
    }

    // MARK: headers

    private mutating func header(in root: TOMLNode) throws(TOMLError) -> TOMLNode {
        section += 1
        position += 1
        let isArray = peek == UInt8(ascii: "[")
        if isArray { position += 1 }
        let path = try keys()
        for _ in 0..<(isArray ? 2 : 1) {
            guard peek == UInt8(ascii: "]") else {
                throw error("expected '\(isArray ? "]]" : "]")' at the end of the table header")
            }
            position += 1
        }
        var node = root
        for key in path.dropLast() {
            switch node.slots[key.text] {
            case nil: node = try child(key, of: node, origin: .implicit)
            case .table(let table, _): node = table
            case .tables(let tables, _): node = tables.nodes.last ?? node
            case .value(let element, _):
                throw error("'\(key.text)' is \(element.value.typeName) and cannot have sub-tables", at: key)
            }
        }
        guard let key = path.last else { return node }
        return try isArray ? appendTable(key, to: node) : openTable(key, in: node)
    }

    private func openTable(_ key: TOMLKey, in node: TOMLNode) throws(TOMLError) -> TOMLNode {
        switch node.slots[key.text] {
        case nil: return try child(key, of: node, origin: .header)
        case .table(let table, _) where table.origin == .implicit:
            table.origin = .header
            table.line = key.line
            return table
        case .table(let table, _):
            throw error("the table '\(key.text)' is already defined on line \(table.line)", at: key)
        case .tables(_, let line), .value(_, let line):
            throw error("the key '\(key.text)' is already defined on line \(line)", at: key)
        }
    }

    private func appendTable(_ key: TOMLKey, to node: TOMLNode) throws(TOMLError) -> TOMLNode {
        let table = TOMLNode(origin: .header, line: key.line, depth: node.depth + 2)
        guard table.depth <= maximumDepth else { throw tooDeep(at: key) }
        switch node.slots[key.text] {
        case nil: node.add(key, .tables(TOMLNodes(table), line: key.line))
        case .tables(let tables, _): tables.nodes.append(table)
        case .table(let other, _):
            throw error("'\(key.text)' is already a table, on line \(other.line), not an array", at: key)
        case .value(_, let line):
            throw error("the key '\(key.text)' is already defined on line \(line)", at: key)
        }
        return table
    }

    private func child(
        _ key: TOMLKey,
        of node: TOMLNode,
        origin: TOMLNode.Origin
    ) throws(TOMLError) -> TOMLNode {
        let table = TOMLNode(origin: origin, line: key.line, depth: node.depth + 1)
        guard table.depth <= maximumDepth else { throw tooDeep(at: key) }
        node.add(key, .table(table, line: key.line))
        return table
    }

    // MARK: keys and values

    private mutating func keyValue(in table: TOMLNode) throws(TOMLError) {
        let path = try keys()
        guard peek == UInt8(ascii: "=") else { throw error("expected '=' after the key") }
        position += 1
        skipBlanks()
        var node = table
        for key in path.dropLast() {
            switch node.slots[key.text] {
            case nil: node = try child(key, of: node, origin: .dotted(section))
            case .table(let next, _) where next.origin == .implicit:
                next.origin = .dotted(section)
                node = next
            case .table(let next, _) where next.origin == .dotted(section): node = next
            case .table(let next, _):
                throw error(
                    "the table '\(key.text)' was defined on line \(next.line); a dotted key cannot add to it",
                    at: key
                )
            case .tables(_, let line), .value(_, let line):
                throw error(
                    "'\(key.text)' was defined on line \(line); a dotted key cannot add to it",
                    at: key
                )
            }
        }
        guard let key = path.last else { return }
        if let slot = node.slots[key.text] {
            throw error("the key '\(key.text)' is already defined on line \(slot.line)", at: key)
        }
        let start = line
        let value = try value(depth: node.depth)
        node.add(key, .value(TOMLElement(value, line: start), line: key.line))
    }

    /// A dotted key with the blanks around it.
    private mutating func keys() throws(TOMLError) -> [TOMLKey] {
        var path: [TOMLKey] = []
        while true {
            skipBlanks()
            let start = position
            path.append(TOMLKey(text: try simpleKey(), line: line, lineStart: lineStart, position: start))
            skipBlanks()
            guard peek == UInt8(ascii: ".") else { return path }
            position += 1
        }
    }

    private mutating func simpleKey() throws(TOMLError) -> String {
        switch peek {
        case UInt8(ascii: "\""):
            guard !isNext("\"\"\"") else { throw error("a key cannot be a multi-line string") }
            return try basicString()
        case UInt8(ascii: "'"):
            guard !isNext("'''") else { throw error("a key cannot be a multi-line string") }
            return try literalString()
        default:
            let start = position
            while let byte = peek, TOMLParser.isBareKey(byte) { position += 1 }
            guard position > start else { throw error("expected a key, found \(found)") }
            return text(start..<position)
        }
    }

    private static func isBareKey(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    private mutating func value(depth: Int) throws(TOMLError) -> TOML {
        switch peek {
        case UInt8(ascii: "\""):
            return .string(isNext("\"\"\"") ? try multilineBasicString() : try basicString())
        case UInt8(ascii: "'"):
            return .string(isNext("'''") ? try multilineLiteralString() : try literalString())
        case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
        case UInt8(ascii: "{"): return .table(try inlineTable(depth: depth + 1))
        default: return try scalar()
        }
    }

    private mutating func array(depth: Int) throws(TOMLError) -> [TOMLElement] {
        guard depth <= maximumDepth else { throw tooDeep() }
        position += 1
        var elements: [TOMLElement] = []
        while true {
            try skipBlanksAndLines()
            if peek == UInt8(ascii: "]") { break }
            let start = line
            elements.append(TOMLElement(try value(depth: depth), line: start))
            try skipBlanksAndLines()
            if peek == UInt8(ascii: "]") { break }
            guard peek == UInt8(ascii: ",") else {
                throw error("expected ',' or ']' in the array, found \(found)")
            }
            position += 1
        }
        position += 1
        return elements
    }

    private mutating func inlineTable(depth: Int) throws(TOMLError) -> TOMLTable {
        guard depth <= maximumDepth else { throw tooDeep() }
        let outer = section
        section = TOMLNode.nextInlineSection(after: outer)
        defer { section = outer }
        let node = TOMLNode(origin: .header, line: line, depth: depth)
        position += 1
        skipBlanks()
        if peek == UInt8(ascii: "}") {
            position += 1
            return node.frozen
        }
        while true {
            try keyValue(in: node)
            skipBlanks()
            if peek == UInt8(ascii: "}") { break }
            guard peek == UInt8(ascii: ",") else {
                throw error("expected ',' or '}' in the inline table, found \(found)")
            }
            position += 1
        }
        position += 1
        return node.frozen
    }

    // MARK: the space between

    var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    func isNext(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard position + count <= bytes.count else { return false }
        return text.withUTF8Buffer { $0.elementsEqual(bytes[position..<position + count]) }
    }

    func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

    private mutating func skipBlanks() {
        while peek == 0x20 || peek == 0x09 { position += 1 }
    }

    private mutating func skipBlanksAndLines() throws(TOMLError) {
        while true {
            skipBlanks()
            switch peek {
            case UInt8(ascii: "#"): try comment()
            case 0x0A, 0x0D: try newline()
            default: return
            }
        }
    }

    /// Consumes what may follow an expression: a comment and the newline, or the end of the document.
    private mutating func endOfLine() throws(TOMLError) {
        skipBlanks()
        if peek == UInt8(ascii: "#") { try comment() }
        switch peek {
        case nil: return
        case 0x0A, 0x0D: try newline()
        default: throw error("expected the end of the line, found \(found)")
        }
    }

    private mutating func comment() throws(TOMLError) {
        let start = position
        defer { comments.append(start..<position) }
        while let byte = peek, byte != 0x0A {
            if byte == 0x0D, position + 1 < bytes.count, bytes[position + 1] == 0x0A { return }
            guard !TOMLParser.isControl(byte) else { throw controlCharacter(in: "a comment") }
            position += 1
        }
    }

    /// Consumes LF or CR LF; a CR alone is no newline.
    mutating func newline() throws(TOMLError) {
        if peek == 0x0D {
            guard position + 1 < bytes.count, bytes[position + 1] == 0x0A else {
                throw error("a carriage return without a line feed")
            }
            position += 1
        }
        position += 1
        line += 1
        lineStart = position
    }

    /// Whether a byte may stand in no comment and no string; tab may.
    static func isControl(_ byte: UInt8) -> Bool { (byte < 0x20 && byte != 0x09) || byte == 0x7F }

    // MARK: errors

    private func refuseInvalidUTF8() throws(TOMLError) {
        guard String(validating: bytes, as: UTF8.self) == nil else { return }
        var decoder = UTF8()
        var input = bytes.makeIterator()
        var line = 1, column = 1
        while case .scalarValue(let scalar) = decoder.decode(&input) {
            column += 1
            if scalar == "\n" { (line, column) = (line + 1, 1) }
        }
        throw TOMLError(reason: "invalid UTF-8", line: line, column: column)
    }

    /// Bytes of the form 10xxxxxx continue a scalar and are not counted.
    private func column(of position: Int, inLineAt lineStart: Int) -> Int {
        let end = min(position, bytes.count)
        return 1 + bytes[min(lineStart, end)..<end].count { $0 & 0xC0 != 0x80 }
    }

    func error(_ reason: String) -> TOMLError { error(reason, at: position) }

    func error(_ reason: String, at position: Int) -> TOMLError {
        TOMLError(reason: reason, line: line, column: column(of: position, inLineAt: lineStart))
    }

    private func error(_ reason: String, at key: TOMLKey) -> TOMLError {
        TOMLError(
            reason: reason,
            line: key.line,
            column: column(of: key.position, inLineAt: key.lineStart)
        )
    }

    private func tooDeep(at key: TOMLKey? = nil) -> TOMLError {
        let reason = "tables and arrays are nested more than \(maximumDepth) deep"
        return key.map { error(reason, at: $0) } ?? error(reason)
    }

    func controlCharacter(in place: String) -> TOMLError {
        let digits = String(peek ?? 0, radix: 16, uppercase: true)
        return error(
            "a control character (U+\(String(repeating: "0", count: 4 - digits.count))\(digits)) in \(place)"
        )
    }

    /// The next character for a message.
    var found: String {
        guard let byte = peek else { return "the end of the document" }
        if byte == 0x0A || byte == 0x0D { return "the end of the line" }
        guard byte != 0x09, !TOMLParser.isControl(byte) else { return "a control character" }
        let end = min(position + 4, bytes.count)
        return "'\(String(decoding: bytes[position..<end], as: UTF8.self).unicodeScalars.first ?? "?")'"
    }
}

/// One part of a dotted key with its place; the column is counted only when an error names it.
private struct TOMLKey {
    let text: String
    let line: Int
    let lineStart: Int
    let position: Int
}

/// The tables of an array of tables; by reference, so that adding one does not copy the others.
private final class TOMLNodes {
    var nodes: [TOMLNode]

    init(_ first: TOMLNode) { nodes = [first] }
}

/// A table under construction; shared by reference, because headers come back to it.
private final class TOMLNode {
    /// Who made the table, which decides who may add to it.
    enum Origin: Equatable {
        /// A header made it in passing: a later header may define it, once.
        case implicit
        /// A header or braces defined it.
        case header
        /// Dotted keys of this section made it: only they may add keys, though headers may add sub-tables.
        case dotted(Int)
    }

    enum Slot {
        case value(TOMLElement, line: Int)
        case table(TOMLNode, line: Int)
        case tables(TOMLNodes, line: Int)

        var line: Int {
            switch self {
            case .value(_, let line), .table(_, let line), .tables(_, let line): line
            }
        }
    }

    var origin: Origin
    var line: Int
    let depth: Int
    var slots: [String: Slot] = [:]
    private var order: [String] = []

    init(origin: Origin, line: Int, depth: Int) {
        self.origin = origin
        self.line = line
        self.depth = depth
    }

    func add(_ key: TOMLKey, _ slot: Slot) {
        slots[key.text] = slot
        order.append(key.text)
    }

    /// Tables in braces are nobody else's, so that one number per nesting level suffices.
    ///
    /// Negative, as no header's number is.
    static func nextInlineSection(after section: Int) -> Int { min(section, 0) - 1 }

    var frozen: TOMLTable {
        var table = TOMLTable(line: line)
        for key in order {
            switch slots[key] {
            case .value(let element, let line): table.set(key, to: element, line: line)
            case .table(let node, let line):
                table.set(key, to: TOMLElement(.table(node.frozen), line: node.line), line: line)
            case .tables(let tables, let line):
                let elements = tables.nodes.map { TOMLElement(.table($0.frozen), line: $0.line) }
                table.set(key, to: TOMLElement(.array(elements), line: line), line: line)
            case nil: break
            }
        }
        return table
    }
}
