import Appliance
import CShims
import Glibc
import Platform

/// The supervising process where there is no systemd: one thread, one poll(2), no other work.
///
/// 1. Opens the listening socket, the log file and the notification socket, and writes `supervisor.json`.
/// 2. Starts the gateway with the socket as descriptor 3, by the protocol of sd_listen_fds(3), through a second run of
///    this program: only the process itself knows the number that `LISTEN_PID` must hold.
/// 3. Tells the command that waits on descriptor 3 of its own when the gateway is ready, or why it is not. Until it is
///    ready, standard input, the lock of `ServiceTurn`, stays open: the next command waits even when that one was killed.
/// 4. Copies what the gateway writes into the log file, hears its watchdog, and starts it again when it ends.
/// 5. SIGTERM ends it all; SIGHUP replaces the gateway by what `current` names now.
///
/// To be run before the program has a second thread: the signals are blocked for the one there is.
struct Supervisor {
    /// The word that makes this program a supervisor.
    static let verb = "supervise"
    /// The word that makes it fill in its process number and become the gateway.
    static let launchVerb = "launch-gateway"
    /// How long the gateway may be silent.
    static let watchdog = Duration.seconds(30)

    private let layout: Layout
    private let environment: [String: String]
    /// The home, which others know this process by; what is at its path once it was moved is not ours.
    private let home: HeldFolder
    private let files: Files
    private let clock: WallClock
    private var state = Supervision()
    private var record: SupervisorRecord
    private let listener: HTTPListener
    private let log: LogFile
    private let notifications: Int32
    private let notificationName: String
    private let signals: Int32
    /// Where the command that started this waits; closed after the first word.
    private var report: Int32
    /// The turn of that command; closed when the gateway is ready, or else by the end of this process.
    private var turn: Int32
    private var processDescriptor: Int32 = -1
    private var outputPipe: Int32 = -1
    private var startedAt: UInt64 = 0
    /// How many replacements were asked for, and by when the running gateway was started.
    private var replacements = 0
    private var startedFor = 0
    private var wakeAt: UInt64?
    /// When to write the record again that could not be written, by uptime; `nil` once it is on the disk.
    private var saveAt: UInt64?
    private var lastSign: UInt64 = 0
    private var exitCode: Int32?

    /// Runs until told to stop; gives the exit code.
    static func run() -> Int32 {
        let report = shim_dup_above(3, 4)
        close(3)
        let turn = shim_dup_above(STDIN_FILENO, 4)
        let nothing = shim_open("/dev/null", O_RDONLY, 0)
        dup2(nothing, STDIN_FILENO)
        close(nothing)
        do throws(GatewayError) {
            var supervisor = try Supervisor(
                environment: Machine.currentEnvironment(),
                report: report,
                turn: turn
            )
            return try supervisor.loop()
        } catch {
            tell(report, error.json)
            return 1
        }
    }

    /// Becomes the gateway: sets the variables that must name this very process, then replaces the program.
    static func launch() -> Int32 {
        let words = Array(CommandLine.arguments.dropFirst(2))
        guard let program = words.first else { return ExitCode.usage.rawValue }
        // Until the supervisor has written down that there is this process, nobody could stop what becomes of it.
        var word: UInt8 = 0
        guard read(STDIN_FILENO, &word, 1) == 1 else { return ExitCode.internalError.rawValue }
        let nothing = shim_open("/dev/null", O_RDONLY, 0)
        dup2(nothing, STDIN_FILENO)
        close(nothing)
        setenv("LISTEN_PID", "\(getpid())", 1)
        setenv("WATCHDOG_PID", "\(getpid())", 1)
        let failure = Replacement.become(program, words)
        try? Files.writeAll(Array("\(failure)\n".utf8), to: 2, path: "standard error")
        return 127
    }

    private init(environment: [String: String], report: Int32, turn: Int32) throws(GatewayError) {
        self.environment = environment
        self.report = report
        self.turn = turn
        clock = .system
        layout = try Layout(environment: environment).asInstalled(files: Files())
        home = try HeldFolder(layout.home)
        files = home.guarding(Files())
        let settings = try files.settings(of: layout, environment: environment)
        signal(SIGPIPE, SIG_IGN)
        var wanted = sigset_t()
        sigemptyset(&wanted)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&wanted, number) }
        sigprocmask(SIG_BLOCK, &wanted, nil)
        signals = signalfd(-1, &wanted, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        listener = try HTTPListener.open(host: settings.host, port: settings.port)
        try files.makeDirectory(layout.logs)
        log = try LogFile(layout.gatewayLog, files: files)
        // An abstract name: no path that could be too long, nothing to remove, and nobody else knows it.
        notificationName = "@\(Product.name)/\(Randomness.system.uuid())"
        notifications = try Supervisor.notificationSocket(notificationName)
        record = SupervisorRecord(
            home: layout.home,
            supervisor: ProcessTable.identity(getpid()) ?? ProcessIdentity(pid: getpid(), startTime: 0),
            address: settings.listenAddress,
            startedAt: clock.now()
        )
        record.path = settings.path
        // Of what this one is to take the place of: it is missing until the first gateway is ready.
        record.vacantSince = try SupervisorRecord.read(layout, files: files)?.vacantSince
        try record.write(layout, files: files)
    }

    // MARK: the loop

    private mutating func loop() throws(GatewayError) -> Int32 {
        // A command that wants to stop the gateway reads the record; one that came before it was there has left its wish.
        do throws(GatewayError) {
            try ServiceTurn.yieldToStop(layout)
        } catch {
            close(listener.descriptor)
            try files.removeFile(layout.supervisor)
            throw error
        }
        for action in state.beginning { perform(action) }
        while exitCode == nil {
            var entries = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: notifications, events: Int16(POLLIN), revents: 0),
                pollfd(fd: outputPipe, events: Int16(POLLIN), revents: 0),
                pollfd(fd: processDescriptor, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&entries, nfds_t(entries.count), timeout())
            if count < 0, errno != EINTR {
                throw GatewayError("internal-error", "poll failed with error \(errno)")
            }
            if entries[0].revents != 0 { readSignals() }
            if entries[1].revents != 0 { readNotifications() }
            if entries[2].revents != 0 { readOutput() }
            // Last: what the gateway wrote before its end comes before the news of its end.
            if entries[3].revents != 0 { reap() }
            checkTimes()
        }
        // Where there is no record of a process, nobody has the port.
        close(listener.descriptor)
        if record.vacantSince != nil {
            save()
        } else if home.isThere, isOurs(try SupervisorRecord.read(layout, files: files)) {
            try files.removeFile(layout.supervisor)
        }
        return exitCode ?? 0
    }

    /// Whether a record is not that of what a command is about to put in this one's place.
    private func isOurs(_ there: SupervisorRecord?) -> Bool {
        there.map { $0.supervisor == record.supervisor } ?? true
    }

    private mutating func handle(_ event: Supervision.Event) {
        for action in state.handle(event) { perform(action) }
    }

    private mutating func perform(_ action: Supervision.Action) {
        switch action {
        case .start: start()
        case .reportReady:
            note("the gateway is ready on \(listener.name)")
            record.readyAt = clock.now()
            record.failure = nil
            record.vacantSince = nil
            save()
            if turn >= 0 { close(turn) }
            turn = -1
            tellOnce(["ready": true])
        case .reportFailure(let reason):
            note(reason)
            tellOnce(
                GatewayError(
                    "start-failed",
                    "the gateway did not start: \(reason)",
                    help: "'\(Product.name) logs' shows what it said"
                ).json
            )
        case .reportStopped:
            tellOnce(
                GatewayError(
                    "service-stopped",
                    "the gateway was stopped before it was ready",
                    help: "run '\(Product.name) start' if you want it to run"
                ).json
            )
        case .terminate: signalGateway(SIGTERM)
        case .kill: signalGateway(SIGKILL)
        case .wake(let after): wakeAt = clock.uptime() &+ after.nanoseconds
        case .leave(let code):
            signalGateway(SIGKILL)
            exitCode = code
        }
    }

    private mutating func start() {
        guard home.isThere else {
            // What is there now has another supervisor.
            let reason = "'\(home.path)' was moved or removed, so the gateway is not started"
            note(reason)
            let advice = "start the gateway where its home is now"
            tellOnce(GatewayError("home-moved", reason, help: advice).json)
            exitCode = 1
            return
        }
        var ends: [Int32] = [-1, -1]
        var gate: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return handle(.ended(.exited(71), after: .zero)) }
        guard pipe(&gate) == 0 else {
            for end in ends { close(end) }
            return handle(.ended(.exited(71), after: .zero))
        }
        for end in ends + gate { _ = shim_set_cloexec(end, true) }
        defer { for end in [ends[1], gate[0], gate[1]] { close(end) } }
        var child = ((try? files.environmentFile(of: layout)) ?? EnvironmentFile()).overriding(environment)
        child["LLM_GATEWAY_HOME"] = layout.home
        child["NOTIFY_SOCKET"] = notificationName
        child["WATCHDOG_USEC"] = "\(Supervisor.watchdog.nanoseconds / 1000)"
        child["LISTEN_FDS"] = "1"
        child["LISTEN_FDNAMES"] = "http"
        let command = Command(
            "/proc/self/exe",
            [Supervisor.launchVerb, layout.currentGateway, "--transport=http"],
            environment: child
        )
        do throws(GatewayError) {
            let pid = try ChildProcess.spawn(
                command,
                input: gate[0],
                output: ends[1],
                error: ends[1],
                extra: listener.descriptor
            )
            record.gateway = ProcessTable.identity(pid)
            processDescriptor = shim_pidfd_open(pid)
            outputPipe = ends[0]
            _ = shim_set_nonblocking(outputPipe, true)
            startedAt = clock.uptime()
            startedFor = replacements
            lastSign = startedAt
            save()
            var word: UInt8 = 1
            write(gate[1], &word, 1)
            handle(.started)
        } catch {
            close(ends[0])
            note("the gateway cannot be started: \(error)")
            handle(.ended(.exited(127), after: .zero))
        }
    }

    private mutating func reap() {
        guard let pid = record.gateway?.pid else { return }
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return }
        let result = shim_wait_result(status)
        let ended: ProcessStatus = result < 0 ? .signalled(-result) : .exited(result)
        readOutput()
        close(processDescriptor)
        if outputPipe >= 0 { close(outputPipe) }
        processDescriptor = -1
        outputPipe = -1
        record.failure = state.isStarting && startedFor == replacements ? ended.wording : nil
        record.gateway = nil
        record.readyAt = nil
        wakeAt = nil
        note("the gateway ended: \(ended.wording)")
        save()
        handle(.ended(ended, after: .nanoseconds(Int64(clamping: clock.uptime() &- startedAt))))
    }

    private mutating func checkTimes() {
        if let due = wakeAt, clock.uptime() >= due {
            wakeAt = nil
            handle(.timeUp)
        }
        if let due = saveAt, clock.uptime() >= due { save() }
        if processDescriptor >= 0, clock.uptime() >= lastSign &+ Supervisor.watchdog.nanoseconds {
            lastSign = clock.uptime()
            note("the gateway has been silent for \(Supervisor.watchdog.components.seconds) s")
            handle(.silent)
        }
    }

    private func timeout() -> Int32 {
        var due = min(wakeAt ?? .max, saveAt ?? .max)
        if processDescriptor >= 0 { due = min(due, lastSign &+ Supervisor.watchdog.nanoseconds &+ 1_000_000) }
        guard due != .max else { return -1 }
        let now = clock.uptime()
        return due <= now ? 0 : Int32(clamping: (due - now + 999_999) / 1_000_000)
    }

    // MARK: hearing

    private mutating func readSignals() {
        var info = signalfd_siginfo()
        while read(signals, &info, MemoryLayout<signalfd_siginfo>.size) > 0 {
            let isReplacement = Int32(info.ssi_signo) == SIGHUP
            // Nothing comes after a stop.
            if isReplacement, state.isStopping { continue }
            // What failed before is not what is asked for now.
            record.failure = nil
            record.vacantSince = isReplacement ? clock.now() : nil
            if isReplacement {
                replacements += 1
                // Before anything ends: should this process and the gateway be killed before the next one is ready, nobody wanted
                // that.
                save()
            }
            handle(isReplacement ? .replace : .stop)
        }
    }

    private mutating func readNotifications() {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(notifications, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return }
            lastSign = clock.uptime()
            for line in String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n")
            where line == "READY=1" {
                handle(.ready)
            }
        }
    }

    private func readOutput() {
        guard outputPipe >= 0 else { return }
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(outputPipe, &buffer, buffer.count)
            guard count > 0 else { return }
            // A full disk must not stop the gateway: what cannot be written is lost.
            try? log.append(Array(buffer[..<count]))
        }
    }

    // MARK: telling

    private func note(_ sentence: String) {
        try? log.append(Array("\(clock.now().iso8601) supervisor: \(sentence)\n".utf8))
    }

    private mutating func save() {
        record.replacements = replacements
        record.restarts = state.restarts
        // Where the home was moved away, there is nobody to tell; and a command that has this one stopped, to put another in its
        // place, has said so there.
        guard home.isThere,
            !state.isStopping || isOurs((try? SupervisorRecord.read(layout, files: files)) ?? nil)
        else { return saveAt = nil }
        do throws(GatewayError) {
            try record.write(layout, files: files)
            saveAt = nil
        } catch {
            // On a full disk the record on it tells of what was before, and everybody who reads it is misled until there is
            // room.
            saveAt = clock.uptime() &+ 1_000_000_000
        }
    }

    private func signalGateway(_ number: Int32) {
        guard let gateway = record.gateway else { return }
        ProcessTable.signal(gateway, number)
    }

    private mutating func tellOnce(_ word: JSON) {
        Supervisor.tell(report, word)
        report = -1
    }

    private static func tell(_ descriptor: Int32, _ word: JSON) {
        guard descriptor >= 0 else { return }
        try? Files.writeAll(word.compact + [10], to: descriptor, path: "the command that waits")
        close(descriptor)
    }

    private static func notificationSocket(_ name: String) throws(GatewayError) -> Int32 {
        let kind = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, kind, 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(name.utf8)
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            place.copyBytes(from: bytes)
            place[0] = 0
        }
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        let length = socklen_t(MemoryLayout<sockaddr_un>.size - capacity + bytes.count)
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
        }
        guard descriptor >= 0, bound == 0 else {
            throw GatewayError("internal-error", "cannot make a notification socket: error \(errno)")
        }
        return descriptor
    }
}
