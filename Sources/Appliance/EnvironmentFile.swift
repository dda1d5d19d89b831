/// The `environment` file of the appliance: `KEY=value` lines as systemd.exec(5) reads them for `EnvironmentFile=`.
///
/// systemd reads it for the service; a gateway on stdio or without systemd reads it through this type, so that both
/// find the same provider CLIs and the same keys. Edits keep every other line byte for byte, comments included, whatever
/// their encoding.
package struct EnvironmentFile: Sendable, Equatable {
    /// One assignment.
    package struct Entry: Sendable, Equatable {
        /// What stands before the first `=`: a letter or underscore, then letters, digits and underscores.
        package var name: String
        /// The value as a process gets it: quotes, escapes and line continuations resolved.
        package var value: String
        /// Lines of the text, counted from 0; more than one where a value goes on in the next line.
        package var lines: Range<Int>
        /// Whether name and value are UTF-8; systemd takes no others.
        fileprivate var isText = true
    }

    /// The whole file.
    package private(set) var bytes: [UInt8]
    /// The assignments in their order; of two with one name the later holds.
    package private(set) var entries: [Entry] = []
    /// What systemd would skip, each with its line number counted from 1.
    package private(set) var problems: [String] = []

    /// Reads a file's text.
    ///
    /// Never fails: systemd too skips what it does not understand.
    package init(bytes: [UInt8] = []) {
        self.bytes = bytes
        parse()
    }

    /// Reads a text.
    package init(text: String) { self.init(bytes: Array(text.utf8)) }

    /// The whole text; invalid UTF-8 is repaired.
    package var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The assignments by name, those that are no text left out.
    package var values: [String: String] {
        Dictionary(entries.filter(\.isText).map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
    }

    /// An environment as systemd would make it: the file's values replace the inherited ones.
    package func overriding(_ environment: [String: String]) -> [String: String] {
        environment.merging(values) { $1 }
    }

    /// An environment for a gateway that a client started: what the client gave stays, what it lacks is added.
    ///
    /// The recorded search path comes after the inherited one.
    package func completing(_ environment: [String: String]) -> [String: String] {
        var result = environment.merging(values) { inherited, _ in inherited }
        let inherited = EnvironmentFile.folders(environment["PATH"])
        let added = EnvironmentFile.folders(values["PATH"]).filter { !inherited.contains($0) }
        if !added.isEmpty { result["PATH"] = (inherited + added).joined(separator: ":") }
        return result
    }

    /// The absolute folders of a search path, each once, in order.
    ///
    /// Relative and empty ones would depend on where a service happens to run.
    package static func folders(_ path: String?) -> [String] {
        var seen: Set<String> = []
        return (path ?? "").utf8.split(separator: UInt8(ascii: ":")).map { String(Substring($0)) }
            .filter { $0.hasPrefix("/") && seen.insert($0).inserted }
    }

    /// Sets a value: the last assignment of the name is replaced where it stands, a new one is put at the end.
    ///
    /// Throws `invalid-value` for a name or value that such a file cannot hold.
    package mutating func set(_ name: String, to value: String) throws(GatewayError) {
        guard EnvironmentFile.isName(name) else {
            throw GatewayError("invalid-value", "'\(name)' is no name of an environment variable")
        }
        guard !value.utf8.contains(0) else {
            throw GatewayError("invalid-value", "the value of '\(name)' contains a NUL byte")
        }
        let line = Array("\(name)=\(EnvironmentFile.quoted(value))".utf8)
        if let old = entries.last(where: { $0.name == name }) {
            var lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
            lines.replaceSubrange(old.lines, with: [line[...]])
            bytes = Array(lines.joined(separator: [0x0A]))
        } else {
            if !bytes.isEmpty, bytes.last != 0x0A { bytes.append(0x0A) }
            bytes += line + [0x0A]
        }
        entries = []
        problems = []
        parse()
    }

    /// A value as it must be written to be read back the same.
    package static func quoted(_ value: String) -> String {
        let isPlain =
            !value.isEmpty
            && value.utf8.allSatisfy {
                $0 > 0x20 && $0 < 0x7F && !"\"'\\#;$`".utf8.contains($0)
            }
        if isPlain { return value }
        var out = "\""
        for scalar in value.unicodeScalars {
            if "\"\\$`".unicodeScalars.contains(scalar) { out += "\\" }
            out.unicodeScalars.append(scalar)
        }
        return out + "\""
    }

    private static func isName(_ name: some StringProtocol) -> Bool {
        guard let first = name.utf8.first else { return false }
        func isLetter(_ byte: UInt8) -> Bool {
            (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == UInt8(ascii: "_")
        }
        return isLetter(first) && name.utf8.allSatisfy { isLetter($0) || (0x30...0x39).contains($0) }
    }

    // MARK: reading

    private mutating func parse() {
        // All that has a meaning is ASCII, so that the bytes between need not be of any encoding.
        let characters = bytes.map(Unicode.Scalar.init)
        var position = 0
        var line = 0
        while position < characters.count {
            let first = line
            while position < characters.count, " \t\r".unicodeScalars.contains(characters[position]) {
                position += 1
            }
            guard position < characters.count else { return }
            if characters[position] == "\n" {
                position += 1
                line += 1
                continue
            }
            if characters[position] == "#" || characters[position] == ";" {
                EnvironmentFile.skipLine(characters, &position, &line)
                let last = characters[..<position].last { $0 != "\n" }
                if last == "\\", line > first, position < characters.count {
                    problems.append(
                        "line \(first + 1): the comment ends with a backslash, so systemd before 254 takes line \(line + 1) "
                            + "for a part of it; take the backslash away"
                    )
                }
                continue
            }
            var name = ""
            while position < characters.count, characters[position] != "=", characters[position] != "\n" {
                name.unicodeScalars.append(characters[position])
                position += 1
            }
            guard position < characters.count, characters[position] == "=" else {
                problems.append("line \(first + 1) has no '='")
                EnvironmentFile.skipLine(characters, &position, &line)
                continue
            }
            position += 1
            let value = EnvironmentFile.value(characters, &position, &line)
            let key = EnvironmentFile.decoded(name).text.trimmed
            guard EnvironmentFile.isName(key) else {
                problems.append("line \(first + 1): '\(key)' is no name of an environment variable")
                continue
            }
            let (text, isText) = EnvironmentFile.decoded(value)
            if !isText {
                problems.append(
                    "line \(first + 1): the value of '\(key)' is not UTF-8, so systemd does not take the file; write the value anew"
                )
            }
            // `line` already counts the end of the last line of the value.
            let lines = first..<max(first + 1, line)
            entries.append(Entry(name: key, value: text, lines: lines, isText: isText))
        }
    }

    /// The text of characters that stand for one byte each, and whether it was UTF-8.
    private static func decoded(_ characters: String) -> (text: String, isText: Bool) {
        let bytes = characters.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
        if let text = String(validating: bytes, as: UTF8.self) { return (text, true) }
        return (String(decoding: bytes, as: UTF8.self), false)
    }

    private static func skipLine(_ text: [Unicode.Scalar], _ position: inout Int, _ line: inout Int) {
        while position < text.count, text[position] != "\n" { position += 1 }
        if position < text.count {
            position += 1
            line += 1
        }
    }

    /// Reads up to the end of the line, with the states of systemd's own reader: a quote only counts where a value
    /// begins, or right after another quoted part.
    private static func value(_ text: [Unicode.Scalar], _ position: inout Int, _ line: inout Int) -> String {
        enum State {
            case before
            case plain
            case single
            case double
        }
        var value = String.UnicodeScalarView()
        var state = State.before
        /// White space at the end of plain text does not count.
        var kept = 0
        while position < text.count {
            let scalar = text[position]
            position += 1
            if scalar == "\n" { line += 1 }
            switch (state, scalar) {
            case (.before, "\n"), (.plain, "\n"):
                return String(String.UnicodeScalarView(value.prefix(kept)))
            case (.before, "'"): state = .single
            case (.before, "\""): state = .double
            case (.single, "'"), (.double, "\""): state = .before
            case (.before, " "), (.before, "\t"), (.before, "\r"): continue
            case (.before, "\\"), (.plain, "\\"), (.double, "\\"):
                guard position < text.count else { break }
                let next = text[position]
                position += 1
                if next == "\n" { line += 1 }
                if state == .double, next != "\n", !"\"\\$`".unicodeScalars.contains(next) {
                    value.append("\\")
                }
                if next != "\n" { value.append(next) }
                if state == .before { state = .plain }
            default:
                value.append(scalar)
                if state == .before { state = .plain }
                if state == .plain, " \t\r".unicodeScalars.contains(scalar) { continue }
            }
            kept = value.count
        }
        line += 1
        return String(String.UnicodeScalarView(value.prefix(kept)))
    }
}
