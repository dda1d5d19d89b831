import Appliance
import Platform

extension Verb {
    static let restore = Verb(
        "restore",
        .move,
        "put a backup into this home",
        details: """
            Everything is verified before anything is touched. Data that is here and
            differs is only replaced with --replace, and is moved aside, not deleted. A
            running gateway is stopped meanwhile and started again. A backup without
            secrets gets a new token, so clients have to be connected again.
            """,
        operand: ("FILE", "the archive that 'backup' wrote"),
        offers: .files,
        flags: [
            Flag("replace", "move data of this home aside that the backup replaces"),
            Flag("dry-run", "verify the backup and say what would be done"),
        ]
    ) { call throws(GatewayError) in
        let layout = try call.layout()
        let file = call.absolute(try call.arguments.requiredOperand())
        let isDry = call.arguments.has("dry-run")
        let hadToken = try call.machine.files.authToken(of: layout) != nil
        let outcome = try await Restoration(
            machine: call.machine,
            layout: layout,
            say: call.note,
            progress: call.counter()
        ).run(Restoration.Options(file: file, replaces: call.arguments.has("replace"), isDry: isDry))
        let hasToken = outcome.manifest.files.contains { $0.path == "auth-token" }
        return RestoreReport(
            outcome: outcome,
            home: layout.home,
            isDry: isDry,
            token: hasToken ? .restored : hadToken ? .kept : .new
        )
    }
}

/// What `restore` did, or would do.
private struct RestoreReport: Report {
    /// Where the token is from that clients need now.
    enum Token: String {
        case restored, kept, new
    }

    var outcome: Restoration.Outcome
    var home: String
    var isDry: Bool
    var token: Token

    var json: JSON {
        let manifest = outcome.manifest
        var json: JSON = [
            "ok": true, "dry_run": .bool(isDry), "changed": .bool(!isDry && !outcome.placed.isEmpty),
            "home": .string(home), "restored": .strings(outcome.placed), "unchanged": .strings(outcome.same),
            "replaced": .strings(outcome.replaced), "replaced_in": .optional(outcome.aside),
            "closed_runs": .integer(outcome.closedRuns), "token": .string(token.rawValue),
            "changes": .strings(outcome.changes), "notices": .strings(outcome.notices),
            "backup": [
                "version": .string(manifest.version), "created_at": .string(manifest.createdAt.iso8601),
                "home": .string(manifest.home), "with_secrets": .bool(manifest.hasSecrets),
                "left_out": .array(manifest.omissions.map(\.json)),
            ],
        ]
        if let status = outcome.status { json["status"] = status.json["status"] }
        return json
    }

    var text: String {
        let manifest = outcome.manifest
        var lines = [
            "a backup of version \(manifest.version), made \(manifest.createdAt.iso8601) of '\(manifest.home)'"
        ]
        if outcome.placed.isEmpty {
            lines.append("everything of it is in '\(home)' already")
        } else {
            lines.append((isDry ? "would restore: " : "restored: ") + Restoration.listed(outcome.placed))
        }
        if let aside = outcome.aside {
            lines.append(
                (isDry ? "would move aside (with --replace): " : "moved aside into '\(aside)': ")
                    + Restoration.listed(outcome.replaced)
            )
        }
        if !isDry { lines += outcome.changes }
        if outcome.closedRuns > 0 {
            lines.append("\(outcome.closedRuns) runs were under way when it was made; their records say so")
        }
        if token == .new, !isDry {
            lines.append(
                "the backup holds no token: connect clients again (\(Product.name) print-client-config)"
            )
        }
        lines += outcome.notices.map { "note: \($0)" }
        if let status = outcome.status { lines.append(status.text) }
        return lines.joined(separator: "\n")
    }
}
