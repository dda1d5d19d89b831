import Appliance
import Platform

/// What has to be looked at again and again while there is something to look after, with one timer for all of it, however
/// many jobs there are; none when there is nothing.
extension JobScheduler {
    /// Leases are renewed three times before anybody takes them for lost.
    private static let attendanceInterval = Duration.seconds(30)

    /// Shows that this gateway lives, closes the jobs of those that do not, and removes the output of unrecorded jobs that nobody
    /// collects any more; again later, as long as there are such.
    package func lookAfter() async {
        removeExpiredKept()
        await keepLeases()
        if !jobs.isEmpty || !leases.isEmpty || hasKept { attend() }
    }

    /// Looks after everything in half a minute.
    func attend() {
        guard !isAttended else { return }
        isAttended = true
        Task { [weak self, clock = machine.clock] in
            try? await clock.sleep(JobScheduler.attendanceInterval)
            await self?.attended()
        }
    }

    private func attended() async {
        isAttended = false
        await lookAfter()
    }
}
