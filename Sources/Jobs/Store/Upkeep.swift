package import Appliance
package import Platform

/// What a gateway does for its store from time to time, with one timer for all of it.
///
/// At the start and every half minute: remove the output of unrecorded jobs that nobody collects any more, show other homes'
/// gateways that this one lives, and look whether they do. At the start and
/// every five minutes: remove what has expired.
package struct Upkeep: Sendable {
    private let store: Store?
    private let jobs: JobScheduler?
    private let clock: WallClock
    private let report: @Sendable (GatewayError) -> Void

    private static let interval = Duration.seconds(30)
    /// The contract looks for expired rows every five minutes.
    private static let roundsBetweenSweeps = 10

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
        var round = 0
        repeat {
            await jobs?.removeExpiredKept()
            await jobs?.keepLeases()
            if round % Upkeep.roundsBetweenSweeps == 0 { await sweep() }
            round += 1
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
