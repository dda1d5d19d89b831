extension Configuration {
    /// `[budget]`: how much may be run and spent on one day, which ends at midnight in UTC.
    package struct Budget: Sendable, Equatable {
        /// Ceilings of one day; `nil` where there is none.
        package struct Ceiling: Sendable, Equatable {
            /// Runs that are started.
            package var runs: Int?
            /// US dollars of runs that are over, as far as their providers say what they cost.
            package var cost: Double?

            /// None, or these.
            package init(runs: Int? = nil, cost: Double? = nil) {
                self.runs = runs
                self.cost = cost
            }

            /// Whether there is no ceiling.
            package var isNone: Bool { runs == nil && cost == nil }
        }

        /// For all providers together.
        package var total = Ceiling()
        /// For one provider, by its name; those without a ceiling are absent.
        package var providers: [String: Ceiling] = [:]

        /// No ceilings.
        package init() {}

        /// Whether there is no ceiling at all.
        package var isNone: Bool { total.isNone && providers.isEmpty }
    }
}

extension Configuration.Budget {
    private static let mostRuns = 1_000_000_000
    private static let highestCost = 1_000_000_000.0

    init(_ section: inout ConfigurationSection) {
        total = Configuration.Budget.ceiling(&section)
        for name in Configuration.servedProviders {
            var inner = section.section(name)
            let ceiling = Configuration.Budget.ceiling(&inner)
            section.absorb(inner)
            if !ceiling.isNone { providers[name] = ceiling }
        }
    }

    private static func ceiling(_ section: inout ConfigurationSection) -> Ceiling {
        let hasRuns = section.has("runs_per_day"), hasCost = section.has("cost_per_day_usd")
        let runs = section.integer("runs_per_day", in: 0...mostRuns, default: 0)
        let cost = section.positive("cost_per_day_usd", upTo: highestCost, default: 0)
        return Ceiling(runs: hasRuns ? runs : nil, cost: hasCost ? cost : nil)
    }
}
