import Appliance
import Platform

/// The limit on what all jobs have written, in the directories of those that run and in the store.
extension JobScheduler {
    /// Removes the oldest stored output beyond the limit; what runs is never touched.
    package func trimOutput() async {
        let limit = limits.maxTotalOutputBytes
        var running = 0
        for job in jobs.values {
            running += size(job.directory.standardOutput) + size(job.directory.standardError)
        }
        let room = max(0, limit - running)
        await noting { store throws(GatewayError) in _ = try await store.trimOutput(to: room) }
    }

    /// Notes what a finished job has added; every twentieth part of the limit it is looked at again.
    func noteOutput(_ bytes: Int) {
        writtenSinceTrim += bytes
        guard writtenSinceTrim >= limits.maxTotalOutputBytes / 20 else { return }
        writtenSinceTrim = 0
        Task { await trimOutput() }
    }
}
