import Appliance
import Glibc
import Platform

/// Waits until something holds that the entries of a directory decide; `false` when it does not hold in time.
///
/// The condition is looked at when the wait begins and after each change in the directory, which inotify(7) tells. The
/// directory has to exist; one that goes meanwhile is a change as well.
package func changes(
    in directory: String,
    within limit: Duration = .seconds(20),
    until condition: () async throws -> Bool
) async throws -> Bool {
    let watch = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
    guard watch >= 0 else { throw Files.failure("watch", directory) }
    defer { close(watch) }
    let events =
        IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF
    guard inotify_add_watch(watch, directory, UInt32(events)) >= 0 else {
        throw Files.failure("watch", directory)
    }
    let clock = ContinuousClock()
    let end = clock.now + limit
    while true {
        if try await condition() { return true }
        let left = clock.now.duration(to: end)
        guard left > .zero else { return false }
        try await BlockingThread.run("watch") { () throws(GatewayError) in
            var wanted = pollfd(fd: watch, events: Int16(POLLIN), revents: 0)
            poll(&wanted, 1, Int32(clamping: left.milliseconds + 1))
            var buffer = [UInt8](repeating: 0, count: 4096)
            while read(watch, &buffer, buffer.count) > 0 {}
        }
    }
}
