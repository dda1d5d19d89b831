import Appliance
import Doctor
import Platform

/// What is known of the gateway of this home: the service manager's word, and what answers at its address.
struct ServiceStatus: Report, Equatable {
    /// Who watches over the gateway.
    enum Supervisor: String, Sendable {
        case systemd
        case detached
        case none
    }

    var running = false
    var pid: Int32?
    var url: String
    /// The log file; `nil` where the journal has the log.
    var logPath: String?
    var supervisor = Supervisor.none
    /// The unit, under systemd.
    var unit: String?
    /// `active (running)`, in the service manager's words.
    var state = "inactive (dead)"
    var since: Timestamp?
    /// How often it was started again after a crash.
    var restarts = 0
    /// Whether it starts with the session; `nil` where that cannot be had.
    var enabled: Bool?
    /// Whether it starts at boot, before anybody logs in; `nil` where that cannot be had.
    var startsAtBoot: Bool?
    /// What is installed, as the receipt says; `nil` when nothing is, or it cannot be read.
    var installed: Receipt.Installed?
    /// What is upgraded by itself.
    var upgradeMode = UpgradeMode.off
    /// Where its timer finds releases and whom it believes, where it was told.
    var upgradeOrigin: UpgradeFacts.Origin?
    /// What the last upgrade by itself came to.
    var lastUpgrade: UpgradeRecord?
    /// Whether our gateway answered just now.
    var healthy = false
    var version: String?
    var sessions: Int?
    /// Who has the port, when it is not our gateway.
    var portOwner: PortOwner?
    /// The jobs of this home, which go on without a gateway.
    var jobs = JobCounts()
    /// What is used of today's budget; `nil` without a ceiling.
    var budget: BudgetStanding?
    /// What the reader should know: units that were edited, a manager that cannot be reached.
    var notices: [String] = []
    /// Whether a restart would move it: the settings say another address or path than it has.
    var isMovedByRestart = false
    /// Whether a socket listens in the place of a gateway that does not run.
    var awaitsConnection = false
    /// What the command did, for its text form: `started`, `stopped`; `nil` for a mere question.
    var deed: String?

    /// Nothing is known yet but where it would be.
    init(url: String) { self.url = url }

    /// Whether somebody is about to start it, for the first time or once more after a crash.
    var isComingUp: Bool { state.hasPrefix("activating") }

    var json: JSON {
        var status: JSON = ["running": .bool(running)]
        if let pid { status["pid"] = .integer(pid) }
        status["url"] = .string(url)
        status["log_path"] = .optional(logPath)
        status["healthy"] = .bool(healthy)
        status["version"] = .optional(version)
        status["sessions"] = .optional(sessions)
        status["supervisor"] = .string(supervisor.rawValue)
        status["unit"] = .optional(unit)
        status["state"] = .string(state)
        status["since"] = .optional(since?.iso8601)
        status["restarts"] = .integer(restarts)
        status["enabled"] = enabled.map { .bool($0) } ?? .null
        status["starts_at_boot"] = startsAtBoot.map { .bool($0) } ?? .null
        status["installed"] =
            installed.map { installed in
                [
                    "version": .string(installed.version), "trust": .string(installed.trust.rawValue),
                    "signer": installed.signer?.json ?? .null,
                ]
            } ?? .null
        status["auto_upgrade"] = [
            "mode": .string(upgradeMode.rawValue), "source": upgradeOrigin?.json ?? .null,
            "last": lastUpgrade?.json ?? .null,
        ]
        status["jobs"] = jobs.json
        status["budget"] = budget?.json ?? .null
        status["port_owner"] = portOwner?.json ?? .null
        status["notices"] = .strings(notices)
        return ["ok": true, "status": status]
    }

    var text: String {
        var first = deed.map { "\($0): " } ?? ""
        if running {
            first += "the gateway \(healthy ? "runs" : "runs but does not answer") at \(url)"
            if let pid { first += " (process \(pid)\(version.map { ", version \($0)" } ?? ""))" }
        } else {
            first += "the gateway is not running"
            if state.hasPrefix("failed") || isComingUp { first += ": \(state)" }
        }
        var rows: [[String]] = []
        switch supervisor {
        case .systemd: rows.append(["supervised by", "systemd, unit \(unit ?? "?"): \(state)"])
        case .detached: rows.append(["supervised by", "a background process, without systemd"])
        case .none: break
        }
        if running, let since { rows.append(["since", since.iso8601]) }
        if restarts > 0 { rows.append(["restarts", "\(restarts) after crashes"]) }
        if let enabled { rows.append(["starts with your session", enabled ? "yes" : "no"]) }
        if let startsAtBoot { rows.append(["starts at boot", startsAtBoot ? "yes" : "no"]) }
        if let installed {
            let signer = installed.signer.map { ": signed by \($0.identity)" } ?? ""
            rows.append(["installed", "version \(installed.version), \(installed.trust.rawValue)\(signer)"])
        }
        if upgradeMode != .off {
            let last = lastUpgrade.map { "; \($0.at.iso8601): \($0.wording)" } ?? ""
            let origin = upgradeOrigin.map { ", \($0.wording)" } ?? ""
            rows.append(["automatic upgrades", upgradeMode.rawValue + origin + last])
        }
        rows += jobs.rows(afterwards: deed != nil, isCollecting: running)
        rows += budget?.rows ?? []
        if let logPath { rows.append(["log", logPath]) }
        if let portOwner { rows.append(["its port is taken by", portOwner.wording]) }
        let lines = [first] + (rows.isEmpty ? [] : [Columns.text(rows, indent: 2)])
        return (lines + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
