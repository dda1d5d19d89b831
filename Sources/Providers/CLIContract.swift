/// What one CLI understands, as data: it builds argument vectors, refuses the rest before anything is spawned, and is
/// compared with the installed CLI's `--help`.
package struct CLIContract: Sendable {
    /// Whose contract this is.
    package let provider: Provider
    /// Every command that the gateway runs; the first is the one without session.
    package let commands: [Command]
    /// Variables that a request may add to the child's environment.
    package let environment: [EnvironmentKey]
    /// Flags of the CLI that the gateway knows of and does not use, so that they are no drift.
    package let acknowledged: [String]
    /// The CLI version whose help this was checked against; `nil` when only documentation was at hand.
    package let checkedVersion: String?
    /// How the prompt reaches the CLI.
    package let promptRoute: PromptRoute
    /// Milliseconds without a byte of output after which a run is ended, when the request does not say.
    package let idleTimeout: Int
    /// Whether output arrives while the CLI works, so that silence means something.
    package let streams: Bool
    /// Texts on standard error, lower case, that mean: trying again may help.
    package let transientFailures: [String]
    /// Exit codes, in the contract's numbers, that mean the same whatever is written.
    package let transientExits: [Int32]
    /// HTTP statuses of the provider's API, where the CLI tells them, that mean the same.
    package let transientStatuses: [Int]
    /// Whether the CLI's output shows every tool that it ran, so that a run without one has changed nothing.
    package let tellsTools: Bool

    /// One command of a CLI with the flags that it takes.
    package struct Command: Sendable {
        /// The leading words: `["exec", "resume"]`; empty when the program itself is the command.
        package let path: [String]
        /// The flags.
        package let flags: [Flag]
        /// The most words that may follow the path besides flags and their values.
        package let positionals: Int
        /// The arguments that print the command's help.
        package var helpArguments: [String] { path + ["--help"] }
    }

    /// One flag.
    package struct Flag: Sendable, Equatable {
        /// Every spelling; the first is the one that the gateway writes.
        package let names: [String]
        /// `optional` and `variadic` end at the next word that looks like a flag.
        package let arity: Arity
        /// The accepted values; empty means any.
        package var values: [String] = []
        /// The form of its value; `nil` where `values` or nothing restricts it.
        package var pattern: Pattern?
        /// Accepted by the CLI, but absent from its help.
        package var isHidden = false

        /// The spelling that the gateway writes.
        package var name: String { names[0] }
    }

    /// How many values follow a flag.
    package enum Arity: String, Sendable { case none, one, optional, variadic }

    /// The form of a value, where it is not one of a few words.
    package enum Pattern: String, Sendable {
        /// No sign, no leading zero: `1`, `40`.
        case positiveInteger = "^[1-9][0-9]*$"
        /// No sign, a digit on either side of the dot: `5`, `0.25`.
        case decimal = "^[0-9]+(?:\\.[0-9]+)?$"
        /// `key=value` of codex's `-c`; the value is on one line and may be empty.
        case configurationOverride = "^[a-zA-Z0-9._]+=([^\\r\\n]*)$"
        /// No white space, no control characters.
        case modelName = "^[^\\s\\u0000-\\u001f\\u007f]+$"
        /// With hyphens, in either case.
        case uuid = "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
        /// Go's duration without sign, as agy takes it: `90s`, `5m`, `1h30m`.
        case duration = "^[0-9]+(?:\\.[0-9]+)?(?:ms|s|m|h)(?:[0-9]+(?:ms|s|m|h))*$"

        /// Whether a value has the form.
        package func matches(_ value: String) -> Bool {
            let bytes = Array(value.utf8)
            func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
            switch self {
            case .positiveInteger: return bytes.first.map { $0 != 0x30 } == true && bytes.allSatisfy(isDigit)
            case .decimal:
                let parts = bytes.split(separator: 0x2E, omittingEmptySubsequences: false)
                return parts.count <= 2 && parts.allSatisfy { !$0.isEmpty && $0.allSatisfy(isDigit) }
            case .configurationOverride:
                guard let equals = bytes.firstIndex(of: 0x3D), equals > 0 else { return false }
                return bytes[..<equals].allSatisfy(Pattern.isKeyByte)
                    && !bytes.contains { $0 == 0x0A || $0 == 0x0D }
            case .modelName:
                return !bytes.isEmpty && !bytes.contains(0x7F) && !value.contains(where: \.isWhitespace)
                    && bytes.allSatisfy { $0 > 0x20 }
            case .uuid:
                return bytes.count == 36
                    && bytes.enumerated().allSatisfy { index, byte in
                        [8, 13, 18, 23].contains(index)
                            ? byte == 0x2D
                            : isDigit(byte) || (0x61...0x66).contains(byte | 0x20)
                    }
            case .duration:
                return value.wholeMatch(of: /[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h)(?:[0-9]+(?:ms|s|m|h))*/) != nil
            }
        }

        /// Letters, digits, dot and underscore: the characters of a configuration key.
        static func isKeyByte(_ byte: UInt8) -> Bool {
            (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == 0x2E
                || byte == 0x5F
        }
    }

    /// A variable that a request may set.
    package struct EnvironmentKey: Sendable {
        /// As a shell writes it, without `$`.
        package let name: String
        /// The form of its value; another one is refused before anything is spawned.
        package let pattern: Pattern
    }

    /// How a prompt reaches a CLI.
    package enum PromptRoute: String, Sendable {
        /// On standard input: no limit but the gateway's, invisible to `ps`.
        case standardInput
        /// In a file of the job's directory that a flag names.
        case file
        /// As one argument: at most `ContractCheck.maximumArgumentBytes`.
        case argument
    }

    /// Whether a run that ended like this may succeed at the next attempt.
    package func isTransient(exit: Int32, status: Int?, text: String) -> Bool {
        transientExits.contains(exit) || status.map { transientStatuses.contains($0) } ?? false
            || isTransient(text)
    }

    /// Whether an error text names a failure that may be gone at the next attempt.
    package func isTransient(_ text: String) -> Bool {
        let text = text.lowercased()
        return transientFailures.contains { text.contains($0) }
    }

    /// The command that an argument vector runs: the one with the longest path that matches.
    package func command(for arguments: [String]) -> Command? {
        commands.filter { arguments.starts(with: $0.path) }.max { $0.path.count < $1.path.count }
    }

    /// Every flag spelling of every command, without repetition.
    package var flagNames: [String] {
        var seen: Set<String> = []
        return commands.flatMap { $0.flags.flatMap(\.names) }.filter { seen.insert($0).inserted }
    }
}

extension CLIContract.Flag {
    /// A flag without value.
    static func flag(_ names: String..., hidden: Bool = false) -> Self {
        Self(names: names, arity: .none, isHidden: hidden)
    }

    /// A flag with one value.
    static func one(
        _ names: String...,
        of values: [String] = [],
        as pattern: CLIContract.Pattern? = nil,
        hidden: Bool = false
    ) -> Self {
        Self(names: names, arity: .one, values: values, pattern: pattern, isHidden: hidden)
    }

    /// A flag whose value may be absent.
    static func optional(_ names: String...) -> Self { Self(names: names, arity: .optional) }

    /// A flag that takes every following word up to the next flag.
    static func variadic(_ names: String...) -> Self { Self(names: names, arity: .variadic) }
}
