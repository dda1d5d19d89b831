import Appliance
import Platform

/// The gateway as a unit of the user's service manager.
///
/// Every call talks to the manager on a thread of its own.
struct SystemdService: Sendable {
    /// What the manager says.
    struct State: Sendable, Equatable {
        var service: ServiceBus.Unit
        var socket: ServiceBus.Unit

        /// Whether somebody has started the gateway and nobody has stopped it since: it runs, comes up, has failed for good, or
        /// waits behind its socket.
        var isWanted: Bool { [service, socket].contains { $0.isAtWork || $0.activeState == "failed" } }
    }

    var machine: Machine
    var layout: Layout
    /// Gets one sentence when another command that starts or stops the gateway is waited for.
    var say: @Sendable (String) -> Void = { _ in }

    private var service: String { "\(layout.unitName).service" }
    var socket: String { "\(layout.unitName).socket" }
    private var slice: String { "\(layout.unitName).slice" }

    /// Asks for the state of service and socket.
    func state() async throws(GatewayError) -> State {
        try await talk { (bus) throws(GatewayError) in try self.state(bus) }
    }

    func state(_ bus: ServiceBus) throws(GatewayError) -> State {
        let units = try units([service, socket], bus)
        return State(service: units[0], socket: units[1])
    }

    /// Units of ours; whether they are enabled is read from the disk, which the manager may have been kept from.
    private func units(_ names: [String], _ bus: ServiceBus) throws(GatewayError) -> [ServiceBus.Unit] {
        var units = try bus.units(names).map(own)
        for index in units.indices where !units[index].file.isEmpty {
            units[index].fileState = bus.fileState(names[index]) ?? units[index].fileState
        }
        return units
    }

    /// A unit, or in place of one from the folder of another home directory, which is not ours, one that is not known.
    ///
    /// A user has one manager and may have several home directories, whose units go by the same names.
    private func own(_ unit: ServiceBus.Unit) -> ServiceBus.Unit {
        isForeign(unit) ? ServiceBus.Unit() : unit
    }

    private func isForeign(_ unit: ServiceBus.Unit) -> Bool {
        let folder = Files.parent(of: unit.file)
        guard !unit.file.isEmpty, folder != layout.userUnits, let real = machine.files.realPath(folder)
        else { return false }
        return real != machine.files.realPath(layout.userUnits)
    }

    /// Throws `foreign-unit` when the manager would start another home's gateway, or does not look into our folder.
    private func refuseForeign(_ units: [ServiceBus.Unit], _ bus: ServiceBus) throws(GatewayError) {
        if let foreign = units.first(where: isForeign) {
            throw GatewayError(
                "foreign-unit",
                "your service manager has the unit '\(foreign.file)', which belongs to another home directory than '\(layout.userHome)'",
                help: "use that one as HOME, or start without it: \(Product.name) start --detached"
            )
        }
        let folders = try bus.unitFolders()
        let files = machine.files
        let own = files.resolved(layout.userUnits)
        // Old managers name only folders that are there.
        let mayBeUnnamed = !files.exists(own) && folders.allSatisfy(files.exists)
        guard mayBeUnnamed || folders.contains(where: { files.resolved($0) == own }) else {
            throw GatewayError(
                "foreign-unit",
                "your service manager does not read units from '\(layout.userUnits)': it runs for another home directory",
                help: "use that one as HOME, or start without it: \(Product.name) start --detached"
            )
        }
    }

    /// Throws `foreign-unit`, `unit-masked`, `unit-invalid`, `socket-lost` or `unit-missing`, or why the manager cannot be asked.
    func refuseUnreadable() async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in
            try self.refuseForeign(try bus.units([self.service, self.socket]), bus)
            try self.reloadKeepingSocket(bus)
            let state = try self.state(bus)
            if let error = self.unreadable(state) { throw error }
            if self.hasLostSocket(state) {
                throw GatewayError(
                    "socket-lost",
                    "systemd has closed the socket of the gateway, and the next one could listen elsewhere",
                    help: "run '\(Product.name) restart', which opens it again, then this command again"
                )
            }
            guard state.service.loadState == "not-found" else { return }
            throw GatewayError(
                "unit-missing",
                "the unit file of '\(self.service)' is gone, so the service manager could not start the gateway again",
                help: "run '\(Product.name) start', which writes it again, then this command again"
            )
        }
    }

    /// `unit-masked`, or `unit-invalid` for a unit that the manager cannot make sense of; `nil` when it can.
    func unreadable(_ state: State) -> GatewayError? {
        for (name, unit) in [(service, state.service), (socket, state.socket)] {
            switch unit.loadState {
            case "masked":
                return GatewayError(
                    "unit-masked",
                    "somebody has masked '\(name)', so the service manager starts no gateway",
                    help: "run: systemctl --user unmask \(name)"
                )
            case "bad-setting", "error":
                return GatewayError(
                    "unit-invalid",
                    "the service manager cannot make sense of '\(name)' (\(unit.loadState))",
                    help:
                        "'systemctl --user status \(name)' says why; look at your own settings in '\(name).d', "
                        + "then run: \(Product.name) restart"
                )
            default: continue
            }
        }
        return nil
    }

    /// Starts the gateway, or starts it again, and waits until it says that it is ready.
    ///
    /// The socket is only touched when it is not there yet, or when it has changed and no gateway runs that is to be left alone,
    /// so that no connection is refused in between. With `onlyRunning` it stays where it is. `check` is made when nobody else
    /// starts or stops the gateway. Throws `port-in-use`, `start-failed`, `busy`, `foreign-unit`, with `onlyRunning`
    /// `service-stopped` for one that does not run any more, or what the check throws.
    func start(
        settings: Settings,
        socketChanged: Bool,
        again: Bool,
        enable: Bool,
        onlyRunning: Bool = false,
        check: () async throws(GatewayError) -> Void = {}
    ) async throws(GatewayError) -> State {
        let turn = try await turn()
        defer { withExtendedLifetime(turn) {} }
        try ServiceTurn.yieldToStop(layout)
        try await check()
        return try await talk { (bus) throws(GatewayError) in
            let standing = try self.state(bus)
            let isLeftAlone = onlyRunning || !self.mayMove(standing, again: again)
            // Only before its files are read can they be compared with what is open.
            let isStale = self.isStale(standing)
            if isLeftAlone { try self.reloadKeepingSocket(bus) } else { try bus.reload() }
            try self.refuseForeign(try bus.units([self.service, self.socket]), bus)
            let before = try self.state(bus)
            if let error = self.unreadable(before) { throw error }
            if onlyRunning, !before.isWanted {
                throw GatewayError("service-stopped", "the gateway was stopped before it could be replaced")
            }
            var moves = false
            if self.mayMove(before, again: again), !onlyRunning {
                try self.refuseUnopenable(standing)
                moves = socketChanged || isStale || self.listensElsewhere(standing, settings)
            }
            // A gateway of ours that is still there without its socket gets another listener from the new one.
            if before.service.mainPID == nil, !onlyRunning, try bus.unit(self.socket).activeState != "active"
            {
                try self.refuseUnavailable(settings, before.socket)
            }
            let wasEnabled = [before.service, before.socket].allSatisfy { $0.fileState == "enabled" }
            if enable {
                try bus.setEnabled(true, [self.service, self.socket])
                // The manager goes on saying what it was asked for before, as `systemctl enable` knows.
                try self.reloadKeepingSocket(bus)
            }
            try bus.resetFailed(self.service)
            try bus.resetFailed(self.socket)
            var outcome = moves ? try self.reopen(bus) : "done"
            if outcome == "done" {
                // A start would wait until the pause after a crash is over.
                let isPausing = try bus.unit(self.service).subState == "auto-restart"
                let action: ServiceBus.Action = isPausing || (again && !moves) ? .restart : .start
                outcome = try bus.perform(action, self.service, within: .seconds(60))
            }
            let after = try self.state(bus)
            guard outcome == "done" else {
                // What did not start now is not left to fail with every session.
                if enable, !wasEnabled { try self.disable([self.service, self.socket], bus) }
                throw self.startFailure(outcome, after, self.openAddress(after.socket) ?? settings)
            }
            return after
        }
    }

    /// Closes the socket and opens it where its files say, in one job, which the manager does to its end whatever becomes of this
    /// process; gives the manager's word for the outcome.
    ///
    /// A gateway that runs is ended before, and started after that (systemd.unit(5), `Requires=`).
    private func reopen(_ bus: ServiceBus) throws(GatewayError) -> String {
        // What ends by itself is not taken along.
        if try bus.unit(service).activeState == "deactivating" {
            _ = try bus.perform(.stop, service, within: .seconds(60))
        }
        let outcome = try bus.perform(.restart, socket, within: .seconds(60))
        // Nor is one whose unit the user has edited so; the socket is not opened beside it then.
        guard outcome == "failed", try bus.unit(socket).activeState != "failed" else { return outcome }
        _ = try end(bus)
        return "done"
    }

    /// Throws `port-in-use`, or why else the manager could not open the socket of a gateway that would have to move; nothing is
    /// changed.
    ///
    /// `isRewritten` says whether the unit file of the socket is to say first what the settings do.
    func refuseUnopenable(
        _ settings: Settings,
        again: Bool,
        isRewritten: Bool
    ) async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in
            let state = try self.state(bus)
            if again || state.service.mainPID == nil { try self.refuseSecondListener(settings, state) }
            guard self.mayMove(state, again: again) else { return }
            try self.refuseUnopenable(state, inItsFile: isRewritten ? settings : nil)
        }
    }

    /// Throws `port-in-use`, or why else the manager could not open a socket that is closed.
    private func refuseUnavailable(_ settings: Settings, _ socket: ServiceBus.Unit) throws(GatewayError) {
        guard !hasOwnAddress(socket) else { return }
        do throws(GatewayError) {
            try GatewayService.checkAddress(settings, besides: [], files: machine.files)
        } catch  where error.code != "port-in-use" {
            // The user's own settings may have it opened where it could not be otherwise, or somewhere else, and the manager may have
            // more rights than a command.
            guard socket.dropIns.isEmpty, socketFileAddress()?.isSameAddress(settings) == true,
                error.code != "permission-denied"
            else { return }
            throw error
        }
    }

    /// Whether an active socket may be closed and opened elsewhere: a gateway that is to be left alone keeps its own.
    private func mayMove(_ state: State, again: Bool) -> Bool {
        state.socket.activeState == "active" && (again || state.service.mainPID == nil)
    }

    private func startFailure(_ outcome: String, _ state: State, _ settings: Settings) -> GatewayError {
        if state.socket.activeState == "failed", !hasOwnAddress(state.socket),
            let owner = PortOwner.find(settings, files: machine.files)
        {
            return GatewayService.portInUse(settings, owner)
        }
        if state.socket.activeState == "failed", state.service.result != "start-limit-hit" {
            return GatewayError(
                "start-failed",
                "the gateway did not start: the service manager could not open its socket",
                help: "'systemctl --user status \(socket)' says why"
            )
        }
        // systemd gives a job up when the opposite is asked for (org.freedesktop.systemd1(5), JobRemoved).
        if outcome == "canceled" {
            return GatewayError(
                "service-stopped",
                "the gateway was stopped before it was ready",
                help: "run '\(Product.name) start' if you want it to run"
            )
        }
        let reason =
            switch state.service.result {
            case "exit-code": "it exited with an error"
            case "signal", "core-dump": "it crashed"
            case "watchdog": "it stopped answering the watchdog"
            case "timeout": "it did not become ready in time"
            case "start-limit-hit": "it crashed too often in a row"
            // A connection has started it once more since.
            case "success": "it ended before it was ready"
            default: "the service manager says '\(outcome)' (\(state.service.result))"
            }
        return GatewayError(
            "start-failed",
            "the gateway did not start: \(reason)",
            help: "'\(Product.name) logs' shows what it said"
        )
    }

    /// Stops socket and service; stopped ones stay stopped.
    ///
    /// Also what a command before this one is starting. Throws `stop-failed` or `busy`.
    func stop() async throws(GatewayError) -> State {
        var turn: FileLock?
        if machine.files.exists(layout.home) {
            turn = try await ServiceTurn.takeToStop(layout, clock: machine.clock, say: say) {
                () async throws(GatewayError) in await interrupt()
            }
        }
        defer { withExtendedLifetime(turn) {} }
        return try await talk { (bus) throws(GatewayError) in
            _ = try self.end(bus)
            return try self.state(bus)
        }
    }

    /// Stops what another command is starting: nobody waits for a gateway to become ready, only to stop it then.
    ///
    /// The manager gives this up when another start comes after it.
    func interrupt() async {
        _ = try? await talk { (bus) throws(GatewayError) in _ = try self.end(bus) }
    }

    private func end(_ bus: ServiceBus) throws(GatewayError) -> Bool {
        // The socket first: a connection must not wake the service again.
        var found = false
        for unit in [socket, service] {
            let state = self.own(try bus.unit(unit))
            // One whose file somebody removed may run on.
            guard state.loadState == "loaded" || state.isAtWork else {
                if state.activeState == "failed" { try bus.resetFailed(unit) }
                continue
            }
            found = true
            let outcome = try bus.perform(.stop, unit, within: .seconds(60))
            guard outcome == "done" else {
                throw GatewayError("stop-failed", "the service manager did not stop '\(unit)': \(outcome)")
            }
            // One that had failed is not wanted any more either.
            try bus.resetFailed(unit)
        }
        return found
    }

    /// Stops the units, takes them out of the session's start, and lets the manager forget them once they are gone.
    ///
    /// The slice stays while jobs run in it: stopping it would end them. The slices that systemd made around it, for the
    /// parts of its name, go with it unless somebody has a use for them.
    func disable() async throws(GatewayError) {
        // The timer first: an upgrade that begins now would meet a home that goes away.
        let timed = ["\(layout.upgradeUnitName).timer", "\(layout.upgradeUnitName).service"]
        try await retire(timed)
        let turn = try await turn()
        defer { withExtendedLifetime(turn) {} }
        try await talk { (bus) throws(GatewayError) in
            _ = try self.end(bus)
            try self.disable([self.service, self.socket], bus)
            for slice in Self.slices(around: self.layout.unitName) {
                // An empty slice that stays is no reason to fail; ours goes by itself, but for those around it.
                guard let unit = try? bus.unit(slice), slice != self.slice || !self.isForeign(unit) else {
                    return
                }
                guard unit.activeState == "active" else { continue }
                guard
                    unit.file.isEmpty || slice == self.slice, (try? bus.hasProcesses(slice)) == false,
                    (try? bus.perform(.stop, slice, within: .seconds(10))) != nil
                else { return }
            }
        }
    }

    /// Which units are enabled and active: those that `disable` ends.
    func standing() async throws(GatewayError) -> ServiceStanding {
        let names = retired
        return try await talk { (bus) throws(GatewayError) in
            var standing = ServiceStanding()
            for (name, unit) in zip(names, try self.units(names, bus)) {
                if unit.fileState == "enabled" { standing.enabled.append(name) }
                if ["active", "activating", "reloading"].contains(unit.activeState) {
                    standing.active.append(name)
                }
            }
            return standing
        }
    }

    /// Those of some units that start with the session.
    func enabled(_ names: [String]) async throws(GatewayError) -> [String] {
        try await talk { (bus) throws(GatewayError) in
            zip(names, try self.units(names, bus)).filter { $1.fileState == "enabled" }.map(\.0)
        }
    }

    /// Lets the gateway start with the session.
    func enable() async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in
            try bus.setEnabled(true, [self.service, self.socket])
            try self.reloadKeepingSocket(bus)
        }
    }

    /// Enables and starts units that were enabled and active.
    ///
    /// Throws `port-in-use` or `start-failed`.
    func reinstate(_ standing: ServiceStanding, settings: Settings) async throws(GatewayError) {
        // The receipt is a file: it may name any unit.
        let enabled = retired.filter(standing.enabled.contains)
        let active = retired.filter(standing.active.contains)
        try await talk { (bus) throws(GatewayError) in
            try bus.reload()
            if !enabled.isEmpty { try bus.setEnabled(true, enabled) }
        }
        if active.contains(service) {
            _ = try await start(settings: settings, socketChanged: false, again: false, enable: false)
        }
        try await begin(active.filter { $0 != service })
    }

    /// What `disable` ends, but for what only runs at its time.
    private var retired: [String] { [service, socket, "\(layout.upgradeUnitName).timer"] }

    /// Whether a unit of ours is active.
    func isActive(_ unit: String) async throws(GatewayError) -> Bool {
        try await talk { (bus) throws(GatewayError) in self.own(try bus.unit(unit)).activeState == "active" }
    }

    /// Throws `foreign-unit` when the manager has a unit of this name from another home directory, or does not read ours.
    func refuseForeign(_ unit: String) async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in
            try self.refuseForeign([try bus.unit(unit)], bus)
        }
    }

    /// Drop-in files that the user put beside units.
    func dropIns(_ units: [String]) async throws(GatewayError) -> [String] {
        try await talk { (bus) throws(GatewayError) in
            var files: [String] = []
            for unit in units { files += try bus.unit(unit).dropIns }
            return files
        }
    }

    /// Starts units whose files are new or changed, now and with every session.
    func activate(_ units: [String]) async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in
            try self.reloadKeepingSocket(bus)
            try self.refuseForeign(try bus.units(units), bus)
            try bus.setEnabled(true, units)
        }
        try await begin(units)
    }

    private func begin(_ units: [String]) async throws(GatewayError) {
        guard !units.isEmpty else { return }
        try await talk { (bus) throws(GatewayError) in
            for unit in units {
                let outcome = try bus.perform(.start, unit, within: .seconds(30))
                guard outcome == "done" else {
                    throw GatewayError(
                        "start-failed",
                        "the service manager did not start '\(unit)': \(outcome)",
                        help: "look at: systemctl --user status \(unit)"
                    )
                }
            }
        }
    }

    /// Stops units and takes them out of the session's start.
    func retire(_ units: [String]) async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in
            try self.halt(units, bus)
            try self.disable(units, bus)
        }
    }

    /// Stops units; they start again with the next session.
    func halt(_ units: [String]) async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in try self.halt(units, bus) }
    }

    private func halt(_ units: [String], _ bus: ServiceBus) throws(GatewayError) {
        for unit in units {
            let state = own(try bus.unit(unit))
            guard state.loadState == "loaded" || state.isAtWork else { continue }
            _ = try bus.perform(.stop, unit, within: .seconds(60))
        }
    }

    /// Takes units out of the session's start; one without a file is in none.
    private func disable(_ units: [String], _ bus: ServiceBus) throws(GatewayError) {
        for unit in units where !isForeign(try bus.unit(unit)) {
            // systemd would remove the link as well, which the user has made for a file kept elsewhere.
            if (try? machine.files.status(Layout.join(layout.userUnits, unit)))??.kind == .link {
                try withdraw(unit)
                try bus.reload()
                continue
            }
            do throws(GatewayError) {
                try bus.setEnabled(false, [unit])
            } catch {
                guard error.cause?.hasPrefix("org.freedesktop.systemd1.NoSuchUnit") == true else {
                    throw error
                }
            }
        }
    }

    /// Takes our units, and others, out of the session's start without their manager, which reads the links at its next start.
    func withdraw(with others: [String]) throws(GatewayError) {
        guard machine.files.exists(layout.userUnits) else { return }
        for unit in retired + others { try withdraw(unit) }
    }

    /// Removes the links by which a unit is enabled (systemd.unit(5), `.wants/`), and folders that are empty then, as
    /// `systemctl disable` does.
    private func withdraw(_ unit: String) throws(GatewayError) {
        let files = machine.files
        for name in try files.list(layout.userUnits) where name.hasSuffix(".wants") {
            let link = Layout.join(Layout.join(layout.userUnits, name), unit)
            guard try files.status(link)?.kind == .link else { continue }
            try files.removeFile(link)
            try files.removeEmptyDirectory(Files.parent(of: link))
        }
    }

    /// `a-b-c.slice` is inside `a-b.slice`, which is inside `a.slice` (systemd.slice(5)); the innermost first.
    static func slices(around name: String) -> [String] {
        let parts = name.split(separator: "-")
        return parts.indices.reversed().map { parts[...$0].joined(separator: "-") + ".slice" }
    }

    /// Makes the manager read its unit files again, unless that would close the socket.
    func reload() async throws(GatewayError) {
        try await talk { (bus) throws(GatewayError) in try self.reloadKeepingSocket(bus) }
    }

    /// The turn to start or stop the gateway; without a home there is nobody to wait for.
    private func turn() async throws(GatewayError) -> FileLock? {
        guard machine.files.exists(layout.home) else { return nil }
        return try await ServiceTurn.take(layout, clock: machine.clock, say: say)
    }

    private func talk<Value: Sendable>(
        _ body: @escaping @Sendable (ServiceBus) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        let environment = machine.environment
        return try await BlockingThread.run("systemd") { () throws(GatewayError) in
            try body(try ServiceBus.connect(environment: environment))
        }
    }
}
