package import Appliance
import CShims
import Glibc

/// An flock(2) lock: the kernel releases it when the process ends, however it ends.
///
/// Never a pid file.
package final class FileLock: Sendable {
    /// Held open; a child that gets it holds the lock as well, for as long as it lives.
    package let descriptor: Int32

    private init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Takes the lock if it is free; `nil` when another holder has it.
    ///
    /// `note` is written into the file, so that a waiting command can say for whom it waits.
    package static func attempt(
        _ path: String,
        exclusive: Bool = true,
        note: @autoclosure () -> String = ""
    ) throws(GatewayError) -> FileLock? {
        try take(path, exclusive ? LOCK_EX : LOCK_SH, LOCK_NB, note)
    }

    /// Takes the lock of a folder itself if it is free, so that no file is made for it; `nil` when another holder has it.
    ///
    /// Throws `file-not-found` when there is no such folder.
    package static func attempt(folder path: String) throws(GatewayError) -> FileLock? {
        try take(path, LOCK_EX, LOCK_NB, isFolder: true)
    }

    /// Waits for the lock of a folder for at most so long, as `wait` does for that of a file.
    package static func wait(folder path: String, within limit: Duration) throws(GatewayError) -> FileLock {
        try wait(path, isFolder: true, within: limit)
    }

    /// Waits for the lock for at most so long, on the calling thread, which must be one that may block.
    ///
    /// Throws `busy` when the time is up.
    package static func wait(_ path: String, within limit: Duration) throws(GatewayError) -> FileLock {
        try wait(path, isFolder: false, within: limit)
    }

    private static func wait(
        _ path: String,
        isFolder: Bool,
        within limit: Duration
    ) throws(GatewayError) -> FileLock {
        if let lock = try take(path, LOCK_EX, LOCK_NB, isFolder: isFolder) { return lock }
        // flock(2) knows no time limit, so that a thread waits; when it gets the lock too late, it lets go of it at once.
        let handover = try Handover()
        BlockingThread.start("file-lock") {
            do throws(GatewayError) {
                while true {
                    guard let lock = try take(path, LOCK_EX, 0, isFolder: isFolder) else { continue }
                    return handover.give(.success(lock))
                }
            } catch {
                handover.give(.failure(error))
            }
        }
        if let lock = try handover.take(within: limit)?.get() { return lock }
        throw GatewayError(
            "busy",
            "'\(path)' has been locked by another process for more than \(limit.components.seconds) s",
            help: "'fuser \(path)' names that process; end it if it hangs"
        )
    }

    /// What a waiting thread leaves for the one that it waits for.
    private final class Handover: Sendable {
        private let state = GuardedValue<(result: Result<FileLock, GatewayError>?, isOver: Bool)>(
            (nil, false)
        )
        private let bell: Int32

        init() throws(GatewayError) {
            bell = eventfd(0, Int32(EFD_CLOEXEC))
            guard bell >= 0 else { throw GatewayError("file-error", "no descriptors are left to wait with") }
        }

        deinit { close(bell) }

        func give(_ result: sending Result<FileLock, GatewayError>) {
            state.withLock { state in
                if !state.isOver { state.result = result }
            }
            var one: UInt64 = 1
            write(bell, &one, 8)
        }

        /// `nil` when the time is up.
        func take(within limit: Duration) -> Result<FileLock, GatewayError>? {
            let clock = WallClock.system
            let end = clock.uptime() &+ limit.nanoseconds
            while true {
                let now = clock.uptime()
                let rest = Int32(clamping: (max(end, now) - now + 999_999) / 1_000_000)
                var item = pollfd(fd: bell, events: Int16(POLLIN), revents: 0)
                if poll(&item, 1, rest) >= 0 || errno != EINTR { break }
            }
            return state.withLock { state in
                state.isOver = true
                return state.result
            }
        }
    }

    /// Waits for the lock, on the calling thread, which must be one that may block.
    ///
    /// There is no limit: for who waits for the end of a process that holds the lock all its life, or counts the time
    /// itself. `note` is written into the file, as `attempt` does, and made only then.
    package static func wait(
        _ path: String,
        exclusive: Bool = true,
        note: @autoclosure () -> String = ""
    ) throws(GatewayError) -> FileLock {
        while true {
            if let lock = try take(path, exclusive ? LOCK_EX : LOCK_SH, 0, note) { return lock }
        }
    }

    /// Whether somebody holds the lock for themselves now; nothing is made for the question, and nothing waits.
    ///
    /// A shared lock is taken for a moment, on another open file: a taker that comes in just then waits for that moment. What cannot
    /// be looked at for want of descriptors may be held.
    package static func isHeld(_ path: String) -> Bool { (try? isTaken(path)) ?? true }

    /// What `isHeld` says, of a folder, which may be reached through a link.
    package static func isHeld(folder path: String) -> Bool { (try? isTaken(path, O_DIRECTORY)) ?? true }

    /// What `isHeld` says; throws what the file system throws when it cannot be told.
    package static func isTaken(_ path: String) throws(GatewayError) -> Bool { try isTaken(path, O_NOFOLLOW) }

    private static func isTaken(_ path: String, _ flags: Int32) throws(GatewayError) -> Bool {
        let descriptor = shim_open(path, O_RDONLY | flags, 0)
        // Where nothing is that could be locked, nobody holds it.
        if [ENOENT, ENOTDIR, ELOOP].contains(-descriptor) { return false }
        guard descriptor >= 0 else { throw Files.failure("lock", path, -descriptor) }
        defer { close(descriptor) }
        while flock(descriptor, LOCK_SH | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return true }
            guard errno == EINTR else { throw Files.failure("lock", path) }
        }
        return false
    }

    /// Waits, without a limit, until nobody holds the lock for themselves, on the calling thread, which must be one that
    /// may block; nothing is made for the question.
    ///
    /// Throws what the file system throws when it cannot be told.
    package static func waitWhileHeld(_ path: String) throws(GatewayError) {
        let descriptor = shim_open(path, O_RDONLY | O_NOFOLLOW, 0)
        if descriptor == -ENOENT { return }
        guard descriptor >= 0 else { throw Files.failure("lock", path, -descriptor) }
        defer { close(descriptor) }
        while flock(descriptor, LOCK_SH) != 0 {
            guard errno == EINTR else { throw Files.failure("lock", path) }
        }
    }

    /// The process that took the lock of a file or folder for itself; `nil` when nobody has it or when that cannot be told.
    ///
    /// A process that got the lock handed on is not known to the kernel: the taker is, even when it has ended since. Another
    /// user's mount may hide it, and some file systems have another device there than in stat(2).
    package static func holder(of path: String) -> Int32? {
        var named = stat()
        guard stat(path, &named) == 0, let table = try? Files().readText("/proc/locks") else { return nil }
        var device: (UInt32, UInt32) = (0, 0)
        shim_device_numbers(named.st_dev, &device.0, &device.1)
        return holder(in: table, device: device, inode: UInt64(named.st_ino))
    }

    /// Reads one lock's holder out of the kernel's table (proc_locks(5)).
    static func holder(in table: String, device: (UInt32, UInt32), inode: UInt64) -> Int32? {
        for line in table.split(separator: "\n") {
            // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:16236787 0 EOF`; one that waits has an arrow before its kind.
            let fields = line.split(separator: " ")
            guard fields.count > 5, fields[1] == "FLOCK", fields[3] == "WRITE" else { continue }
            let place = fields[5].split(separator: ":")
            guard place.count == 3, UInt32(place[0], radix: 16) == device.0,
                UInt32(place[1], radix: 16) == device.1, UInt64(place[2]) == inode
            else { continue }
            // The kernel says 0 of a process of another process name space.
            return Int32(fields[4]).flatMap { $0 > 0 ? $0 : nil }
        }
        return nil
    }

    private static func take(
        _ path: String,
        _ kind: Int32,
        _ how: Int32,
        _ note: () -> String = { "" },
        isFolder: Bool = false
    ) throws(GatewayError) -> FileLock? {
        // A home may be a link to a folder; a link in the place of a lock's file is somebody's trick.
        let flags = isFolder ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_NOFOLLOW
        while true {
            let descriptor = shim_open(path, flags, 0o600)
            guard descriptor >= 0 else { throw Files.failure("lock", path, -descriptor) }
            while flock(descriptor, kind | how) != 0 {
                if errno == EINTR { continue }
                let number = errno
                close(descriptor)
                if number == EWOULDBLOCK { return nil }
                throw Files.failure("lock", path, number)
            }
            // The holder before may have removed the file, as an uninstall does: then this is nobody's lock any more.
            guard isNamed(descriptor, path, isFolder: isFolder) else {
                close(descriptor)
                continue
            }
            if kind == LOCK_EX { leave(note(), in: descriptor, path) }
            return FileLock(descriptor: descriptor)
        }
    }

    /// Whether the path still names the open file.
    private static func isNamed(_ descriptor: Int32, _ path: String, isFolder: Bool) -> Bool {
        var held = stat()
        var named = stat()
        guard fstat(descriptor, &held) == 0 else { return false }
        let isThere = isFolder ? stat(path, &named) == 0 : lstat(path, &named) == 0
        return isThere && held.st_ino == named.st_ino && held.st_dev == named.st_dev
    }

    private static func leave(_ note: String, in descriptor: Int32, _ path: String) {
        guard !note.isEmpty else { return }
        ftruncate(descriptor, 0)
        // The note is a courtesy to whoever waits; a full disk must not cost the lock.
        try? Files.writeAll(Array(note.utf8), to: descriptor, path: path)
    }
}
