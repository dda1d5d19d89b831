import Appliance
import Glibc
import Platform

/// The scope that the service manager is putting a runner into while the runner starts.
///
/// The gateway gives the runner a pipe as its standard input, writes the scope's name into it, and closes it once the manager
/// has answered: nothing may be started before, or it would stay outside.
struct OwnScope {
    /// The reading end; a gateway that dies closes the other one.
    private let descriptor: Int32

    /// How long a runner waits: a gateway that is alive and does nothing must not hold up its jobs.
    private static let limit = UserScopes.limit + .seconds(1)

    /// `nil` where standard input is no pipe, so that no scope is being made.
    init?() {
        var info = stat()
        guard fstat(STDIN_FILENO, &info) == 0, info.st_mode & S_IFMT == S_IFIFO else { return nil }
        descriptor = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 4)
        guard descriptor >= 0 else { return nil }
    }

    /// Waits for the manager's answer; the group of the scope, or `nil` when this process is not in there.
    func settle(_ clock: WallClock) -> ControlGroup? {
        defer { close(descriptor) }
        let end = clock.uptime() &+ OwnScope.limit.nanoseconds
        var name: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 512)
        while name.count < 1024 {
            let now = clock.uptime()
            guard now < end else { break }
            var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&item, 1, Int32(clamping: (end - now + 999_999) / 1_000_000))
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else { break }
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            name += buffer[..<count]
        }
        // Not the manager's word counts, but where this process is: the gateway may have died before it could pass that on.
        guard let group = ControlGroup.own(), group.name.utf8.elementsEqual(name) else { return nil }
        return group
    }
}
