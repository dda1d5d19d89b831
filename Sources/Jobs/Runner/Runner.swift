import Appliance
import CShims
import Glibc
import Platform

/// The process that runs one provider, `llm-gateway run-job DIRECTORY`, outside the gateway's life.
///
/// 1. Make sure that nobody else runs this job, and that nobody ever did.
/// 2. Wait until the service manager has put this process into a scope, where there is one.
/// 3. Write down who runs it, become the parent of whatever the provider leaves behind, start the provider.
/// 4. Copy its output to files, hold it to its limits, end it on SIGTERM.
/// 5. End what it left behind and write down how it ended.
///
/// Synchronous and small on purpose: there is one for each running job.
package enum Runner {
    /// Runs the job of a directory; 0 when `exit.json` says how it ended, 4 when the job is or was run by
    /// another, 70 when the directory cannot be used.
    package static func main(directory: String) -> Int32 {
        let place = JobDirectory(directory)
        // Started as /proc/self/exe, it would go by "exe" in ps(1) and top(1).
        shim_name_thread("llm-gateway")
        let scope = OwnScope()
        detach()
        do throws(GatewayError) {
            guard let file = try RunningFile(place, Files()) else { return ExitCode.busy.rawValue }
            try keep(try run(place, file, scope), place, file)
            return ExitCode.done.rawValue
        } catch {
            return ExitCode.internalError.rawValue
        }
    }

    /// Writes down how the job ended, whatever the disk is full of.
    ///
    /// Without that the job would count as lost. Where there is no room after all, the runner waits until somebody has made some.
    private static func keep(
        _ record: ExitRecord,
        _ place: JobDirectory,
        _ file: RunningFile
    ) throws(GatewayError) {
        let files = Files()
        var pause: UInt32 = 0
        while true {
            do throws(GatewayError) {
                return try file.end(record, files)
            } catch  where error.code == "disk-full" && files.exists(place.path) {
                sleep(pause)
                pause = min(pause + 1, 60)
            }
        }
    }

    /// No terminal and no signal but SIGTERM reaches the run.
    private static func detach() {
        for number in [SIGINT, SIGHUP, SIGQUIT, SIGPIPE] { signal(number, SIG_IGN) }
        let null = shim_open("/dev/null", O_RDWR, 0)
        guard null >= 0 else { return }
        for descriptor: Int32 in 0...2 { dup2(null, descriptor) }
        if null > 2 { close(null) }
    }

    /// Uptime that stands still while the machine sleeps: nobody was silent then.
    private static let clock = WallClock(
        now: WallClock.system.now,
        uptime: {
            var time = timespec()
            clock_gettime(CLOCK_MONOTONIC, &time)
            return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        },
        sleep: WallClock.system.sleep
    )

    private static func run(
        _ place: JobDirectory,
        _ file: RunningFile,
        _ scope: OwnScope?
    ) throws(GatewayError) -> ExitRecord {
        let files = Files()
        let started = clock.now()
        let start = clock.uptime()
        guard let own = ProcessTable.identity(getpid()) else {
            throw GatewayError("internal-error", "/proc is not mounted")
        }
        let termination = try descriptor(for: SIGTERM)
        let orphans = try descriptor(for: SIGCHLD)
        shim_become_subreaper()
        var running = RunnerRecord(runner: own, started: started)
        do throws(GatewayError) {
            let spec = try JobSpec(place, files: files)
            let sink = try OutputFiles(place)
            try file.reserve()
            let group = scope?.settle(clock)
            running.group = group?.path
            try running.begin(in: place, files)
            let child = try ChildProcess(
                command(spec, place),
                limits: spec.limits,
                clock: clock,
                sweepsOrphans: true,
                group: group
            )
            var failure: GatewayError?
            do throws(GatewayError) {
                try running.add(provider: child.identity, in: place, files)
            } catch {
                // It runs already, and nobody would know it by the record: it is ended like a cancelled one.
                failure = error
                kill(getpid(), SIGTERM)
            }
            var end: (status: ProcessStatus, intervention: ProcessIntervention?) = (.exited(0), .cancelled)
            do throws(GatewayError) {
                end = try child.supervise(
                    cancel: termination,
                    orphans: orphans,
                    settled: { returnProgramText(files) },
                    sink: { stream, bytes throws(GatewayError) in try sink.append(bytes, to: stream) }
                )
            } catch {
                failure = failure ?? error
            }
            var record = ExitRecord(
                status: end.status,
                intervention: end.intervention,
                started: started,
                finished: clock.now(),
                durationMilliseconds: clock.milliseconds(since: start)
            )
            if let failure {
                record.error = failure
                record.exitCode = 126
                record.outputTruncated = true
            }
            if let group, group.outOfMemoryKills > 0 { record.blameMemory() }
            record.outputBytes = sink.outputBytes
            record.errorBytes = sink.errorBytes
            account(&record)
            return record
        } catch {
            return ExitRecord(failure: error, at: started)
        }
    }

    private static func command(_ spec: JobSpec, _ place: JobDirectory) -> Command {
        Command(
            spec.executable,
            spec.arguments,
            environment: spec.environment,
            directory: spec.workingDirectory ?? place.path,
            input: spec.hasInput ? .file(place.standardInput) : .none
        )
    }

    /// Gives the program's pages back that starting has touched: a run that has settled takes minutes, and what it still needs
    /// is read again from the page cache.
    ///
    /// Only pages that may be executed: nobody has written to those.
    private static func returnProgramText(_ files: Files) {
        guard let maps = try? files.readText("/proc/self/maps", limit: 1 << 20) else { return }
        for line in maps.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 6, fields[1] == "r-xp", fields[5].hasPrefix("/") else { continue }
            let bounds = fields[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            guard bounds.count == 2, bounds[0] < bounds[1] else { continue }
            madvise(UnsafeMutableRawPointer(bitPattern: bounds[0]), Int(bounds[1] - bounds[0]), MADV_DONTNEED)
        }
    }

    private static func account(_ record: inout ExitRecord) {
        var usage = rusage()
        guard getrusage(RUSAGE_CHILDREN.rawValue, &usage) == 0 else { return }
        func milliseconds(_ time: timeval) -> Int { Int(time.tv_sec) * 1000 + Int(time.tv_usec) / 1000 }
        record.maximumResidentKilobytes = usage.ru_maxrss
        record.processorMilliseconds = milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime)
    }

    /// A descriptor that becomes readable when the signal comes, in place of its effect.
    private static func descriptor(for number: Int32) throws(GatewayError) -> Int32 {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, number)
        sigprocmask(SIG_BLOCK, &set, nil)
        let descriptor = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard descriptor >= 0 else {
            throw GatewayError("internal-error", "cannot watch signal \(number): error \(errno)")
        }
        return descriptor
    }
}

/// `stdout` and `stderr` of a job, each byte appended as it comes.
private final class OutputFiles {
    private let output: Int32
    private let error: Int32
    private let place: JobDirectory
    private(set) var outputBytes = 0
    private(set) var errorBytes = 0

    init(_ place: JobDirectory) throws(GatewayError) {
        self.place = place
        output = try OutputFiles.open(place.standardOutput)
        // Also when nothing is ever written to it: a run that has begun is not to end for want of a file.
        error = try OutputFiles.open(place.standardError)
    }

    deinit {
        close(output)
        close(error)
    }

    func append(
        _ bytes: UnsafeRawBufferPointer,
        to stream: ChildProcess.Stream
    ) throws(GatewayError) {
        switch stream {
        case .output: try OutputFiles.write(bytes, to: output, place.standardOutput, &outputBytes)
        case .error: try OutputFiles.write(bytes, to: error, place.standardError, &errorBytes)
        }
    }

    private static func open(_ path: String) throws(GatewayError) -> Int32 {
        let descriptor = shim_open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        return descriptor
    }

    private static func write(
        _ bytes: UnsafeRawBufferPointer,
        to descriptor: Int32,
        _ path: String,
        _ total: inout Int
    ) throws(GatewayError) {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("write", path)
            }
            done += count
            total += count
        }
    }
}
