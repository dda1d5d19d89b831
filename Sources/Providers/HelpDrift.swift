package import Appliance
import Platform

/// How an installed CLI's help differs from the declared contract.
package struct HelpDrift: Sendable, Equatable {
    /// Flags of the contract that the help does not show.
    package let missing: [String]
    /// Flags of the help that neither the contract nor the acknowledged list has.
    package let extra: [String]
    /// Hidden flags that the help does show, and acknowledged ones that it does not.
    package let stale: [String]
    /// SHA-256 of the help text.
    package let helpHash: String

    /// Compares one command's help.
    package init(_ contract: CLIContract, _ command: CLIContract.Command, help: String) {
        let shown = HelpDrift.flags(in: help)
        missing =
            command.flags.filter { !$0.isHidden && !$0.names.contains(where: shown.contains) }.map(\.name)
        let declared = Set(contract.flagNames + contract.acknowledged + ["--help", "-h", "--version"])
        extra = shown.filter { $0.hasPrefix("--") && !declared.contains($0) }.sorted()
        let revealed = command.flags.filter { $0.isHidden && $0.names.contains(where: shown.contains) }
        // An acknowledged flag may belong to one command only; the first stands for the program.
        let isFirst = command.path == contract.commands.first?.path
        let gone = isFirst ? contract.acknowledged.filter { $0.hasPrefix("--") && !shown.contains($0) } : []
        stale = revealed.map(\.name) + gone.sorted()
        helpHash = SHA256.hex(Array(help.utf8))
    }

    /// Every flag that a help text declares: words with `-` at the start of a line, up to a column of text.
    ///
    /// A line that is indented further than eight columns is the wrapped text of another flag.
    package static func flags(in help: String) -> Set<String> {
        var found: Set<String> = []
        for line in help.split(separator: "\n") {
            let text = line.drop(while: \.isWhitespace)
            guard text.hasPrefix("-"), line.count - text.count <= 8 else { continue }
            let head = text.firstRange(of: "  ").map { text[..<$0.lowerBound] } ?? text
            for word in head.split(whereSeparator: { " ,|[]<>=/()".contains($0) }) where word.hasPrefix("-") {
                let name = word.prefix { $0 == "-" || $0 == "_" || $0.isLetter || $0.isNumber }
                if name.count > 1, name != "--", name.last != "-" { found.insert(String(name)) }
            }
        }
        return found
    }

    /// For `doctor` and `upstream_contracts`.
    package var json: JSON {
        [
            "missing": .strings(missing), "extra": .strings(extra), "stale": .strings(stale),
            "helpHash": .string(helpHash),
        ]
    }
}
