/// What `config.toml` says, every table of it, with defaults for whatever it leaves out.
///
/// Tables whose feature is not in use are checked and kept as well. The file itself is never changed here.
package struct Configuration: Sendable, Equatable {
    /// `[persistence]`: where jobs and requests are kept.
    package var persistence = Persistence()
    /// `[cache_awareness]`: use of the providers' prompt caches.
    package var cacheAwareness = CacheAwareness()
    /// `[providers.<name>]`: providers behind an HTTP interface, in the order of the file.
    package var providers: [APIProvider] = []
    /// `[http]`: sessions of MCP clients.
    package var http = HTTPSessions()
    /// `[http.oauth]`: authorization of remote clients.
    package var oauth = OAuth()
    /// `[workspaces]`: where callers over HTTP may work.
    package var workspaces = Workspaces()
    /// `[acp]`: the Agent Client Protocol transport.
    package var acp = ACP()
    /// `[limits]`: jobs and prompts.
    package var limits = Limits()
    /// `[budget]`: how much may be run and spent on one day.
    package var budget = Budget()
    /// `[compression]`.
    package var compression = Compression()
    /// `[least_cost]`: choosing the cheapest provider.
    package var leastCost = LeastCost()
    /// `[admin]`.
    package var admin = Admin()
    /// `[skills]`.
    package var skills = Skills()
    /// Where all this came from.
    package var sources = Sources()

    /// The defaults.
    package init() {}

    /// The file and the environment variables that contributed.
    package struct Sources: Sendable, Equatable {
        /// The file that was read; `nil` when there is none or it could not be parsed.
        package var configFile: String?
        /// Names of the environment variables that replaced a value, in the order of their application.
        package var envOverrides: [String] = []

        /// A file and the variables.
        package init(configFile: String? = nil, envOverrides: [String] = []) {
            self.configFile = configFile
            self.envOverrides = envOverrides
        }
    }

    /// `[cache_awareness]`.
    package struct CacheAwareness: Sendable, Equatable {
        /// Whether requests carry Anthropic's cache control marks.
        package var emitAnthropicCacheControl = false
        /// Life of an Anthropic cache entry: 300 or 3600 seconds.
        package var anthropicTTLSeconds = 300
        /// Whether a session about to lose its cache is pointed out.
        package var warnOnTTLExpiry = false
        /// Fewest stable tokens worth a mark, by model family; `default` for all others.
        package var minimumStableTokens = ["sonnet": 1024, "opus": 4096, "haiku": 4096, "default": 4096]

        /// The defaults.
        package init() {}
    }

    /// `[http]`: bounds on MCP sessions.
    package struct HTTPSessions: Sendable, Equatable {
        /// Sessions at one time.
        package var maxSessions = 100
        /// Milliseconds without a request after which a session ends.
        package var sessionIdleMilliseconds = 1_800_000
        /// Milliseconds between looks for idle sessions.
        package var sessionReaperIntervalMilliseconds = 60_000

        /// The defaults.
        package init() {}
    }

    /// `[limits]`.
    package struct Limits: Sendable, Equatable {
        /// Jobs running at one time.
        package var maxRunningJobs = 32
        /// Jobs of one provider running at one time.
        package var maxRunningJobsPerProvider = 16
        /// Jobs waiting for their turn.
        package var maxQueuedJobs = 128
        /// Milliseconds a job may wait for its turn.
        package var queueTimeoutMilliseconds = 120_000
        /// Milliseconds a finished job stays in memory; the store keeps it longer.
        package var completedJobMemoryMilliseconds = 3_600_000
        /// Bytes of standard output and error of one job together.
        package var maxJobOutputBytes = 52_428_800
        /// Bytes of standard output and error of all jobs that are kept, those that run included.
        package var maxTotalOutputBytes = 5_368_709_120
        /// Milliseconds after which a call that waits for its run gets the run's handle; 0: it waits however long that takes.
        package var syncDeadlineMilliseconds = 45_000
        /// Characters of one prompt.
        package var maxPromptCharacters = 100_000
        /// The highest value that `max_prompt_chars` may have.
        package static let highestPromptCharacters = 4_000_000

        /// The defaults.
        package init() {}
    }

    /// `[compression]`.
    package struct Compression: Sendable, Equatable {
        /// Whether responses may be compressed.
        package var enabled = false

        /// The defaults.
        package init() {}
    }

    /// `[least_cost]`.
    package struct LeastCost: Sendable, Equatable {
        /// Whether requests may be routed to the cheapest provider.
        package var enabled = false
        /// The other keys as written.
        package var settings = TOMLTable()

        /// The defaults.
        package init() {}
    }

    /// `[admin]`.
    package struct Admin: Sendable, Equatable {
        /// Whether tools may run provider commands that change the provider's own settings.
        package var allowMutatingCLIAdminOps = false

        /// The defaults.
        package init() {}
    }

    /// `[skills]`.
    package struct Skills: Sendable, Equatable {
        /// Folders to look for skills in, absolute.
        package var paths: [String] = []

        /// The defaults.
        package init() {}
    }

    /// The providers that are command line programs; an HTTP provider may not take one of these names.
    package static let commandLineProviders = [
        "claude", "codex", "gemini", "grok", "mistral", "devin", "cursor",
    ]

    /// The providers whose command line programs this gateway runs.
    package static let servedProviders = ["claude", "codex", "gemini", "grok", "mistral"]
}
