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
        note: String = ""
    ) throws(GatewayError) -> FileLock? {
        let descriptor = shim_open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("lock", path, -descriptor) }
        while flock(descriptor, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            let number = errno
            close(descriptor)
            if number == EWOULDBLOCK { return nil }
            throw Files.failure("lock", path, number)
        }
        if exclusive { leave(note, in: descriptor, path) }
        return FileLock(descriptor: descriptor)
    }

    private static func leave(_ note: String, in descriptor: Int32, _ path: String) {
        guard !note.isEmpty else { return }
        ftruncate(descriptor, 0)
        // The note is a courtesy to whoever waits; a full disk must not cost the lock.
        try? Files.writeAll(Array(note.utf8), to: descriptor, path: path)
    }

    /// Waits for the lock, on the calling thread, which must be one that may block.
    ///
    /// `note` is written into the file, as `attempt` does.
    package static func wait(
        _ path: String,
        exclusive: Bool = true,
        note: String = ""
    ) throws(GatewayError) -> FileLock {
        let descriptor = shim_open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("lock", path, -descriptor) }
        while flock(descriptor, exclusive ? LOCK_EX : LOCK_SH) != 0 {
            if errno == EINTR { continue }
            let number = errno
            close(descriptor)
            throw Files.failure("lock", path, number)
        }
        if exclusive { leave(note, in: descriptor, path) }
        return FileLock(descriptor: descriptor)
    }
}
