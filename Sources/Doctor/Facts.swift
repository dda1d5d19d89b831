package import Appliance

/// What supervises the gateway here, and how it is.
///
/// Collected by whoever knows the supervisor.
package struct ServiceFacts: Sendable, Equatable {
    /// What supervises a gateway.
    package enum Manager: String, Sendable {
        /// The user's manager, through our unit.
        case systemd
        /// Our own detached process, where no user manager is.
        case supervisor
        /// Nothing does: it was not started, or does not go on in the background.
        case none
        /// systemd runs, but its bus cannot be reached from this shell.
        case unreachable
    }

    /// Who supervises it.
    package var manager: Manager
    /// The systemd unit.
    package var unit: String?
    /// Whether it is up, as its supervisor sees it; whether it answers is `isHealthy`.
    package var isRunning: Bool
    /// Whether our gateway, and nobody else, answers on the port.
    package var isHealthy: Bool
    /// The gateway's process, not its supervisor's; `nil` while it does not run.
    package var pid: Int?
    /// When it came up last; `nil` while it does not run.
    package var since: Timestamp?
    /// Restarts after crashes, as the supervisor counts them; starts that somebody asked for are not among
    /// them.
    package var restarts: Int
    /// Whether it starts at login; `nil` without systemd.
    package var isEnabled: Bool?
    /// Whether it goes on after logout; `nil` when nobody could say.
    package var lingers: Bool?
    /// A process of somebody else that listens on our port.
    package var portOwner: PortOwner?
    /// Upgrades by a timer.
    package var upgrades: UpgradeFacts
    /// What else was noticed: an unreachable bus, a failed unit, edited units.
    package var findings: [Finding]

    /// A process that listens on a port; what another user's process is cannot be seen.
    package struct PortOwner: Sendable, Equatable {
        /// `nil` when the process belongs to another user.
        package var pid: Int?
        /// With its arguments.
        package var command: String?

        /// A listening process.
        package init(pid: Int?, command: String?) {
            self.pid = pid
            self.command = command
        }

        var wording: String {
            guard let pid else { return "a process of another user" }
            return command.map { "process \(pid) (\($0))" } ?? "process \(pid)"
        }
    }

    /// Facts; what is left out is unknown or zero.
    package init(
        manager: Manager,
        unit: String? = nil,
        isRunning: Bool = false,
        isHealthy: Bool = false,
        pid: Int? = nil,
        since: Timestamp? = nil,
        restarts: Int = 0,
        isEnabled: Bool? = nil,
        lingers: Bool? = nil,
        portOwner: PortOwner? = nil,
        upgrades: UpgradeFacts = UpgradeFacts(),
        findings: [Finding] = []
    ) {
        self.manager = manager
        self.unit = unit
        self.isRunning = isRunning
        self.isHealthy = isHealthy
        self.pid = pid
        self.since = since
        self.restarts = restarts
        self.isEnabled = isEnabled
        self.lingers = lingers
        self.portOwner = portOwner
        self.upgrades = upgrades
        self.findings = findings
    }

    /// Whether it starts at boot, before anybody logs in; `nil` when nobody could say.
    var startsAtBoot: Bool? {
        guard let isEnabled, let lingers else { return nil }
        return isEnabled && lingers
    }

    var json: JSON {
        [
            "manager": .string(manager.rawValue), "unit": .optional(unit), "running": .bool(isRunning),
            "healthy": .bool(isHealthy), "pid": .optional(pid), "since": .optional(since?.iso8601),
            "restarts": .integer(restarts), "enabled": isEnabled.map { .bool($0) } ?? .null,
            "linger": lingers.map { .bool($0) } ?? .null,
            "starts_at_boot": startsAtBoot.map { .bool($0) } ?? .null,
            "auto_upgrade": upgrades.json,
            "port_owner": portOwner.map { ["pid": .optional($0.pid), "command": .optional($0.command)] }
                ?? .null,
        ]
    }
}

/// What is installed, from the receipt and the manifest.
///
/// Collected by the manager.
package struct InstallFacts: Sendable, Equatable {
    /// The version in use; `nil` when none is installed.
    package var version: String?
    /// The version that `rollback` would go back to; `nil` when only one is kept.
    package var previousVersion: String?
    /// `sigstore` or `pinned-checksum`.
    package var trust: String?
    /// Who signed it; only with `sigstore`.
    package var signer: Signer?
    /// Whether every installed file is as the manifest says; `nil` when that was not looked at.
    package var filesAreIntact: Bool?
    /// When the version in use was installed.
    package var installedAt: Timestamp?
    /// What installs a release here, where none is installed.
    package var installCommand = "llm-cli-gateway install-bundle --url URL --sha256 DIGEST"
    /// What else was noticed: altered files, an interrupted operation, a foreign command link.
    package var findings: [Finding]

    /// Who signed a release, as its certificate says.
    package struct Signer: Sendable, Equatable {
        /// A name; of a key its digest.
        package var identity: String
        /// The identity provider that vouched for the name.
        package var issuer: String?
        /// The number of the entry in the transparency log.
        package var logIndex: Int64?

        /// A signer.
        package init(identity: String, issuer: String?, logIndex: Int64?) {
            self.identity = identity
            self.issuer = issuer
            self.logIndex = logIndex
        }
    }

    /// Facts; what is left out is unknown.
    package init(
        version: String? = nil,
        previousVersion: String? = nil,
        trust: String? = nil,
        signer: Signer? = nil,
        filesAreIntact: Bool? = nil,
        installedAt: Timestamp? = nil,
        findings: [Finding] = []
    ) {
        self.version = version
        self.previousVersion = previousVersion
        self.trust = trust
        self.signer = signer
        self.filesAreIntact = filesAreIntact
        self.installedAt = installedAt
        self.findings = findings
    }

    var json: JSON {
        [
            "installed": .bool(version != nil), "trust": .optional(trust),
            "signer": signer.map { signer in
                [
                    "identity": .string(signer.identity), "issuer": .optional(signer.issuer),
                    "log_index": signer.logIndex.map { .int($0) } ?? .null,
                ]
            } ?? .null,
            "previous_version": .optional(previousVersion),
            "files_ok": filesAreIntact.map { .bool($0) } ?? .null,
        ]
    }
}
