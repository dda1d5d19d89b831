import Appliance

extension Verb {
    static let help = Verb(
        "help",
        .look,
        "say what the commands do",
        operand: ("COMMAND", "the command to explain"),
        offers: .commands,
        style: .text,
        isQuestion: true
    ) { call throws(GatewayError) in
        guard let name = call.arguments.operand else { return Overview(verbs: Verb.all) }
        // Looked up as a command line would be, so that a typing error gets the same suggestion.
        guard let verb = try Arguments([name], verbs: Verb.all).verb else { return Overview(verbs: Verb.all) }
        return Manual(verb: verb)
    }
}

/// All commands at a glance.
struct Overview: Report {
    var verbs: [Verb]

    var json: JSON {
        ["ok": true, "commands": .array(verbs.filter { $0.group != nil }.map { Manual(verb: $0).json })]
    }

    var text: String {
        var parts = [
            "\(Product.name) \(Product.version): one endpoint for every MCP client, for the AI coding CLIs on"
                + " this machine",
            "usage: \(Product.name) COMMAND [FLAG…]",
        ]
        for group in Verb.Group.allCases {
            let rows = verbs.filter { $0.group == group }.map { [$0.name, $0.summary] }
            if !rows.isEmpty { parts.append("\(group.rawValue):\n" + Columns.text(rows, indent: 2)) }
        }
        parts.append("Every command takes:\n" + Manual.table(Flag.common))
        parts.append(
            """
            Without a command: this text and the state on a terminal; the gateway on
            standard input and output when a program is connected to them.
            Errors go to standard error; with JSON output also to standard output as
            {"error":{"code","message","help"}}. With --progress each line of output is an
            object with the member "event": message, progress, and last result or error.
            Exit codes: 0 done, 1 failed or findings, 2 usage, 3 verification refused,
            4 busy, 5 network, 70 internal, 128+n ended by signal n.
            """
        )
        return parts.joined(separator: "\n\n")
    }
}

/// One command in full.
struct Manual: Report {
    var verb: Verb

    var json: JSON {
        var json: JSON = ["name": .string(verb.name), "summary": .string(verb.summary)]
        if !verb.details.isEmpty { json["details"] = .string(verb.details) }
        if let operand = verb.operand {
            json["operand"] = ["name": .string(operand.name), "help": .string(operand.help)]
        }
        json["flags"] = .array(
            verb.allFlags.map { flag in
                [
                    "name": .string("--\(flag.name)"), "short": .optional(flag.letter.map { "-\($0)" }),
                    "value": .optional(flag.value), "help": .string(flag.help),
                ]
            }
        )
        return json
    }

    var text: String {
        let operand = verb.operand.map { " [\($0.name)]" } ?? ""
        var parts = [
            "\(Product.name) \(verb.name): \(verb.summary)",
            "usage: \(Product.name) \(verb.name)\(operand) [FLAG…]",
        ]
        if !verb.details.isEmpty { parts.append(verb.details) }
        if let operand = verb.operand {
            parts.append(Columns.text([[operand.name, operand.help]], indent: 2))
        }
        parts.append("Flags:\n" + Manual.table(verb.allFlags))
        return parts.joined(separator: "\n\n")
    }

    static func table(_ flags: [Flag]) -> String {
        Columns.text(flags.map { [$0.usage, $0.help] }, indent: 2)
    }
}
