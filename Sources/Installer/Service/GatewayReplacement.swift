import Appliance
import Platform

/// What an upgrade asks of the service: whether it runs, to be started again, and to be well then.
extension GatewayService: ServiceControl {
    func isRunning() async -> Bool {
        guard let status = try? await status() else { return false }
        // One that crashes and is started again all the time counts: a new version may be what it needs.
        return status.running || status.isComingUp
    }

    func isStopped() async -> Bool {
        if FileLock.isHeld(folder: layout.versions) { return true }
        guard (try? detached.record()) ?? nil == nil, (try? detached.stray()) ?? nil == nil,
            !detached.hasLost()
        else { return false }
        if detached.vacancy() != nil { return false }
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files) else { return true }
        return (try? await systemd.state())?.isWanted == false
    }

    func checkReplaceable() async throws(GatewayError) {
        let serving = HomeProcesses(layout, files: machine.files).serving()
        let isRecorded = try detached.record() != nil
        guard isRecorded || !serving.isEmpty else { return }
        _ = try fingerprint()
        try SupervisorRecord.checkPlace(layout, files: machine.files)
        if let place = await formerPlaceAtWork() {
            throw GatewayError(
                "home-moved",
                "the gateway runs by the unit of '\(place.home)', where this home was before",
                help: "run '\(Product.name) restart', which moves it here, then this command again"
            )
        }
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files),
            serving.contains(where: { $0.role == .gatewayOfUnit })
        else { return }
        try await systemd.refuseUnreadable()
    }

    /// Starts the version that `current` names; the caller holds the lock, so no unit file is touched here.
    func restart() async throws(GatewayError) {
        if try detached.record() != nil || detached.hasLostSupervisor() {
            return try await detached.replaceGateway(settings, within: .seconds(60), onlyRunning: true)
        }
        // One whose supervisor was killed ends with that, and so does one whose record is lost.
        if try detached.stray() != nil || detached.hasLost() {
            return try await detached.start(detached.whereItIs(settings), replaces: true)
        }
        if let vacancy = detached.vacancy(), !(await unitIsWanted()) {
            return try await detached.start(vacancy.listening(settings), replaces: true)
        }
        guard mayHaveUnit else {
            throw GatewayError("service-stopped", "the gateway was stopped before it could be replaced")
        }
        _ = try await systemd.start(
            settings: settings,
            socketChanged: false,
            again: true,
            enable: false,
            onlyRunning: true
        )
    }

    func endRest() async throws(GatewayError) -> Bool { try await detached.endLost(inUnits: true) }

    private func unitIsWanted() async -> Bool {
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files) else { return false }
        return (try? await systemd.state())?.isWanted == true
    }

    /// One question with a deadline: the listening socket is there already, so that the gateway's first answer comes as
    /// soon as it can give one.
    ///
    /// It is asked again when another gateway than ours answers.
    func waitUntilHealthy(within limit: Duration) async throws(GatewayError) {
        // One that ran already goes on where it was, wherever the settings want the next one.
        let record = try detached.record()
        var settings = record?.listening(settings) ?? settings
        if record == nil, let pid = try await runningPID() {
            settings = settings.listened(by: pid, files: machine.files)
        }
        var answer = await Health.ask(settings, within: limit)
        var expected = try await status().pid
        for _ in 0..<2 {
            guard case .gateway(let pid, _, _) = answer, pid != expected, !isSupervised(pid) else { break }
            // Another command may have replaced the one that answered since.
            answer = await Health.ask(settings, within: limit)
            expected = try await status().pid
        }
        switch answer {
        case .gateway(let pid, _, _) where pid == expected || isSupervised(pid): return
        case .gateway(let pid, let version, _):
            throw GatewayError(
                "port-in-use",
                "another gateway (process \(pid), version \(version)) answers at \(settings.localOrigin)",
                help: "stop it, or choose another port: \(Product.name) setup --port NUMBER"
            )
        case .nobody:
            throw GatewayError(
                "unhealthy",
                "the gateway was started, but nobody listens at \(settings.localOrigin)",
                help: "'\(Product.name) logs' shows what it said"
            )
        case .silent:
            throw GatewayError(
                "unhealthy",
                "the gateway did not answer at \(settings.healthURL) within \(limit.components.seconds) s",
                help: "'\(Product.name) logs' shows what it is doing"
            )
        case .foreign(let what):
            // The supervisor has the listening socket as well.
            if let owner = PortOwner.find(settings, files: machine.files),
                ![expected, record?.supervisor.pid].contains(owner.pid)
            {
                throw GatewayService.portInUse(settings, owner)
            }
            throw GatewayError(
                "unhealthy",
                "the gateway at \(settings.localOrigin) does not answer as one: \(what)"
            )
        }
    }
}
