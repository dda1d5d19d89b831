import Appliance
import Jobs
import Platform

extension Verb {
    static let forget = Verb(
        "forget",
        .move,
        "remove records of requests from everywhere they are kept",
        details: """
            Requests with prompt and answer, jobs with their output, session records,
            approval decisions and what waits for collection, of all callers. The flags
            narrow it together; without any of them --all is needed. The gateway may run
            meanwhile; runs that are under way are left alone. Backups and what the
            provider CLIs keep themselves are not touched.
            """,
        flags: RecordFlags.all + [
            Flag("all", "everything; only without the flags above"),
            Flag("dry-run", "say what would be removed, and remove nothing"),
        ]
    ) { call throws(GatewayError) in
        let selection = try RecordFlags.selection(call)
        guard selection.isEverything == call.arguments.has("all") else {
            throw GatewayError(
                "usage",
                selection.isEverything
                    ? "'forget' was not told what to forget" : "'--all' goes without flags that narrow it",
                help: "give --request, --session, --provider or --older-than; or --all for everything"
            )
        }
        let forgetting = try Forgetting(
            layout: try call.layout(),
            persistence: try call.persistence(),
            machine: call.machine
        ) { call.note("warning: \($0)") }
        let isRehearsal = call.arguments.has("dry-run")
        let outcome = try await forgetting.run(selection, isRehearsal: isRehearsal)
        return ForgetReport(outcome: outcome, isRehearsal: isRehearsal)
    }
}

/// What `forget` removed.
private struct ForgetReport: Report {
    var outcome: Forgetting.Outcome
    var isRehearsal: Bool

    var json: JSON {
        [
            "ok": true, "dry_run": .bool(isRehearsal), "requests": .integer(outcome.requests),
            "jobs": .integer(outcome.jobs), "sessions": .integer(outcome.sessions),
            "approvals": .integer(outcome.approvals), "folders": .integer(outcome.folders),
            "left_running": .integer(outcome.running),
            "scrubbed": outcome.isScrubbed.map { .bool($0) } ?? .null,
        ]
    }

    var text: String {
        func counted(_ count: Int, _ one: String, _ many: String) -> String? {
            count == 0 ? nil : "\(count) \(count == 1 ? one : many)"
        }
        let parts = [
            counted(outcome.requests, "request", "requests"), counted(outcome.jobs, "job", "jobs"),
            counted(outcome.sessions, "session record", "session records"),
            counted(outcome.approvals, "approval decision", "approval decisions"),
            counted(outcome.folders, "folder of a run", "folders of runs"),
        ].compactMap(\.self)
        var lines = [
            parts.isEmpty
                ? "there is nothing to forget"
                : (isRehearsal ? "would forget " : "forgot ") + parts.joined(separator: ", ")
        ]
        if let running = counted(outcome.running, "run goes on and was", "runs go on and were") {
            lines.append("\(running) left alone: forget again when over")
        }
        if outcome.isScrubbed == false {
            lines.append(
                "what other programs and earlier versions removed may still be in the database's free space: "
                    + "stop the gateway and forget again"
            )
        }
        return lines.joined(separator: "\n")
    }
}
