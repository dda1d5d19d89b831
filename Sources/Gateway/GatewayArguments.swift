import Appliance

/// The command line of `llm-gateway`: what the service, the manager and a client's configuration start.
enum GatewayArguments: Equatable {
    case serve(Transport)
    case version
    case help
    case doctor

    enum Transport: String { case stdio, http }

    /// Reads the arguments after the program's name; the environment names the transport where they do not.
    ///
    /// Throws `unknown-flag`, `unknown-verb` or `invalid-value`. The environment is not looked at where a flag decides.
    init(_ arguments: [String], environment: [String: String]) throws(GatewayError) {
        var transport: Transport?
        var rest = arguments[...]
        switch rest.first {
        case "--version", "-v", "version":
            self = .version
            return
        case "--help", "-h", "help":
            self = .help
            return
        case "doctor":
            guard rest.dropFirst().allSatisfy({ $0 == "--json" }), rest.count > 1 else {
                throw GatewayError(
                    "usage",
                    "only 'doctor --json' is known here",
                    help: "run: llm-gateway doctor --json"
                )
            }
            self = .doctor
            return
        default: break
        }
        while let argument = rest.popFirst() {
            if argument.hasPrefix("--transport=") {
                transport = try GatewayArguments.transport(
                    String(argument.dropFirst(12)),
                    from: "--transport"
                )
            } else if argument == "--transport" {
                guard let value = rest.popFirst() else {
                    throw GatewayError("missing-value", "--transport needs a value: stdio or http")
                }
                transport = try GatewayArguments.transport(value, from: "--transport")
            } else {
                let known = ["--transport", "--version", "--help", "doctor", "version", "help", "run-job"]
                let nearest = Suggestion.nearest(to: argument, among: known)
                throw GatewayError(
                    argument.hasPrefix("-") ? "unknown-flag" : "unknown-verb",
                    "llm-gateway does not know '\(argument)'",
                    help: nearest.map { "did you mean '\($0)'?" } ?? "run: llm-gateway --help"
                )
            }
        }
        if let transport {
            self = .serve(transport)
        } else {
            self = .serve(try GatewayArguments.transport(environment))
        }
    }

    private static func transport(_ environment: [String: String]) throws(GatewayError) -> Transport {
        if let value = environment["LLM_GATEWAY_TRANSPORT"], !value.isEmpty {
            return try transport(value, from: "LLM_GATEWAY_TRANSPORT")
        }
        // Other MCP servers read this one too, and some of its values (sse, streamable-http) are theirs alone.
        return environment["MCP_TRANSPORT"].flatMap(Transport.init(rawValue:)) ?? .stdio
    }

    private static func transport(_ value: String, from name: String) throws(GatewayError) -> Transport {
        guard let transport = Transport(rawValue: value) else {
            throw GatewayError("invalid-value", "\(name) is '\(value)', expected stdio or http")
        }
        return transport
    }

    static let helpText = """
        llm-gateway \(Product.version): the gateway itself. Usually the service or an MCP client starts it.

        Usage:
          llm-gateway [--transport=stdio]   serve one MCP client on standard input and output
          llm-gateway --transport=http      serve MCP clients on the address of settings.json
          llm-gateway doctor --json         report, as 'llm-cli-gateway doctor --json' does
          llm-gateway --version             print the version

        Settings, logs and everything else are managed by llm-cli-gateway.

        """
}
