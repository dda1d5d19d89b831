import Appliance
import Platform

extension Verb {
    static let rollback = Verb(
        "rollback",
        .install,
        "go back to the version that was in use before",
        details: """
            The two last versions are kept, so this needs no network. A running gateway is
            restarted; when the version does not become healthy, the one that was in use
            comes back. A second rollback undoes the first.
            """,
        flags: [
            Flag("to", value: "VERSION", "the kept version to use (standard: the one before)"),
            Flag("dry-run", "only say what would be done"),
        ]
    ) { call throws(GatewayError) in
        let installation = try call.installation()
        guard !call.arguments.has("dry-run") else {
            return try await installation.rollbackPlan(to: call.arguments["to"])
        }
        var report = try await installation.rollback(to: call.arguments["to"])
        report.notices += try await call.startPending()
        return report
    }
}

extension RollbackReport: Report {
    var json: JSON {
        [
            "ok": true, "action": "rollback", "dry_run": .bool(isDry), "changed": .bool(changed),
            "from_version": .optional(from), "version": .string(installed.version),
            "gateway_dir": .string(directory), "restarted": .bool(restarted),
            "kept_versions": .strings(kept), "notices": .strings(notices),
        ]
    }

    var text: String {
        var lines: [String] = []
        if !changed {
            lines.append("version \(installed.version) is in use already")
        } else if isDry {
            lines.append("version \(installed.version) would be used in place of \(from ?? "none")")
            if restarted { lines.append("the running gateway would be restarted") }
        } else {
            lines.append("version \(installed.version) is in use again, in place of \(from ?? "none")")
            if restarted { lines.append("the gateway was restarted and is healthy") }
        }
        return (lines + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
