import Appliance
import Platform

/// What a command found out or did: one value with two forms.
protocol Report: Sendable {
    /// The form for programs; keys of the contract where it has them.
    var json: JSON { get }
    /// The form for people, without a final line end; empty when there is nothing to say.
    var text: String { get }
    /// What the command ends with.
    var exitCode: ExitCode { get }
}

extension Report {
    var exitCode: ExitCode { .done }
}

/// How a command answers.
enum Output: Sendable, Equatable {
    case text
    /// One document, at the end.
    case json
    /// One object a line while the command works; the last one is its result or its error.
    case events
    /// One object a line of a log that goes on.
    case jsonLines

    /// What the flags say, else what the command and the kind of standard output call for.
    init(_ arguments: Arguments, outputIsTerminal: Bool) {
        if arguments.has("progress") {
            self = .events
        } else if arguments.has("json") {
            self = arguments.has("follow") ? .jsonLines : .json
        } else if arguments.has("text") || outputIsTerminal {
            self = .text
        } else {
            self = arguments.verb?.style == .reference ? .json : .text
        }
    }

    /// What a command line calls for that is not understood yet, and perhaps never will be.
    init(words: [String], verbs: [Verb], outputIsTerminal: Bool) {
        let verb = words.lazy.compactMap { verbs.first(named: $0) }.first
        if words.contains("--progress") {
            self = .events
        } else if words.contains("--json") {
            self = .json
        } else {
            self = verb?.style == .reference && !outputIsTerminal && !words.contains("--text") ? .json : .text
        }
    }

    /// Prints a report: the only place that chooses between the forms.
    func print(_ report: any Report, isSilenced: Bool, to terminal: Terminal) throws(GatewayError) {
        switch self {
        case .json: try terminal.write(report.json.prettyText + "\n")
        case .events: try terminal.write(Event.result(report.json, report.exitCode).line)
        case .jsonLines: try terminal.write(report.json.compactText + "\n")
        case .text:
            // Names of signers and versions come from strangers.
            if !isSilenced, !report.text.isEmpty { try terminal.write(ForeignText.lines(report.text) + "\n") }
        }
    }

    /// Prints an error: always for people on standard error, and for programs on standard output as well.
    ///
    /// A program that reads standard output gets exactly one JSON document, however the command ended.
    func print(_ error: GatewayError, to terminal: Terminal) {
        let help = error.help.map { "help: \($0)\n" } ?? ""
        terminal.writeError(ForeignText.lines("error: \(error)\n" + help))
        switch self {
        // Whether it can be written or not, the exit status and standard error say it as well.
        case .json: try? terminal.write(error.json.prettyText + "\n")
        case .events: try? terminal.write(Event.failure(error).line)
        case .jsonLines: try? terminal.write(error.json.compactText + "\n")
        case .text: break
        }
    }
}

/// A command under way: what it was told, and the world it acts on.
struct Invocation: Sendable {
    var arguments: Arguments
    var machine: Machine
    var output: Output

    /// Whether information is unwanted.
    var isQuiet: Bool { arguments.has("quiet") }

    /// One line of information while the command works: on standard error, or as an event.
    func note(_ line: String) {
        if isQuiet { return }
        if output == .events { return tell(.message(line)) }
        machine.terminal.writeError(ForeignText.lines(line) + "\n")
    }

    /// Says that a phase of long work begins, and how far it is; only as an event.
    ///
    /// Bytes; `total` is `nil` where nobody knows it.
    func progress(_ phase: String, bytes: Int64? = nil, total: Int64? = nil) {
        if !isQuiet, output == .events { tell(.progress(phase, bytes, total)) }
    }

    /// A reader that has gone does not stop the work.
    private func tell(_ event: Event) { try? machine.terminal.write(event.line) }

    /// Where the appliance's files are, and the user's.
    func layout() throws(GatewayError) -> Layout { try machine.layout().withUserHome() }
}

/// Lines in columns.
enum Columns {
    /// Rows whose cells start below each other, two spaces apart; the last column is not padded.
    static func text(_ rows: [[String]], indent: Int = 0) -> String {
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            let cells = row.enumerated().map { index, cell in
                index == row.count - 1
                    ? cell : cell + String(repeating: " ", count: widths[index] - cell.count)
            }
            return String(repeating: " ", count: indent) + cells.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}
