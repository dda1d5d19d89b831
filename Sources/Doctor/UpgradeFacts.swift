package import Appliance

/// Upgrades by a timer, as the settings ask for them and as the last one ended.
///
/// Collected by the manager.
package struct UpgradeFacts: Sendable, Equatable {
    /// How an upgrade ended.
    package struct Last: Sendable, Equatable {
        /// When.
        package var at: Timestamp
        /// `up-to-date`, `available`, `upgraded` or `failed`.
        package var outcome: String
        /// The newest version, where it came to be known.
        package var version: String?
        /// How many in a row have failed.
        package var failures: Int
        /// Why it failed.
        package var error: GatewayError?

        /// An upgrade that has ended.
        package init(
            at: Timestamp,
            outcome: String,
            version: String? = nil,
            failures: Int = 0,
            error: GatewayError? = nil
        ) {
            self.at = at
            self.outcome = outcome
            self.version = version
            self.failures = failures
            self.error = error
        }

        var json: JSON {
            [
                "at": .string(at.iso8601), "outcome": .string(outcome), "version": .optional(version),
                "failures": .integer(failures), "error": error?.json["error"] ?? .null,
            ]
        }
    }

    /// What the settings ask for.
    package var mode: UpgradeMode
    /// Whether the timer waits for its time; `nil` when nobody could say.
    package var isScheduled: Bool?
    /// `nil` before the first one.
    package var last: Last?

    /// Facts; what is left out is off or unknown.
    package init(mode: UpgradeMode = .off, isScheduled: Bool? = nil, last: Last? = nil) {
        self.mode = mode
        self.isScheduled = isScheduled
        self.last = last
    }

    var json: JSON {
        [
            "mode": .string(mode.rawValue),
            "scheduled": isScheduled.map { .bool($0) } ?? .null,
            "last": last?.json ?? .null,
        ]
    }

    /// What is wrong with them, and what they found.
    func findings(_ install: InstallFacts) -> [Finding] {
        guard mode != .off else { return [] }
        var findings: [Finding] = []
        if isScheduled == false {
            findings.append(
                Finding(
                    "auto-upgrade-inactive",
                    .warning,
                    "upgrades",
                    "automatic upgrades are asked for, but their timer does not run",
                    help: "run 'llm-cli-gateway upgrade --auto \(mode.rawValue)'"
                )
            )
        }
        // What was installed by hand since then cures a failure.
        guard let last, install.installedAt.map({ $0 < last.at }) ?? true else { return findings }
        if let error = last.error {
            let count =
                last.failures > 1
                ? "the last \(last.failures) automatic upgrades" : "the last automatic upgrade"
            findings.append(
                Finding(
                    "auto-upgrade-failed",
                    .warning,
                    "upgrades",
                    "\(count) failed, at \(last.at.iso8601): \(error)",
                    help: error.help ?? "run 'llm-cli-gateway upgrade' and see what it says"
                )
            )
        } else if last.outcome == "available", let version = last.version, version != install.version {
            findings.append(
                Finding(
                    "upgrade-available",
                    .info,
                    "upgrades",
                    "version \(version) can be installed",
                    help: "run 'llm-cli-gateway upgrade'"
                )
            )
        }
        return findings
    }
}
