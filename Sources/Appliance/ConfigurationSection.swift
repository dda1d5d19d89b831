/// Reads the keys of one table: types, ranges and, at the end, whatever key was never asked for.
///
/// A wrong value is noted as a fault and its default given back; values of strings are never repeated in a message,
/// because they may be secrets, except where only a few words are allowed.
struct ConfigurationSection {
    /// The header as the user writes it: `[limits]`, `[[workspaces.repos]]`.
    let header: String
    /// The line of the header; `nil` when the table is absent.
    let line: Int?
    private let path: String
    private let table: TOMLTable
    /// The user's home, for `~/`.
    private let home: String
    private var known: [String] = []
    private(set) var faults: [ConfigurationFault] = []

    /// The table under a dotted path; absent counts as empty.
    init(_ entry: TOMLTable.Entry?, path: String, home: String) {
        self.init(entry?.element, header: "[\(path)]", path: path, home: home)
    }

    private init(_ element: TOMLElement?, header: String, path: String, home: String) {
        self.header = header
        self.path = path
        self.home = home
        line = element?.line
        table = element?.value.table ?? TOMLTable()
        if let element, element.value.table == nil {
            fault("\(header) must be a table, not \(element.value.typeName)", line: element.line)
        }
    }

    /// Whether the table is in the file.
    var isPresent: Bool { line != nil }

    /// Whether a key is in the file.
    func has(_ key: String) -> Bool { table[key] != nil }

    // MARK: values

    mutating func boolean(_ key: String, default standard: Bool) -> Bool {
        value(key, "true or false") { $0.boolean } ?? standard
    }

    mutating func integer(_ key: String, in range: ClosedRange<Int>, default standard: Int) -> Int {
        guard let number = value(key, "an integer", { $0.integer }) else { return standard }
        guard let number = Int(exactly: number), range.contains(number) else {
            wrong(key, "must be an integer from \(range.lowerBound) to \(range.upperBound), not \(number)")
            return standard
        }
        return number
    }

    /// A number greater than 0.
    mutating func positive(_ key: String, upTo limit: Double, default standard: Double) -> Double {
        guard let number = value(key, "a number", { $0.number }) else { return standard }
        guard number > 0, number <= limit else {
            wrong(key, "must be a number greater than 0 and at most \(Int(limit)), not \(number)")
            return standard
        }
        return number
    }

    mutating func text(_ key: String) -> String? {
        guard let text = value(key, "a string", { $0.string }) else { return nil }
        guard !text.isEmpty else {
            wrong(key, "must not be empty")
            return nil
        }
        return text
    }

    /// A string without which the table means nothing.
    mutating func requiredText(_ key: String) -> String {
        if !has(key) {
            know(key)
            fault("\(header) needs '\(key)'", line: line)
        }
        return text(key) ?? ""
    }

    mutating func texts(_ key: String) -> [String]? {
        guard let elements = value(key, "an array of strings", { $0.array }) else { return nil }
        var texts: [String] = []
        for element in elements {
            guard let text = element.value.string, !text.isEmpty else {
                fault("'\(key)' in \(header) must hold strings that are not empty", line: element.line)
                return nil
            }
            texts.append(text)
        }
        return texts
    }

    mutating func choice<Choice: RawRepresentable & CaseIterable>(
        _ key: String,
        default standard: Choice
    ) -> Choice
    where Choice.RawValue == String {
        guard let text = value(key, "a string", { $0.string }) else { return standard }
        guard let choice = Choice(rawValue: text) else {
            let words = Choice.allCases.map(\.rawValue)
            wrong(
                key,
                "must be one of \(words.map { "'\($0)'" }.joined(separator: ", ")), not '\(text.prefix(64))'",
                help: Suggestion.nearest(to: text, among: words).map { "did you mean '\($0)'?" }
            )
            return standard
        }
        return choice
    }

    /// A file or directory; `~/` is the user's home.
    mutating func path(_ key: String) -> String? { text(key).map { expanded($0) } }

    /// The path with `~/` replaced by the user's home.
    func expanded(_ path: String) -> String {
        if path == "~" { return home }
        return path.hasPrefix("~/") ? Layout.join(home, String(path.dropFirst(2))) : path
    }

    // MARK: tables inside

    /// A table inside this one; `absorb` it when it has been read.
    mutating func section(_ key: String) -> ConfigurationSection {
        know(key)
        return ConfigurationSection(table.entry(key), path: "\(path).\(key)", home: home)
    }

    /// The elements of an array of tables inside this one; `absorb` each when it has been read.
    mutating func sections(_ key: String) -> [ConfigurationSection] {
        let elements = value(key, "an array of tables", { $0.array }) ?? []
        return elements.map {
            ConfigurationSection($0, header: "[[\(path).\(key)]]", path: "\(path).\(key)", home: home)
        }
    }

    /// The tables inside this one by their names, which the user chooses.
    mutating func namedSections() -> [(name: String, section: ConfigurationSection)] {
        table.keys.map { ($0, section($0)) }
    }

    /// Takes over what is wrong in a table inside this one.
    mutating func absorb(_ section: ConfigurationSection) {
        var section = section
        faults += section.finished()
    }

    /// Whatever was not asked for, kept as it is.
    mutating func rest() -> TOMLTable {
        var rest = TOMLTable()
        for entry in table.entries where !known.contains(entry.key) {
            rest.set(entry.key, to: entry.element, line: entry.line)
        }
        known += rest.keys
        return rest
    }

    // MARK: faults

    /// What is wrong with a key that is there.
    mutating func wrong(_ key: String, _ what: String, help: String? = nil) {
        fault("'\(key)' in \(header) \(what)", help: help, line: table.line(of: key) ?? line)
    }

    /// What is wrong with the table.
    mutating func fault(_ message: String, help: String? = nil, line: Int?) {
        faults.append(ConfigurationFault(message: message, help: help, line: line))
    }

    /// All faults in the order of lines, the keys that nobody asked for among them.
    mutating func finished() -> [ConfigurationFault] {
        for entry in table.entries where !known.contains(entry.key) {
            let nearest = Suggestion.nearest(to: entry.key, among: known)
            faults.append(
                ConfigurationFault(
                    message: "unknown key '\(entry.key)' in \(header)",
                    help: nearest.map { "did you mean '\($0)'?" }
                        ?? "known keys are \(known.map { "'\($0)'" }.joined(separator: ", "))",
                    line: entry.line,
                    isUnknownKey: true
                )
            )
        }
        known += table.keys
        faults.sort { ($0.line ?? 0) < ($1.line ?? 0) }
        return faults
    }

    private mutating func know(_ key: String) {
        if !known.contains(key) { known.append(key) }
    }

    private mutating func value<Value>(_ key: String, _ kind: String, _ read: (TOML) -> Value?) -> Value? {
        know(key)
        guard let found = table[key] else { return nil }
        guard let value = read(found) else {
            wrong(key, "must be \(kind), not \(found.typeName)")
            return nil
        }
        return value
    }
}
