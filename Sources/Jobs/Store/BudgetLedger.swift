package import Appliance
package import Platform
import SQL

/// What was run and spent on one day, in UTC.
package struct BudgetUse: Sendable, Equatable {
    /// Runs that were started and what is known of the cost of those that are over, in US dollars.
    package struct Sum: Sendable, Equatable {
        /// Runs of requests, whatever came of them; those that never began are not counted.
        package var runs = 0
        /// US dollars.
        package var cost = 0.0

        /// Nothing.
        package init() {}
    }

    /// `2026-11-21`.
    package let day: String
    /// By provider; those without a run are absent.
    package var providers: [String: Sum] = [:]

    /// Nothing was used yet on the day of an instant.
    package init(on instant: Timestamp) { day = BudgetUse.day(of: instant) }

    /// All providers together.
    package var total: Sum {
        providers.values.reduce(into: Sum()) { total, sum in
            total.runs += sum.runs
            total.cost += sum.cost
        }
    }

    /// The day of an instant.
    static func day(of instant: Timestamp) -> String { String(instant.iso8601.prefix(10)) }

    /// When the day of an instant ends.
    package static func end(of instant: Timestamp) -> Timestamp {
        let length: Int64 = 86_400_000
        let rest = (instant.milliseconds % length + length) % length
        return instant.advanced(byMilliseconds: length - rest)
    }

    /// Reads what a database says of a day without changing or making it; nothing where it does not say.
    ///
    /// Throws what opening or reading throws.
    package static func recorded(
        in source: RecordSource,
        on instant: Timestamp,
        files: Files
    ) async throws(GatewayError) -> BudgetUse {
        let none = BudgetUse(on: instant)
        return try await source.read(files: files, patience: 1000) { connection throws(GatewayError) in
            guard try !connection.columns(of: "budget_days").isEmpty else { return none }
            return try Store.budgetUse(on: instant, connection)
        } ?? none
    }
}

extension Configuration.Budget {
    /// What of a budget is used up for a run of a provider: whose it is, and how much of how much; `nil` when it may run.
    package func exhausted(by use: BudgetUse, for provider: String) -> (owner: String, wording: String)? {
        func wording(_ ceiling: Ceiling, _ sum: BudgetUse.Sum) -> String? {
            if let runs = ceiling.runs, sum.runs >= runs { return "\(sum.runs) of \(runs) runs" }
            guard let cost = ceiling.cost, sum.cost >= cost else { return nil }
            return "\(Self.dollars(sum.cost)) of \(Self.dollars(cost)) US dollars"
        }
        if let own = wording(providers[provider] ?? Ceiling(), use.providers[provider] ?? BudgetUse.Sum()) {
            return (provider, own)
        }
        return wording(total, use.total).map { ("all providers", $0) }
    }

    /// Rounded to cents, down: what is used up never looks like more than it is.
    private static func dollars(_ amount: Double) -> String {
        let cents = Int((amount * 100 + 1e-6).rounded(.down))
        let rest = cents % 100
        return "\(cents / 100).\(rest < 10 ? "0" : "")\(rest)"
    }
}

extension Store {
    static func budgetUse(
        on instant: Timestamp,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> BudgetUse {
        var use = BudgetUse(on: instant)
        try connection.each(
            "SELECT provider, runs, cost_usd FROM budget_days WHERE day = ?1",
            [.text(use.day)]
        ) { row throws(GatewayError) in
            var sum = BudgetUse.Sum()
            sum.runs = row.integer(1) ?? 0
            sum.cost = row.real(2) ?? 0
            use.providers[row.text(0) ?? ""] = sum
        }
        return use
    }

    /// Counts a run that is about to be accepted, in the transaction that looks whether there is room for it; returns
    /// `budget-exceeded` where there is none.
    ///
    /// Of many requests at once, in however many gateways on the file, no more get through than a ceiling on runs has room
    /// for. What a run costs is only known when it is over, so that those that run at the same time may together go beyond a
    /// ceiling on cost.
    static func countRun(
        of provider: String,
        at instant: Timestamp,
        _ budget: Configuration.Budget,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> GatewayError? {
        if !budget.isNone {
            let use = try Store.budgetUse(on: instant, connection)
            if let exhausted = budget.exhausted(by: use, for: provider) {
                return Store.exceeded(exhausted, at: instant)
            }
        }
        try connection.execute(
            """
            INSERT INTO budget_days (day, provider, runs, cost_usd) VALUES (?1, ?2, 1, 0)
            ON CONFLICT (day, provider) DO UPDATE SET runs = budget_days.runs + 1
            """,
            [.text(BudgetUse.day(of: instant)), .text(provider)]
        )
        return nil
    }

    private static func exceeded(
        _ exhausted: (owner: String, wording: String),
        at instant: Timestamp
    ) -> GatewayError {
        let end = BudgetUse.end(of: instant)
        let minutes = max(1, (end.milliseconds - instant.milliseconds) / 60_000)
        var error = GatewayError(
            "budget-exceeded",
            "the budget of \(exhausted.owner) for today is used up: \(exhausted.wording)",
            help:
                "the next day begins at \(end.iso8601), in \(minutes / 60) h \(minutes % 60) min; the ceilings are in [budget] of config.toml"
        )
        error.retryAfter = .milliseconds(end.milliseconds - instant.milliseconds)
        return error
    }

    /// Takes back that a run was counted, because it never began.
    static func uncountRun(
        of provider: String,
        at instant: Timestamp,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        try connection.execute(
            "UPDATE budget_days SET runs = runs - 1 WHERE day = ?1 AND provider = ?2 AND runs > 0",
            [.text(BudgetUse.day(of: instant)), .text(provider)]
        )
    }

    /// Adds what a run has cost to the day on which it ended.
    static func addCost(
        _ dollars: Double?,
        of provider: String,
        at instant: Timestamp,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) {
        guard let dollars, dollars > 0 else { return }
        try connection.execute(
            """
            INSERT INTO budget_days (day, provider, runs, cost_usd) VALUES (?1, ?2, 0, ?3)
            ON CONFLICT (day, provider) DO UPDATE SET cost_usd = budget_days.cost_usd + ?3
            """,
            [.text(BudgetUse.day(of: instant)), .text(provider), .real(dollars)]
        )
    }
}
