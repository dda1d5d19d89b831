package import Appliance
import CShims
import Glibc

/// A child with pipes, watched by the thread that calls `supervise`: for the job runner, and for `Processes.run`.
///
/// 1. Start it in a session of its own, with no descriptors but its three.
/// 2. Pass every byte on as it comes; count bytes and silence.
/// 3. When a limit is passed or `cancel` is called: SIGTERM to the group and all descendants, after the grace
///    SIGKILL, until none is left.
/// 4. When it has ended: end what it left behind in its sessions, read the rest of the pipes, return.
package final class ChildProcess {
    /// The process; also the id of its group and session.
    package let identity: ProcessIdentity
    private let processDescriptor: Int32
    private var inputPipe: Int32 = -1
    private var outputPipe: Int32
    private var errorPipe: Int32
    private let limits: ProcessLimits
    private var pendingInput: ArraySlice<UInt8> = []
    private let started: UInt64
    private let clock: WallClock
    private let sweepsOrphans: Bool
    private let group: ControlGroup?

    /// Which stream a piece of output came from.
    package enum Stream: Sendable { case output, error }

    /// Starts the command.
    ///
    /// With `sweepsOrphans`, descendants that lost their parents are found as children of this very process, which
    /// must be a subreaper with no other children. `group` is one that this process has for itself and its descendants, so
    /// that whatever is in there is one. Throws `command-not-found`, `not-executable`, `spawn-failed`.
    package init(
        _ command: Command,
        limits: ProcessLimits,
        clock: WallClock = .system,
        sweepsOrphans: Bool = false,
        group: ControlGroup? = nil
    ) throws(GatewayError) {
        var ends = Ends()
        defer { ends.closeAll() }
        switch command.input {
        case .none: break
        case .descriptor(let descriptor): ends.childInput = descriptor
        case .file(let path):
            let descriptor = shim_open(path, O_RDONLY, 0)
            guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
            ends.childInput = descriptor
            ends.owned.append(descriptor)
        case .bytes(let bytes):
            let pipe = try ends.pipe()
            ends.childInput = pipe.read
            ends.input = pipe.write
            pendingInput = bytes[...]
            // A child that closes its input early must not end this process.
            signal(SIGPIPE, SIG_IGN)
        }
        let output = try ends.pipe()
        let error = try ends.pipe()
        ends.output = output.read
        ends.error = error.read
        for descriptor in [ends.input, ends.output, ends.error] where descriptor >= 0 {
            shim_set_nonblocking(descriptor, true)
        }
        let pid = try ChildProcess.spawn(
            command,
            input: ends.childInput,
            output: output.write,
            error: error.write
        )
        let process = shim_pidfd_open(pid)
        guard process >= 0 else {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            throw GatewayError("spawn-failed", "cannot watch process \(pid): error \(-process)")
        }
        inputPipe = ends.take(\.input)
        outputPipe = ends.take(\.output)
        errorPipe = ends.take(\.error)
        processDescriptor = process
        identity = ProcessTable.identity(pid) ?? ProcessIdentity(pid: pid, startTime: 0)
        self.limits = limits
        self.clock = clock
        self.sweepsOrphans = sweepsOrphans
        self.group = group
        started = clock.uptime()
    }

    deinit {
        for descriptor in [inputPipe, outputPipe, errorPipe, processDescriptor] where descriptor >= 0 {
            close(descriptor)
        }
    }

    /// Starts a process in a session of its own, with the given descriptors and no others.
    package static func spawn(
        _ command: Command,
        input: Int32,
        output: Int32,
        error: Int32,
        extra: Int32 = -1
    ) throws(GatewayError) -> Int32 {
        guard command.executable.hasPrefix("/") else {
            throw GatewayError("spawn-failed", "'\(command.executable)' is not an absolute path")
        }
        for text in [command.executable] + command.arguments + (command.directory.map { [$0] } ?? [])
        where text.utf8.contains(0) {
            throw GatewayError("invalid-input", "an argument of '\(command.executable)' contains a NUL byte")
        }
        var pid: pid_t = 0
        let number = CStrings.with([command.name ?? command.executable] + command.arguments) { arguments in
            CStrings.with(command.environment.map { "\($0.key)=\($0.value)" }) { environment in
                command.executable.withCString { executable in
                    func start(_ directory: UnsafePointer<CChar>?) -> Int32 {
                        var request = shim_spawn(
                            executable: executable,
                            arguments: arguments,
                            environment: environment,
                            directory: directory,
                            input: input,
                            output: output,
                            error: error,
                            extra: extra,
                            new_session: 1
                        )
                        return shim_spawn(&request, &pid)
                    }
                    return command.directory.map { $0.withCString(start) } ?? start(nil)
                }
            }
        }
        guard number == 0 else { throw spawnFailure(command, number) }
        return pid
    }

    private static func spawnFailure(_ command: Command, _ number: Int32) -> GatewayError {
        let path = command.executable
        if let directory = command.directory, let failure = folderFailure(directory) { return failure }
        switch number {
        case ENOENT, ENOTDIR:
            if Files().isExecutable(path) {
                // The kernel says the same of a script's interpreter and of a program's loader.
                return GatewayError(
                    "command-not-found",
                    interpreter(path).map { "the program '\(path)' needs '\($0)', which does not exist" }
                        ?? "the program '\(path)' needs a loader that does not exist",
                    help: "install '\(path.split(separator: "/").last ?? "")' again"
                )
            }
            return GatewayError("command-not-found", "the program '\(path)' does not exist")
        case EACCES:
            return GatewayError(
                "not-executable",
                "the program '\(path)' may not be executed",
                help: "chmod +x '\(path)'"
            )
        case ENOEXEC:
            return GatewayError(
                "not-executable",
                "'\(path)' is not a program for this machine",
                help: "a script needs a first line such as '#!/bin/sh'"
            )
        case E2BIG:
            return GatewayError(
                "input-too-large",
                "the arguments of '\(path)' are larger than the system allows"
            )
        default:
            return GatewayError(
                "spawn-failed",
                "cannot start '\(path)': \(String(cString: strerror(number)).lowercased())"
            )
        }
    }

    /// Why a program cannot be started in a folder; `nil` when it can.
    private static func folderFailure(_ path: String) -> GatewayError? {
        guard let status = (try? Files().target(path)) ?? nil else {
            return GatewayError("directory-not-found", "the working directory '\(path)' does not exist")
        }
        guard status.kind == .directory else {
            return GatewayError("directory-not-found", "the working directory '\(path)' is no directory")
        }
        guard access(path, X_OK) == 0 else {
            return GatewayError("permission-denied", "the working directory '\(path)' may not be entered")
        }
        return nil
    }

    /// What the first line of a script names; `nil` for a file without such a line.
    private static func interpreter(_ path: String) -> String? {
        let descriptor = shim_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
            count = max(0, read(descriptor, buffer.baseAddress, buffer.count))
        }
        guard bytes.starts(with: "#!".utf8) else { return nil }
        let line = String(decoding: bytes.dropFirst(2).prefix { $0 != 0x0A }, as: UTF8.self)
        return line.split(whereSeparator: { " \t\r".contains($0) }).first.map(String.init)
    }

    /// Watches the child until it and its descendants are gone.
    ///
    /// - Parameters:
    ///   - cancel: a descriptor that becomes readable when the run is to be ended; -1 for none.
    ///   - orphans: a signalfd(2) for SIGCHLD, so that a subreaper collects orphans as they end; -1 for none.
    ///   - settled: called once, when the child has lived for a moment: what would hold up the start and the end of a child that
    ///     does not, belongs there.
    ///   - sink: gets every byte as it comes, on this thread. An error it throws ends the run and is thrown on, and it gets nothing
    ///     after that.
    /// - Returns: how it ended, and what ended it if that was not itself.
    /// - Throws: what `sink` threw.
    package func supervise(
        cancel: Int32 = -1,
        orphans: Int32 = -1,
        settled: (() -> Void)? = nil,
        sink: (Stream, UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) throws(GatewayError) -> (status: ProcessStatus, intervention: ProcessIntervention?) {
        var state = Watch(lastByte: clock.uptime())
        var failure: GatewayError?
        var settled = settled
        let settledAt = started &+ ChildProcess.moment
        writeInput()
        while true {
            let now = clock.uptime()
            if now >= settledAt, let call = settled {
                settled = nil
                call()
            }
            if let reason = overdue(state, now) { intervene(reason, &state, now) }
            if state.intervention != nil, state.killed == false, now >= state.killAt { killAll(&state) }
            if state.ended != nil, outputPipe < 0, errorPipe < 0 { break }
            if let drained = state.drainUntil, now >= drained { break }
            let isCancellable = state.intervention == nil && state.ended == nil
            let events = wait(
                until: settled == nil ? deadline(state) : min(deadline(state), settledAt),
                // What has happened stays readable; waiting for it again would spin.
                process: state.ended == nil ? processDescriptor : -1,
                cancel: isCancellable ? cancel : -1,
                orphans: orphans
            )
            if events.cancel { intervene(.cancelled, &state, clock.uptime()) }
            if events.input { writeInput() }
            do throws(GatewayError) {
                if events.output { try drain(.output, &state, sink) }
                if events.error { try drain(.error, &state, sink) }
            } catch {
                failure = failure ?? error
                state.isDeaf = true
                intervene(.cancelled, &state, clock.uptime())
            }
            if events.orphans { collectOrphans(orphans) }
            if events.process, state.ended == nil { finish(&state) }
        }
        endDescendants(&state)
        if let failure { throw failure }
        return (state.ended ?? .signalled(SIGKILL), state.intervention)
    }

    // MARK: the watch

    /// After so many nanoseconds a child has settled.
    private static let moment: UInt64 = 100_000_000

    private struct Watch {
        var lastByte: UInt64
        var received = 0
        var intervention: ProcessIntervention?
        var killAt: UInt64 = .max
        var killed = false
        var ended: ProcessStatus?
        /// The sink has failed: what comes after that is not passed on, so that what it has got is a beginning.
        var isDeaf = false
        /// After the child's end, pipes that a descendant holds open are read until then.
        var drainUntil: UInt64?
    }

    private struct Events {
        var output = false, error = false, input = false, process = false, cancel = false, orphans = false
    }

    private func overdue(_ state: Watch, _ now: UInt64) -> ProcessIntervention? {
        guard state.intervention == nil, state.ended == nil else { return nil }
        if let wall = limits.wall, now &- started >= wall.nanoseconds { return .wallTime }
        if let idle = limits.idle, now &- state.lastByte >= idle.nanoseconds { return .idleTime }
        return nil
    }

    /// The next instant at which something is due, in nanoseconds of uptime.
    private func deadline(_ state: Watch) -> UInt64 {
        if let drain = state.drainUntil { return drain }
        if state.intervention != nil { return state.killed ? .max : state.killAt }
        let wall = limits.wall.map { started &+ $0.nanoseconds } ?? .max
        let idle = limits.idle.map { state.lastByte &+ $0.nanoseconds } ?? .max
        return min(wall, idle)
    }

    private func intervene(_ reason: ProcessIntervention, _ state: inout Watch, _ now: UInt64) {
        guard state.intervention == nil, state.ended == nil else { return }
        state.intervention = reason
        state.killAt = now &+ limits.grace.nanoseconds
        signalAll(SIGTERM)
    }

    private func killAll(_ state: inout Watch) {
        state.killed = true
        signalAll(SIGKILL)
    }

    /// The child, its group, its descendants and the sessions they lead.
    ///
    /// The child comes first: it shall not take the end of its tools for an answer, nor start new ones.
    private func signalAll(_ signal: Int32) {
        let rest = leftovers()
        ProcessTable.signal(identity, signal)
        for entry in rest { ProcessTable.signal(entry.identity, signal) }
    }

    private func leftovers() -> [ProcessEntry] {
        let own = getpid()
        let members = (group?.processes() ?? []).subtracting([own])
        if sweepsOrphans, members.isEmpty, !hasChildren() { return [] }
        let table = ProcessTable.all()
        var found = ProcessTable.descendants(of: sweepsOrphans ? own : identity.pid, in: table)
        let known = Set(found.map(\.identity.pid))
        found += table.filter { members.contains($0.identity.pid) && !known.contains($0.identity.pid) }
        return found.filter { $0.state != "Z" && $0.identity != identity && $0.identity.pid != own }
    }

    /// Whether this process has any child left, ended ones included: the answer to "is anything left?" that does not
    /// read the whole process table.
    private func hasChildren() -> Bool {
        var info = siginfo_t()
        while waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 {
            if errno != EINTR { return errno != ECHILD }
        }
        return true
    }

    /// Collects orphans that have ended; the child itself is left to `finish`.
    private func collectOrphans(_ descriptor: Int32) {
        var signals = [UInt8](repeating: 0, count: 1024)
        while read(descriptor, &signals, signals.count) > 0 {}
        while true {
            var info = siginfo_t()
            guard waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 else { return }
            let pid = shim_siginfo_pid(&info)
            guard pid > 0, pid != identity.pid else { return }
            waitpid(pid, nil, WNOHANG)
        }
    }

    private func finish(_ state: inout Watch) {
        var status: Int32 = 0
        var collected: pid_t
        repeat { collected = waitpid(identity.pid, &status, 0) } while collected < 0 && errno == EINTR
        let result = shim_wait_result(status)
        // A process that another has collected, or the kernel by itself, has left no word: that is no success.
        state.ended = collected < 0 ? .exited(255) : result < 0 ? .signalled(-result) : .exited(result)
        closePipe(&inputPipe)
        if outputPipe >= 0 || errorPipe >= 0 {
            // What the child left running may hold the pipes open for ever; nobody waits for that.
            endDescendants(&state)
            state.drainUntil = clock.uptime() &+ 1_000_000_000
        }
    }

    /// Ends what outlived the child: politely first, then by SIGKILL until nothing is left.
    private func endDescendants(_ state: inout Watch) {
        var rest = leftovers()
        guard !rest.isEmpty else { return reapOrphans() }
        for entry in rest { ProcessTable.signal(entry.identity, SIGTERM) }
        awaitEnd(of: rest, nanoseconds: limits.grace.nanoseconds)
        for _ in 0..<10 {
            rest = leftovers()
            if rest.isEmpty { break }
            for entry in rest { ProcessTable.signal(entry.identity, SIGKILL) }
            awaitEnd(of: rest, nanoseconds: 1_000_000_000)
        }
        reapOrphans()
    }

    /// Waits by pid descriptors until these processes are gone or the time is up.
    private func awaitEnd(of entries: [ProcessEntry], nanoseconds: UInt64) {
        let until = clock.uptime() &+ nanoseconds
        for entry in entries {
            let descriptor = shim_pidfd_open(entry.identity.pid)
            guard descriptor >= 0 else { continue }
            defer { close(descriptor) }
            guard ProcessTable.isRunning(entry.identity) else { continue }
            var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            while poll(&item, 1, ChildProcess.milliseconds(until: until, clock.uptime())) < 0, errno == EINTR
            {}
            reapOrphans()
        }
    }

    /// As a subreaper, this process is the parent of its child's orphans and has to collect them.
    private func reapOrphans() {
        guard sweepsOrphans else { return }
        while waitpid(-1, nil, WNOHANG) > 0 {}
    }

    // MARK: descriptors

    private func wait(until: UInt64, process: Int32, cancel: Int32, orphans: Int32) -> Events {
        var items = [outputPipe, errorPipe, inputPipe, process, cancel, orphans].map {
            pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
        }
        items[2].events = Int16(POLLOUT)
        let count = poll(&items, UInt(items.count), ChildProcess.milliseconds(until: until, clock.uptime()))
        guard count > 0 else { return Events() }
        return Events(
            output: items[0].revents != 0,
            error: items[1].revents != 0,
            input: items[2].revents != 0,
            process: items[3].revents != 0,
            cancel: items[4].revents != 0,
            orphans: items[5].revents != 0
        )
    }

    private func drain(
        _ stream: Stream,
        _ state: inout Watch,
        _ sink: (Stream, UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) throws(GatewayError) {
        let descriptor = stream == .output ? outputPipe : errorPipe
        var failure: GatewayError?
        var atEnd = false
        withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { buffer in
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count > 0 {
                state.lastByte = clock.uptime()
                let room = max(0, limits.output - state.received)
                state.received += count
                let kept = UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(buffer)[..<min(count, room)]
                )
                do throws(GatewayError) {
                    if !kept.isEmpty, !state.isDeaf { try sink(stream, kept) }
                } catch {
                    failure = error
                }
                if count > room { intervene(.outputLimit, &state, clock.uptime()) }
            } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
                atEnd = true
            }
        }
        if atEnd { stream == .output ? closePipe(&outputPipe) : closePipe(&errorPipe) }
        if let failure { throw failure }
    }

    private func writeInput() {
        guard inputPipe >= 0 else { return }
        while !pendingInput.isEmpty {
            let count = pendingInput.withUnsafeBytes { write(inputPipe, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN { return }
                break  // The child closed its input: it has read what it wanted.
            }
            pendingInput = pendingInput.dropFirst(count)
        }
        pendingInput = []
        closePipe(&inputPipe)
    }

    private func closePipe(_ descriptor: inout Int32) {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    private static func milliseconds(until: UInt64, _ now: UInt64) -> Int32 {
        guard until != .max else { return -1 }
        return until <= now ? 0 : Int32(clamping: (until - now + 999_999) / 1_000_000)
    }

    /// The descriptors of a start; whatever is still here when it ends or fails is closed.
    private struct Ends {
        var owned: [Int32] = []
        var childInput: Int32 = -1
        var input: Int32 = -1
        var output: Int32 = -1
        var error: Int32 = -1

        mutating func pipe() throws(GatewayError) -> (read: Int32, write: Int32) {
            var pair: [Int32] = [-1, -1]
            guard Glibc.pipe(&pair) == 0 else {
                throw GatewayError(
                    "spawn-failed",
                    "cannot make a pipe: \(String(cString: strerror(errno)).lowercased())"
                )
            }
            for descriptor in pair { shim_set_cloexec(descriptor, true) }
            owned += pair
            return (pair[0], pair[1])
        }

        mutating func take(_ path: WritableKeyPath<Ends, Int32>) -> Int32 {
            let descriptor = self[keyPath: path]
            owned.removeAll { $0 == descriptor }
            return descriptor
        }

        mutating func closeAll() {
            for descriptor in owned { close(descriptor) }
            owned = []
        }
    }
}

extension Duration {
    /// The whole duration in nanoseconds; negative is zero, and what is more than 292 years is that.
    ///
    /// So much can still be added to an uptime.
    package var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0 else { return 0 }
        let (whole, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, exceeds) = whole.addingReportingOverflow(max(0, attoseconds) / 1_000_000_000)
        return UInt64(overflows || exceeds ? .max : sum)
    }

    /// The whole duration in milliseconds.
    package var milliseconds: Int { Int(clamping: nanoseconds / 1_000_000) }
}

/// Arrays of C strings for the time of a call.
enum CStrings {
    static func with<Result>(
        _ strings: [String],
        _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
        pointers.append(nil)
        defer { for pointer in pointers { free(pointer) } }
        return pointers.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else {
                preconditionFailure("the array holds at least its end mark")
            }
            return body(base)
        }
    }
}
