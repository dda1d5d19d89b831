import Appliance
import Glibc
import Testing

/// A home and a file that exist only as names.
private enum Sample {
    static func load(
        _ text: String,
        environment: [String: String] = [:]
    ) throws -> (Configuration, [ConfigurationFinding]) {
        Configuration.load(text: text, environment: environment, layout: try layout)
    }

    static var layout: Layout { get throws { try Layout(environment: ["HOME": "/home/ada"]) } }
    static let file = "/home/ada/.llm-cli-gateway/config.toml"
    static let hash = "scrypt:N=32768,r=8,p=1:c2FsdHNhbHQ:aGFzaGhhc2hoYXNo"
}

@Suite("Reading config.toml")
struct ConfigurationTests {
    @Test("without a file gives the contract's defaults")
    func defaults() throws {
        let (configuration, findings) = Configuration.load(nil, environment: [:], layout: try Sample.layout)
        #expect(findings == [])
        #expect(configuration == Configuration())
        #expect(configuration.sources.configFile == nil)
        #expect(
            configuration.persistence.databaseFile(try Sample.layout)
                == "/home/ada/.llm-cli-gateway/logs.db"
        )
        #expect(configuration.persistence.retentionDays == 30)
        #expect(configuration.persistence.dedupWindowMilliseconds == 3_600_000)
        #expect(configuration.limits.maxPromptCharacters == 100_000)
        #expect(configuration.limits.maxRunningJobs == 32)
        #expect(configuration.limits.maxJobOutputBytes == 50 * 1024 * 1024)
        #expect(configuration.http.maxSessions == 100)
        #expect(!configuration.oauth.enabled && configuration.workspaces.repositories.isEmpty)
    }

    @Test("reads every table and expands the home")
    func everyTable() throws {
        let (configuration, findings) = try Sample.load(
            """
            persistence = { path = "~/work/jobs.db", retentionDays = 0.5, dedupWindowMs = 0 }
            [cache_awareness]
            anthropic_ttl_seconds = 3600
            min_stable_tokens_for_cache_control.opus = 8192
            [providers.xai]
            [providers.local]
            kind = "openai-compatible"
            base_url = "http://[::1]:8080/v1"
            default_model = "m"
            models = ["m", "n"]
            usage_include = true
            [http]
            max_sessions = 7
            [http.oauth]
            enabled = true
            issuer = "https://gateway.example"
            [[http.oauth.clients]]
            client_id = "a.b-c_1"
            client_secret_hash = "\(Sample.hash)"
            allowed_redirect_uris = ["http://localhost:1/cb", "https://c.example/cb"]
            [workspaces]
            default = "site"
            [[workspaces.repos]]
            alias = "site"
            path = "~/src/site"
            providers = ["claude", "local"]
            kind = "folder"
            [[workspaces.allowed_roots]]
            path = "~"
            max_create_depth = 8
            [acp]
            enabled = true
            default_transport = "acp"
            providers.grok = { command = "/opt/grok", args = ["agent"] }
            [limits]
            max_prompt_chars = 4_000_000
            [compression]
            enabled = true
            [least_cost]
            enabled = true
            price = { ceiling = 2 }
            [admin]
            allow_mutating_cli_admin_ops = true
            [skills]
            paths = ["~/skills", "/srv/skills"]
            """
        )
        #expect(findings == [])
        #expect(configuration.sources == .init(configFile: Sample.file, envOverrides: []))
        #expect(configuration.persistence.path == "/home/ada/work/jobs.db")
        #expect(configuration.persistence.retentionDays == 0.5)
        #expect(configuration.persistence.dedupWindowMilliseconds == 0)
        #expect(configuration.cacheAwareness.anthropicTTLSeconds == 3600)
        #expect(
            configuration.cacheAwareness.minimumStableTokens
                == ["sonnet": 1024, "opus": 8192, "haiku": 4096, "default": 4096]
        )
        #expect(configuration.providers.map(\.name) == ["xai", "local"])
        #expect(configuration.providers.first?.kind == .xaiResponses)
        #expect(configuration.providers.first?.apiKeyEnvironment == "XAI_API_KEY")
        #expect(configuration.providers.first?.baseURL == "https://api.x.ai/v1")
        #expect(configuration.providers.last?.models == ["m", "n"])
        #expect(configuration.providers.last?.includesUsage == true)
        #expect(configuration.http.maxSessions == 7)
        #expect(configuration.oauth.enabled)
        #expect(configuration.oauth.clients.first?.scopes == ["mcp"])
        #expect(configuration.oauth.clients.first?.secret == .hash(Sample.hash))
        let site = try #require(configuration.workspaces.repository("site"))
        #expect(site.path == "/home/ada/src/site" && site.kind == .folder && site.allowWorktree)
        #expect(site.allows(provider: "claude") && !site.allows(provider: "codex"))
        #expect(configuration.workspaces.defaultAlias == "site")
        #expect(configuration.workspaces.allowedRoots.first?.path == "/home/ada")
        #expect(configuration.workspaces.allowedRoots.first?.maxCreateDepth == 8)
        #expect(configuration.acp.enabled && configuration.acp.defaultTransport == .acp)
        #expect(configuration.acp.providers.first?.arguments == ["agent"])
        #expect(configuration.limits.maxPromptCharacters == 4_000_000)
        #expect(configuration.compression.enabled && configuration.leastCost.enabled)
        #expect(configuration.leastCost.settings["price"]?.table?["ceiling"] == .integer(2))
        #expect(configuration.admin.allowMutatingCLIAdminOps)
        #expect(configuration.skills.paths == ["/home/ada/skills", "/srv/skills"])
    }

    @Test(
        "names the file, the line, the key and the nearest known one",
        arguments: [
            (
                "[limits]\nmax_promt_chars = 1", "warning config-unknown-key",
                "unknown key 'max_promt_chars' in [limits] (line 2 of '\(Sample.file)')",
                "did you mean 'max_prompt_chars'?"
            ),
            (
                "\n\n[limit]", "warning config-unknown-key",
                "unknown table [limit] (line 3 of '\(Sample.file)')", "did you mean [limits]?"
            ),
            (
                "debug = true", "warning config-unknown-key",
                "unknown key 'debug' outside of any table (line 1 of '\(Sample.file)')",
                "known tables are [persistence], [cache_awareness], [providers], [http], [workspaces], [acp], "
                    + "[limits], [budget], [compression], [least_cost], [admin], [skills]"
            ),
            (
                "[admin]\nzzz = 1", "warning config-unknown-key",
                "unknown key 'zzz' in [admin] (line 2 of '\(Sample.file)')",
                "known keys are 'allow_mutating_cli_admin_ops'"
            ),
            (
                "[limits]\nmax_prompt_chars = 4000001", "error config-invalid-value",
                "'max_prompt_chars' in [limits] must be an integer from 1 to 4000000, not 4000001 "
                    + "(line 2 of '\(Sample.file)'); the default is in force", nil
            ),
            (
                "[limits]\n\nmax_running_jobs = \"many\"", "error config-invalid-value",
                "'max_running_jobs' in [limits] must be an integer, not a string (line 3 of '\(Sample.file)'); "
                    + "the default is in force", nil
            ),
            (
                "limits = 3", "error config-invalid-value",
                "[limits] must be a table, not an integer (line 1 of '\(Sample.file)'); the default is in force",
                nil
            ),
            (
                "[cache_awareness]\nanthropic_ttl_seconds = 600", "error config-invalid-value",
                "'anthropic_ttl_seconds' in [cache_awareness] must be 300 or 3600, not 600 "
                    + "(line 2 of '\(Sample.file)'); the default is in force", nil
            ),
            (
                "[skills]\npaths = ['a']", "error config-invalid-value",
                "'paths' in [skills] must hold absolute paths or ones that start with '~/', not 'a' "
                    + "(line 2 of '\(Sample.file)'); the default is in force", nil
            ),
            (
                "[limits]\nmax = [\n", "error config-unparsable",
                "'\(Sample.file)' is not TOML and every default is in force: "
                    + "line 3, column 1: expected a value, found the end of the document",
                "correct this line; the file was left as it is"
            ),
        ] as [(String, String, String, String?)]
    )
    func findings(text: String, kind: String, message: String, help: String?) throws {
        var (configuration, findings) = try Sample.load(text)
        configuration.sources = .init()
        #expect(configuration == Configuration())
        #expect(findings.count == 1)
        let finding = try #require(findings.first)
        #expect("\(finding.severity) \(finding.code)" == kind)
        #expect(finding.message == message)
        #expect(finding.help == help)
        #expect(!finding.stopsStartup)
        #expect(finding.line == text.split(separator: "\n", omittingEmptySubsequences: false).count)
    }

    @Test("counts a file that is not UTF-8 as absent")
    func encoding() throws {
        let (configuration, findings) = Configuration.load(
            [0xFF],
            environment: [:],
            layout: try Sample.layout
        )
        #expect(configuration == Configuration())
        #expect(findings.first?.message.hasSuffix("line 1, column 1: invalid UTF-8") == true)
    }

    @Test(
        "turns off what is wrong and nothing else",
        arguments: [
            (
                "[providers.a]\nkind = 'anthropic'\nbase_url = 'http://127.evil.example'\ndefault_model = 'm'",
                "config-provider-disabled",
                "Invalid [providers.a] config, this provider is off: 'base_url' in [providers.a] must start with "
                    + "https://, or with http:// and name this machine (line 3"
            ),
            (
                "[providers.a]\nkind = 'antropic'\nbase_url = 'https://a'\ndefault_model = 'm'",
                "config-provider-disabled",
                "Invalid [providers.a] config, this provider is off: 'kind' in [providers.a] must be one of "
                    + "'openai-compatible', 'anthropic', 'xai-responses', not 'antropic' (line 2"
            ),
            (
                "[providers.codex]\nkind = 'anthropic'\nbase_url = 'https://a'\ndefault_model = 'm'",
                "config-provider-disabled",
                "Invalid [providers.codex] config, this provider is off: [providers.codex] takes the name of a "
                    + "command line provider (line 1"
            ),
            (
                "[providers.xai]\napi_key_env = 'xai-abcdef'", "config-provider-disabled",
                "Invalid [providers.xai] config, this provider is off: 'api_key_env' in [providers.xai] must be "
                    + "the name of an environment variable, not the key itself (line 2"
            ),
            (
                "[acp.providers.x]\ncommand = 'sh -c ls'", "config-acp-disabled",
                "Invalid [acp] config, this transport is off: 'command' in [acp.providers.x] must be one executable "
                    + "without blanks or shell characters; use 'args' (line 2"
            ),
            (
                "[workspaces]\ndefault = 'sit'\n[[workspaces.repos]]\nalias = 'site'\npath = '/s'",
                "config-workspaces-disabled",
                "Invalid [workspaces] config, no workspace is registered: 'default' in [workspaces] names 'sit', "
                    + "which is no workspace (line 2"
            ),
            (
                "[[workspaces.repos]]\nalias = 'site'\npath = 'src'", "config-workspaces-disabled",
                "Invalid [workspaces] config, no workspace is registered: 'path' in [[workspaces.repos]] must be "
                    + "absolute or start with '~/', not 'src' (line 3"
            ),
            (
                "[[workspaces.repos]]\nalias = 'site'\npath = '/s'\nproviders = ['claud']",
                "config-workspaces-disabled",
                "Invalid [workspaces] config, no workspace is registered: 'providers' in [[workspaces.repos]] names "
                    + "'claud', which is no provider (line 4"
            ),
            (
                "[[workspaces.repos]]\nalias = '.a'\npath = '/s'", "config-workspaces-disabled",
                "Invalid [workspaces] config, no workspace is registered: 'alias' in [[workspaces.repos]] must be a "
                    + "letter and up to 63 letters, digits, dots, underscores or hyphens (line 2"
            ),
            (
                "[[workspaces.repos]]\npath = '/s'", "config-workspaces-disabled",
                "Invalid [workspaces] config, no workspace is registered: [[workspaces.repos]] needs 'alias' (line 1"
            ),
            (
                "[[workspaces.allowed_roots]]\npath = '/s'\nmax_create_depth = 9",
                "config-workspaces-disabled",
                "Invalid [workspaces] config, no workspace is registered: 'max_create_depth' in "
                    + "[[workspaces.allowed_roots]] must be an integer from 1 to 8, not 9 (line 3"
            ),
        ]
    )
    func disabled(text: String, code: String, message: String) throws {
        let (configuration, findings) = try Sample.load("limits.max_queued_jobs = 5\n" + text)
        var expected = Configuration()
        expected.limits.maxQueuedJobs = 5
        expected.sources.configFile = Sample.file
        #expect(configuration == expected)
        #expect(findings.map(\.code) == [code])
        // One line more than in the table, for the line put before.
        let line = try #require(message.split(separator: "(line ").last.flatMap { Int($0) })
        let shifted = message.replacing("(line \(line)", with: "(line \(line + 1) of '\(Sample.file)')")
        #expect(findings.first?.message == shifted)
        #expect(findings.contains { $0.stopsStartup } == false)
    }

    @Test("keeps the other providers when one is wrong")
    func oneProvider() throws {
        let (configuration, findings) = try Sample.load("providers.a = 1\n[providers.xai]\n")
        #expect(configuration.providers.map(\.name) == ["xai"])
        #expect(Set(findings.map(\.code)) == ["config-provider-disabled"])
    }

    @Test("the sample documents every default, and its examples are valid")
    func sample() throws {
        let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let file = try #require(fopen("\(root)/setup/config.sample.toml", "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        bytes.removeLast(bytes.count - fread(&bytes, 1, bytes.count, file))
        let text = String(decoding: bytes, as: UTF8.self)

        var (configuration, findings) = try Sample.load(text)
        configuration.sources = .init()
        #expect(findings == [])
        #expect(configuration == Configuration())

        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            line.hasPrefix("#") && !line.hasPrefix("# ") ? line.dropFirst() : line
        }
        let (examples, exampleFindings) = try Sample.load(lines.joined(separator: "\n"))
        #expect(exampleFindings == [])
        #expect(examples.providers.map(\.name) == ["xai", "local"])
        #expect(examples.workspaces.defaultAlias == "website")
        #expect(examples.oauth.clients.count == 1 && examples.oauth.sharedSecret?.enabled == true)
        #expect(examples.acp.providers.count == 1)
    }
}

@Suite("Reading [persistence]")
struct ConfigurationPersistenceTests {
    @Test(
        "stops the start when anything is wrong",
        arguments: [
            (
                "backend = 'sqllite'",
                "'backend' in [persistence] must be one of 'sqlite', 'postgres', 'memory', 'none', not 'sqllite' (line 2",
                "did you mean 'sqlite'?"
            ),
            (
                "retentionDays = 0",
                "'retentionDays' in [persistence] must be a number greater than 0 and at most 36500, not 0.0 (line 2",
                nil
            ),
            (
                "dedupWindowMs = -1",
                "'dedupWindowMs' in [persistence] must be an integer from 0 to 31536000000, not -1 (line 2",
                nil
            ),
            ("path = ''", "'path' in [persistence] must not be empty (line 2", nil),
            (
                "acknowledgeEphemeral = 'yes'",
                "'acknowledgeEphemeral' in [persistence] must be true or false, not a string (line 2", nil
            ),
            (
                "retention_days = 3", "unknown key 'retention_days' in [persistence] (line 2",
                "did you mean 'retentionDays'?"
            ),
            (
                "backend = 'postgres'", "backend 'postgres' needs 'dsn' in [persistence] (line 1",
                "set dsn = \"postgresql://user@host/database\""
            ),
            (
                "backend = 'memory'", "backend 'memory' forgets every job when the gateway ends (line 1",
                "set acknowledgeEphemeral = true in [persistence] if that is what you want"
            ),
        ] as [(String, String, String?)]
    )
    func faults(text: String, message: String, help: String?) throws {
        let (configuration, findings) = try Sample.load("[persistence]\n" + text)
        #expect(configuration.persistence == .init())
        let finding = try #require(findings.first)
        #expect(findings.count == 1 && finding.stopsStartup && finding.severity == .error)
        #expect(finding.code == "config-invalid-persistence")
        #expect(finding.message == "Invalid [persistence] config: \(message) of '\(Sample.file)')")
        #expect(finding.help == help)
        #expect(finding.error.message == finding.message && finding.error.exitCode == .failed)
    }

    @Test(
        "lets the environment replace values, and says so",
        arguments: [
            ("", ["LLM_GATEWAY_LOGS_DB": "~/x.db"], "sqlite", "/home/ada/x.db", ["LLM_GATEWAY_LOGS_DB"]),
            (
                "", ["LLM_GATEWAY_LOGS_DB": "/a", "LLM_GATEWAY_JOBS_DB": "/b"], "sqlite", "/b",
                ["LLM_GATEWAY_JOBS_DB"]
            ),
            ("", ["LLM_GATEWAY_LOGS_DB": " None "], "none", nil, ["LLM_GATEWAY_LOGS_DB"]),
            ("", ["LLM_GATEWAY_LOGS_DB": ""], "sqlite", "/home/ada/.llm-cli-gateway/logs.db", []),
            ("path = '/f'", ["LLM_GATEWAY_JOBS_DB": "/e"], "sqlite", "/e", ["LLM_GATEWAY_JOBS_DB"]),
            (
                "backend = 'sqlite'\npath = '/f'", ["LLM_GATEWAY_LOGS_DB": "none"], "sqlite", "/f", []
            ),
            (
                "backend = 'postgres'\ndsn = 'postgres://h/d'", ["LLM_GATEWAY_LOGS_DB": "/e"], "postgres",
                nil, []
            ),
            (
                "backend = 'memory'", ["LLM_GATEWAY_ACKNOWLEDGE_EPHEMERAL": "YES"], "memory", nil,
                ["LLM_GATEWAY_ACKNOWLEDGE_EPHEMERAL"]
            ),
        ] as [(String, [String: String], String, String?, [String])]
    )
    func environment(
        text: String,
        environment: [String: String],
        backend: String,
        file: String?,
        overrides: [String]
    ) throws {
        let (configuration, findings) = try Sample.load("[persistence]\n" + text, environment: environment)
        #expect(configuration.persistence.backend.rawValue == backend)
        #expect(configuration.persistence.databaseFile(try Sample.layout) == file)
        #expect(configuration.sources.envOverrides == overrides)
        #expect(findings.count { $0.code == "config-environment-deprecated" } == overrides.count)
        #expect(findings.allSatisfy { $0.severity == .warning && !$0.stopsStartup && $0.line == nil })
    }

    @Test("ignores numbers from the environment that make no sense, and says why")
    func numbers() throws {
        let (good, _) = try Sample.load(
            "",
            environment: ["LLM_GATEWAY_JOB_RETENTION_DAYS": "7.5", "LLM_GATEWAY_DEDUP_WINDOW_MS": "0"]
        )
        #expect(good.persistence.retentionDays == 7.5)
        #expect(good.persistence.dedupWindowMilliseconds == 0)
        let (bad, findings) = try Sample.load(
            "",
            environment: ["LLM_GATEWAY_JOB_RETENTION_DAYS": "nan", "LLM_GATEWAY_DEDUP_WINDOW_MS": "1h"]
        )
        #expect(bad.persistence == .init() && bad.sources.envOverrides == [])
        #expect(
            findings.map(\.message) == [
                "the environment variable LLM_GATEWAY_JOB_RETENTION_DAYS is ignored: it must be a number of days "
                    + "greater than 0 and at most 36500, not 'nan'",
                "the environment variable LLM_GATEWAY_DEDUP_WINDOW_MS is ignored: it must be an integer from 0 to "
                    + "31536000000 (milliseconds), not '1h'",
            ]
        )
    }

    @Test("an explicit backend wins over the environment, and says so")
    func explicitBackend() throws {
        let (_, findings) = try Sample.load(
            "persistence.backend = 'sqlite'",
            environment: ["LLM_GATEWAY_JOBS_DB": "none"]
        )
        #expect(
            findings.map(\.message) == [
                "the environment variable LLM_GATEWAY_JOBS_DB is ignored: config.toml sets backend 'sqlite' and wins"
            ]
        )
    }
}

@Suite("Reading [http.oauth]")
struct ConfigurationOAuthTests {
    private static let client = """
        [[http.oauth.clients]]
        client_id = 'c'
        allowed_redirect_uris = ['https://c.example/cb']

        """

    @Test(
        "is off when anything is wrong",
        arguments: [
            (
                "issuer = 'http://gateway.example'",
                "'issuer' in [http.oauth] must be 'auto', or start with https://"
            ),
            ("issuer = 'http://localhost@evil.example'", "'issuer' in [http.oauth] must be 'auto'"),
            (
                "require_consent = true",
                "consent is required and [http.oauth] has no 'consent_secret_hash' (line 1"
            ),
            (
                "consent_secret_hash = 'hunter2'",
                "'consent_secret_hash' in [http.oauth] must be a hash of the form scrypt:N=…,r=…,p=…:salt:hash (line 3"
            ),
            (
                "consent_secret_hash = 'scrypt:N=1073741824,r=8,p=1:c2FsdHNhbHQ:aGFzaGhhc2g'",
                "'consent_secret_hash' in [http.oauth] must be a hash"
            ),
            (
                "token_ttl_seconds = 0",
                "'token_ttl_seconds' in [http.oauth] must be an integer from 1 to 31536000"
            ),
            ("require_pcke = false", "unknown key 'require_pcke' in [http.oauth] (line 3"),
            (
                client,
                "[[http.oauth.clients]] needs 'client_secret_hash', because public clients are not allowed (line 3"
            ),
            (
                "allow_public_clients = true\n[[http.oauth.clients]]\nclient_id = 'c'",
                "[[http.oauth.clients]] needs 'allowed_redirect_uris' (line 4"
            ),
            (
                "allow_public_clients = true\n[[http.oauth.clients]]\nclient_id = 'c'\n"
                    + "allowed_redirect_uris = ['http://c.example/cb']",
                "'allowed_redirect_uris' in [[http.oauth.clients]] must start with https://"
            ),
            (
                "allow_public_clients = true\n" + client + client,
                "'clients' in [http.oauth] has the client_id 'c' more than once"
            ),
            (
                "shared_secret.enabled = true",
                "[http.oauth.shared_secret] is enabled and needs 'secret_hash' (line 3"
            ),
        ]
    )
    func failsClosed(text: String, message: String) throws {
        let (configuration, findings) = try Sample.load("[http.oauth]\nenabled = true\n" + text)
        #expect(configuration.oauth == .init())
        #expect(findings.count == 1)
        let finding = try #require(findings.first)
        #expect(finding.severity == .warning && finding.code == "config-oauth-disabled")
        #expect(finding.message.hasPrefix("Invalid [http.oauth] config, OAuth is off: " + message))
        #expect(!finding.message.contains("hunter2"))
    }

    @Test("takes secrets from the environment without showing them")
    func environment() throws {
        let (configuration, findings) = try Sample.load(
            "",
            environment: [
                "LLM_GATEWAY_OAUTH_ENABLED": "1", "LLM_GATEWAY_OAUTH_SHARED_SECRET": "swordfish",
                "LLM_GATEWAY_OAUTH_CONSENT_SECRET": "hunter2",
            ]
        )
        #expect(findings == [])
        let oauth = configuration.oauth
        #expect(oauth.enabled && oauth.requireConsent && oauth.registrationPolicy == .sharedSecret)
        #expect(oauth.sharedSecret?.secret == .plaintext("swordfish"))
        #expect(oauth.consentSecret == .plaintext("hunter2"))
        #expect(
            configuration.sources.envOverrides == [
                "LLM_GATEWAY_OAUTH_ENABLED", "LLM_GATEWAY_OAUTH_SHARED_SECRET",
                "LLM_GATEWAY_OAUTH_CONSENT_SECRET",
            ]
        )
        #expect(!"\(oauth)".contains("swordfish") && !"\(oauth)".contains("hunter2"))
    }

    @Test("the environment can turn it off")
    func off() throws {
        let (configuration, _) = try Sample.load(
            "http.oauth.enabled = true",
            environment: ["LLM_GATEWAY_OAUTH_ENABLED": "0"]
        )
        #expect(!configuration.oauth.enabled)
    }

    @Test("warns that open registration stays closed without confirmation")
    func openDevelopment() throws {
        let text = "http.oauth = { enabled = true, registration_policy = 'open_dev' }"
        let (_, findings) = try Sample.load(text)
        #expect(findings.map(\.code) == ["config-oauth-unconfirmed"])
        #expect(findings.first?.help == "set LLM_GATEWAY_OAUTH_OPEN_DEV=1, on a machine of your own only")
        let (confirmed, none) = try Sample.load(text, environment: ["LLM_GATEWAY_OAUTH_OPEN_DEV": "1"])
        #expect(none == [] && confirmed.oauth.isOpenDevelopmentConfirmed && confirmed.oauth.enabled)
    }
}
