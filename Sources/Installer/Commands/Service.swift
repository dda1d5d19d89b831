import Appliance
import Platform

extension Invocation {
    /// Throws what `start` throws for want of an installation, where no home is there that could have one.
    ///
    /// For what would make a home to find nothing in it.
    fileprivate func refuseWithoutHome() throws(GatewayError) {
        guard !machine.files.exists(try layout().home) else { return }
        try service().checkStartable()
    }

    /// Starts the gateway that a restore had stopped, as it ran before; says so, or why it does not start.
    func startPending() async throws(GatewayError) -> [String] {
        guard let pending = try PendingStart.read(layout(), files: machine.files) else { return [] }
        do throws(GatewayError) {
            guard try await service().start(pending.options).running else { return [] }
            return ["started the gateway again, which a restore had stopped"]
        } catch {
            return [
                "the gateway, which a restore had stopped, does not start: \(error); "
                    + "the next command tries again, unless you '\(Product.name) stop' it"
            ]
        }
    }

    /// The gateway of this home, which can be stopped whatever is in its settings.
    fileprivate func serviceToStop() throws(GatewayError) -> GatewayService {
        let layout = try machine.layout().withUserHome()
        let settings =
            (try? machine.files.settings(of: layout, environment: machine.environment)) ?? .standard
        var service = GatewayService(machine: machine, layout: layout, settings: settings)
        service.say = note
        return service
    }

    /// The gateway of this home.
    func service() throws(GatewayError) -> GatewayService {
        var service = try GatewayService(machine: machine)
        service.say = note
        return service
    }
}

extension Verb {
    static let start = Verb(
        "start",
        .run,
        "start the gateway and wait until it answers",
        details: """
            Under systemd it becomes a user service behind a socket; elsewhere a background
            process watches over it. A running gateway is left alone.
            """,
        flags: [Flag("detached", "do without systemd even where there is one")]
    ) { call throws(GatewayError) in
        try call.refuseWithoutHome()
        let home = try await SetupReport.prepare(call)
        let service = try call.service()
        let before = try await service.status()
        var status = try await service.start(
            GatewayService.StartOptions(detached: call.arguments.has("detached"))
        )
        status.deed = before.running && before.pid == status.pid ? "already running" : "started"
        status.notices = home.changes + home.notices + status.notices
        return status
    }

    static let stop = Verb(
        "stop",
        .run,
        "stop the gateway; running jobs go on",
        details: """
            It stays stopped until 'start', or the next session where it is enabled. How many
            jobs go on is said; the next gateway has their answers. With --jobs every job of
            this home is canceled, also those of gateways that clients have started on stdio.
            """,
        flags: [Flag("jobs", "cancel running and waiting jobs first, and wait until they have ended")]
    ) { call throws(GatewayError) in
        let service = try call.serviceToStop()
        let before = try await service.status()
        var unforgotten: GatewayError?
        do throws(GatewayError) {
            try await service.forgetStarts()
        } catch  where error.code != "busy" {
            // On a disk that cannot be written it is to be stopped all the same.
            unforgotten = error
        }
        let cancels = call.arguments.has("jobs")
        var status = cancels ? try await service.stopWithJobs() : try await service.stop()
        if let unforgotten {
            status.notices.append(
                "the restore or uninstall that was interrupted may start it again when it is gone on with: \(unforgotten)"
            )
        }
        if before.running || before.supervisor == .detached { status.deed = "stopped" }
        return status
    }

    static let restart = Verb(
        "restart",
        .run,
        "replace the running gateway by the installed one",
        details: """
            The port stays open: connections wait for the new gateway. What changed in
            settings.json and 'environment' applies afterwards. A stopped gateway is started.
            Running jobs go on, and the new gateway takes them over.
            """
    ) { call throws(GatewayError) in
        try call.refuseWithoutHome()
        let home = try await SetupReport.prepare(call)
        var status = try await call.service().start(GatewayService.StartOptions(again: true))
        status.deed = "restarted"
        status.notices = home.changes + home.notices + status.notices
        return status
    }

    static let status = Verb(
        "status",
        .look,
        "say whether the gateway runs, where, and who watches over it",
        details: "The exit code is 0 whether it runs or not; 'doctor' has one that tells.",
        isQuestion: true
    ) { call throws(GatewayError) in try await call.service().status() }
}
