package import Appliance

/// Compares an argument vector and the request's environment with a declared contract, before anything is spawned.
///
/// What the CLI would not understand, or would understand differently (a value that looks like a flag), is refused here,
/// so that a CLI never does something else than the request said.
package enum ContractCheck {
    /// Linux's limit for one argument, `MAX_ARG_STRLEN`, less the final zero byte.
    package static let maximumArgumentBytes = 131_071
    /// The limit for all arguments together, bytes with their final zeros.
    package static let maximumVectorBytes = 1 << 20
    /// The limit for the number of arguments.
    package static let maximumArguments = 2048

    /// Checks arguments and added environment.
    ///
    /// Throws `contract-violation` ("Upstream claude CLI contract violation: …", "Upstream claude CLI environment
    /// contract violation: …"), `invalid-input` for a zero byte, `input-too-large` for what exec(2) would refuse.
    package static func check(
        _ arguments: [String],
        environment: [String: String],
        against contract: CLIContract
    ) throws(GatewayError) {
        try checkSizes(arguments, environment: environment, of: contract.provider)
        guard let command = contract.command(for: arguments) else {
            let paths = contract.commands.map { "'\($0.path.joined(separator: " "))'" }.joined(
                separator: ", "
            )
            throw violation(
                contract,
                "arguments must start with one of \(paths), found '\(arguments.first ?? "")'"
            )
        }
        try check(arguments.dropFirst(command.path.count), of: command, in: contract)
        for (name, value) in environment.sorted(by: { $0.key < $1.key }) {
            guard let key = contract.environment.first(where: { $0.name == name }) else {
                throw environmentViolation(contract, "'\(name)' is not a variable of the contract")
            }
            guard key.pattern.matches(value) else {
                throw environmentViolation(
                    contract,
                    "the value of '\(name)' does not match \(key.pattern.rawValue)"
                )
            }
        }
    }

    private static func check(
        _ arguments: ArraySlice<String>,
        of command: CLIContract.Command,
        in contract: CLIContract
    ) throws(GatewayError) {
        var rest = arguments
        var positionals = 0
        var onlyPositionals = false
        while let argument = rest.popFirst() {
            if onlyPositionals || !looksLikeFlag(argument) {
                positionals += 1
                continue
            }
            if argument == "--" {
                onlyPositionals = true
                continue
            }
            let (name, attached) = split(argument)
            guard let flag = command.flags.first(where: { $0.names.contains(name) }) else {
                throw unknownFlag(name, of: command, in: contract)
            }
            try check(flag, named: name, attached: attached, rest: &rest, in: contract)
        }
        guard positionals <= command.positionals else {
            throw violation(
                contract,
                "at most \(command.positionals) positional argument\(command.positionals == 1 ? "" : "s") allowed, found \(positionals)"
            )
        }
    }

    private static func check(
        _ flag: CLIContract.Flag,
        named name: String,
        attached: String?,
        rest: inout ArraySlice<String>,
        in contract: CLIContract
    ) throws(GatewayError) {
        switch flag.arity {
        case .none:
            guard attached == nil else { throw violation(contract, "flag \(name) takes no value") }
        case .one:
            if let attached { return try check(attached, of: flag, named: name, in: contract) }
            guard let value = rest.first, !looksLikeFlag(value) else {
                throw violation(contract, "flag \(name) needs a value")
            }
            rest.removeFirst()
            try check(value, of: flag, named: name, in: contract)
        case .optional:
            if let attached { return try check(attached, of: flag, named: name, in: contract) }
            if let value = rest.first, !looksLikeFlag(value) {
                rest.removeFirst()
                try check(value, of: flag, named: name, in: contract)
            }
        case .variadic:
            var count = attached == nil ? 0 : 1
            while let value = rest.first, !looksLikeFlag(value) {
                rest.removeFirst()
                try check(value, of: flag, named: name, in: contract)
                count += 1
            }
            guard count > 0 else { throw violation(contract, "flag \(name) needs at least one value") }
        }
    }

    private static func check(
        _ value: String,
        of flag: CLIContract.Flag,
        named name: String,
        in contract: CLIContract
    ) throws(GatewayError) {
        if !flag.values.isEmpty, !flag.values.contains(value) {
            throw violation(
                contract,
                "flag \(name) must be one of \(flag.values.joined(separator: ", ")), found '\(value)'"
            )
        }
        if let pattern = flag.pattern, !pattern.matches(value) {
            throw violation(contract, "the value of flag \(name) does not match \(pattern.rawValue)")
        }
    }

    private static func unknownFlag(
        _ name: String,
        of command: CLIContract.Command,
        in contract: CLIContract
    ) -> GatewayError {
        let elsewhere = contract.commands.first { $0.flags.contains { $0.names.contains(name) } }
        if let elsewhere, !command.path.isEmpty {
            return violation(
                contract,
                "flag \(name) belongs to '\(elsewhere.path.joined(separator: " "))', not to '\(command.path.joined(separator: " "))'"
            )
        }
        return violation(contract, "unknown flag \(name)")
    }

    private static func checkSizes(
        _ arguments: [String],
        environment: [String: String],
        of provider: Provider
    ) throws(GatewayError) {
        guard arguments.count <= maximumArguments else {
            throw .inputTooLarge(
                "the \(provider.executable) command line would have \(arguments.count) arguments, at most \(maximumArguments) are possible"
            )
        }
        var total = 0
        for value in arguments + environment.values {
            guard !value.utf8.contains(0) else {
                throw .invalidInput(
                    "an argument of the \(provider.executable) command line contains a zero byte"
                )
            }
            let count = value.utf8.count
            guard count <= maximumArgumentBytes else {
                throw .inputTooLarge(
                    "an argument of the \(provider.executable) command line would have \(count) bytes, at most \(maximumArgumentBytes) are possible"
                )
            }
            total += count + 1
        }
        guard total <= maximumVectorBytes else {
            throw .inputTooLarge(
                "the \(provider.executable) command line would have \(total) bytes, at most \(maximumVectorBytes) are possible"
            )
        }
    }

    private static func split(_ argument: String) -> (name: String, value: String?) {
        guard argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") else {
            return (argument, nil)
        }
        return (String(argument[..<equals]), String(argument[argument.index(after: equals)...]))
    }

    /// Whether a CLI would read the word as a flag; a lone `-` means standard input.
    static func looksLikeFlag(_ argument: String) -> Bool { argument.utf8.first == 0x2D && argument != "-" }

    private static func violation(_ contract: CLIContract, _ reason: String) -> GatewayError {
        GatewayError(
            "contract-violation",
            "Upstream \(contract.provider.rawValue) CLI contract violation: \(reason)"
        )
    }

    private static func environmentViolation(_ contract: CLIContract, _ reason: String) -> GatewayError {
        GatewayError(
            "contract-violation",
            "Upstream \(contract.provider.rawValue) CLI environment contract violation: \(reason)"
        )
    }
}

extension GatewayError {
    /// A value that no CLI can be given; never worth a retry.
    static func invalidInput(_ message: String, help: String? = nil) -> GatewayError {
        GatewayError("invalid-input", message, help: help)
    }

    /// More than the operating system or the limits let through; never worth a retry.
    static func inputTooLarge(_ message: String) -> GatewayError {
        GatewayError(
            "input-too-large",
            message,
            help: "shorten it, or put it into a file that the CLI can read"
        )
    }

    /// A parameter that the schema knows and this request cannot be served with.
    static func unsupported(_ message: String, help: String? = nil) -> GatewayError {
        GatewayError("unsupported-parameter", message, help: help)
    }
}
