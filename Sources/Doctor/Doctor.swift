package import Appliance
import Glibc
package import Platform
import Providers

/// Looks at everything side by side, each check with a deadline, and reports.
///
/// Changes nothing, prints nothing.
package struct Doctor: Sendable {
    let machine: Machine
    let layout: Layout
    /// The version of the program that asks.
    let managerVersion: String
    /// Who asks: the manager, or the gateway itself.
    let source: Source
    let service: @Sendable () async -> ServiceFacts
    let install: @Sendable () async -> InstallFacts

    /// Which program the report comes from.
    package enum Source: String, Sendable { case manager, gateway }

    /// A doctor; the two closures collect what only their owner knows.
    package init(
        machine: Machine,
        layout: Layout,
        managerVersion: String = Product.version,
        source: Source,
        service: @escaping @Sendable () async -> ServiceFacts,
        install: @escaping @Sendable () async -> InstallFacts
    ) {
        self.machine = machine
        self.layout = layout
        self.managerVersion = managerVersion
        self.source = source
        self.service = service
        self.install = install
    }

    /// The report.
    ///
    /// Takes as long as the slowest check; a CLI that hangs is ended after six seconds.
    package func examine() async -> DoctorReport {
        let local = LocalFacts(machine: machine, layout: layout)
        let surroundings = ServiceSurroundings(
            machine: machine,
            layout: layout,
            source: source,
            file: local.environmentFile
        )
        let checks = ProviderChecks(machine: machine, layout: layout, surroundings: surroundings)
        let persistence = local.configuration.persistence
        async let serviceFacts = service()
        async let installFacts = install()
        async let providerFacts = checks.run()
        async let budget = BudgetFacts.read(
            machine: machine,
            layout: layout,
            configuration: local.configuration
        )
        async let cache = CacheAwareness.read(machine: machine, layout: layout, persistence: persistence)
        let exposure = EndpointExposure(local.settings, environment: machine.environment)
        let remote = RemoteAccess(
            exposure: exposure,
            path: local.settings.path,
            requiresToken: !local.authIsDisabled,
            hasToken: local.hasToken,
            oauth: local.configuration.oauth,
            oauthIsMalformed: local.configurationFindings.contains { $0.code == "config-oauth-disabled" },
            oauthIsServed: LaterFeatures.servesOAuth,
            workspaces: local.configuration.workspaces
        )
        return report(
            Advice(
                local: local,
                service: await serviceFacts,
                install: await installFacts,
                providers: await providerFacts,
                exposure: exposure,
                remote: remote,
                cache: await cache,
                budget: await budget,
                clients: ClientFiles(
                    files: machine.files,
                    userHome: layout.userHome,
                    directory: local.directory
                )
            )
        )
    }

    private func report(_ advice: Advice) -> DoctorReport {
        let local = advice.local
        let configuration = local.configuration
        let findings = advice.findings, actions = advice.nextActions
        var json: JSON = [
            "schema_version": "1.0", "ok": .bool(!findings.contains { $0.severity == .error }),
            "generated_at": .string(machine.clock.now().iso8601), "findings": .array(findings.map(\.json)),
            "system": Doctor.system(),
        ]
        json["gateway"] = [
            "name": .string(Product.name), "version": .string(advice.install.version ?? "unknown"),
            "bootstrapper_version": .string(managerVersion), "diagnostic_source": .string(source.rawValue),
            "home": .string(layout.home), "install": advice.install.json,
        ]
        json["service"] = advice.service.json
        json["transport"] = transport(local)
        json["auth"] = auth(local, advice.remote)
        json["workspaces"] = workspaces(local)
        json["providers"] = .object(
            JSONObject(advice.providers.map { (name: $0.provider.rawValue, value: $0.json) })
        )
        json["endpoint_exposure"] = advice.exposure.json
        json["remote_http_oauth"] = advice.remote.json
        json["client_config"] = advice.clients.json
        json["cache_awareness"] = advice.cache.json(configuration.cacheAwareness)
        json["budget"] = advice.budget.json(configuration.budget)
        json["provider_capabilities"] = CapabilitySummary.json(advice.providers)
        json["least_cost"] = LaterFeatures.leastCost
        json["personal_config"] = LaterFeatures.personalConfiguration(configuration.persistence)
        json["upstream"] = UpstreamContracts(providers: advice.providers).json
        json["configuration"] = local.configurationJSON
        json["next_actions"] = .strings(actions)
        return DoctorReport(json: json, findings: findings, nextActions: actions)
    }

    private static func system() -> JSON {
        var name = utsname()
        uname(&name)
        let release = withUnsafePointer(to: &name.release) {
            $0.withMemoryRebound(to: CChar.self, capacity: 65) { String(cString: $0) }
        }
        return [
            "os": "linux", "arch": .string(Product.architecture == "amd64" ? "x64" : Product.architecture),
            "release": .string(release), "node_version": "",
            "glibc": .string(GlibcVersion.running),
        ]
    }

    private func transport(_ local: LocalFacts) -> JSON {
        [
            "default": "http",
            "http": [
                "enabled": true, "host": .string(local.settings.host),
                "port": .integer(max(1, local.settings.port)),
                "path": .string(local.settings.path),
                "public_url_configured": .bool(local.settings.publicURL != nil),
                "public_url": .optional(local.settings.publicURL.map(Redaction.url)),
                "chatgpt_connector_url": .optional(
                    local.settings.chatGPTConnectorURL == nil ? nil : "<redacted>"
                ),
            ],
        ]
    }

    private func auth(_ local: LocalFacts, _ remote: RemoteAccess) -> JSON {
        let oauth = local.configuration.oauth
        return [
            "required": .bool(!local.authIsDisabled), "token_configured": .bool(local.hasToken),
            "source": .string(
                local.authIsDisabled
                    ? "disabled" : local.tokenFromEnvironment ? "env" : "installer-auth-token-file"
            ),
            "oauth": [
                "enabled": .bool(oauth.enabled),
                "registration_policy": .string(oauth.registrationPolicy.rawValue),
                "clients_configured": .integer(oauth.clients.count),
                "shared_secret_enabled": .bool(oauth.sharedSecret?.enabled ?? false),
                "pkce_required": .bool(oauth.requirePKCE),
                "issuer": .optional(remote.issuer),
            ],
        ]
    }

    private func workspaces(_ local: LocalFacts) -> JSON {
        let workspaces = local.configuration.workspaces
        return [
            "enabled": .bool(!workspaces.repositories.isEmpty), "default": .optional(workspaces.defaultAlias),
            "repo_count": .integer(workspaces.repositories.count),
            "allowed_root_count": .integer(workspaces.allowedRoots.count),
            "gateway_app_dir_is_workspace": .bool(local.exposesHome),
        ]
    }
}
