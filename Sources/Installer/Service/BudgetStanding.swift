import Appliance
import Jobs
import Platform

/// What is used of the ceilings that `[budget]` sets for today.
struct BudgetStanding: Sendable, Equatable {
    /// One ceiling: of a provider, or of all together.
    struct Line: Sendable, Equatable {
        /// `claude`, or `all`.
        var owner: String
        var used: BudgetUse.Sum
        var ceiling: Configuration.Budget.Ceiling

        /// `claude: 5 of 100 runs, 1.25 of 10 US dollars`.
        var wording: String {
            var parts: [String] = []
            if let runs = ceiling.runs { parts.append("\(used.runs) of \(runs) runs") }
            if let cost = ceiling.cost {
                parts.append("\((used.cost * 100).rounded(.down) / 100) of \(cost) US dollars")
            }
            return "\(owner): " + parts.joined(separator: ", ")
        }

        var json: JSON {
            [
                "runs": .integer(used.runs), "runs_per_day": .optional(ceiling.runs),
                "cost_usd": .double(used.cost), "cost_per_day_usd": .optional(ceiling.cost),
            ]
        }
    }

    var lines: [Line]
    /// When the day ends.
    var end: Timestamp

    /// By owner, with the end of the day.
    var json: JSON {
        [
            "ends_at": .string(end.iso8601),
            "ceilings": .object(JSONObject(lines.map { (name: $0.owner, value: $0.json) })),
        ]
    }

    /// Lines of a table.
    var rows: [[String]] {
        lines.enumerated().map { [$0.offset == 0 ? "budget of today" : "", $0.element.wording] }
    }
}

extension GatewayService {
    /// What is used of today's budget; `nil` without a ceiling, and where the record cannot be read, which the doctor tells.
    func budgetStanding() async -> BudgetStanding? {
        let environmentFile = (try? machine.files.environmentFile(of: layout)) ?? EnvironmentFile()
        guard let bytes = (try? machine.files.readIfPresent(layout.configuration, limit: 4 << 20)) ?? nil
        else { return nil }
        let (configuration, _) = Configuration.load(
            bytes,
            environment: environmentFile.overriding(machine.environment),
            layout: layout
        )
        let budget = configuration.budget, now = machine.clock.now()
        guard !budget.isNone, let source = RecordSource(configuration.persistence, layout: layout),
            let use = try? await BudgetUse.recorded(in: source, on: now, files: machine.files)
        else { return nil }
        var lines: [BudgetStanding.Line] = []
        if !budget.total.isNone {
            lines.append(BudgetStanding.Line(owner: "all", used: use.total, ceiling: budget.total))
        }
        for provider in Configuration.servedProviders {
            guard let ceiling = budget.providers[provider] else { continue }
            let used = use.providers[provider] ?? BudgetUse.Sum()
            lines.append(BudgetStanding.Line(owner: provider, used: used, ceiling: ceiling))
        }
        return BudgetStanding(lines: lines, end: BudgetUse.end(of: now))
    }
}
