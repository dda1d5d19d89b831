package import Appliance
import CShims
import Glibc
import Synchronization

/// A process that cannot be confused with a later one of the same number: pid, start time, and the boot that both count
/// from.
package struct ProcessIdentity: Sendable, Hashable {
    /// As the kernel numbers it in our pid namespace; above 0.
    package var pid: Int32
    /// Clock ticks after boot, field 22 of /proc/PID/stat.
    package var startTime: UInt64
    /// The kernel's name for the boot: services that start by themselves get the same numbers at the same tick again.
    package var boot: String

    /// Whether two records speak of one process; where the kernel did not say the boot, its number and time have to do.
    package static func == (one: ProcessIdentity, other: ProcessIdentity) -> Bool {
        one.pid == other.pid && one.startTime == other.startTime
            && (one.boot == other.boot || one.boot.isEmpty || other.boot.isEmpty)
    }

    /// Hashes what every record has.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(pid)
        hasher.combine(startTime)
    }

    /// A process of this boot.
    package init(pid: Int32, startTime: UInt64) {
        self.pid = pid
        self.startTime = startTime
        boot = ProcessTable.boot
    }

    /// `{"pid","startTime","boot"}`, as state files keep it.
    package var json: JSON {
        ["pid": .integer(pid), "startTime": .integer(startTime), "boot": .string(boot)]
    }

    /// Reads `{"pid","startTime","boot"}`.
    ///
    /// A record of an older version has no boot, and is taken for one of this boot.
    package init?(json: JSON?) {
        guard let pid = json?["pid"]?.int, let start = json?["startTime"]?.int, pid > 0 else { return nil }
        self.init(pid: Int32(clamping: pid), startTime: UInt64(clamping: start))
        if let boot = json?["boot"]?.string { self.boot = boot }
    }
}

/// One line of the process table, from /proc/PID/stat.
package struct ProcessEntry: Sendable, Equatable {
    /// Pid and start time.
    package var identity: ProcessIdentity
    /// The parent's pid; 0 where that is outside our pid namespace.
    package var parent: Int32
    /// The process group, which a signal to `-group` reaches.
    package var group: Int32
    /// The session: the pid of the process that began it, which may be gone.
    package var session: Int32
    /// `R`, `S`, `Z`…: proc(5).
    package var state: Character
    /// User plus system time, clock ticks.
    package var processorTicks: UInt64
    /// Bytes.
    package var residentBytes: Int64
}

/// What runs on this machine, read from /proc.
package enum ProcessTable {
    /// The kernel's name for the time since the machine was started, random(4); empty where it does not say.
    package static var boot: String {
        knownBoot.withLock { known in
            // Without a descriptor it cannot be read now; a later time may have one.
            if known.isEmpty {
                let line = (try? Files().read("/proc/sys/kernel/random/boot_id", limit: 256)) ?? []
                known = String(decoding: line.prefix { $0 > 0x20 }, as: UTF8.self)
            }
            return known
        }
    }
    private static let knownBoot = Mutex("")

    /// What can be said about a number now.
    package enum Sight: Sendable, Equatable {
        case seen(ProcessEntry)
        /// No process has the number.
        case gone
        /// It cannot be told, because no descriptor is left: who cannot be looked at is not dead.
        case unreadable
    }

    /// Looks at one process.
    package static func look(_ pid: Int32) -> Sight {
        do throws(GatewayError) {
            return parse(try Files().read("/proc/\(pid)/stat", limit: 4096)).map { .seen($0) } ?? .unreadable
        } catch {
            if error.code == "file-not-found" { return .gone }
            return kill(pid, 0) < 0 && errno == ESRCH ? .gone : .unreadable
        }
    }

    /// One process, `nil` when it is gone or cannot be looked at.
    package static func entry(_ pid: Int32) -> ProcessEntry? {
        guard case .seen(let entry) = look(pid) else { return nil }
        return entry
    }

    /// Reads a line of /proc/PID/stat; the command in parentheses may contain any bytes, parentheses included.
    package static func parse(_ line: [UInt8]) -> ProcessEntry? {
        guard let close = line.lastIndex(of: UInt8(ascii: ")")), close + 2 < line.count else { return nil }
        // By hand: a runner reads its own line and its provider's before anything else, and has no generic code loaded yet.
        var position = 0
        func number() -> Int64? {
            var value: Int64 = 0
            let isNegative = position < line.count && line[position] == UInt8(ascii: "-")
            if isNegative { position += 1 }
            let start = position
            while position < line.count, line[position] >= 0x30, line[position] <= 0x39 {
                let (tens, isTooLarge) = value.multipliedReportingOverflow(by: 10)
                guard !isTooLarge else { return nil }
                value = tens &+ Int64(line[position] - 0x30)
                position += 1
            }
            guard position > start, value >= 0 else { return nil }
            position += 1
            return isNegative ? -value : value
        }
        func skip(_ fields: Int) {
            for _ in 0..<fields {
                while position < line.count, line[position] != 0x20 { position += 1 }
                position += 1
            }
        }
        let pid = number().flatMap(Int32.init(exactly:))
        position = close + 4
        let parent = number().flatMap(Int32.init(exactly:))
        let group = number().flatMap(Int32.init(exactly:))
        let session = number().flatMap(Int32.init(exactly:))
        skip(7)
        let user = number(), system = number()
        skip(6)
        let start = number()
        skip(1)
        guard let pid, let parent, let group, let session, let user, let system, let start,
            let pages = number()
        else { return nil }
        return ProcessEntry(
            identity: ProcessIdentity(pid: pid, startTime: UInt64(clamping: start)),
            parent: parent,
            group: group,
            session: session,
            state: Character(UnicodeScalar(line[close + 2])),
            processorTicks: UInt64(clamping: user) + UInt64(clamping: system),
            residentBytes: pages &* Int64(sysconf(Int32(_SC_PAGESIZE)))
        )
    }

    /// Every process that can be seen.
    package static func all() -> [ProcessEntry] {
        ((try? Files().list("/proc")) ?? []).compactMap { Int32($0).flatMap(entry) }
    }

    /// The identity of a running process, `nil` when it is gone.
    package static func identity(_ pid: Int32) -> ProcessIdentity? { entry(pid)?.identity }

    /// When a process was started, by the clock as it is set now, to about a hundredth of a second.
    package static func startedAt(_ identity: ProcessIdentity) -> Timestamp {
        func milliseconds(_ clock: clockid_t) -> Int64 {
            var time = timespec()
            clock_gettime(clock, &time)
            return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
        }
        let boot = milliseconds(CLOCK_REALTIME) - milliseconds(CLOCK_BOOTTIME)
        let ticks = Int64(clamping: identity.startTime)
        return Timestamp(milliseconds: boot + ticks * 1000 / Int64(max(1, sysconf(Int32(_SC_CLK_TCK)))))
    }

    /// Whether exactly this process still runs; a zombie does not run.
    package static func isRunning(_ identity: ProcessIdentity) -> Bool {
        switch look(identity.pid) {
        case .gone: false
        case .unreadable: true
        case .seen(let entry): entry.identity == identity && entry.state != "Z" && entry.state != "X"
        }
    }

    /// The children of a process, theirs, and every member of the sessions that these lead; without the process.
    package static func descendants(of root: Int32, in table: [ProcessEntry] = all()) -> [ProcessEntry] {
        var found: [Int32: ProcessEntry] = [:]
        var frontier: Set<Int32> = [root]
        while !frontier.isEmpty {
            let next = table.filter { entry in
                let pid = entry.identity.pid
                return pid != root && found[pid] == nil
                    && (frontier.contains(entry.parent)
                        || (frontier.contains(entry.session) && entry.session != 0))
            }
            for entry in next { found[entry.identity.pid] = entry }
            frontier = Set(next.map(\.identity.pid))
        }
        return found.values.sorted { $0.identity.pid < $1.identity.pid }
    }

    /// The words of a process's command line; empty when it may not be read.
    package static func arguments(_ pid: Int32) -> [String] {
        var bytes = (try? Files().read("/proc/\(pid)/cmdline", limit: 4 << 20)) ?? []
        if bytes.last == 0 { bytes.removeLast() }
        if bytes.isEmpty { return [] }
        return bytes.split(separator: 0, omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
    }

    /// The variables that a process was started with; empty when they may not be read.
    package static func environment(_ pid: Int32) -> [String: String] {
        let bytes = (try? Files().read("/proc/\(pid)/environ", limit: 4 << 20)) ?? []
        var result: [String: String] = [:]
        for entry in bytes.split(separator: 0) {
            guard let equals = entry.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let name = String(decoding: entry[..<equals], as: UTF8.self)
            if result[name] == nil {
                result[name] = String(decoding: entry[entry.index(after: equals)...], as: UTF8.self)
            }
        }
        return result
    }

    /// The program that a process runs, also when its file has been removed or renamed since; `nil` when it may not be
    /// read.
    package static func executable(_ pid: Int32) -> String? {
        guard let path = Files().destination(ofLink: "/proc/\(pid)/exe") else { return nil }
        let mark = " (deleted)"
        return path.hasSuffix(mark) ? String(path.dropLast(mark.count)) : path
    }

    /// The command line of a process with its arguments separated by spaces; empty when it may not be read.
    package static func commandLine(_ pid: Int32) -> String {
        arguments(pid).joined(separator: " ")
    }

    /// Sends a signal to exactly this process; `false` when it is gone or is another one by now.
    @discardableResult
    package static func signal(_ identity: ProcessIdentity, _ signal: Int32) -> Bool {
        let descriptor = shim_pidfd_open(identity.pid)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        // The descriptor is held before the start time is read, so the number cannot change hands in between.
        guard entry(identity.pid)?.identity == identity else { return false }
        return shim_pidfd_send_signal(descriptor, signal) == 0
    }
}
