package import Appliance
import CShims
import Glibc

/// The file system.
///
/// Every write stages beside its destination, syncs and renames; nothing is written in place.
package struct Files: Sendable {
    /// One step that changes the disk, named before it is done.
    package enum Step: Sendable, Equatable {
        /// A file is made or opened for writing; of an atomic write, the staged one.
        case open(String)
        /// Bytes are written to an open file.
        case write(String)
        /// A file, a directory or a file system is made durable.
        case sync(String)
        case syncFileSystem(String)
        /// From, to.
        case rename(String, String)
        /// A file or an empty directory goes; a tree is announced piece by piece, its root last.
        case remove(String)
        /// One directory is made; its parents are steps of their own.
        case makeDirectory(String)
        /// A link is made at the first path: a symbolic one with the second as its text, or a hard one to it.
        case link(String, String)
        /// Permission bits are set.
        case changeMode(String)
    }

    /// Called before every changing step; throwing makes the step fail as if the disk had.
    ///
    /// For a folder that may be moved away under its process, and for fault injection.
    package var before: (@Sendable (Step) throws(GatewayError) -> Void)?

    /// The real file system.
    package init(before: (@Sendable (Step) throws(GatewayError) -> Void)? = nil) { self.before = before }

    /// What lies at a path; `other` is a device, a socket or a FIFO.
    package enum Kind: Sendable, Equatable { case file, directory, link, other }

    /// What lstat(2) says.
    package struct Status: Sendable, Equatable {
        /// Of the path itself: a symbolic link is a `link` when it was not followed.
        package var kind: Kind
        /// Bytes.
        package var size: Int64
        /// Permission bits, 0o7777.
        package var mode: UInt32
        /// The numeric user id.
        package var owner: UInt32
        /// The last change of the contents, to the millisecond.
        package var modified: Timestamp
        /// Nanoseconds since the epoch, to tell one state of a file from the next.
        package var modifiedNanoseconds: Int64
        /// With `device` it names the file itself, whatever its paths are.
        package var inode: UInt64
        /// The file system: a rename works inside one only.
        package var device: UInt64
    }

    // MARK: reading

    /// What is at a path, without following a final symlink; `nil` when nothing is.
    package func status(_ path: String) throws(GatewayError) -> Status? {
        var info = stat()
        guard lstat(path, &info) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw Files.failure("read", path)
        }
        return Files.status(from: info)
    }

    /// What a path leads to, symlinks followed; `nil` when nothing does.
    package func target(_ path: String) throws(GatewayError) -> Status? {
        var info = stat()
        guard stat(path, &info) == 0 else {
            if errno == ENOENT || errno == ENOTDIR || errno == ELOOP { return nil }
            throw Files.failure("read", path)
        }
        return Files.status(from: info)
    }

    /// Whether something is at the path, a dangling symlink included.
    package func exists(_ path: String) -> Bool { ((try? status(path)) ?? nil) != nil }

    private static func status(from info: stat) -> Status {
        let kind: Kind =
            switch info.st_mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .directory
            case S_IFLNK: .link
            default: .other
            }
        return Status(
            kind: kind,
            size: Int64(info.st_size),
            mode: UInt32(info.st_mode) & 0o7777,
            owner: info.st_uid,
            modified: modified(info.st_mtim),
            // Only compared: what a date of any year wraps to is as good as another number.
            modifiedNanoseconds: Int64(info.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(info.st_mtim.tv_nsec),
            inode: UInt64(info.st_ino),
            device: UInt64(info.st_dev)
        )
    }

    /// When a file was changed, as a date of the years 1 to 9999: a file system may hold any number.
    private static func modified(_ time: timespec) -> Timestamp {
        let seconds = min(max(Int64(time.tv_sec), -62_135_596_800), 253_402_300_799)
        return Timestamp(milliseconds: seconds * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    /// A file's bytes.
    ///
    /// A file of more than `limit` bytes is refused with `file-too-large`.
    package func read(_ path: String, limit: Int = 64 << 20) throws(GatewayError) -> [UInt8] {
        // Opening a FIFO that nobody writes to would wait for ever; reading it then finds its end.
        let descriptor = shim_open(path, O_RDONLY | O_NONBLOCK, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Files.failure("read", path) }
        guard info.st_mode & S_IFMT != S_IFDIR else { throw Files.failure("read", path, EISDIR) }
        // Somebody who does write to one is waited for.
        if info.st_mode & S_IFMT != S_IFREG { _ = shim_set_nonblocking(descriptor, false) }
        var bytes: [UInt8] = []
        var chunk = max(4096, min(Int(info.st_size) + 1, limit + 1))
        while true {
            let count = bytes.count
            var got = 0
            bytes.append(
                contentsOf: [UInt8](unsafeUninitializedCapacity: chunk) { buffer, initialized in
                    got = Glibc.read(descriptor, buffer.baseAddress, chunk)
                    initialized = max(0, got)
                }
            )
            if got < 0 {
                if errno == EINTR { continue }
                throw Files.failure("read", path)
            }
            if got == 0 { return bytes }
            guard count + got <= limit else {
                throw GatewayError("file-too-large", "'\(path)' is larger than \(limit) bytes")
            }
            // A file that has a size and gives no more than that is at its end; those of /proc have none.
            if got < chunk, bytes.count == info.st_size { return bytes }
            // Usually there is nothing more, and a large buffer would be taken from the system only to be given back.
            chunk = got < chunk ? 4096 : 64 << 10
        }
    }

    /// A file's text; invalid UTF-8 is repaired.
    package func readText(_ path: String, limit: Int = 64 << 20) throws(GatewayError) -> String {
        String(decoding: try read(path, limit: limit), as: UTF8.self)
    }

    /// A file's bytes, or `nil` when it does not exist.
    package func readIfPresent(_ path: String, limit: Int = 64 << 20) throws(GatewayError) -> [UInt8]? {
        do throws(GatewayError) {
            return try read(path, limit: limit)
        } catch {
            if error.code == "file-not-found" { return nil }
            throw error
        }
    }

    /// The names in a directory, sorted, without `.` and `..`; empty when it does not exist.
    package func list(_ path: String) throws(GatewayError) -> [String] {
        try entries(of: path).map(\.name).sorted()
    }

    /// What is in a directory, and whether that is a directory, as far as the file system says so by the way.
    private func entries(of path: String) throws(GatewayError) -> [(name: String, isDirectory: Bool?)] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw Files.failure("list", path)
        }
        defer { closedir(directory) }
        var found: [(name: String, isDirectory: Bool?)] = []
        while true {
            errno = 0
            guard let entry = readdir(directory) else {
                // A listing that breaks off must not pass for a shorter one.
                if errno != 0 { throw Files.failure("list", path) }
                return found
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name == "." || name == ".." { continue }
            let type = Int(entry.pointee.d_type)
            found.append((name, type == Int(DT_UNKNOWN) ? nil : type == Int(DT_DIR)))
        }
    }

    /// Where a symlink points, as written; `nil` when the path is no symlink.
    package func destination(ofLink path: String) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
            guard let start = buffer.baseAddress else { return nil }
            let count = readlink(path, start, buffer.count)
            return count < 0
                ? nil : String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
        }
    }

    /// The path with every symlink resolved; `nil` when it leads nowhere.
    package func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The path with every symlink resolved, of what is not there as far as it leads somewhere.
    package func resolved(_ path: String) -> String {
        let parent = Files.parent(of: path)
        return realPath(path) ?? (parent == path ? path : Layout.join(resolved(parent), Files.name(of: path)))
    }

    /// Whether this process may execute the file.
    package func isExecutable(_ path: String) -> Bool {
        guard let status = (try? target(path)) ?? nil, status.kind == .file else { return false }
        return access(path, X_OK) == 0
    }

    /// Why this user may not write what is at a path: EROFS, EACCES and the like; `nil` when nothing is against it.
    package func obstacleToWriting(_ path: String) -> Int32? {
        faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0 ? nil : errno
    }

    /// Free bytes for this user in the file system of an existing path.
    package func freeSpace(_ path: String) throws(GatewayError) -> Int64 {
        var info = statvfs()
        guard statvfs(path, &info) == 0 else { throw Files.failure("measure", path) }
        // Servers over quota report fewer than none, which reads as an enormous number.
        let blocks = Int64(truncatingIfNeeded: info.f_bavail)
        let (bytes, isMore) = blocks.multipliedReportingOverflow(by: Int64(clamping: info.f_frsize))
        return blocks < 0 ? 0 : isMore ? .max : bytes
    }

    // MARK: changing

    /// Writes a file so that a reader sees the old or the new bytes, whatever happens: staged beside the
    /// destination, synced, renamed, and the directory synced.
    ///
    /// Without `durable` the syncs are left out, for files that mean nothing after a power cut.
    package func write(
        _ bytes: some Sequence<UInt8>,
        to path: String,
        mode: UInt32 = 0o600,
        durable: Bool = true
    ) throws(GatewayError) {
        let staged = "\(path).tmp.\(getpid()).\(Files.stagingNumber())"
        try step(.open(staged))
        let descriptor = shim_open(staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode_t(mode))
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        do throws(GatewayError) {
            defer { close(descriptor) }
            try step(.write(staged))
            try Files.writeAll(Array(bytes), to: descriptor, path: path)
            // The mode given to open(2) is cut by the umask.
            guard fchmod(descriptor, mode_t(mode)) == 0 else { throw Files.failure("write", path) }
            if durable {
                try step(.sync(staged))
                guard fsync(descriptor) == 0 else { throw Files.failure("write", path) }
            }
            try rename(staged, to: path, durable: durable)
        } catch {
            discard(staged)
            throw error
        }
    }

    /// Appends to a file in one write, so that lines of several processes do not mix.
    package func append(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o600) throws(GatewayError) {
        try step(.open(path))
        let descriptor = shim_open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode_t(mode))
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        defer { close(descriptor) }
        try step(.write(path))
        try Files.writeAll(bytes, to: descriptor, path: path)
    }

    /// Writes over the beginning of a file that is there, which needs no room on a full disk.
    ///
    /// A reader at the same moment may see parts of both: for small files that mean nothing after a crash. Throws
    /// `disk-full` when the file is shorter than that.
    package func overwrite(_ bytes: [UInt8], in path: String) throws(GatewayError) {
        try step(.open(path))
        let descriptor = shim_open(path, O_RDWR | O_NOFOLLOW, 0)
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_size >= bytes.count else {
            throw Files.failure("write", path, ENOSPC)
        }
        try step(.write(path))
        try Files.writeAll(bytes, to: descriptor, path: path)
    }

    /// Moves a file or directory inside one file system, replacing a file.
    package func rename(_ from: String, to path: String, durable: Bool = true) throws(GatewayError) {
        try step(.rename(from, path))
        guard Glibc.rename(from, path) == 0 else { throw Files.failure("write", path) }
        if durable { try syncDirectory(Files.parent(of: path)) }
    }

    /// Makes a directory and its missing parents; an existing one is left as it is.
    ///
    /// With `durable` the new names are still there after a power cut.
    package func makeDirectory(
        _ path: String,
        mode: UInt32 = 0o700,
        durable: Bool = false
    ) throws(GatewayError) {
        if let status = try target(path) {
            guard status.kind == .directory else { throw Files.failure("make directory", path, ENOTDIR) }
            return
        }
        let parent = Files.parent(of: path)
        if parent != path { try makeDirectory(parent, mode: mode, durable: durable) }
        try step(.makeDirectory(path))
        guard mkdir(path, mode_t(mode)) == 0 || errno == EEXIST else {
            throw Files.failure("make directory", path)
        }
        if durable { try syncDirectory(parent) }
    }

    /// Gives this process's user access to what it makes, to be called before it has a second thread.
    ///
    /// A umask that takes that away would lock it out of the folder it has just made.
    package static func keepOwnAccess() { umask(umask(0o077) & 0o077) }

    /// The folders of a path that do not exist yet, the path itself included, the outermost first.
    package func missingFolders(_ path: String) throws(GatewayError) -> [String] {
        var missing: [String] = []
        var folder = path
        while folder != "/", folder != ".", try target(folder) == nil {
            missing.append(folder)
            folder = Files.parent(of: folder)
        }
        return missing.reversed()
    }

    /// Removes a file or symlink; nothing there is success.
    package func removeFile(_ path: String) throws(GatewayError) {
        try step(.remove(path))
        guard unlink(path) == 0 || errno == ENOENT else { throw Files.failure("remove", path) }
    }

    /// Removes an empty directory; nothing there is success, a non-empty one is `false`.
    @discardableResult
    package func removeEmptyDirectory(_ path: String) throws(GatewayError) -> Bool {
        try step(.remove(path))
        if rmdir(path) == 0 || errno == ENOENT { return true }
        if errno == ENOTEMPTY || errno == EEXIST { return false }
        throw Files.failure("remove", path)
    }

    /// Removes a file or a whole directory.
    ///
    /// Symlinks inside are removed, never followed.
    package func removeTree(_ path: String) throws(GatewayError) {
        guard let status = try status(path) else { return }
        guard status.kind == .directory else { return try removeFile(path) }
        try removeFolder(path)
    }

    private func removeFolder(_ path: String) throws(GatewayError) {
        for entry in try entries(of: path).sorted(by: { $0.name < $1.name }) {
            let inside = Layout.join(path, entry.name)
            switch entry.isDirectory {
            case true?: try removeFolder(inside)
            case false?: try removeFile(inside)
            case nil: try removeTree(inside)
            }
        }
        try step(.remove(path))
        if rmdir(path) == 0 || errno == ENOENT { return }
        // A program may give a file a name that is no text, which no path of ours can name.
        guard errno == ENOTEMPTY || errno == EEXIST, shim_empty_directory(path) == 0, rmdir(path) == 0 else {
            throw Files.failure("remove", path)
        }
    }

    /// Makes or atomically replaces a symlink.
    package func link(_ path: String, to destination: String) throws(GatewayError) {
        let staged = "\(path).tmp.\(getpid()).\(Files.stagingNumber())"
        try step(.link(path, destination))
        guard symlink(destination, staged) == 0 else { throw Files.failure("link", path) }
        do throws(GatewayError) {
            try rename(staged, to: path)
        } catch {
            discard(staged)
            throw error
        }
    }

    /// Sets permission bits of a file or directory; a final symlink is refused, because its target may be anybody's.
    package func changeMode(_ path: String, to mode: UInt32) throws(GatewayError) {
        try step(.changeMode(path))
        guard fchmodat(AT_FDCWD, path, mode_t(mode), AT_SYMLINK_NOFOLLOW) == 0 else {
            throw Files.failure("change the mode of", path)
        }
    }

    /// Makes names in a directory durable.
    package func syncDirectory(_ path: String) throws(GatewayError) {
        try step(.sync(path))
        let descriptor = shim_open(path, O_RDONLY | O_DIRECTORY, 0)
        guard descriptor >= 0 else { throw Files.failure("sync", path, -descriptor) }
        defer { close(descriptor) }
        // Some file systems cannot sync directories and say EINVAL; they have nothing to sync then.
        guard fsync(descriptor) == 0 || errno == EINVAL else { throw Files.failure("sync", path) }
    }

    /// Makes everything that was written to the file system of a path durable.
    package func syncFileSystem(_ path: String) throws(GatewayError) {
        try step(.syncFileSystem(path))
        let descriptor = shim_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { throw Files.failure("sync", path, -descriptor) }
        defer { close(descriptor) }
        let number = shim_sync_file_system(descriptor)
        guard number == 0 else { throw Files.failure("sync", path, number) }
    }

    // MARK: paths

    /// The directory part of a path.
    package static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The last part of a path.
    package static func name(of path: String) -> String {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[path.utf8.index(after: $0)...]) } ?? path
    }

    // MARK: below

    /// Announces a step that somebody else is about to do on the disk; throws what the fault injection wants.
    package func step(_ step: Step) throws(GatewayError) { try before?(step) }

    /// Writes all bytes to a descriptor.
    package static func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(GatewayError) {
        // `withUnsafeBytes` does not carry a typed error.
        let result = bytes.withUnsafeBytes { buffer in
            do throws(GatewayError) {
                return Result<Void, GatewayError>.success(try writeAll(buffer, to: descriptor, path: path))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// Writes all bytes of a buffer to a descriptor.
    package static func writeAll(
        _ bytes: UnsafeRawBufferPointer,
        to descriptor: Int32,
        path: String
    ) throws(GatewayError) {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("write", path)
            }
            done += count
        }
    }

    /// Removes what was staged for a write that failed; what cannot be removed bears a name that tells what it is.
    private func discard(_ staged: String) {
        do throws(GatewayError) { try removeFile(staged) } catch {}
    }

    /// The name of which this is a staged form, with the process that staged it: `x.tmp.<pid>.<number>`.
    ///
    /// `nil` for every name that `write` and `link` would not give.
    package static func staged(_ name: String) -> (name: String, pid: Int32)? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[parts.count - 3] == "tmp",
            let pid = Int32(parts[parts.count - 2]), pid > 0, "\(pid)" == parts[parts.count - 2],
            let number = UInt32(parts[parts.count - 1]), "\(number)" == parts[parts.count - 1]
        else { return nil }
        return (parts.dropLast(3).joined(separator: "."), pid)
    }

    private static func stagingNumber() -> UInt32 {
        var generator = SystemRandomNumberGenerator()
        return UInt32.random(in: .min ... .max, using: &generator)
    }

    /// An error number as an error with a code that says what to do.
    package static func failure(_ verb: String, _ path: String, _ number: Int32 = errno) -> GatewayError {
        let reason = String(cString: strerror(number)).lowercased()
        switch number {
        case ENOENT:
            return GatewayError("file-not-found", "cannot \(verb) '\(path)': it does not exist")
        case EACCES, EPERM:
            return GatewayError(
                "permission-denied",
                "cannot \(verb) '\(path)': permission denied",
                help: "check who owns it: ls -ld '\(parent(of: path))' '\(path)'"
            )
        case ENOSPC, EDQUOT:
            return GatewayError(
                "disk-full",
                "cannot \(verb) '\(path)': \(number == EDQUOT ? "the disk quota is used up" : "no space is left on the disk")",
                help: "free some space, then run the command again; nothing that worked before was changed"
            )
        case EROFS:
            return GatewayError(
                "read-only-file-system",
                "cannot \(verb) '\(path)': the file system is read-only",
                help: "choose another place with LLM_GATEWAY_HOME"
            )
        case ENOTDIR:
            return GatewayError(
                "not-a-directory",
                "cannot \(verb) '\(path)': a part of the path is not a directory"
            )
        default:
            return GatewayError("file-error", "cannot \(verb) '\(path)': \(reason)")
        }
    }
}
