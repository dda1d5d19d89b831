import Appliance
import Platform
import Providers

/// Every provider CLI, looked at side by side: as long as the slowest, which its deadline bounds.
struct ProviderChecks: Sendable {
    let machine: Machine
    let layout: Layout
    let surroundings: ServiceSurroundings

    /// The facts in the order of `Provider.allCases`.
    func run() async -> [ProviderFacts] {
        await withTaskGroup(of: ProviderFacts.self) { group in
            for provider in Provider.allCases {
                group.addTask { await examine(provider) }
            }
            var found: [Provider: ProviderFacts] = [:]
            for await facts in group { found[facts.provider] = facts }
            return Provider.allCases.compactMap { found[$0] }
        }
    }

    private func examine(_ provider: Provider) async -> ProviderFacts {
        let probe = VersionProbe(provider)
        let report = await probe.run(
            surroundings.search,
            environment: surroundings.environment,
            processes: machine.processes,
            files: machine.files
        )
        var facts = ProviderFacts(report: report)
        facts.key = surroundings.key(probe)
        facts.shellKey = surroundings.shellKey(probe)
        if !report.isInstalled {
            facts.shellPath = surroundings.shellPath(of: provider, files: machine.files)
        }
        facts.surfaces = ProviderSurfaces(provider, userHome: layout.userHome, files: machine.files)
        return facts
    }
}
