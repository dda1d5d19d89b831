package import Appliance
import Glibc
import Platform

/// The process of a running job, as `llm_process_health` tells it.
package struct JobHealth: Sendable, Equatable {
    package var id: String
    package var provider: String
    /// Who may see it.
    package var owner: String?
    package var status: JobStatus
    /// `nil` where the provider is not started yet.
    package var process: Process?
    package var runningForMilliseconds: Int

    package struct Process: Sendable, Equatable {
        package var pid: Int32
        package var isAlive: Bool
        /// `R`, `S`, `Z`…: proc(5).
        package var state: String?
        /// Over the process's life: 100 is one processor.
        package var cpuPercent: Double?
        package var memoryKilobytes: Int?
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
        let ticksPerSecond = Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
        // Start times count from boot, with the time that the machine slept.
        let age = Double(WallClock.system.uptime()) / 1e9 - Double(identity.startTime) / ticksPerSecond
        let used = Double(entry.processorTicks) / ticksPerSecond
        cpuPercent = age > 0 ? (used / age * 1000).rounded() / 10 : 0
    }
}

/// All running jobs and how many of them are well.
package struct JobHealthReport: Sendable, Equatable {
    package var jobs: [JobHealth]
    /// Jobs whose provider's process is alive or not started yet.
    package var running: Int { jobs.count - dead - zombies }
    /// Jobs whose provider's process is gone.
    package var dead: Int { jobs.filter(\.isDead).count }
    package var zombies: Int { jobs.filter(\.isZombie).count }
}
