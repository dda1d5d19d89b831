import Appliance
import CShims
import Glibc
import Platform

/// The gateway under a supervising process of our own, where there is no systemd.
struct DetachedService: Sendable {
    var machine: Machine
    var layout: Layout
    /// Gets one sentence when another command that starts or stops the gateway is waited for.
    var say: @Sendable (String) -> Void = { _ in }

    /// By which a gateway is told where it serves MCP.
    private static let pathVariable = "LLM_GATEWAY_HTTP_PATH"

    /// The record of a supervisor that runs; `nil` when none does.
    func record() throws(GatewayError) -> SupervisorRecord? {
        guard let record = try SupervisorRecord.read(layout, files: machine.files),
            ProcessTable.isRunning(record.supervisor)
        else { return nil }
        return record
    }

    /// The record that a killed supervisor left, when its gateway still runs.
    func stray() throws(GatewayError) -> SupervisorRecord? {
        guard let record = try SupervisorRecord.read(layout, files: machine.files),
            !ProcessTable.isRunning(record.supervisor), let gateway = record.gateway,
            ProcessTable.isRunning(gateway)
        else { return nil }
        return record
    }

    /// What a supervisor is known by whose record is gone, with the home or without it; `nil` when there is none.
    ///
    /// Asked only where nothing else is known: every process is looked at.
    func lost() -> SupervisorRecord? { SupervisorRecord(of: lostProcesses()) }

    /// Whether a supervisor or its gateway serves this home, as it is now, without a record of it.
    func hasLost() -> Bool { lostProcesses().contains { !$0.isOfRemovedHome } }

    /// Whether a supervisor does.
    func hasLostSupervisor() -> Bool {
        lostProcesses().contains { !$0.isOfRemovedHome && $0.role == .supervisor }
    }

    /// A gateway that serves this home, whose supervisor and record are gone; `nil` when there is none.
    func orphan() -> ProcessIdentity? {
        let lost = lostProcesses()
        return lost.contains { $0.role == .supervisor } ? nil : lost.first?.process
    }

    /// The record of a gateway that is to be there and is not; `nil` when somebody has started or stopped one since.
    func vacancy() -> SupervisorRecord? {
        let record = (try? SupervisorRecord.read(layout, files: machine.files)) ?? nil
        return record.flatMap { $0.vacantSince != nil && !ProcessTable.isRunning($0.supervisor) ? $0 : nil }
    }

    /// Settings with the address at which the gateway is in place of theirs, or at which one is missing.
    func whereItIs(_ settings: Settings) throws(GatewayError) -> Settings {
        if let record = try record() { return record.listening(settings) }
        if let record = try stray() { return record.listening(settings) }
        if let vacancy = vacancy() { return vacancy.listening(settings) }
        guard
            let pid = lostProcesses().first(where: { !$0.isOfRemovedHome && $0.role != .supervisor })?.process
                .pid
        else { return settings }
        var place = settings.listened(by: pid, files: machine.files)
        place.path = ProcessTable.environment(pid)[Self.pathVariable] ?? place.path
        return place
    }

    /// The record of a supervisor that runs, written again where it was lost; `nil` when none runs.
    ///
    /// The caller has the turn.
    private func recovered() throws(GatewayError) -> SupervisorRecord? {
        if let record = try record() { return record }
        let here = lostProcesses().filter { !$0.isOfRemovedHome }
        guard let lost = SupervisorRecord(of: here) else { return nil }
        try lost.write(layout, files: machine.files)
        return lost
    }

    /// Ends what still serves a home that was removed and had this one's name; the caller has the turn.
    ///
    /// Throws `stop-failed`.
    func endRemoved() async throws(GatewayError) { try await endLost { $0.isOfRemovedHome } }

    /// What serves this home; what runs in a unit is systemd's.
    private func lostProcesses() -> [HomeProcesses.Serving] {
        HomeProcesses(layout, files: machine.files).serving().filter { $0.role != .gatewayOfUnit }
    }

    /// Starts the supervisor and waits until the gateway is ready; one that runs already is left alone.
    ///
    /// Of several at once the first does it, and the others wait for that. `check` is made when nobody else starts or stops
    /// the gateway. One that `replaces` another and fails leaves a record, by which its absence is known to be nobody's wish.
    /// Throws `port-in-use`, `start-failed`, `busy`, or what the check throws.
    func start(
        _ settings: Settings,
        replaces: Bool = false,
        check: () async throws(GatewayError) -> Void = {}
    ) async throws(GatewayError) {
        let turn = try await ServiceTurn.take(layout, clock: machine.clock, say: say)
        defer { withExtendedLifetime(turn) {} }
        try ServiceTurn.yieldToStop(layout)
        try await check()
        if replaces {
            try await replace(settings, turn)
        } else {
            try await start(settings, turn)
        }
    }

    /// Ends what runs and starts another one.
    ///
    /// From before the first ends until the other one has a record of its own, there is one of a gateway that is missing: who goes on
    /// after this command was killed, or has failed, knows by it that nobody wanted that.
    private func replace(_ settings: Settings, _ turn: FileLock) async throws(GatewayError) {
        let running = try recovered()
        let stray = try stray()
        let known = running ?? stray
        try refuseTakenPort(settings)
        let place = try whereItIs(settings)
        var vacancy = SupervisorRecord(
            home: layout.home,
            supervisor: ProcessIdentity(pid: getpid(), startTime: 0),
            address: place.listenAddress,
            startedAt: machine.clock.now()
        )
        vacancy.path = place.path
        vacancy.vacantSince = machine.clock.now()
        try vacancy.write(layout, files: machine.files)
        do throws(GatewayError) {
            if let running { try await end(running.supervisor) }
            if let gateway = known?.gateway {
                await machine.processes.end(gateway, grace: Supervision.stopWithin)
            }
            // At its end a supervisor of an earlier version takes away whatever record it finds.
            if running != nil { try vacancy.write(layout, files: machine.files) }
            try await endLost()
            try await launch(settings, turn)
        } catch  where error.code == "service-stopped" {
            try? machine.files.removeFile(layout.supervisor)
            throw error
        } catch {
            // A supervisor that was ended for its silence took that for a stop.
            if (try? SupervisorRecord.read(layout, files: machine.files)) ?? nil == nil {
                try? vacancy.write(layout, files: machine.files)
            }
            throw error
        }
    }

    /// Throws `port-in-use`, or why else the address cannot be had, before anything that works is ended.
    private func refuseTakenPort(_ settings: Settings) throws(GatewayError) {
        let record = try SupervisorRecord.read(layout, files: machine.files)
        let known = [record?.supervisor, record?.gateway].compactMap { $0 }.filter(ProcessTable.isRunning)
        let serving = HomeProcesses(layout, files: machine.files).serving().map(\.process)
        try GatewayService.checkAddress(
            settings,
            besides: (known + serving).compactMap {
                PortOwner.listeners(of: $0.pid, files: machine.files).first
            },
            files: machine.files
        )
    }

    private func start(_ settings: Settings, _ turn: FileLock) async throws(GatewayError) {
        if let running = try recovered(), isAtHome(running) { return }
        let (record, stray) = (try record(), try stray())
        if record != nil || stray != nil || !lostProcesses().isEmpty {
            return try await replace(settings, turn)
        }
        // It names nobody any more, so it may stay where it must; one of a gateway that is missing stays until it is there.
        if vacancy() == nil { try? machine.files.removeFile(layout.supervisor) }
        try await launch(settings, turn)
    }

    private func launch(_ settings: Settings, _ turn: FileLock) async throws(GatewayError) {
        if let owner = PortOwner.find(settings, files: machine.files) {
            throw GatewayService.portInUse(settings, owner)
        }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw GatewayError("spawn-failed", "no descriptors are left") }
        for end in ends { _ = shim_set_cloexec(end, true) }
        defer { close(ends[0]) }
        // The installed manager, so that its file goes away with an old version only once nobody runs it any more.
        let installed = layout.currentManager
        let program = machine.files.isExecutable(installed) ? installed : machine.executable
        var environment = machine.environment
        for name in ServiceNotification.variables { environment[name] = nil }
        environment["LLM_GATEWAY_HTTP_HOST"] = settings.host
        environment["LLM_GATEWAY_HTTP_PORT"] = "\(settings.port)"
        environment[Self.pathVariable] = settings.path
        let command = Command(
            program,
            [Supervisor.verb],
            environment: environment,
            directory: "/",
            input: .descriptor(turn.descriptor)
        )
        let launched = Result { () throws(GatewayError) in
            try machine.processes.launch(command, extra: ends[1])
        }
        // Only the supervisor may hold the writing end, so that its death is the end of what can be read.
        close(ends[1])
        let started = try launched.get()
        // The supervisor gives up by itself before this.
        let limit = Supervision.readyWithin + .seconds(15)
        let answer = await machine.reactor.readable(ends[0], within: limit) ? readAll(ends[0]) : []
        let word = (try? JSON.parse(String(decoding: answer, as: UTF8.self))) ?? .null
        if word["ready"]?.bool == true { return }
        if let error = word["error"], let code = error["code"]?.string, let message = error["message"]?.string
        {
            // It has said its last word, and is waited for so that nothing of it is left when the caller goes on.
            _ = await machine.processes.waitForEnd(of: started, within: .seconds(5))
            if code == "address-in-use", let owner = PortOwner.find(settings, files: machine.files) {
                throw GatewayService.portInUse(settings, owner)
            }
            throw GatewayError(code, message, help: error["help"]?.string)
        }
        await machine.processes.end(started)
        throw GatewayError(
            "start-failed",
            "the supervising process '\(program)' ended without a word",
            help: "'\(Product.name) logs' shows what it said"
        )
    }

    /// Whether a supervisor's home is still what it was started for, by a name that leads there: what was moved or removed since
    /// has to be started anew.
    private func isAtHome(_ record: SupervisorRecord) -> Bool {
        let files = machine.files
        guard HomeProcesses(layout, files: files).relation(record.supervisor) != .removed else {
            return false
        }
        guard let home = record.home, home != layout.home else { return true }
        return files.realPath(home).map { $0 == files.realPath(layout.home) } ?? false
    }

    /// Reads what the supervisor said: one short line, written at once.
    private func readAll(_ descriptor: Int32) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        let count = read(descriptor, &buffer, buffer.count)
        return count > 0 ? Array(buffer[..<count]) : []
    }

    /// Stops supervisor and gateway; `false` when neither was running.
    ///
    /// Also what a command before this one is starting: nobody waits for a gateway to become ready, only to stop it then.
    /// `interrupt` does the same for a start that is not this service's. Throws `stop-failed` or `busy`.
    func stop(interrupt: () async -> Void = {}) async throws(GatewayError) -> Bool {
        guard machine.files.exists(layout.home) else { return try await endLost() }
        var interrupted: [ProcessIdentity] = []
        let turn = try await ServiceTurn.takeToStop(layout, clock: machine.clock, say: say) {
            () async throws(GatewayError) in
            if let started = try endStart(), !interrupted.contains(started) { interrupted.append(started) }
            await interrupt()
        }
        defer { withExtendedLifetime(turn) {} }
        let hasEnded = try await end()
        // It lets go of the turn a moment before it has gone.
        for process in interrupted {
            _ = await machine.processes.waitForEnd(of: process, within: Supervision.stopWithin)
        }
        if hasEnded || !interrupted.isEmpty { return true }
        return try await endLost()
    }

    /// Tells the start or the replacement that is under way to end; gives whom.
    private func endStart() throws(GatewayError) -> ProcessIdentity? {
        guard let record = try record() else { return nil }
        ProcessTable.signal(record.supervisor, SIGTERM)
        ProcessTable.signal(record.supervisor, SIGCONT)
        return record.supervisor
    }

    /// Stops what runs; the caller has the turn.
    private func end() async throws(GatewayError) -> Bool {
        guard let record = try record() else {
            return try await endStray()
        }
        if try await end(record.supervisor) { try await endLost() }
        if let gateway = record.gateway {
            await machine.processes.end(gateway, grace: Supervision.stopWithin)
        }
        // One whose home was moved leaves its record behind; it names nobody any more, so it may stay where it must.
        if machine.files.exists(layout.supervisor) { try? machine.files.removeFile(layout.supervisor) }
        return true
    }

    /// Ends a supervisor, and with it its gateway; `true` when that took force, so that its gateway was left.
    @discardableResult
    private func end(_ supervisor: ProcessIdentity) async throws(GatewayError) -> Bool {
        ProcessTable.signal(supervisor, SIGTERM)
        // One that somebody has suspended hears it then.
        ProcessTable.signal(supervisor, SIGCONT)
        let limit = Supervision.stopWithin + .seconds(10)
        if await machine.processes.waitForEnd(of: supervisor, within: limit) { return false }
        ProcessTable.signal(supervisor, SIGKILL)
        if await machine.processes.waitForEnd(of: supervisor, within: .seconds(5)) { return true }
        throw GatewayError(
            "stop-failed",
            "the supervising process \(supervisor.pid) did not end within \(limit.components.seconds) s, nor when it was killed",
            help: "look at '\(layout.gatewayLog)'; a process that waits for a disk ends when the disk answers"
        )
    }

    /// Ends what serves this home and is in no record; `false` when there is nothing.
    ///
    /// Supervisors first: their gateways go with them. What runs in a unit is systemd's to end, unless the unit leads elsewhere
    /// by now; it ends in order, so that it is not started again.
    @discardableResult
    func endLost(inUnits: Bool = false) async throws(GatewayError) -> Bool {
        try await endLost { inUnits || $0.role != .gatewayOfUnit }
    }

    @discardableResult
    private func endLost(
        where isMeant: (HomeProcesses.Serving) -> Bool
    ) async throws(GatewayError) -> Bool {
        let serving = HomeProcesses(layout, files: machine.files).serving().filter(isMeant)
        for one in serving where one.role == .supervisor { try await end(one.process) }
        for one in serving where one.role != .supervisor {
            guard await machine.processes.end(one.process, grace: Supervision.stopWithin) else {
                throw GatewayError(
                    "stop-failed",
                    "the gateway, process \(one.process.pid), does not end",
                    help: "look at '\(layout.gatewayLog)'"
                )
            }
        }
        return !serving.isEmpty
    }

    /// Replaces the gateway by the version that `current` names, and waits for it; the socket stays open.
    ///
    /// With `onlyRunning` one that does not run any more stays stopped: `service-stopped` is thrown.
    func replaceGateway(
        _ settings: Settings,
        within limit: Duration,
        onlyRunning: Bool = false
    ) async throws(GatewayError) {
        let turn = try await ServiceTurn.take(layout, clock: machine.clock, say: say)
        defer { withExtendedLifetime(turn) {} }
        try ServiceTurn.yieldToStop(layout)
        let running = try recovered()
        if running == nil, onlyRunning {
            throw GatewayError("service-stopped", "the gateway was stopped before it could be replaced")
        }
        // A new version is no reason to leave the address at which the clients are.
        let settings = onlyRunning ? running?.listening(settings) ?? settings : settings
        guard let before = running, isAtHome(before), before.address == settings.listenAddress,
            before.path ?? settings.path == settings.path
        else { return try await replace(settings, turn) }
        let watch = try FolderWatch(layout.home)
        let clock = machine.clock
        let deadline = clock.uptime() &+ limit.nanoseconds
        ProcessTable.signal(before.supervisor, SIGHUP)
        ProcessTable.signal(before.supervisor, SIGCONT)
        while true {
            let now = clock.uptime()
            guard now < deadline else { break }
            // The record is renamed into place at every change, and removed at the end.
            let left = Duration.nanoseconds(Int64(clamping: deadline - now))
            guard await changes(watch.descriptor, or: before.supervisor, within: left) else { break }
            watch.drain()
            guard let record = try record() else {
                // It has the port until then.
                _ = await machine.processes.waitForEnd(of: before.supervisor, within: .seconds(5))
                guard try SupervisorRecord.read(layout, files: machine.files) == nil else {
                    throw GatewayError(
                        "start-failed",
                        "the supervising process was killed while it replaced the gateway",
                        help: "run: \(Product.name) start"
                    )
                }
                // Whoever is told to stop takes its record away.
                throw GatewayError(
                    "service-stopped",
                    "the gateway was stopped while it was being replaced",
                    help: "run '\(Product.name) start' if you want it to run"
                )
            }
            // Until the supervisor has heard of it, it speaks of what was before.
            guard record.replacements == nil || record.replacements != before.replacements else { continue }
            if record.readyAt != nil, record.vacantSince == nil, record.gateway != before.gateway { return }
            // One that fails now would be tried again and again; whoever replaces it wants to know.
            if let failure = record.failure {
                throw GatewayError(
                    "start-failed",
                    "the new gateway ended before it was ready: \(failure)",
                    help: "'\(Product.name) logs' shows what it said"
                )
            }
        }
        throw GatewayError(
            "timed-out",
            "the new gateway was not ready within \(limit.components.seconds) s",
            help: "'\(Product.name) logs' shows what it is doing"
        )
    }

    /// Waits until a descriptor can be read or a process is gone; `false` when neither came in time.
    private func changes(
        _ descriptor: Int32,
        or process: ProcessIdentity,
        within limit: Duration
    ) async -> Bool {
        let reactor = machine.reactor, processes = machine.processes
        return await withTaskGroup(of: Bool.self) { group in
            group.addTask { await reactor.readable(descriptor, within: limit) }
            group.addTask { await processes.waitForEnd(of: process, within: limit) }
            defer { group.cancelAll() }
            return await group.next() ?? false
        }
    }

    /// Ends a gateway whose supervisor was killed; `false` when there is none.
    @discardableResult
    private func endStray() async throws(GatewayError) -> Bool {
        guard let stale = try SupervisorRecord.read(layout, files: machine.files) else { return false }
        var found = false
        if let gateway = stale.gateway, ProcessTable.isRunning(gateway) {
            found = true
            await machine.processes.end(gateway)
        }
        // It names nobody any more, so it may stay where it must.
        try? machine.files.removeFile(layout.supervisor)
        return found
    }
}

/// Says when something is renamed into a folder or written there, or removed from it.
struct FolderWatch: ~Copyable {
    let descriptor: Int32

    /// Throws `internal-error` when the kernel has no room for another watch.
    init(_ folder: String) throws(GatewayError) {
        descriptor = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
        // The last is how a file is replaced on a full disk.
        let events = UInt32(IN_MOVED_TO) | UInt32(IN_DELETE) | UInt32(IN_CLOSE_WRITE)
        guard descriptor >= 0, inotify_add_watch(descriptor, folder, events) >= 0 else {
            throw GatewayError("internal-error", "cannot watch '\(folder)': error \(errno)")
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Forgets what happened so far.
    func drain() {
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while read(descriptor, &buffer, buffer.count) > 0 {}
    }
}
