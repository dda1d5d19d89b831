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
        if await missing() != nil { return false }
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files) else { return true }
        return await unitState()?.isWanted == false
    }

    func checkReplaceable() async throws(GatewayError) {
        let serving = HomeProcesses(layout, files: machine.files).serving()
        let isRecorded = try detached.record() != nil
        // One that crashes and is started again may be away just now, and another version is started in its place.
        let isOfUnit = await unitComesUp() || serving.contains { $0.role == .gatewayOfUnit }
        guard isRecorded || isOfUnit || !serving.isEmpty else { return }
        _ = try fingerprint()
        try SupervisorRecord.checkPlace(layout, files: machine.files)
        if let place = await formerPlaceAtWork() {
            throw GatewayError(
                "home-moved",
                "the gateway runs by the unit of '\(place.home)', where this home was before",
                help: "run '\(Product.name) restart', which moves it here, then this command again"
            )
        }
        guard isOfUnit, mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files) else { return }
        try await systemd.refuseUnreadable()
    }

    /// Starts the version that `current` names; the caller holds the lock, so no unit file is touched here.
    func restart() async throws(GatewayError) {
        if try detached.record() != nil || detached.hasLostSupervisor() {
            return try await detached.replaceGateway(settings, within: .seconds(60), onlyRunning: true)
        }
        // One whose supervisor was killed ends with that, and so does one whose record is lost.
        if try detached.stray() != nil || detached.hasLost() {
            return try await detached.start(
                detached.whereItIs(settings),
                replaces: true,
                check: refuseStopped
            )
        }
        if let vacancy = await missing() {
            return try await detached.start(vacancy.listening(settings), replaces: true, check: refuseStopped)
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

    /// Throws `service-stopped` where there is no gateway without systemd any more, nor one missing: asked when nobody else starts
    /// or stops it.
    private func refuseStopped() async throws(GatewayError) {
        let hasStray = try detached.stray() != nil
        if try detached.record() != nil || hasStray || detached.hasLost() { return }
        guard detached.vacancy() == nil else { return }
        throw GatewayError("service-stopped", "the gateway was stopped before it could be replaced")
    }

    /// The record of a gateway without systemd that is to be there and is not; `nil` where a unit has run in its place since.
    private func missing() async -> SupervisorRecord? {
        guard let vacancy = detached.vacancy(), !detached.hasLost(), ((try? detached.stray()) ?? nil) == nil
        else { return nil }
        guard let state = await unitState() else { return vacancy }
        if let vacantSince = vacancy.vacantSince, let started = state.service.activeSince,
            vacantSince < started
        {
            return nil
        }
        // One that failed before it does not count.
        return [state.service, state.socket].contains(where: \.isAtWork) ? nil : vacancy
    }

    /// Whether a gateway is to be there and is not: a command that was to replace it did not come to its end.
    func isMissing() async -> Bool {
        // A command that is at it will come to its own.
        if FileLock.isHeld(folder: layout.home) { return false }
        return await missing() != nil
    }

    /// Whether its unit has failed for good, nobody is starting it, and nothing serves in its place.
    func hasFailed() async -> Bool {
        if FileLock.isHeld(folder: layout.home) { return false }
        guard let state = await unitState(), state.service.mainPID == nil,
            !HomeProcesses(layout, files: machine.files).serving().contains(where: { !$0.isOfRemovedHome })
        else { return false }
        // Who stops it by `systemctl` stops its socket, even where it does not end well.
        return state.socket.activeState == "failed"
            || (state.service.activeState == "failed" && state.socket.isAtWork)
    }

    /// What is wrong with units by which the gateway runs now, and would not, or somewhere else, after a crash; `nil` when nothing is.
    func unitTrouble() async -> String? {
        guard let state = await unitState(), state.service.isAtWork || state.socket.isAtWork else {
            return nil
        }
        if let error = systemd.unreadable(state) {
            return error.message + (error.help.map { "; \($0)" } ?? "")
        }
        return systemd.hasLostSocket(state) ? GatewayService.lostSocketNotice : nil
    }

    static let missingNotice =
        "the gateway is to run: a command that was to replace it did not come to its end; "
        + "'\(Product.name) start' starts it"

    func endRest() async throws(GatewayError) -> Bool { try await detached.endLost(inUnits: true) }

    private func unitComesUp() async -> Bool { await unitState()?.service.activeState == "activating" }

    private func unitState() async -> SystemdService.State? {
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files) else { return nil }
        return try? await systemd.state()
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
