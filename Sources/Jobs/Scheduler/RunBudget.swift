import Appliance
import Platform

/// The day's budget, from which a run is taken before anything of it can be seen, and given back when it never begins.
extension JobScheduler {
    /// Accepts a staged job if the day's budget has room for it.
    ///
    /// Throws what `accept` throws, and `budget-exceeded`; with a ceiling also what the store throws, because what was run is
    /// not known then.
    func acceptWithinBudget(
        _ spec: JobSpec,
        _ staged: JobDirectory,
        _ request: JobRequest
    ) async throws(GatewayError) -> JobHandle {
        try await countRun(spec)
        do throws(GatewayError) {
            return try accept(spec, staged, request)
        } catch {
            await uncountRun(spec)
            throw error
        }
    }

    private func countRun(_ spec: JobSpec) async throws(GatewayError) {
        guard let store else { return }
        if budget.isNone {
            await noting { store throws(GatewayError) in
                try await store.countRun(of: spec.provider, at: spec.submitted, within: budget)
            }
        } else {
            try await store.countRun(of: spec.provider, at: spec.submitted, within: budget)
        }
    }

    private func uncountRun(_ spec: JobSpec) async {
        await noting { store throws(GatewayError) in
            try await store.write { connection throws(GatewayError) in
                try Store.uncountRun(of: spec.provider, at: spec.submitted, connection)
            }
        }
    }
}
