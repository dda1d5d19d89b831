import Appliance

/// What a shell can offer for a value that is being typed.
enum Offer: Sendable, Equatable {
    case nothing
    case files
    case words([String])
    /// The names of the commands.
    case commands
}

/// One option of a command, as declared: parsing, help and completions come from this.
struct Flag: Sendable, Equatable {
    /// The long form without its dashes.
    var name: String
    /// The short form, where there is one.
    var letter: Character?
    /// What its value is called in help texts; `nil` for a switch.
    var value: String?
    /// One sentence without a final period.
    var help: String
    /// What a shell offers for its value.
    var offers: Offer

    init(
        _ name: String,
        letter: Character? = nil,
        value: String? = nil,
        _ help: String,
        offers: Offer = .nothing
    ) {
        self.name = name
        self.letter = letter
        self.value = value
        self.help = help
        self.offers = offers
    }

    /// `-n, --lines NUMBER`.
    var usage: String {
        (letter.map { "-\($0), " } ?? "    ") + "--\(name)" + (value.map { " \($0)" } ?? "")
    }

    /// Those that every command takes.
    static let common = [
        Flag("json", "print one JSON document on standard output, whatever it is connected to"),
        Flag("text", "print text for people, whatever standard output is connected to"),
        Flag("progress", "print JSON while it works: one object a line, the result last"),
        Flag("quiet", letter: "q", "print no information, only answers and errors"),
        Flag("help", letter: "h", "say what the command does, and stop"),
    ]
}

/// One command, as declared.
struct Verb: Sendable {
    /// Where a command stands in the overview.
    enum Group: String, Sendable, CaseIterable {
        case install = "Install and remove"
        case run = "Run the gateway"
        case look = "Look and repair"
        case connect = "Connect clients"
        case move = "Keep and move"
    }

    /// What is printed when neither `--json` nor `--text` was given.
    enum Style: Sendable {
        /// JSON unless standard output is a terminal, for scripts of the reference's users.
        case reference
        /// Text, as the reference prints it or because it is a stream of lines.
        case text
    }

    var name: String
    /// `nil`: not shown, for this program's own use.
    var group: Group?
    /// One sentence without a final period.
    var summary: String
    /// What else there is to know, in lines of at most 78 columns.
    var details: String
    /// What the command takes beside flags, and whether it may be left out.
    var operand: (name: String, help: String)?
    /// What a shell offers for the operand.
    var offers: Offer
    var flags: [Flag]
    var style: Style
    /// Whether it is run for its answer, which `--quiet` then leaves alone.
    var isQuestion: Bool
    var run: @Sendable (Invocation) async throws(GatewayError) -> any Report

    init(
        _ name: String,
        _ group: Group?,
        _ summary: String,
        details: String = "",
        operand: (name: String, help: String)? = nil,
        offers: Offer = .nothing,
        flags: [Flag] = [],
        style: Style = .reference,
        isQuestion: Bool = false,
        run: @escaping @Sendable (Invocation) async throws(GatewayError) -> any Report
    ) {
        self.name = name
        self.group = group
        self.summary = summary
        self.details = details
        self.operand = operand
        self.offers = offers
        self.flags = flags
        self.style = style
        self.isQuestion = isQuestion
        self.run = run
    }

    /// Its own flags and the common ones.
    var allFlags: [Flag] { flags + Flag.common }
}

/// A command line that was understood.
struct Arguments: Sendable {
    /// `nil` when no command was given.
    var verb: Verb?
    /// Values by flag name; a switch has an empty one.
    private(set) var values: [String: String] = [:]
    private(set) var operand: String?

    /// Whether a switch or an option was given.
    func has(_ flag: String) -> Bool { values[flag] != nil }

    /// The value of an option.
    subscript(flag: String) -> String? { values[flag] }

    /// The same command line with further options, as if they had been given.
    func adding(_ options: [String: String]) -> Arguments {
        var arguments = self
        arguments.values.merge(options) { given, _ in given }
        return arguments
    }

    /// The operand of a command that cannot do without one.
    func requiredOperand() throws(GatewayError) -> String {
        if let operand, !operand.isEmpty { return operand }
        throw GatewayError(
            "missing-value",
            "'\(verb?.name ?? "")' needs an argument: \(verb?.operand?.name ?? "")",
            help: verb.map(Arguments.seeHelp)
        )
    }

    /// The value of an option as a number of at least 1.
    func number(_ flag: String) throws(GatewayError) -> Int? {
        guard let text = values[flag] else { return nil }
        guard let number = Int(text), number > 0 else {
            throw GatewayError("invalid-value", "'--\(flag)' is '\(text)', expected a number of at least 1")
        }
        return number
    }

    /// Understands the words after the program's name.
    ///
    /// Throws `unknown-verb`, `unknown-flag`, `missing-value`, `invalid-value` and `usage`.
    init(_ words: [String], verbs: [Verb]) throws(GatewayError) {
        var rest = words[...]
        while let word = rest.popFirst() {
            if word == "--" {
                for word in rest { try take(word, verbs) }
                break
            }
            if verb == nil, let name = Arguments.aliases[word], let known = verbs.first(named: name) {
                verb = known
            } else if word.hasPrefix("-"), word.count > 1 {
                try takeFlag(word, &rest)
            } else {
                try take(word, verbs)
            }
        }
        // A flag before the command is only known to exist once the command is.
        for name in values.keys where !flags.contains(where: { $0.name == name }) {
            throw unknown("--\(name)")
        }
        for name in ["json", "progress"] where has(name) && has("text") {
            throw GatewayError(
                "usage",
                "'--\(name)' and '--text' exclude each other",
                help: "give one of them"
            )
        }
    }

    /// Spellings that the reference knows, and those that people try first.
    private static let aliases = [
        "--version": "version", "-version": "version", "-v": "version", "-help": "help", "/?": "help",
    ]

    private var flags: [Flag] { verb?.allFlags ?? Flag.common }

    private mutating func take(_ word: String, _ verbs: [Verb]) throws(GatewayError) {
        guard let verb else {
            guard let known = verbs.first(named: word) else {
                let nearest = Suggestion.nearest(
                    to: word,
                    among: verbs.filter { $0.group != nil }.map(\.name)
                )
                throw GatewayError(
                    "unknown-verb",
                    "unknown command '\(word)'",
                    help: (nearest.map { "did you mean '\($0)'? " } ?? "")
                        + "'\(Product.name) help' lists the commands"
                )
            }
            return self.verb = known
        }
        guard verb.operand != nil, operand == nil else {
            throw GatewayError(
                "usage",
                "unexpected argument '\(word)' for '\(verb.name)'",
                help: Arguments.seeHelp(verb)
            )
        }
        operand = word
    }

    private mutating func takeFlag(_ word: String, _ rest: inout ArraySlice<String>) throws(GatewayError) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        guard let flag = declared(name) else { throw unknown(name) }
        let given = parts.count > 1 ? String(parts[1]) : nil
        guard let value = flag.value else {
            guard given == nil else {
                throw GatewayError(
                    "invalid-value",
                    "'\(name)' takes no value",
                    help: verb.map(Arguments.seeHelp)
                )
            }
            return values[flag.name] = ""
        }
        // The next flag is no value: `--url --json` lacks one.
        let isNext = rest.first.map { declared($0) == nil } ?? false
        guard let text = given ?? (isNext ? rest.popFirst() : nil), !text.isEmpty else {
            throw GatewayError(
                "missing-value",
                "'\(name)' needs a value: \(value)",
                help: verb.map(Arguments.seeHelp)
            )
        }
        values[flag.name] = text
    }

    private func declared(_ name: String) -> Flag? {
        flags.first {
            name == "--\($0.name)" || $0.letter.map { name == "-\($0)" } ?? false
        }
    }

    private func unknown(_ name: String) -> GatewayError {
        let nearest = Suggestion.nearest(to: name, among: flags.map { "--\($0.name)" })
        let place = verb.map { " for '\($0.name)'" } ?? ""
        let see = verb.map(Arguments.seeHelp) ?? "put flags of a command after its name"
        return GatewayError(
            "unknown-flag",
            "unknown flag '\(name)'\(place)",
            help: (nearest.map { "did you mean '\($0)'? " } ?? "") + see
        )
    }

    private static func seeHelp(_ verb: Verb) -> String {
        "'\(Product.name) help \(verb.name)' lists what it takes"
    }
}

extension [Verb] {
    /// The command of a name.
    func first(named name: String) -> Verb? { first { $0.name == name } }
}
