package import Appliance
import Glibc
import Platform

/// The process of a running job, as `llm_process_health` tells it.
package struct JobHealth: Sendable, Equatable {
    /// The job's UUID.
    package var id: String
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// Who may see it.
    package var owner: String?
    /// `queued` or `running`: a job that is over has no process to tell of.
    package var status: JobStatus
    /// `nil` where the provider is not started yet.
    package var process: Process?
    /// Milliseconds since the runner took it up, or since it was accepted while it has none.
    package var runningForMilliseconds: Int

    /// One look at the provider's main process; what it started itself is not counted in.
    package struct Process: Sendable, Equatable {
        /// The provider's, not the runner's.
        package var pid: Int32
        /// Whether a process of this pid and start time exists and is no zombie.
        package var isAlive: Bool
        /// `R`, `S`, `Z`…: proc(5).
        package var state: String?
        /// Over the process's life: 100 is one processor.
        package var cpuPercent: Double?
        /// Resident size, KiB; `nil` when the process is gone.
        package var memoryKilobytes: Int?
        /// When it was looked at.
        package var sampled: Timestamp
    }

    /// Whether the provider's process is gone though the job runs.
    package var isDead: Bool { process.map { !$0.isAlive && !isZombie } ?? false }
    /// Whether the provider has ended and was not yet collected.
    package var isZombie: Bool { process?.state == "Z" }

    /// The contract's `JobHealth`.
    package var json: JSON {
        var sample = JSON.null
        if let process {
            sample = [
                "pid": .integer(process.pid), "alive": .bool(process.isAlive),
                "state": .optional(process.state), "cpuPercent": .optional(process.cpuPercent),
                "memoryRssKb": .optional(process.memoryKilobytes),
                "sampledAt": .string(process.sampled.iso8601),
            ]
        }
        return [
            "jobId": .string(id), "cli": .string(provider), "status": .string(status.rawValue),
            "processHealth": sample, "isDead": .bool(isDead), "isZombie": .bool(isZombie),
            "runningForMs": .integer(runningForMilliseconds),
        ]
    }
}

extension ProcessIdentity {
    fileprivate static let ticksPerSecond = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))

    /// Seconds since a process of this boot was started, however the clock was set meanwhile.
    var age: Double {
        // Start times count from boot, with the time that the machine slept.
        Double(WallClock.system.uptime()) / 1e9 - Double(startTime) / ProcessIdentity.ticksPerSecond
    }
}

extension JobHealth.Process {
    /// Looks at a process.
    init(_ identity: ProcessIdentity, clock: WallClock) {
        pid = identity.pid
        sampled = clock.now()
        guard let entry = ProcessTable.entry(identity.pid), entry.identity == identity else {
            isAlive = false
            return
        }
        isAlive = entry.state != "Z" && entry.state != "X"
        state = String(entry.state)
        memoryKilobytes = Int(entry.residentBytes / 1024)
        let age = identity.age
        let used = Double(entry.processorTicks) / ProcessIdentity.ticksPerSecond
        cpuPercent = age > 0 ? (used / age * 1000).rounded() / 10 : 0
    }
}

/// All running jobs and how many of them are well.
package struct JobHealthReport: Sendable, Equatable {
    /// Ordered by id.
    package var jobs: [JobHealth]
    /// Jobs whose provider's process is alive or not started yet.
    package var running: Int { jobs.count - dead - zombies }
    /// Jobs whose provider's process is gone.
    package var dead: Int { jobs.filter(\.isDead).count }
    /// Jobs whose provider has ended and was not yet collected by its runner.
    package var zombies: Int { jobs.filter(\.isZombie).count }
}
