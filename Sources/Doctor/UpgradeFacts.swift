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

    /// Where they find releases and whose signature they believe; what is `nil` is left to the build.
    package struct Origin: Sendable, Equatable {
        /// An address without secrets, or a folder.
        package var source: String?
        /// The name of who must have signed, or a pattern for it, and who vouches for that name.
        package var signer: String?
        package var issuer: String?
        /// The files of a key that must have signed, and of another trust root than the built-in one.
        package var key: String?
        package var trustRoot: String?

        /// An origin.
        package init(source: String?, signer: String?, issuer: String?, key: String?, trustRoot: String?) {
            self.source = source
            self.signer = signer
            self.issuer = issuer
            self.key = key
            self.trustRoot = trustRoot
        }

        /// For programs.
        package var json: JSON {
            [
                "source": .optional(source), "signer": .optional(signer), "issuer": .optional(issuer),
                "key": .optional(key), "trust_root": .optional(trustRoot),
            ]
        }

        /// For people: a clause.
        package var wording: String {
            var parts: [String] = []
            if let source { parts.append("from '\(source)'") }
            if let signer { parts.append("signed by '\(signer)'") }
            if let issuer { parts.append("vouched for by '\(issuer)'") }
            if let key { parts.append("signed with the key '\(key)'") }
            if let trustRoot { parts.append("trust root '\(trustRoot)'") }
            return parts.joined(separator: ", ")
        }
    }

    /// What the settings ask for.
    package var mode: UpgradeMode
    /// `nil`: what the build says, or the file `environment`.
    package var origin: Origin?
    /// Whether the timer waits for its time; `nil` when nobody could say.
    package var isScheduled: Bool?
    /// `nil` before the first one.
    package var last: Last?

    /// Facts; what is left out is off or unknown.
    package init(
        mode: UpgradeMode = .off,
        origin: Origin? = nil,
        isScheduled: Bool? = nil,
        last: Last? = nil
    ) {
        self.mode = mode
        self.origin = origin
        self.isScheduled = isScheduled
        self.last = last
    }

    var json: JSON {
        [
            "mode": .string(mode.rawValue),
            "source": origin?.json ?? .null,
            "scheduled": isScheduled.map { .bool($0) } ?? .null,
            "last": last?.json ?? .null,
        ]
    }

    /// What a report says of them, for a person; `nil` where they are off.
    static func wording(_ json: JSON?) -> String? {
        guard let mode = json?["mode"]?.string, mode != UpgradeMode.off.rawValue else { return nil }
        let told = json?["source"]
        let origin = Origin(
            source: told?["source"]?.string,
            signer: told?["signer"]?.string,
            issuer: told?["issuer"]?.string,
            key: told?["key"]?.string,
            trustRoot: told?["trust_root"]?.string
        )
        return told?.isNull == false ? "\(mode), \(origin.wording)" : mode
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
