package import Appliance
import CShims
import Glibc

/// Child processes, for tasks.
package struct Processes: Sendable {
    private let clock: WallClock
    private let reactor: Reactor

    /// Processes whose ends are awaited on this reactor.
    package init(clock: WallClock, reactor: Reactor) {
        self.clock = clock
        self.reactor = reactor
    }

    /// Runs a command to its end and collects its output.
    ///
    /// A non-zero exit is a result.
    ///
    /// A cancelled task ends the command and its descendants. Throws `command-not-found`, `not-executable`,
    /// `directory-not-found`, `spawn-failed`.
    package func run(
        _ command: Command,
        limits: ProcessLimits = ProcessLimits()
    ) async throws(GatewayError) -> ProcessResult {
        let clock = clock
        let bell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard bell >= 0 else { throw GatewayError("spawn-failed", "no descriptors are left") }
        defer { close(bell) }
        let outcome = await withTaskCancellationHandler {
            do throws(GatewayError) {
                return Result<ProcessResult, GatewayError>.success(
                    try await BlockingThread.run("child") { () throws(GatewayError) in
                        try Processes.collect(command, limits, clock, bell)
                    }
                )
            } catch {
                return .failure(error)
            }
        } onCancel: {
            var one: UInt64 = 1
            write(bell, &one, 8)
        }
        return try outcome.get()
    }

    private static func collect(
        _ command: Command,
        _ limits: ProcessLimits,
        _ clock: WallClock,
        _ cancel: Int32
    ) throws(GatewayError) -> ProcessResult {
        let start = clock.uptime()
        let child = try ChildProcess(command, limits: limits, clock: clock)
        var output: [UInt8] = []
        var error: [UInt8] = []
        let ended = try child.supervise(cancel: cancel) { stream, bytes throws(GatewayError) in
            switch stream {
            case .output: output.append(contentsOf: bytes)
            case .error: error.append(contentsOf: bytes)
            }
        }
        return ProcessResult(
            status: ended.status,
            output: output,
            error: error,
            intervention: ended.intervention,
            duration: .nanoseconds(Int64(clamping: clock.uptime() &- start))
        )
    }

    /// Starts a process that outlives this one: own session, output to a file or /dev/null.
    package func launch(
        _ command: Command,
        output: Int32 = -1,
        error: Int32 = -1,
        extra: Int32 = -1
    ) throws(GatewayError) -> ProcessIdentity {
        var input: Int32 = -1
        var owned: Int32 = -1
        switch command.input {
        case .none: break
        case .descriptor(let descriptor): input = descriptor
        case .file(let path):
            owned = shim_open(path, O_RDONLY, 0)
            guard owned >= 0 else { throw Files.failure("read", path, -owned) }
            input = owned
        case .bytes:
            throw GatewayError("spawn-failed", "a process that outlives this one reads its input from a file")
        }
        defer { if owned >= 0 { close(owned) } }
        let pid = try ChildProcess.spawn(command, input: input, output: output, error: error, extra: extra)
        return ProcessTable.identity(pid) ?? ProcessIdentity(pid: pid, startTime: 0)
    }

    /// Waits until a process, child or not, has ended, and collects it if it is a child of this one.
    ///
    /// `false` when the time was up, the task was cancelled, or no descriptor was left to wait with.
    package func waitForEnd(of identity: ProcessIdentity, within limit: Duration? = nil) async -> Bool {
        let descriptor = shim_pidfd_open(identity.pid)
        // No descriptor left is no proof that the process has ended.
        guard descriptor >= 0 else { return descriptor == -ESRCH }
        defer { close(descriptor) }
        switch ProcessTable.look(identity.pid) {
        case .gone: return true
        case .unreadable: return false
        case .seen(let entry): guard entry.identity == identity else { return true }
        }
        guard await reactor.readable(descriptor, within: limit) else { return false }
        waitpid(identity.pid, nil, WNOHANG)
        return true
    }

    /// Ends a process politely, then by force, and waits until it is gone.
    ///
    /// `false` when it would not go.
    @discardableResult
    package func end(_ identity: ProcessIdentity, grace: Duration = .seconds(5)) async -> Bool {
        guard ProcessTable.isRunning(identity) else { return true }
        ProcessTable.signal(identity, SIGTERM)
        if await waitForEnd(of: identity, within: grace) { return true }
        ProcessTable.signal(identity, SIGKILL)
        return await waitForEnd(of: identity, within: .seconds(5))
    }

    /// Makes the ends of children known again, to be called first thing in `main`.
    ///
    /// A parent that ignores the end of its children hands that down, and the kernel then throws their exit codes away.
    package static func heedChildren() { signal(SIGCHLD, SIG_DFL) }

    /// The first executable of a name in these folders, symlinks not resolved.
    package static func find(_ name: String, in folders: [String], files: Files = Files()) -> String? {
        if name.contains("/") { return files.isExecutable(name) ? name : nil }
        return folders.lazy.filter { !$0.isEmpty }.map { Layout.join($0, name) }.first {
            files.isExecutable($0)
        }
    }
}
