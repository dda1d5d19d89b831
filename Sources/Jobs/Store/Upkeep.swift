package import Appliance
package import Platform

/// What a gateway does for its store from time to time, at the start and every five minutes: close what was begun by
/// gateways that are gone and never became a job, remove what has expired and the oldest output beyond its limit, and look whether
/// there is something that has to be looked after more often.
package struct Upkeep: Sendable {
    private let store: Store?
    private let jobs: JobScheduler?
    private let clock: WallClock
    private let report: @Sendable (GatewayError) -> Void

    /// The contract's time between two looks for expired rows.
    private static let interval = Duration.seconds(300)

    /// The upkeep of a store and of the jobs of a home; `report` gets what could not be done.
    package init(
        _ store: Store?,
        jobs: JobScheduler?,
        clock: WallClock,
        report: @escaping @Sendable (GatewayError) -> Void
    ) {
        self.store = store
        self.jobs = jobs
        self.clock = clock
        self.report = report
    }

    /// Does it until the task is cancelled.
    package func run() async {
        repeat {
            await jobs?.lookAfter()
            await sweep()
            await jobs?.trimOutput()
        } while (try? await clock.sleep(Upkeep.interval)) != nil
    }

    private func sweep() async {
        guard let store else { return }
        do throws(GatewayError) {
            try await jobs?.closeAbandonedRequests()
            _ = try await store.removeExpired()
        } catch {
            report(error)
        }
    }
}
