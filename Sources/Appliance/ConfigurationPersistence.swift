extension Configuration {
    /// `[persistence]`, after the environment had its say.
    package struct Persistence: Sendable, Equatable {
        /// What keeps the jobs.
        package enum Backend: String, Sendable, CaseIterable {
            /// A file on this machine.
            case sqlite
            /// A server, for gateways on several machines.
            case postgres
            /// Memory of the process: everything is lost when it ends.
            case memory
            /// Nothing: no durable jobs, and the tools that need them are absent.
            case none
        }

        /// How much of a request is kept once it is over.
        package enum Recording: String, Sendable, CaseIterable, Comparable {
            /// Nothing, neither that it was made.
            case none
            /// Who asked which provider when, what it cost and how it ended: neither prompt nor answer.
            case metadata
            /// Everything, secrets taken out of prompt and answer.
            case full

            /// The one that keeps less is less.
            package static func < (left: Recording, right: Recording) -> Bool { left.rank < right.rank }

            private var rank: Int {
                switch self {
                case .none: 0
                case .metadata: 1
                case .full: 2
                }
            }
        }

        /// What keeps the jobs.
        package var backend = Backend.sqlite
        /// The most that is kept of a request; a request may ask for less.
        package var recording = Recording.full
        /// The database file, with `~/` expanded; `nil` means the appliance's own (`Layout.database`), or no `sqlite`.
        package var path: String?
        /// The connection string of PostgreSQL; may hold a password.
        package var dsn: String?
        /// Days a finished job is kept.
        package var retentionDays = 30.0
        /// Milliseconds in which the same request is answered by the same job; 0 turns that off.
        package var dedupWindowMilliseconds = 3_600_000
        /// Whether the user knows that `memory` forgets.
        package var acknowledgeEphemeral = false
        /// Whether runs may be started, watched and collected as jobs; they need a backend.
        package var asyncJobsEnabled = true

        /// The defaults.
        package init() {}

        /// The database file of the `sqlite` backend.
        package func databaseFile(_ layout: Layout) -> String? {
            backend == .sqlite ? path ?? layout.database : nil
        }
    }
}

extension Configuration.Persistence {
    static let longestRetentionDays = 36_500.0
    static let longestDedupMilliseconds = 31_536_000_000

    init(_ section: inout ConfigurationSection, environment: PersistenceEnvironment) {
        backend = section.choice("backend", default: .sqlite)
        path = section.path("path")
        dsn = section.text("dsn")
        retentionDays = section.positive(
            "retentionDays",
            upTo: Self.longestRetentionDays,
            default: retentionDays
        )
        dedupWindowMilliseconds = section.integer(
            "dedupWindowMs",
            in: 0...Self.longestDedupMilliseconds,
            default: dedupWindowMilliseconds
        )
        acknowledgeEphemeral = section.boolean("acknowledgeEphemeral", default: false)
        recording = section.choice("record", default: .full)
        asyncJobsEnabled = section.boolean("asyncJobsEnabled", default: true)

        switch environment.database {
        case .none?: (backend, path) = (.none, nil)
        case .sqlite(let file)?: (backend, path) = (.sqlite, section.expanded(file))
        case nil: break
        }
        if let days = environment.retentionDays { retentionDays = days }
        if let milliseconds = environment.dedupWindowMilliseconds { dedupWindowMilliseconds = milliseconds }
        if let acknowledged = environment.acknowledgeEphemeral { acknowledgeEphemeral = acknowledged }

        if backend == .postgres, dsn == nil {
            section.fault(
                "backend 'postgres' needs 'dsn' in [persistence]",
                help: "set dsn = \"postgresql://user@host/database\"",
                line: section.line
            )
        }
        if backend == .memory, !acknowledgeEphemeral {
            section.fault(
                "backend 'memory' forgets every job when the gateway ends",
                help: "set acknowledgeEphemeral = true in [persistence] if that is what you want",
                line: section.line
            )
        }
        if backend != .sqlite { path = nil }
        if backend != .postgres { dsn = nil }
    }
}

/// The deprecated environment variables that replace values of `[persistence]`.
struct PersistenceEnvironment {
    enum Database: Equatable {
        case none
        case sqlite(String)
    }

    private(set) var database: Database?
    private(set) var retentionDays: Double?
    private(set) var dedupWindowMilliseconds: Int?
    private(set) var acknowledgeEphemeral: Bool?
    private(set) var names: [String] = []
    private(set) var findings: [ConfigurationFinding] = []

    /// `explicitBackend` is what the file says; a variable cannot turn it into another one.
    init(_ environment: [String: String], explicitBackend: String?) {
        func value(_ name: String) -> String? {
            let text = environment[name]?.trimmed ?? ""
            return text.isEmpty ? nil : text
        }
        for name in ["LLM_GATEWAY_JOBS_DB", "LLM_GATEWAY_LOGS_DB"] {
            guard let text = value(name) else { continue }
            let wanted = text.lowercased() == "none" ? Database.none : .sqlite(text)
            let backend = wanted == .none ? "none" : "sqlite"
            if let explicitBackend, explicitBackend != backend {
                ignored(name, "config.toml sets backend '\(explicitBackend)' and wins")
            } else {
                database = wanted
                used(name, key: wanted == .none ? "backend = \"none\"" : "path")
            }
            break
        }
        if let text = value("LLM_GATEWAY_JOB_RETENTION_DAYS") {
            let name = "LLM_GATEWAY_JOB_RETENTION_DAYS"
            if let days = Double(text), days > 0, days <= Configuration.Persistence.longestRetentionDays {
                retentionDays = days
                used(name, key: "retentionDays")
            } else {
                ignored(
                    name,
                    "it must be a number of days greater than 0 and at most 36500, not '\(text.prefix(64))'"
                )
            }
        }
        if let text = value("LLM_GATEWAY_DEDUP_WINDOW_MS") {
            let name = "LLM_GATEWAY_DEDUP_WINDOW_MS"
            let range = 0...Configuration.Persistence.longestDedupMilliseconds
            if let milliseconds = Int(text), range.contains(milliseconds) {
                dedupWindowMilliseconds = milliseconds
                used(name, key: "dedupWindowMs")
            } else {
                ignored(
                    name,
                    "it must be an integer from 0 to \(range.upperBound) (milliseconds), not '\(text.prefix(64))'"
                )
            }
        }
        if let text = value("LLM_GATEWAY_ACKNOWLEDGE_EPHEMERAL") {
            acknowledgeEphemeral = ["1", "true", "yes"].contains(text.lowercased())
            used("LLM_GATEWAY_ACKNOWLEDGE_EPHEMERAL", key: "acknowledgeEphemeral")
        }
    }

    private mutating func used(_ name: String, key: String) {
        names.append(name)
        findings.append(
            ConfigurationFinding(
                severity: .warning,
                code: "config-environment-deprecated",
                message: "the environment variable \(name) is deprecated",
                help: "set \(key) in [persistence] of config.toml instead"
            )
        )
    }

    private mutating func ignored(_ name: String, _ why: String) {
        findings.append(
            ConfigurationFinding(
                severity: .warning,
                code: "config-environment-ignored",
                message: "the environment variable \(name) is ignored: \(why)",
                help: "unset \(name)"
            )
        )
    }
}
