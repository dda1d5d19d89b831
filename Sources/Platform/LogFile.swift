package import Appliance
import CShims
import Glibc
import Synchronization

/// A log file of bounded size, for where there is no journal: `gateway.log`, `gateway.log.1` (the last one before),
/// and so on.
package final class LogFile: Sendable {
    private struct State {
        var descriptor: Int32 = -1
        var size: Int64 = 0
    }

    private let path: String
    private let limit: Int64
    private let keep: Int
    private let files: Files
    /// Whether standard error is the file, and has to go along when a new one is begun.
    private let isStandardError: Bool
    // A leaf: held for one write or one rotation.
    private let state = Mutex(State())

    /// Opens the file for appending, mode 0600.
    ///
    /// `limit` is in bytes; `keep` older files stay. Throws the error of the failed open.
    package init(_ path: String, limit: Int64 = 10 << 20, keep: Int = 3, files: Files) throws(GatewayError) {
        self.path = path
        self.limit = limit
        self.keep = keep
        self.files = files
        isStandardError = false
        let opened = try LogFile.open(path)
        state.withLock { $0 = opened }
    }

    /// The file that standard error leads to already, as `StandardOutput=append:` of systemd makes it; `nil` when it leads
    /// elsewhere.
    ///
    /// What the process writes to standard error and output by other ways goes into the same file, also after a rotation.
    package init?(standardErrorAt path: String, limit: Int64 = 10 << 20, keep: Int = 3, files: Files) {
        var info = stat()
        guard LogFile.isSame(2, path, &info) else { return nil }
        self.path = path
        self.limit = limit
        self.keep = keep
        self.files = files
        isStandardError = true
        let size = Int64(info.st_size)
        state.withLock { $0 = State(descriptor: 2, size: size) }
    }

    /// Whether a descriptor leads to the regular file at a path.
    private static func isSame(_ descriptor: Int32, _ path: String, _ info: inout stat) -> Bool {
        var there = stat()
        return fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFREG && stat(path, &there) == 0
            && info.st_dev == there.st_dev && info.st_ino == there.st_ino
    }

    deinit { if !isStandardError { state.withLock { if $0.descriptor >= 0 { _ = close($0.descriptor) } } } }

    private static func open(_ path: String) throws(GatewayError) -> State {
        let descriptor = shim_open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("open", path, -descriptor) }
        var info = stat()
        fstat(descriptor, &info)
        return State(descriptor: descriptor, size: Int64(info.st_size))
    }

    /// Appends bytes, which should end with a line break; when they would exceed the limit the file is rotated first, and
    /// grows beyond it where that cannot be done.
    package func append(_ bytes: [UInt8]) throws(GatewayError) {
        let result = state.withLock { state in
            Result<Void, GatewayError> { () throws(GatewayError) in
                if state.size > 0, state.size + Int64(bytes.count) > limit {
                    // A full disk must not silence the log, nor cost the older files.
                    do throws(GatewayError) { try rotate(&state) } catch {}
                }
                try Files.writeAll(bytes, to: state.descriptor, path: path)
                state.size += Int64(bytes.count)
            }
        }
        try result.get()
    }

    /// Begins a new file, and moves the older ones on.
    ///
    /// The new one is made first, under a name of its own: when that fails, for want of space or of a descriptor, nothing
    /// has been moved, and what is to be written goes into the old one.
    private func rotate(_ state: inout State) throws(GatewayError) {
        var info = stat()
        let outputGoesAlong = isStandardError && LogFile.isSame(1, path, &info)
        let staged = path + ".new"
        let opened = try LogFile.open(staged)
        do throws(GatewayError) {
            for number in stride(from: keep, to: 0, by: -1) {
                let from = number == 1 ? path : "\(path).\(number - 1)"
                if files.exists(from) { try files.rename(from, to: "\(path).\(number)", durable: false) }
            }
            try files.rename(staged, to: path, durable: false)
        } catch {
            close(opened.descriptor)
            unlink(staged)
            throw error
        }
        if isStandardError {
            if outputGoesAlong { dup2(opened.descriptor, 1) }
            dup2(opened.descriptor, 2)
            close(opened.descriptor)
            state.size = opened.size
        } else {
            close(state.descriptor)
            state = opened
        }
    }
}
