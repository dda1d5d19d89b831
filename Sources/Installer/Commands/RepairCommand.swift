import Appliance
import Platform

extension Verb {
    static let repair = Verb(
        "repair",
        .look,
        "finish or undo what was interrupted, and put right what can be put right",
        details: """
            Missing and altered files of the installed versions come back from the other
            version, or from the bundle they came from; when that cannot be had, the intact
            version is used. Units, links, modes and what interrupted commands left are put
            right as well, and a gateway that is to run and has failed is started. The exit
            code is 1 when something remains that only you can decide.
            """,
        flags: [Flag("dry-run", "only say what would be done")]
    ) { call throws(GatewayError) in
        let layout = try call.layout()
        let isDry = call.arguments.has("dry-run")
        guard call.machine.files.exists(layout.home) else {
            return RepairReport(
                notices: ["'\(layout.home)' does not exist, so there is nothing to repair"],
                isDry: isDry
            )
        }
        guard !isDry else {
            let installation = await call.bareInstallation(layout)
            // What is being changed is not what was interrupted.
            if let holder = MutationLock.holder(layout, files: call.machine.files) {
                return RepairReport(isDry: true, holder: holder)
            }
            let plan = try await BlockingThread.run("repair") { () throws(GatewayError) in
                try installation.repairPlan()
            }
            let home = HomePreparation(machine: call.machine, layout: layout)
            let service = try? call.service()
            let start = await RepairReport.start(service)?.step
            var report = RepairReport(
                steps: try home.pending() + plan.steps.map(\.sentence) + (start.map { [$0] } ?? []),
                remaining: plan.remaining,
                isDry: true
            )
            if let service, start == nil { await report.look(after: service) }
            return report
        }
        // The home first: settings that cannot be read would stop everything that follows.
        let home = try await SetupReport.prepare(call, isRepair: true)
        var installation = try call.installation()
        installation.units = try await call.service().leavingSocket().units
        let (done, notices) = try await installation.repair()
        // Only now: what is to be started may have been missing.
        let started = try await call.startPending()
        var report = RepairReport(
            steps: home.changes + done.steps.map(\.sentence),
            remaining: done.remaining,
            notices: home.notices + notices + started
        )
        await report.startGateway(try call.service())
        return report
    }
}

extension Invocation {
    /// An installation that only looks: broken settings do not matter to it.
    fileprivate func bareInstallation(_ layout: Layout) async -> Installation {
        let settings = try? machine.files.settings(of: layout, environment: machine.environment)
        var service = GatewayService(machine: machine, layout: layout, settings: settings ?? .standard)
        service.say = note
        var installation = Installation(
            machine: machine,
            layout: layout,
            service: service,
            transport: HTTPClient(environment: machine.environment)
        )
        if settings != nil { installation.units = await service.leavingSocket().units }
        return installation
    }
}

/// What `repair` did, or would do.
struct RepairReport: Report {
    var steps: [String] = []
    var remaining: [String] = []
    var notices: [String] = []
    var isDry = false
    /// Who is changing the installation, where that stands in the way of looking at it.
    var holder: String?

    /// How a gateway is started that is to run and does not; `nil` where there is nothing to start.
    fileprivate static func start(
        _ service: GatewayService?
    ) async -> (step: String, options: GatewayService.StartOptions)? {
        guard let service else { return nil }
        if await service.isMissing() {
            return (
                "start the gateway, which a command that did not come to its end was to replace",
                GatewayService.StartOptions(detached: true)
            )
        }
        guard await service.hasFailed() else { return nil }
        return ("start the gateway, which has failed", GatewayService.StartOptions())
    }

    /// Starts a gateway that is to run and does not, and looks after one that runs; what remains says what is wrong with it.
    fileprivate mutating func startGateway(_ service: GatewayService) async {
        guard let start = await RepairReport.start(service) else { return await look(after: service) }
        do throws(GatewayError) {
            _ = try await service.start(start.options)
            steps.append(start.step)
        } catch {
            remaining.append(
                "the gateway, which is to run, does not start: \(error)\(error.help.map { "; \($0)" } ?? ""); "
                    + "'\(Product.name) stop' gives it up"
            )
        }
    }

    fileprivate mutating func look(after service: GatewayService) async {
        if let trouble = await service.unitTrouble() { remaining.append(trouble) }
        guard let status = try? await service.status(), !status.healthy else { return }
        // One between two crashes is started by who has started it before.
        if status.isComingUp {
            notices.append(
                "the gateway is to be started (\(status.state)); '\(Product.name) logs' shows what it said"
            )
        }
        guard status.running else { return }
        do throws(GatewayError) {
            try await service.waitUntilHealthy(within: .seconds(10))
        } catch {
            remaining.append(
                "the gateway runs and does not answer: \(error); '\(Product.name) restart' starts another one in its place"
            )
        }
    }

    private var message: String {
        if let holder { return "\(holder) \(MutationLock.underWay); ask again when it has ended." }
        if steps.isEmpty {
            return remaining.isEmpty
                ? "No repair actions were required." : "What is wrong is not to be repaired by this."
        }
        let actions = steps.count == 1 ? "1 repair action" : "\(steps.count) repair actions"
        return "\(actions) \(isDry ? "would be" : steps.count == 1 ? "was" : "were") done."
    }

    var exitCode: ExitCode { remaining.isEmpty ? .done : .failed }

    var json: JSON {
        [
            "ok": .bool(remaining.isEmpty), "changed": .bool(!isDry && !steps.isEmpty),
            "message": .string(message), "dry_run": .bool(isDry), "steps": .strings(steps),
            "remaining": .strings(remaining), "notices": .strings(notices),
        ]
    }

    var text: String {
        ([message] + steps.map { "  \($0)" } + remaining.map { "remains: \($0)" }
            + notices.map { "note: \($0)" }).joined(separator: "\n")
    }
}
