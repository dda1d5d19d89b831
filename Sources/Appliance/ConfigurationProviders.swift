extension Configuration {
    /// `[providers.<name>]`: a provider behind an HTTP interface.
    ///
    /// The key itself stays in the environment.
    package struct APIProvider: Sendable, Equatable {
        /// The protocol it speaks.
        package enum Kind: String, Sendable, CaseIterable {
            /// Chat completions, as OpenAI and most local servers speak them.
            case openAICompatible = "openai-compatible"
            /// Anthropic's Messages.
            case anthropic
            /// Responses, as xAI speaks them.
            case xaiResponses = "xai-responses"
        }

        /// The name in the file; `xai` is the one whose tool is `grok_api_request`.
        package var name: String
        /// The protocol it speaks.
        package var kind: Kind
        /// Where it listens: https, or http on the loopback.
        package var baseURL: String
        /// The environment variable with the key; `nil` for a local one without key.
        package var apiKeyEnvironment: String?
        /// The model when a request names none.
        package var defaultModel: String
        /// The models that may be asked for; `nil` for any.
        package var models: [String]?
        /// Whether the answer is asked to carry usage and cost.
        package var includesUsage = false
    }

    /// `[acp]`: the Agent Client Protocol transport, off unless turned on.
    package struct ACP: Sendable, Equatable {
        /// How a provider is reached.
        package enum Transport: String, Sendable, CaseIterable {
            /// Its CLI, run once for each request.
            case cli
            /// A program that speaks the Agent Client Protocol.
            case acp
        }

        /// `[acp.providers.<name>]`: the program that speaks the protocol for one provider.
        package struct Provider: Sendable, Equatable {
            /// The provider's name.
            package var name: String
            /// Whether it is known to the gateway.
            package var enabled = false
            /// The executable, never a shell line.
            package var command: String
            /// Its arguments.
            package var arguments: [String] = []
            /// Whether requests may really run through it.
            package var runtimeEnabled = false
            /// Whether it gets a control socket of its own.
            package var isolatedLeaderSocket = false
        }

        /// Whether the transport exists at all.
        package var enabled = false
        /// The transport of a request that names none.
        package var defaultTransport = Transport.cli
        /// Whether every provider is tried once at start.
        package var smokeOnStartup = false
        /// Milliseconds without use after which a provider's process is ended.
        package var processIdleMilliseconds = 600_000
        /// Milliseconds for the protocol's first exchange.
        package var initializeMilliseconds = 10_000
        /// Milliseconds for a new session.
        package var sessionNewMilliseconds = 10_000
        /// Milliseconds for an answer to a prompt.
        package var promptMilliseconds = 600_000
        /// Whether a provider may write files through the gateway.
        package var allowWriteHostServices = false
        /// Whether a provider may run commands through the gateway.
        package var allowTerminalHostServices = false
        /// Whether an unhealthy provider is reached through its command line instead.
        package var fallbackToCLIWhenUnhealthy = true
        /// The programs in the order of the file.
        package var providers: [Provider] = []

        /// The defaults.
        package init() {}
    }
}

extension Configuration.APIProvider {
    /// Reads `[providers.xai]`, where everything has a default, or any other, where little has.
    init(_ name: String, _ section: inout ConfigurationSection) {
        self.name = name
        if Configuration.commandLineProviders.contains(name) {
            section.fault(
                "\(section.header) takes the name of a command line provider",
                help: "choose another name for the provider behind HTTP",
                line: section.line
            )
        }
        let isXAI = name == "xai"
        kind = section.choice("kind", default: isXAI ? .xaiResponses : .openAICompatible)
        if isXAI {
            baseURL = section.text("base_url") ?? "https://api.x.ai/v1"
            defaultModel = section.text("default_model") ?? "grok-build-0.1"
            apiKeyEnvironment = section.text("api_key_env") ?? "XAI_API_KEY"
            if kind != .xaiResponses { section.wrong("kind", "must be 'xai-responses'") }
        } else {
            if !section.has("kind") { section.fault("\(section.header) needs 'kind'", line: section.line) }
            baseURL = section.requiredText("base_url")
            defaultModel = section.requiredText("default_model")
            apiKeyEnvironment = section.text("api_key_env")
        }
        models = section.texts("models")
        includesUsage = section.boolean("usage_include", default: false)
        if !baseURL.isEmpty, !Identifiers.isHTTPSOrLoopback(baseURL) {
            section.wrong("base_url", "must start with https://, or with http:// and name this machine")
        }
        if models?.isEmpty == true { section.wrong("models", "must not be empty; leave it out to allow any") }
        if let variable = apiKeyEnvironment, !Identifiers.isEnvironmentName(variable) {
            section.wrong("api_key_env", "must be the name of an environment variable, not the key itself")
        }
    }
}

extension Configuration.ACP {
    init(_ section: inout ConfigurationSection) {
        let times = 1...86_400_000
        enabled = section.boolean("enabled", default: enabled)
        defaultTransport = section.choice("default_transport", default: defaultTransport)
        smokeOnStartup = section.boolean("smoke_on_startup", default: smokeOnStartup)
        processIdleMilliseconds = section.integer(
            "process_idle_timeout_ms",
            in: times,
            default: processIdleMilliseconds
        )
        initializeMilliseconds = section.integer(
            "initialize_timeout_ms",
            in: times,
            default: initializeMilliseconds
        )
        sessionNewMilliseconds = section.integer(
            "session_new_timeout_ms",
            in: times,
            default: sessionNewMilliseconds
        )
        promptMilliseconds = section.integer("prompt_timeout_ms", in: times, default: promptMilliseconds)
        allowWriteHostServices = section.boolean("allow_write_host_services", default: false)
        allowTerminalHostServices = section.boolean("allow_terminal_host_services", default: false)
        fallbackToCLIWhenUnhealthy = section.boolean("fallback_to_cli_when_unhealthy", default: true)
        var table = section.section("providers")
        for (name, named) in table.namedSections() {
            var entry = named
            let command = entry.requiredText("command")
            if !command.utf8.allSatisfy(Self.isPlain) {
                entry.wrong(
                    "command",
                    "must be one executable without blanks or shell characters; use 'args'"
                )
            }
            providers.append(
                Provider(
                    name: name,
                    enabled: entry.boolean("enabled", default: false),
                    command: command,
                    arguments: entry.texts("args") ?? [],
                    runtimeEnabled: entry.boolean("runtime_enabled", default: false),
                    isolatedLeaderSocket: entry.boolean("isolated_leader_socket", default: false)
                )
            )
            table.absorb(entry)
        }
        section.absorb(table)
    }

    /// Whether a byte of a command cannot mean anything to a shell.
    private static func isPlain(_ byte: UInt8) -> Bool {
        byte > 0x20 && byte != 0x7F && !"|&;<>(){}$`\"'\\*?[]~#!".utf8.contains(byte)
    }
}
