import Appliance
import Doctor
import Glibc
import Platform

/// The gateway of one home, whoever supervises it.
struct GatewayService: Sendable {
    var machine: Machine
    var layout: Layout
    var settings: Settings
    /// Gets one sentence at a time about what was left alone, and about who is waited for.
    var say: @Sendable (String) -> Void = { _ in }
    /// What the unit of the socket says where that is something else than the settings say, see `leavingSocket`.
    var socketSettings: Settings?

    /// The service of this environment.
    init(machine: Machine) throws(GatewayError) {
        let layout = try machine.layout().withUserHome()
        let settings = try machine.files.settings(of: layout, environment: machine.environment)
        self.init(machine: machine, layout: layout, settings: settings)
    }

    /// The service of a home whose settings are known.
    init(machine: Machine, layout: Layout, settings: Settings) {
        self.machine = machine
        self.layout = layout
        self.settings = settings
    }

    var systemd: SystemdService { SystemdService(machine: machine, layout: layout, say: say) }
    var detached: DetachedService { DetachedService(machine: machine, layout: layout, say: say) }
    var unitPath: String { Layout.join(layout.userUnits, "\(layout.unitName).service") }
    /// Whether there is a unit to ask about: its file, or a note that it was written, whose unit may run on without it.
    var mayHaveUnit: Bool {
        machine.files.exists(unitPath)
            || (try? Receipt.read(layout, files: machine.files))?.entry(unitPath) != nil
    }

    // MARK: looking

    /// What is known now; changes nothing and never fails for want of a service manager.
    func status() async throws(GatewayError) -> ServiceStatus {
        var status = try await observe()
        status.jobs = jobCounts
        if machine.files.exists(layout.restoration) {
            let standing = RestoreJournal.standing(layout, files: machine.files)
            status.notices.append(
                MutationLock.holder(layout, files: machine.files).map { "\($0) \(MutationLock.underWay)" }
                    ?? "\(standing.sentence); \(standing.help)"
            )
        }
        if machine.files.exists(layout.pendingStart), !status.running {
            status.notices.append(
                "a restore has stopped the gateway; unless it is still at work, run '\(Product.name) start'"
            )
        }
        if !status.running, await isMissing() {
            status.notices.append(GatewayService.missingNotice)
        }
        status.budget = await budgetStanding()
        if let standing = try ReferenceHome.find(layout, files: machine.files)?.standing(layout) {
            status.notices.append("\(standing.sentence); \(standing.help)")
        }
        return status
    }

    private func observe() async throws(GatewayError) -> ServiceStatus {
        var status = ServiceStatus(url: settings.localURL)
        // A receipt that cannot be read is the doctor's to report.
        status.installed = (try? Receipt.read(layout, files: machine.files))?.active
        status.upgradeMode = (try? UpgradeTimer.mode(layout, files: machine.files)) ?? .off
        if status.upgradeMode != .off {
            status.upgradeOrigin = (try? UpgradeTimer.source(layout, files: machine.files))?.facts
            status.lastUpgrade = try UpgradeRecord.read(layout, files: machine.files)
        }
        // Where it listens, which the settings may have left since.
        var address = settings
        var unit: (place: Layout, before: ServiceStatus)?
        if let record = try detached.record() {
            describe(record, &status)
            address = record.listening(settings)
            let relation = HomeProcesses(layout, files: machine.files).relation(record.supervisor)
            if relation == .removed { status.notices.append(servesReplacedFolder) }
        } else if let stray = try detached.stray() {
            describe(stray, &status)
            address = stray.listening(settings)
            status.notices.append(isUnsupervised)
        } else if let place = await formerPlaceAtWork() ?? (mayHaveUnit ? layout : nil) {
            let before = status
            let socket = try await describeUnit(of: place, &status)
            address = socket.address ?? settings
            var unrecorded = before
            if !status.running, !status.isComingUp, let found = describeUnrecorded(&unrecorded) {
                (status, address) = (unrecorded, found)
            } else {
                unit = (place, before)
                status.url = address.localURL
                // A question must not be the connection that starts the gateway.
                if status.awaitsConnection { return status }
                if let pid = status.pid {
                    address = listening(pid, &status, isNews: !socket.isOverridden)
                }
            }
        } else if let found = describeUnrecorded(&status) {
            address = found
        }
        status.url = address.localURL
        let answer = await Health.ask(address)
        if let unit, case .gateway(let pid, _, _) = answer, pid != status.pid, isOurs(pid) {
            // It was started while it was being asked, and what systemd said before is of the one that it replaces.
            status = unit.before
            let socket = try await describeUnit(of: unit.place, &status)
            if let pid = status.pid {
                address = listening(pid, &status, isNews: !socket.isOverridden)
            }
            status.url = address.localURL
        }
        weigh(answer, at: address, &status)
        return status
    }

    private func describe(_ record: SupervisorRecord, _ status: inout ServiceStatus) {
        status.supervisor = .detached
        status.logPath = layout.gatewayLog
        status.restarts = record.restarts
        status.since = record.readyAt
        status.pid = record.gateway?.pid
        let isThere = record.gateway.map(ProcessTable.isRunning) ?? false
        status.running = isThere && record.readyAt != nil
        status.state =
            status.running
            ? "active (running)" : record.gateway == nil ? "activating (auto-restart)" : "activating (start)"
        let path = record.path ?? settings.path
        if record.address != settings.listenAddress {
            noteAddress(record.address, &status)
        } else if path != settings.path {
            status.isMovedByRestart = true
            status.notices.append(
                "the gateway serves '\(path)'; '\(Product.name) restart' moves it to '\(settings.path)'"
            )
        }
    }

    func noteAddress(_ address: String, _ status: inout ServiceStatus) {
        status.isMovedByRestart = true
        status.notices.append(
            "the gateway listens on \(address); '\(Product.name) restart' moves it to \(settings.listenAddress)"
        )
    }

    /// Where a gateway listens, which the settings may have left since; says so.
    private func listening(
        _ pid: Int32,
        _ status: inout ServiceStatus,
        isNews: Bool = true
    ) -> Settings {
        let address = settings.listened(by: pid, files: machine.files)
        status.notices += unserved(by: pid, at: address)
        if isNews, address.listenAddress != settings.listenAddress {
            noteAddress(address.listenAddress, &status)
        }
        return address
    }

    private var isUnsupervised: String {
        "its supervising process is gone, so nobody would start it again; '\(Product.name) start' puts that right"
    }

    var servesReplacedFolder: String {
        "the folder that it was started in was removed, and it does not write to the one that is there now; "
            + "'\(Product.name) restart' puts that right"
    }

    /// Describes a gateway without systemd that is in no record; gives where it listens, or `nil` when there is none.
    private func describeUnrecorded(_ status: inout ServiceStatus) -> Settings? {
        if let orphan = detached.orphan() {
            status.supervisor = .detached
            status.logPath = layout.gatewayLog
            (status.pid, status.running, status.state) = (orphan.pid, true, "active (running)")
            status.since = ProcessTable.startedAt(orphan)
            status.notices.append(isUnsupervised)
            return listening(orphan.pid, &status)
        }
        guard let lost = detached.lost() else { return nil }
        describe(lost, &status)
        status.notices.append(
            HomeProcesses(layout, files: machine.files).relation(lost.supervisor) == .removed
                ? "the home that it was started in was removed; '\(Product.name) stop' ends it"
                : "the record of its supervising process is gone; '\(Product.name) restart' writes it again"
        )
        return lost.listening(settings)
    }

    /// Compares what answers at the address with what the service manager says.
    private func weigh(_ answer: Health.Answer, at settings: Settings, _ status: inout ServiceStatus) {
        switch answer {
        case .gateway(let pid, let version, let sessions)
        where pid == status.pid || isSupervised(pid) || isOurs(pid):
            if pid != status.pid {
                // It was started while it was being asked.
                if let record = (try? detached.record()) ?? nil {
                    status.restarts = record.restarts
                    status.since = record.readyAt
                }
                status.pid = pid
                status.running = true
                status.state = "active (running)"
            }
            if status.supervisor == .detached, !status.running {
                // Its supervisor was gone before it could note that.
                status.running = true
                status.state = "active (running)"
            }
            status.healthy = true
            status.version = version
            status.sessions = sessions
        case .gateway(let pid, let version, _):
            status.portOwner = PortOwner(
                pid: pid,
                command: PortOwner.shortened(ProcessTable.commandLine(pid)),
                uid: getuid()
            )
            status.notices.append(
                "another gateway (process \(pid), version \(version)) answers at \(settings.localOrigin)"
            )
        case .foreign, .silent:
            let owner = PortOwner.find(settings, files: machine.files)
            // The listening socket is the supervisor's as well, and the gateway may be away for a moment.
            let ours = [status.pid, (try? detached.record())??.supervisor.pid]
            if let owner, !ours.contains(owner.pid), !(status.supervisor == .systemd && answer == .silent) {
                status.portOwner = owner
            }
        case .nobody: break
        }
    }

    /// Whether a gateway serves this home without anything that says so: its record is lost, or the unit that has started it leads
    /// to another home by now.
    private func isOurs(_ pid: Int32) -> Bool {
        HomeProcesses(layout, files: machine.files).isServedBy(pid)
    }

    /// Whether a process is a child of this home's supervisor, whose record may be behind when the disk is full.
    func isSupervised(_ pid: Int32) -> Bool {
        guard let record = try? detached.record() else { return false }
        return ProcessTable.entry(pid)?.parent == record.supervisor.pid
    }

    // MARK: acting

    /// How `start` goes about it.
    struct StartOptions: Sendable {
        /// Replace a running gateway.
        var again = false
        /// Start with the session from now on.
        var enable = false
        /// Do without systemd even where there is one.
        var detached = false
        /// Start only what this note says, and nothing any more once it is gone or another one.
        var pending: PendingStart?
    }

    /// Starts the gateway and waits until it answers; a running one is left alone unless it is to be replaced.
    ///
    /// Throws `gateway-missing`, `port-in-use`, `start-failed`, `user-manager-unreachable`, `unhealthy` or `timed-out`.
    func start(_ options: StartOptions = StartOptions()) async throws(GatewayError) -> ServiceStatus {
        try checkStartable()
        try refuseBesideReference()
        let before = try await runningPID()
        let notices: [String]
        do throws(GatewayError) {
            notices = try await launch(options)
        } catch  where error.code == "already-supervised" && !options.detached {
            // A command that was waited for has started it without systemd.
            notices = try await launch(options)
        } catch  where error.code == "start-forgotten" {
            return try await status()
        }
        do throws(GatewayError) {
            try await waitUntilHealthy(within: .seconds(10))
        } catch {
            guard await isStopped() else { throw error }
            throw GatewayError(
                "service-stopped",
                "the gateway was stopped before it was ready",
                help: "run '\(Product.name) start' if you want it to run"
            )
        }
        try machine.files.removeFile(layout.pendingStart)
        var status = try await status()
        status.notices += notices.filter { !status.notices.contains($0) }
        if status.pid != before {
            try await noteStart()
        } else if try isOutdated() {
            status.notices.append(
                "version, units, address or 'environment' have changed since the gateway was started; "
                    + "'\(Product.name) restart' applies that"
            )
        }
        return status
    }

    /// Starts it under whatever supervises it now, or is to.
    private func launch(_ options: StartOptions) async throws(GatewayError) -> [String] {
        let runsDetached = try detached.record() != nil || detached.hasLostSupervisor()
        let hasStray = try detached.stray() != nil
        let isDetached = runsDetached || hasStray || detached.hasLost()
        if !isDetached, !options.detached, ServiceBus.machineHasSystemd(files: machine.files) {
            var options = options
            if try await unitServesRemovedHome() { options.again = true }
            return try await startUnit(options)
        }
        if options.enable {
            if ServiceBus.machineHasSystemd(files: machine.files) {
                throw GatewayError(
                    "already-supervised",
                    "the gateway runs without systemd, which alone could start it with your session",
                    help: "run '\(Product.name) stop', then this command again"
                )
            }
            throw GatewayError(
                "no-user-manager",
                "the gateway cannot start with your session: there is no service manager to do it",
                help: "run '\(Product.name) start' in a start-up script of yours"
            )
        }
        if options.again, runsDetached {
            try await detached.replaceGateway(settings, within: .seconds(60))
        } else {
            try await detached.start(settings) { () async throws(GatewayError) in
                try checkWanted(options)
                if options.detached, try detached.record() == nil { try await refuseBesideUnit() }
            }
        }
        return []
    }

    /// What is asked again when nobody else starts or stops the gateway: a `stop` may have come, or an uninstall.
    ///
    /// Throws `start-forgotten` or `gateway-missing`.
    func checkWanted(_ options: StartOptions) throws(GatewayError) {
        if let pending = options.pending, try PendingStart.read(layout, files: machine.files) != pending {
            throw GatewayError("start-forgotten", "the gateway was stopped since")
        }
        try checkStartable()
    }

    /// The process of the gateway now, without asking it anything.
    func runningPID() async throws(GatewayError) -> Int32? {
        if let record = try detached.record() { return record.gateway?.pid }
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files) else {
            return nil
        }
        return try? await systemd.state().service.mainPID
    }

    /// A detached gateway and a unit would fight over the port.
    private func refuseBesideUnit() async throws(GatewayError) {
        guard mayHaveUnit else { return }
        if let state = try? await systemd.state() {
            guard state.socket.activeState == "active" || state.service.mainPID != nil else { return }
        } else {
            let serving = HomeProcesses(layout, files: machine.files).serving()
            guard serving.contains(where: { $0.role == .gatewayOfUnit }) else { return }
        }
        throw GatewayError(
            "already-supervised",
            "the gateway runs under systemd already",
            help: "run '\(Product.name) stop' first"
        )
    }

    private func startUnit(_ options: StartOptions) async throws(GatewayError) -> [String] {
        try UnitFiles.check(layout)
        // Asked first, so that nothing is written when nobody could read it.
        try await systemd.refuseForeign("\(layout.unitName).service")
        try refuseForeignUnit()
        try await systemd.refuseUnopenable(settings, again: options.again, isRewritten: isSocketOurs)
        try await stopFormerUnits()
        let service = options.again ? self : await leavingSocket(isStarting: true)
        let outcome = try await service.writeUnits(options)
        do throws(GatewayError) {
            _ = try await systemd.start(
                settings: settings,
                socketChanged: outcome.written.contains("\(layout.unitName).socket"),
                again: options.again,
                enable: options.enable
            ) { () async throws(GatewayError) in
                try checkWanted(options)
                guard try detached.record() == nil else {
                    throw GatewayError("already-supervised", "the gateway runs without systemd already")
                }
                // It has the port.
                try await detached.endRemoved()
                // What a supervisor has left that was killed long ago.
                try? machine.files.removeFile(layout.supervisor)
            }
        } catch {
            // They may be the reason.
            for notice in outcome.notices { say(notice) }
            throw error
        }
        return try await outcome.notices + retireFormerUnits() + UpgradeTimer(service: self).restore()
    }

    /// Changes the receipt under the lock; it is only written when it is another one afterwards.
    ///
    /// Throws `file-not-found` for a home that has gone meanwhile: it is not made again.
    func changingReceipt<Value>(
        _ verb: String,
        _ change: (inout Receipt) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        let lock = try await MutationLock.acquire(
            layout,
            verb: verb,
            machine: machine,
            makesHome: false,
            say: say
        )
        defer { withExtendedLifetime(lock) {} }
        var (receipt, notice) = try Receipt.recovered(layout, files: machine.files, now: machine.clock.now())
        if let notice { say(notice) }
        let before = receipt
        let value = try change(&receipt)
        if receipt != before { try receipt.write(layout, files: machine.files) }
        return value
    }

    /// Stops the gateway, whoever supervises it; a stopped one stays stopped.
    func stop() async throws(GatewayError) -> ServiceStatus {
        // Asked anew each time: the first start of all writes the units.
        let hasUnit = { mayHaveUnit && ServiceBus.machineHasSystemd(files: machine.files) }
        let wish = ServiceTurn.wish(layout)
        defer { withExtendedLifetime(wish) {} }
        let wasRunning = try await detached.stop { if hasUnit() { await systemd.interrupt() } }
        if hasUnit() {
            do throws(GatewayError) {
                _ = try await systemd.stop()
            } catch  where wasRunning && GatewayService.isUnreachable(error) {
                // It ran without systemd.
            }
        }
        try await stopFormerUnits()
        try await detached.endLost(inUnits: true)
        return try await status()
    }

    /// Stops the gateway and takes the units out of the session's start; for `uninstall`.
    func retire() async throws(GatewayError) -> [String] {
        do throws(GatewayError) {
            _ = try await stop()
            try await disableUnits()
            return []
        } catch  where GatewayService.isUnreachable(error) {
            try await detached.endLost(inUnits: true)
            try systemd.withdraw(with: formerUnits.map(\.name))
            return [
                "\(error.message); the gateway was ended without it, and nothing starts with your session any more; "
                    + "a socket that it still has open goes with that session"
            ]
        }
    }

    private static func isUnreachable(_ error: GatewayError) -> Bool {
        ["user-manager-unreachable", "libsystemd-missing"].contains(error.code)
    }

    /// Asks what retiring it would end.
    func standing() async -> ServiceStanding {
        var standing = ServiceStanding()
        standing.lingers = lingers
        standing.isDetached = (try? detached.record()) ?? nil != nil || detached.hasLost()
        guard hasUnits, let found = try? await systemd.standing() else { return standing }
        standing.enabled = found.enabled
        standing.active = found.active
        return standing
    }

    func reinstate(
        _ standing: ServiceStanding,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String] {
        let installation = UnitInstallation(layout: layout, files: machine.files)
        let gone = try installation.stale(units, receipt)
        let missing = units.filter { gone.contains(Layout.join(layout.userUnits, $0.name)) }
        var notices = try installation.write(missing, receipt: &receipt).notices
        if standing.isDetached { try await detached.start(settings) }
        if !(standing.enabled + standing.active).isEmpty,
            ServiceBus.machineHasSystemd(files: machine.files)
        {
            try await systemd.reinstate(standing, settings: settings)
            if standing.startsWithSession(layout) {
                notices.append("the gateway starts with your session again")
            }
        }
        guard standing.isDetached || standing.active.contains("\(layout.unitName).service") else {
            return notices
        }
        receipt.startedWith = try fingerprint()
        return notices + ["started the gateway again"]
    }

    var lingers: Bool { Lingering(machine: machine).isOn }

    func setLingering(_ on: Bool) async throws(GatewayError) { try await Lingering(machine: machine).set(on) }

    private var hasUnits: Bool {
        let timerPath = Layout.join(layout.userUnits, "\(layout.upgradeUnitName).timer")
        return (mayHaveUnit || machine.files.exists(timerPath))
            && ServiceBus.machineHasSystemd(files: machine.files)
    }

    private func disableUnits() async throws(GatewayError) {
        try await disableFormerUnits()
        guard hasUnits else { return }
        try await systemd.disable()
    }

    /// Lets systemd see that unit files have gone.
    func reloadUnits() async throws(GatewayError) {
        guard ServiceBus.machineHasSystemd(files: machine.files) else { return }
        try await systemd.reload()
    }
}
