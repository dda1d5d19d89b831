import Appliance
import Jobs

/// How many jobs of a home are not over, and how many a command has ended.
struct JobCounts: Sendable, Equatable {
    /// Jobs that go on, with a gateway or without.
    var running = 0
    /// Jobs that were accepted and that nobody runs yet.
    var waiting = 0
    /// Jobs that the command has cancelled; `nil` where it was not asked to.
    var canceled: Int?

    /// Nothing was looked for yet.
    init() {}

    init(_ states: [UnfinishedJob.State]) {
        running = states.count { $0 == .running }
        waiting = states.count { $0 == .waiting }
    }

    /// `{"running","waiting","canceled"}`; the last one is `null` for a command that cancels nothing.
    var json: JSON {
        ["running": .integer(running), "waiting": .integer(waiting), "canceled": .optional(canceled)]
    }

    /// Lines of a table; none where there are no jobs.
    ///
    /// After a command it is said that they go on; without a gateway, who will take their answers.
    func rows(afterwards: Bool, isCollecting: Bool) -> [[String]] {
        var rows: [[String]] = []
        if let canceled { rows.append(["canceled jobs", "\(canceled)"]) }
        if running > 0 {
            let deed = !afterwards ? "" : running == 1 ? ", which goes on" : ", which go on"
            let object = running == 1 ? "it" : "them"
            let answers = isCollecting ? "" : "; the next start collects what comes of \(object)"
            rows.append(["running jobs", "\(running)\(deed)\(answers)"])
        }
        if waiting > 0 {
            let turn = isCollecting ? "" : "; a start within their time runs them"
            rows.append(["waiting jobs", "\(waiting)\(turn)"])
        }
        return rows
    }
}

extension GatewayService {
    /// The jobs of this home, whichever gateways answer for them.
    var jobs: UnfinishedJobs { UnfinishedJobs(layout: layout, machine: machine) }

    /// What can be said of the jobs now; a folder that cannot be read is the gateway's to report.
    var jobCounts: JobCounts { JobCounts((try? jobs.states()) ?? []) }

    /// How long cancelled jobs may take to end.
    static let jobLimit = Duration.seconds(60)

    /// Cancels the jobs, stops the gateway, and cancels what it had started meanwhile or had left waiting.
    func stopWithJobs() async throws(GatewayError) -> ServiceStatus {
        let first = try await jobs.cancel(within: GatewayService.jobLimit)
        _ = try await stop()
        let second = try await jobs.cancel(within: GatewayService.jobLimit)
        var status = try await status()
        status.jobs.canceled = Set((first.canceled + second.canceled).map(\.id)).count
        status.notices += second.left.map { "a job was not canceled: \($0.wording)" }
        return status
    }
}
