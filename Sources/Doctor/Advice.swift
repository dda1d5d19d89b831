import Appliance
import Providers

/// What all the facts together mean: findings, and what to do next.
struct Advice: Sendable {
    var local: LocalFacts
    var service: ServiceFacts
    var install: InstallFacts
    var providers: [ProviderFacts]
    var exposure: EndpointExposure
    var remote: RemoteAccess
    var cache: CacheAwareness
    var budget: BudgetFacts
    var clients: ClientFiles

    /// The gravest first; what is equally grave stays in the order of a set-up.
    var findings: [Finding] {
        let all =
            tokenFindings + local.findings + configurationFindings + installFindings + serviceFindings
            + providerFindings + exposureFindings + cache.findings + budget.findings
        return [Finding.Severity.error, .warning, .info].flatMap { grade in
            all.filter { $0.severity == grade }
        }
    }

    /// Errors first, then what makes the gateway useful, then where to go from a healthy state; never empty.
    var nextActions: [String] {
        var actions: [String] = []
        func add(_ action: String?) {
            if let action, !actions.contains(action) { actions.append(action) }
        }
        for finding in findings where finding.severity != .info { add(finding.help) }
        for action in exposure.nextActions { add(action) }
        for facts in providers where facts.isInstalled && facts.login == .notAuthenticated {
            add(Advice.login(facts))
        }
        if local.configuration.workspaces.repositories.isEmpty {
            add(
                "register a folder under [[workspaces.repos]] in '\(local.configurationPath)', so that HTTP clients may run providers in it"
            )
        }
        if !findings.contains(where: { $0.severity == .error }), service.isHealthy {
            add("connect a client: 'llm-cli-gateway print-client-config' shows what it needs")
        }
        if remote.stage != .notStarted { for action in remote.nextActions { add(action) } }
        if providers.contains(where: { $0.provider == .mistral && $0.isInstalled }) {
            add(clients.nextAction)
        }
        for facts in providers where !facts.isInstalled && facts.shellPath == nil {
            add("\(facts.provider.rawValue): \(facts.provider.installGuidance)")
        }
        add(UpstreamContracts(providers: providers).nextAction)
        if actions.isEmpty {
            add("nothing needs doing: 'llm-cli-gateway print-client-config' shows what a client needs")
        }
        return actions
    }

    private static func login(_ facts: ProviderFacts) -> String {
        let name = facts.provider.rawValue
        guard let key = facts.shellKey else { return "\(name): \(facts.provider.loginGuidance)" }
        return
            "\(name): \(key) is set in this shell only; 'llm-cli-gateway setup --import-keys' copies it for the service"
    }

    // MARK: findings

    private var tokenFindings: [Finding] {
        if local.authIsDisabled {
            return [
                Finding(
                    "auth-disabled",
                    .warning,
                    "token",
                    "LLM_GATEWAY_AUTH_DISABLED=1: every program of this machine may run providers",
                    help: "unset LLM_GATEWAY_AUTH_DISABLED"
                )
            ]
        }
        // A token that could not be read is not a missing one; the reading has said why.
        let isUnreadable = local.findings.contains { $0.title == "token" && $0.severity == .error }
        if local.hasToken || isUnreadable { return [] }
        return [
            Finding(
                "token-missing",
                .error,
                "token",
                "there is no token, so nobody can connect over HTTP",
                help: "run 'llm-cli-gateway setup'"
            )
        ]
    }

    private var configurationFindings: [Finding] {
        local.configurationFindings.map { finding in
            Finding(
                finding.code,
                finding.stopsStartup || finding.severity == .error ? .error : .warning,
                "configuration",
                finding.message,
                help: finding.help
            )
        } + LaterFeatures.findings(local.configuration)
            + (local.exposesHome
                ? [
                    Finding(
                        "home-is-workspace",
                        .warning,
                        "workspaces",
                        "the gateway's own folder is a workspace, so that providers may read its token and keys",
                        help: "remove this workspace from config.toml"
                    )
                ] : [])
    }

    private var installFindings: [Finding] {
        // Without a readable receipt nobody knows what is installed.
        let isUnknown = install.findings.contains { $0.severity == .error }
        guard install.version == nil, !isUnknown else { return install.findings }
        return [
            Finding(
                "not-installed",
                .warning,
                "install",
                "no bundle is installed, so there is nothing that a service could run",
                help: "run '\(install.installCommand)'"
            )
        ] + install.findings
    }

    private var serviceFindings: [Finding] {
        var findings: [Finding] = []
        let port = local.settings.port
        if let owner = service.portOwner {
            findings.append(
                Finding(
                    "port-in-use",
                    .error,
                    "port",
                    "port \(port) is taken by \(owner.wording), which is not this gateway",
                    help:
                        "stop that process, or choose another port: llm-cli-gateway setup --port NUMBER"
                )
            )
        } else if service.isRunning, !service.isHealthy {
            findings.append(
                Finding(
                    "not-answering",
                    .error,
                    "service",
                    "the gateway runs, but does not answer at \(local.settings.healthURL)",
                    help: "look at 'llm-cli-gateway logs', then run 'llm-cli-gateway restart'"
                )
            )
        } else if install.version != nil, !service.isRunning {
            findings.append(
                Finding(
                    "not-running",
                    .warning,
                    "service",
                    "the gateway is not running",
                    help: "run 'llm-cli-gateway start'"
                )
            )
        }
        if port == 0 {
            findings.append(
                Finding(
                    "port-undecided",
                    .error,
                    "port",
                    "the port is 0, which means any free one, and no client could know it",
                    help: "choose a port: llm-cli-gateway setup --port NUMBER"
                )
            )
        }
        return findings + service.findings + service.upgrades.findings(install)
    }

    private var providerFindings: [Finding] {
        var findings: [Finding] = []
        for facts in providers {
            if let path = facts.shellPath {
                findings.append(
                    Finding(
                        "provider-outside-path",
                        .warning,
                        facts.provider.rawValue,
                        "this shell finds '\(path)', and the service would not: its folder is not on the recorded search path",
                        help: "run 'llm-cli-gateway setup' in this shell, then 'llm-cli-gateway restart'"
                    )
                )
            } else if let problem = facts.problem {
                findings.append(
                    Finding(
                        "provider-not-working",
                        .warning,
                        facts.provider.rawValue,
                        problem,
                        help: "run '\(facts.report.command) --version' yourself and see what it says"
                    )
                )
            }
        }
        if !providers.contains(where: { $0.isInstalled || $0.shellPath != nil }) {
            let names = providers.map(\.provider.executable).joined(separator: ", ")
            findings.append(
                Finding(
                    "no-provider",
                    .warning,
                    "providers",
                    "none of the provider CLIs was found",
                    help: "install at least one of \(names), then run 'llm-cli-gateway setup'"
                )
            )
        }
        return findings
    }

    private var exposureFindings: [Finding] {
        let beside = Finding(
            "listens-beside",
            .warning,
            "exposure",
            "the gateway listens on \(exposure.bound), so that it can also be reached past the public URL, over plain http",
            help:
                "let the tunnel or proxy connect to this machine itself: llm-cli-gateway setup --host 127.0.0.1"
        )
        let besides = exposure.listensBeside ? [beside] : []
        return switch exposure.mode {
        case .lan, .misconfigured:
            besides
                + exposure.nextActions.map {
                    Finding("exposure", .warning, "exposure", exposure.concern ?? $0, help: $0)
                }
        case .localOnly, .tunnel, .reverseProxy: besides
        }
    }
}
