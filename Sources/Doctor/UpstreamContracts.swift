import Appliance
import Providers

/// The installed CLIs beside the versions that the gateway's contracts were checked against.
struct UpstreamContracts: Sendable {
    let providers: [ProviderFacts]

    /// Whether an installed version is the one that the contract was checked against.
    enum State: String, Sendable {
        case match
        case drift
        case notInstalled = "not-installed"
        case unknown
    }

    /// One provider's comparison.
    struct Comparison: Sendable, Equatable {
        let provider: Provider
        let state: State
        let installed: String?
        let installedNumber: String?
        let target: String?

        init(_ facts: ProviderFacts) {
            provider = facts.provider
            installed = facts.isInstalled ? facts.version : nil
            installedNumber = facts.report.version
            target = facts.provider.contract.checkedVersion
            state =
                if !facts.isInstalled {
                    .notInstalled
                } else if let installedNumber, let target {
                    installedNumber == target ? .match : .drift
                } else {
                    .unknown
                }
        }

        var detail: String {
            let name = provider.executable
            switch state {
            case .match: return "\(name) \(target ?? "") is the version that the contract was checked against"
            case .drift:
                return
                    "\(name) \(installedNumber ?? "") is installed, and the contract was checked against \(target ?? "")"
            case .notInstalled: return "\(name) is not installed"
            case .unknown:
                return target == nil
                    ? "the contract of \(name) follows its documentation; no version of it was checked"
                    : "\(name) did not tell its version"
            }
        }

        var json: JSON {
            [
                "cli": .string(provider.rawValue), "state": .string(state.rawValue),
                "installed": .optional(installed), "target": .optional(target),
                "installedNormalized": .optional(installedNumber), "targetNormalized": .optional(target),
                "detail": .string(detail),
            ]
        }
    }

    var comparisons: [Comparison] { providers.map(Comparison.init) }

    /// What to do about versions that nobody has checked; `nil` when there is none.
    var nextAction: String? {
        let drifted = names(.drift)
        guard !drifted.isEmpty else { return nil }
        return
            "\(drifted.joined(separator: ", ")): another version is installed than the one that was checked; when a request is refused, run 'llm-cli-gateway upgrade'"
    }

    var json: JSON {
        [
            "note":
                "the gateway refuses flags that a CLI's declared contract does not have, before it starts anything",
            "recommendation": .string(nextAction ?? "nothing needs doing"),
            "how_to_check": "compare 'installed' with 'target' below, and the CLI's --help with 'contracts'",
            "probed": false,
            "installed_versions": .object(
                JSONObject(comparisons.map { (name: $0.provider.rawValue, value: .optional($0.installed)) })
            ),
            "version_guard": [
                "ok": .bool(names(.drift).isEmpty), "drifted": .strings(names(.drift)),
                "not_installed": .strings(names(.notInstalled)), "unknown": .strings(names(.unknown)),
                "providers": .array(comparisons.map(\.json)),
            ],
            "contracts": [
                "schemaVersion": "upstream-cli-contracts.v1",
                "contracts": .object(
                    JSONObject(
                        Provider.allCases.map {
                            (name: $0.rawValue, value: UpstreamContracts.declared($0.contract))
                        }
                    )
                ),
            ],
        ]
    }

    private func names(_ state: State) -> [String] {
        comparisons.filter { $0.state == state }.map(\.provider.rawValue)
    }

    private static func declared(_ contract: CLIContract) -> JSON {
        [
            "executable": .string(contract.provider.executable),
            "checkedVersion": .optional(contract.checkedVersion),
            "promptRoute": .string(contract.promptRoute.rawValue),
            "mcpTools": .strings(Capabilities(contract.provider).tools),
            "helpArgs": .array(contract.commands.map { .strings($0.helpArguments) }),
            "flags": .strings(contract.flagNames), "acknowledgedFlags": .strings(contract.acknowledged),
            "env": .strings(contract.environment.map(\.name)),
        ]
    }
}
