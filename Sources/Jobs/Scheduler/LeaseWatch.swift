import Appliance
import Platform

/// Which gateways show no sign of life any more: a pure value.
///
/// A gateway raises a number while it answers for jobs. What counts is how long this gateway has seen the same number by its own
/// clock, so that clocks which are set, or differ between machines, do not matter.
struct LeaseWatch: Sendable, Equatable {
    /// How long a gateway may be silent: three times what it takes to raise its number.
    static let patience = Duration.seconds(90)

    private struct Sight: Sendable, Equatable {
        var beat: Int
        /// Nanoseconds of the clock's `uptime`.
        var since: UInt64
    }

    private var seen: [String: Sight] = [:]

    /// Whether no other gateway answers for a job.
    var isEmpty: Bool { seen.isEmpty }

    /// Takes in the numbers of the gateways that answer for jobs; returns those that were silent for too long.
    mutating func observe(_ beats: [String: Int], at instant: UInt64) -> Set<String> {
        seen = seen.filter { beats[$0.key] != nil }
        var silent: Set<String> = []
        for (instance, beat) in beats {
            if let sight = seen[instance], sight.beat == beat {
                if instant &- sight.since >= LeaseWatch.patience.nanoseconds { silent.insert(instance) }
            } else {
                seen[instance] = Sight(beat: beat, since: instant)
            }
        }
        return silent
    }
}

/// Jobs of gateways in other homes, on this machine or another one, that share the database.
///
/// Those of this home are found by their directories and the locks of their gateways (`adopt`). A gateway of another home holds
/// a lease: while it answers for jobs it raises a number in the store. When the number stays the same for too long, and nothing
/// of the job is seen to live where this machine can look, the job is `orphaned`. Its home's next gateway may find it after all:
/// then its true end takes that place.
extension JobScheduler {
    /// Shows that this gateway lives, and closes the jobs of those that do not.
    package func keepLeases() async {
        await noting { store throws(GatewayError) in
            if !jobs.isEmpty { try await store.renewLease(of: registry.name) }
            let others = try await store.leasedJobs(besides: registry.name).filter {
                Files.parent(of: $0.directory) != layout.jobs || isElsewhere($0.host)
            }
            let beats = Dictionary(others.map { ($0.instance, $0.beat) }, uniquingKeysWith: max)
            let silent = leases.observe(beats, at: machine.clock.uptime())
            var gone: [String: [String]] = [:]
            for job in others where silent.contains(job.instance) && !isSeenToLive(job) {
                gone[job.host, default: []].append(job.id)
            }
            for (host, ids) in gone {
                try await store.orphan(
                    ids,
                    error:
                        "the gateway on '\(host)' that answered for the job has given no sign of life for \(LeaseWatch.patience)"
                )
                await lookElsewhere(ids)
            }
        }
    }

    /// Whether the gateway or the runner of a job is seen to live; both hold locks, which only count on their own machine.
    private func isSeenToLive(_ job: LeasedJob) -> Bool {
        guard !isElsewhere(job.host), machine.files.exists(Files.parent(of: job.directory)) else {
            return false
        }
        if registry.isAlive(job.instance, in: Files.parent(of: job.directory)) { return true }
        return FileLock.isHeld(JobDirectory(job.directory).running)
    }
}
