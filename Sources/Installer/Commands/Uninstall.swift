import Appliance
import Jobs
import Platform

extension Verb {
    static let uninstall = Verb(
        "uninstall",
        .install,
        "remove the program; your data stays unless you say otherwise",
        details: """
            Without --yes it lists what would go and what would stay, and asks on a
            terminal. Only what this program created and nobody changed since is removed.
            Jobs that run or wait are listed as well, and canceled once you agree; a listing
            stops nothing.
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
    /// Jobs that run or wait, and so would be canceled.
    var jobs: [UnfinishedJob] = []
    /// How many jobs were canceled.
    var canceled = 0
    var notices: [String] = []
    /// What was removed; of folders, those that were empty.
    var gone: [String] = []

    static func make(_ call: Invocation) async throws(GatewayError) -> UninstallReport {
        let layout = try call.layout()
        let files = call.machine.files
        try HomeClaim.check(layout, files: files)
        let purge = call.arguments.has("purge")
        if purge { try HomeClaim.checkData(layout, files: files) }
        // Broken settings must not stand in the way of removing the program.
        let settings = (try? files.settings(of: layout, environment: call.machine.environment)) ?? .standard
        var service = GatewayService(machine: call.machine, layout: layout, settings: settings)
        service.say = call.note
        var removal = Removal(layout: layout, files: files)
        removal.units = service.units
        let hasHome = files.exists(layout.home)
        removal.isBareHome = try hasHome ? files.list(layout.home) == [Files.name(of: layout.lock)] : true
        guard hasHome || removal.hasTraces || service.isServedWithoutHome() else {
            return UninstallReport(home: layout.home)
        }
        // What is left here may be what a home that was moved away still needs.
        if !hasHome { _ = try await service.unitServesRemovedHome() }
        var report = UninstallReport(home: layout.home)
        let (known, flaw) = try Receipt.known(layout, files: files)
        report.plan = try await removal.planned(removal.complete(known), purge: purge)
        switch flaw {
        case nil:
            if !hasHome {
                report.notices.append("'\(layout.home)' does not exist; this is what it left elsewhere")
            }
        case .copied(let home):
            report.notices.append(
                "this home is a copy of '\(home)', whose links, units and service are left alone"
            )
        case .moved(let home): report.notices.append("this home was moved here from '\(home)'")
        case .missing, .damaged:
            report.notices.append("the receipt is lost; what is ours was found by its place and form")
        }
        if let interrupted = known.operation {
            report.notices.append(
                MutationLock.holder(layout, files: files)
                    .map { "\($0) \(MutationLock.underWay), and is waited for" }
                    ?? "an interrupted \(interrupted.verb) is ended by this"
            )
        }
        report.running = try await service.status().running
        report.jobs = try service.jobs.list()
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
        var installation = Installation(
            machine: call.machine,
            layout: layout,
            service: service,
            transport: HTTPClient(environment: call.machine.environment)
        )
        installation.say = call.note
        installation.units = service.units
        guard let done = try await installation.uninstall(purge: purge, isBareHome: removal.isBareHome) else {
            return UninstallReport(home: layout.home)
        }
        report.plan = done.plan
        report.gone = done.gone
        report.notices = done.notices
        report.removed = true
        report.running = false
        report.jobs = []
        report.canceled = done.canceledJobs
        return report
    }

    var json: JSON {
        var json: JSON = ["ok": true, "action": "uninstall", "removed": .bool(removed)]
        guard let plan else {
            json["note"] = "App directory already absent; nothing to remove."
            return json
        }
        json["app_dir"] = .string(home)
        json["running"] = .bool(running)
        json["jobs"] = .array(jobs.map(\.json))
        json["canceled_jobs"] = .integer(canceled)
        json[removed ? "removed_paths" : "would_remove"] = .strings(
            removed ? gone : plan.removals.map(\.path)
        )
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
        if running { lines.append("the running gateway is stopped first") }
        if !jobs.isEmpty {
            lines.append("canceled first:")
            lines += jobs.map { "  \($0.wording)" }
        }
        if canceled > 0 { lines.append("canceled \(canceled) job\(canceled == 1 ? "" : "s")") }
        let shown = plan.removals.filter { !removed || gone.contains($0.path) }
        if !shown.isEmpty {
            lines.append(removed ? "removed:" : "to be removed:")
            lines += shown.map { removal in
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
