import Appliance
import Jobs
import Platform
import Providers

/// What was run and spent today beside the ceilings of `[budget]`.
struct BudgetFacts: Sendable {
    var use: BudgetUse
    var end: Timestamp
    var findings: [Finding] = []

    /// Reads the record without changing it.
    static func read(
        machine: Machine,
        layout: Layout,
        configuration: Configuration
    ) async -> BudgetFacts {
        let now = machine.clock.now()
        var facts = BudgetFacts(use: BudgetUse(on: now), end: BudgetUse.end(of: now))
        guard let source = RecordSource(configuration.persistence, layout: layout) else { return facts }
        do throws(GatewayError) {
            facts.use = try await BudgetUse.recorded(in: source, on: now, files: machine.files)
        } catch {
            // What is wrong with the record is said once, by the part that reads more of it.
            return facts
        }
        var told: Set<String> = []
        for provider in Provider.allCases {
            let exhausted = configuration.budget.exhausted(by: facts.use, for: provider.rawValue)
            guard let exhausted, told.insert(exhausted.owner).inserted else { continue }
            facts.findings.append(
                Finding(
                    "budget-used-up",
                    .warning,
                    "budget",
                    "the budget of \(exhausted.owner) for today is used up: \(exhausted.wording)",
                    help: "wait until \(facts.end.iso8601), or raise the ceilings in [budget] of config.toml"
                )
            )
        }
        return facts
    }

    /// The `budget` of the report.
    func json(_ budget: Configuration.Budget) -> JSON {
        var providers = JSONObject()
        for provider in Provider.allCases.map(\.rawValue) {
            let ceiling = budget.providers[provider], sum = use.providers[provider]
            guard ceiling != nil || sum != nil else { continue }
            providers[provider] = BudgetFacts.json(sum, ceiling)
        }
        return [
            "day": .string(use.day), "ends_at": .string(end.iso8601),
            "total": BudgetFacts.json(use.total, budget.total), "providers": .object(providers),
        ]
    }

    private static func json(_ sum: BudgetUse.Sum?, _ ceiling: Configuration.Budget.Ceiling?) -> JSON {
        [
            "runs": .integer(sum?.runs ?? 0), "runs_per_day": .optional(ceiling?.runs),
            "cost_usd": .double(sum?.cost ?? 0), "cost_per_day_usd": .optional(ceiling?.cost),
        ]
    }
}
