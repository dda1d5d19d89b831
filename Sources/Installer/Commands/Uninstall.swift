import Appliance
import Platform

extension Verb {
    static let uninstall = Verb(
        "uninstall",
        .install,
        "remove the program; your data stays unless you say otherwise",
        details: """
            Without --yes it lists what would go and what would stay, and asks on a
            terminal. Only what this program created and nobody changed since is removed.
            A listing stops nothing.
            """,
        flags: [
            Flag("yes", letter: "y", "do it without asking"),
            Flag("purge", "remove your data as well: token, settings, configuration, records"),
        ]
    ) { call throws(GatewayError) in try await UninstallReport.make(call) }
}

/// What `uninstall` did, or would do.
struct UninstallReport: Report {
    var home: String
    var plan: UninstallPlan?
    var removed = false
    /// Whether the gateway is running, and so would be stopped.
    var running = false
    var notices: [String] = []

    static func make(_ call: Invocation) async throws(GatewayError) -> UninstallReport {
        let layout = try call.layout()
        let files = call.machine.files
        guard files.exists(layout.home) else { return UninstallReport(home: layout.home) }
        try HomeClaim.check(layout, files: files)
        let purge = call.arguments.has("purge")
        // Broken settings must not stand in the way of removing the program.
        let settings = (try? files.settings(of: layout, environment: call.machine.environment)) ?? .standard
        var service = GatewayService(machine: call.machine, layout: layout, settings: settings)
        service.say = call.note
        var report = UninstallReport(home: layout.home)
        report.plan = try plan(layout, files, try Receipt.read(layout, files: files), purge: purge)
        report.running = try await service.status().running
        let terminal = call.machine.terminal
        if !call.arguments.has("yes") {
            guard call.output == .text, terminal.inputIsTerminal, terminal.outputIsTerminal else {
                return report
            }
            try terminal.write(report.text + "\nRemove this? [y/N] ")
            let answer = (terminal.readLine() ?? "").trimmed.lowercased()
            guard answer == "y" || answer == "yes" else {
                return UninstallReport(home: layout.home, plan: report.plan, notices: ["nothing was removed"])
            }
        }
        let lock = try await MutationLock.acquire(
            layout,
            verb: "uninstall",
            machine: call.machine,
            say: call.note
        )
        defer { withExtendedLifetime(lock) {} }
        let receipt = try Receipt.recovered(layout, files: files, now: call.machine.clock.now()).receipt
        let plan = try plan(layout, files, receipt, purge: purge)
        do throws(GatewayError) {
            _ = try await service.stop()
            try await service.disableUnits()
        } catch  where error.code == "user-manager-unreachable" || error.code == "libsystemd-missing" {
            report.notices.append("the service could not be stopped: \(error)")
        }
        if plan.disablesLinger {
            do throws(GatewayError) {
                try await Lingering(machine: call.machine).disable()
            } catch {
                report.notices.append("lingering stays on: \(error); \(error.help ?? "")")
            }
        }
        for removal in plan.removals {
            switch removal.kind {
            case .file: try files.removeFile(removal.path)
            case .tree: try files.removeTree(removal.path)
            // A home that is a link, or a folder that others put something into, stays.
            case .emptyFolder:
                if try files.status(removal.path)?.kind == .directory {
                    try files.removeEmptyDirectory(removal.path)
                }
            }
        }
        do throws(GatewayError) { try await service.reloadUnits() } catch {}
        report.plan = plan
        report.removed = true
        report.running = false
        return report
    }

    private static func plan(
        _ layout: Layout,
        _ files: Files,
        _ receipt: Receipt,
        purge: Bool
    ) throws(GatewayError) -> UninstallPlan {
        try UninstallPlan(
            receipt: receipt,
            layout: layout,
            purge: purge,
            list: { (path) throws(GatewayError) in try files.list(path) }
        ) { (path) throws(GatewayError) in
            guard let status = try files.status(path) else { return nil }
            var present = UninstallPlan.Present(kind: status.kind)
            // Nothing that we note by its digest is as large; logs and records are.
            if status.kind == .file, status.size <= 8 << 20 {
                present.sha256 = SHA256.hex(try files.read(path, limit: 8 << 20))
            }
            if status.kind == .link { present.target = files.destination(ofLink: path) }
            return present
        }
    }

    var json: JSON {
        var json: JSON = ["ok": true, "action": "uninstall", "removed": .bool(removed)]
        guard let plan else {
            json["note"] = "App directory already absent; nothing to remove."
            return json
        }
        json["app_dir"] = .string(home)
        json["running"] = .bool(running)
        json[removed ? "removed_paths" : "would_remove"] = .strings(plan.removals.map(\.path))
        json["kept"] = .array(
            plan.kept.map { ["path": .string($0.path), "reason": .string($0.reason)] }
        )
        json["notices"] = .strings(notices)
        if !removed { json["note"] = "Nothing was changed. Rerun with --yes to remove this." }
        return json
    }

    var text: String {
        guard let plan else { return "'\(home)' does not exist: nothing to remove" }
        var lines: [String] = []
        if running { lines.append("the running gateway is stopped first; running jobs go on") }
        if !plan.removals.isEmpty {
            lines.append(removed ? "removed:" : "to be removed:")
            lines += plan.removals.map { removal in
                switch removal.kind {
                case .file: "  \(removal.path)"
                case .tree: "  \(removal.path)/"
                case .emptyFolder: "  \(removal.path)/ (when empty)"
                }
            }
        }
        if plan.disablesLinger { lines.append("lingering, which this program switched on, goes off") }
        if !plan.kept.isEmpty {
            lines.append("kept:")
            lines.append(Columns.text(plan.kept.map { [$0.path, $0.reason] }, indent: 2))
        }
        return (lines + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
