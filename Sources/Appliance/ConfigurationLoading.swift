extension Configuration {
    /// Reads a configuration; whatever is wrong becomes a finding, and this never fails.
    ///
    /// `bytes` is the file `layout.configuration`, `nil` when there is none. A file that cannot be parsed counts as
    /// absent. A gateway must not start when a finding says `stopsStartup`; everything else has a safe value: the
    /// default, or the feature turned off.
    package static func load(
        _ bytes: [UInt8]?,
        environment: [String: String],
        layout: Layout
    ) -> (Configuration, [ConfigurationFinding]) {
        var loading = ConfigurationLoading(environment: environment, layout: layout)
        let configuration = loading.load(bytes)
        return (configuration, loading.findings)
    }

    /// Reads a configuration from text; see above.
    package static func load(
        text: String,
        environment: [String: String],
        layout: Layout
    ) -> (Configuration, [ConfigurationFinding]) {
        load(Array(text.utf8), environment: environment, layout: layout)
    }
}

/// The rules for what follows from a fault, table by table.
private struct ConfigurationLoading {
    let environment: [String: String]
    let layout: Layout
    var findings: [ConfigurationFinding] = []

    private static let tables = [
        "persistence", "cache_awareness", "providers", "http", "workspaces", "acp", "limits", "budget",
        "compression",
        "least_cost", "admin", "skills",
    ]

    init(environment: [String: String], layout: Layout) {
        self.environment = environment
        self.layout = layout
    }

    mutating func load(_ bytes: [UInt8]?) -> Configuration {
        var configuration = Configuration()
        let document = bytes.flatMap { parse($0) }
        if document != nil { configuration.sources.configFile = layout.configuration }
        let root = document ?? TOMLTable()
        refuseUnknownTables(root)

        configuration.persistence = persistence(root, &configuration.sources)
        configuration.cacheAwareness = cacheAwareness(root)
        configuration.providers = providers(root)
        (configuration.http, configuration.oauth) = http(root, &configuration.sources)
        configuration.workspaces = workspaces(root, apiProviders: configuration.providers.map(\.name))
        configuration.acp = acp(root)
        configuration.limits = limits(root, &configuration.sources)
        configuration.budget = budget(root, configuration.persistence)
        read("compression", in: root) {
            configuration.compression.enabled = $0.boolean("enabled", default: false)
        }
        read("least_cost", in: root) {
            configuration.leastCost.enabled = $0.boolean("enabled", default: false)
            configuration.leastCost.settings = $0.rest()
        }
        read("admin", in: root) {
            configuration.admin.allowMutatingCLIAdminOps =
                $0.boolean("allow_mutating_cli_admin_ops", default: false)
        }
        read("skills", in: root) { section in
            let paths = (section.texts("paths") ?? []).map { section.expanded($0) }
            configuration.skills.paths = paths.filter { $0.hasPrefix("/") }
            if let relative = paths.first(where: { !$0.hasPrefix("/") }) {
                section.wrong(
                    "paths",
                    "must hold absolute paths or ones that start with '~/', not '\(relative)'"
                )
            }
        }
        return configuration
    }

    // MARK: tables with a rule of their own

    private mutating func persistence(
        _ root: TOMLTable,
        _ sources: inout Configuration.Sources
    ) -> Configuration.Persistence {
        var section = section("persistence", in: root)
        let environment = PersistenceEnvironment(
            environment,
            explicitBackend: root["persistence"]?.table?["backend"]?.string
        )
        let persistence = Configuration.Persistence(&section, environment: environment)
        sources.envOverrides += environment.names
        findings += environment.findings
        let faults = section.finished()
        for fault in faults {
            add(
                fault,
                .error,
                "config-invalid-persistence",
                prefix: "Invalid [persistence] config: ",
                stopsStartup: true
            )
        }
        return faults.isEmpty ? persistence : Configuration.Persistence()
    }

    private mutating func providers(_ root: TOMLTable) -> [Configuration.APIProvider] {
        var section = section("providers", in: root)
        var providers: [Configuration.APIProvider] = []
        for (name, named) in section.namedSections() {
            var entry = named
            let provider = Configuration.APIProvider(name, &entry)
            let faults = entry.finished()
            if faults.isEmpty { providers.append(provider) }
            for fault in faults {
                add(
                    fault,
                    .warning,
                    "config-provider-disabled",
                    prefix: "Invalid [providers.\(name)] config, this provider is off: "
                )
            }
        }
        note(section)
        return providers
    }

    private mutating func http(
        _ root: TOMLTable,
        _ sources: inout Configuration.Sources
    ) -> (Configuration.HTTPSessions, Configuration.OAuth) {
        var section = section("http", in: root)
        var http = Configuration.HTTPSessions()
        let times = 1...ConfigurationLoading.longestMilliseconds
        http.maxSessions = section.integer("max_sessions", in: 1...100_000, default: http.maxSessions)
        http.sessionIdleMilliseconds = section.integer(
            "session_idle_ttl_ms",
            in: times,
            default: http.sessionIdleMilliseconds
        )
        http.sessionReaperIntervalMilliseconds = section.integer(
            "session_reaper_interval_ms",
            in: times,
            default: http.sessionReaperIntervalMilliseconds
        )
        var inner = section.section("oauth")
        var oauth = Configuration.OAuth(&inner, environment: environment, names: &sources.envOverrides)
        let faults = inner.finished()
        for fault in faults {
            add(
                fault,
                .warning,
                "config-oauth-disabled",
                prefix: "Invalid [http.oauth] config, OAuth is off: "
            )
        }
        if !faults.isEmpty { oauth = Configuration.OAuth() }
        if oauth.enabled, oauth.registrationPolicy == .openDevelopment, !oauth.isOpenDevelopmentConfirmed {
            let fault = ConfigurationFault(
                message:
                    "'registration_policy' in [http.oauth] is 'open_dev' and stays closed without confirmation",
                help: "set LLM_GATEWAY_OAUTH_OPEN_DEV=1, on a machine of your own only",
                line: inner.line
            )
            add(fault, .warning, "config-oauth-unconfirmed")
        }
        note(section)
        return (http, oauth)
    }

    private mutating func workspaces(_ root: TOMLTable, apiProviders: [String]) -> Configuration.Workspaces {
        var section = section("workspaces", in: root)
        let known = Configuration.commandLineProviders + ["grok-api"] + apiProviders
        let workspaces = Configuration.Workspaces(&section, providers: known)
        let faults = section.finished()
        for fault in faults {
            add(
                fault,
                .warning,
                "config-workspaces-disabled",
                prefix: "Invalid [workspaces] config, no workspace is registered: "
            )
        }
        return faults.isEmpty ? workspaces : Configuration.Workspaces()
    }

    private mutating func acp(_ root: TOMLTable) -> Configuration.ACP {
        var section = section("acp", in: root)
        let acp = Configuration.ACP(&section)
        let faults = section.finished()
        for fault in faults {
            add(fault, .error, "config-acp-disabled", prefix: "Invalid [acp] config, this transport is off: ")
        }
        return faults.isEmpty ? acp : Configuration.ACP()
    }

    /// A ceiling that was not understood must not become none.
    private mutating func budget(
        _ root: TOMLTable,
        _ persistence: Configuration.Persistence
    ) -> Configuration.Budget {
        var section = section("budget", in: root)
        let budget = Configuration.Budget(&section)
        if !budget.isNone, persistence.backend == .none {
            section.fault(
                "a budget needs a record of what was run, and [persistence] backend is 'none'",
                help: "choose another backend, or remove [budget]",
                line: section.line
            )
        }
        for fault in section.finished() {
            add(
                fault,
                .error,
                "config-invalid-budget",
                prefix: "Invalid [budget] config: ",
                stopsStartup: true
            )
        }
        return budget
    }

    // MARK: tables where a wrong value leaves the default

    private mutating func cacheAwareness(_ root: TOMLTable) -> Configuration.CacheAwareness {
        var cache = Configuration.CacheAwareness()
        read("cache_awareness", in: root) { section in
            cache.emitAnthropicCacheControl = section.boolean("emit_anthropic_cache_control", default: false)
            let seconds = section.integer("anthropic_ttl_seconds", in: 300...3600, default: 300)
            if seconds == 300 || seconds == 3600 {
                cache.anthropicTTLSeconds = seconds
            } else {
                section.wrong("anthropic_ttl_seconds", "must be 300 or 3600, not \(seconds)")
            }
            cache.warnOnTTLExpiry = section.boolean("warn_on_ttl_expiry", default: false)
            var families = section.section("min_stable_tokens_for_cache_control")
            for (family, standard) in cache.minimumStableTokens.sorted(by: { $0.key < $1.key }) {
                cache.minimumStableTokens[family] = families.integer(
                    family,
                    in: 1...10_000_000,
                    default: standard
                )
            }
            section.absorb(families)
        }
        return cache
    }

    /// A year: longer would be a mistake, and must not overflow any clock.
    private static let longestMilliseconds = 31_536_000_000

    private mutating func limits(
        _ root: TOMLTable,
        _ sources: inout Configuration.Sources
    ) -> Configuration.Limits {
        var limits = Configuration.Limits()
        let waits = 0...ConfigurationLoading.longestMilliseconds
        read("limits", in: root) { section in
            let jobs = 1...100_000, times = 1...ConfigurationLoading.longestMilliseconds
            func set(
                _ key: String,
                _ field: WritableKeyPath<Configuration.Limits, Int>,
                _ range: ClosedRange<Int>
            ) {
                limits[keyPath: field] = section.integer(key, in: range, default: limits[keyPath: field])
            }
            set("max_running_jobs", \.maxRunningJobs, jobs)
            set("max_running_jobs_per_provider", \.maxRunningJobsPerProvider, jobs)
            set("max_queued_jobs", \.maxQueuedJobs, jobs)
            set("queue_timeout_ms", \.queueTimeoutMilliseconds, times)
            set("completed_job_memory_ttl_ms", \.completedJobMemoryMilliseconds, times)
            set("max_job_output_bytes", \.maxJobOutputBytes, 1...(1 << 40))
            set("max_total_output_bytes", \.maxTotalOutputBytes, 1...(1 << 50))
            set("sync_deadline_ms", \.syncDeadlineMilliseconds, waits)
            set("max_prompt_chars", \.maxPromptCharacters, 1...Configuration.Limits.highestPromptCharacters)
        }
        let variable = "SYNC_DEADLINE_MS"
        if let text = environment[variable]?.trimmed, !text.isEmpty {
            if let milliseconds = Int(text), waits.contains(milliseconds) {
                limits.syncDeadlineMilliseconds = milliseconds
                sources.envOverrides.append(variable)
            } else {
                findings.append(
                    ConfigurationFinding(
                        severity: .warning,
                        code: "config-environment-ignored",
                        message:
                            "the environment variable \(variable) is ignored: it must be an integer from 0 to \(waits.upperBound) (milliseconds), not '\(text.prefix(64))'",
                        help: "unset \(variable)"
                    )
                )
            }
        }
        return limits
    }

    // MARK: findings

    private mutating func parse(_ bytes: [UInt8]) -> TOMLTable? {
        do throws(TOMLError) {
            return try TOML.parse(bytes)
        } catch {
            findings.append(
                ConfigurationFinding(
                    severity: .error,
                    code: "config-unparsable",
                    message: "'\(layout.configuration)' is not TOML and every default is in force: \(error)",
                    help: "correct this line; the file was left as it is",
                    line: error.line
                )
            )
            return nil
        }
    }

    private mutating func refuseUnknownTables(_ root: TOMLTable) {
        for entry in root.entries where !ConfigurationLoading.tables.contains(entry.key) {
            let isTable = entry.element.value.table != nil
            let nearest = Suggestion.nearest(to: entry.key, among: ConfigurationLoading.tables)
            let fault = ConfigurationFault(
                message: isTable
                    ? "unknown table [\(entry.key)]" : "unknown key '\(entry.key)' outside of any table",
                help: nearest.map { "did you mean [\($0)]?" }
                    ?? "known tables are "
                    + ConfigurationLoading.tables.map { "[\($0)]" }.joined(separator: ", "),
                line: entry.line,
                isUnknownKey: true
            )
            add(fault, .warning, "config-unknown-key")
        }
    }

    private func section(_ name: String, in root: TOMLTable) -> ConfigurationSection {
        ConfigurationSection(root.entry(name), path: name, home: layout.userHome)
    }

    private mutating func read(
        _ name: String,
        in root: TOMLTable,
        _ body: (inout ConfigurationSection) -> Void
    ) {
        var section = section(name, in: root)
        body(&section)
        note(section)
    }

    /// Notes the faults of a table that works without the wrong values.
    private mutating func note(_ section: ConfigurationSection) {
        var section = section
        for fault in section.finished() {
            if fault.isUnknownKey {
                add(fault, .warning, "config-unknown-key")
            } else {
                add(fault, .error, "config-invalid-value", suffix: "; the default is in force")
            }
        }
    }

    private mutating func add(
        _ fault: ConfigurationFault,
        _ severity: ConfigurationFinding.Severity,
        _ code: String,
        prefix: String = "",
        suffix: String = "",
        stopsStartup: Bool = false
    ) {
        let place = fault.line.map { " (line \($0) of '\(layout.configuration)')" } ?? ""
        findings.append(
            ConfigurationFinding(
                severity: severity,
                code: code,
                message: prefix + fault.message + place + suffix,
                help: fault.help,
                line: fault.line,
                stopsStartup: stopsStartup
            )
        )
    }
}
