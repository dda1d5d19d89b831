package import Appliance
import CShims
import Glibc
import Platform

extension JobScheduler {
    /// What a watcher waits for.
    package enum WatchEnd: String, Sendable, CaseIterable {
        /// Anything new: another status, or more output.
        case change
        /// The end of the job.
        case end
    }

    /// Waits until something happens to a job of the caller's, at most so long; what is then known of it, `nil` when there is
    /// no such job.
    ///
    /// What counts is what happens beyond `progress` (`FoundJob.progress`), or, without it, from now on. A job that is over is
    /// not waited for, and of one on another machine only the end is news. `report` gets what the job has come to meanwhile. A cancelled task ends the wait.
    package func watch(
        _ id: String,
        for caller: String,
        until end: WatchEnd = .change,
        after progress: Int? = nil,
        within limit: Duration,
        report: @Sendable (JobSnapshot) -> Void = { _ in }
    ) async throws(GatewayError) -> FoundJob? {
        guard let first = try await find(id, for: caller) else { return nil }
        let seen = progress ?? first.progress
        func isEnough(_ found: FoundJob) -> Bool {
            found.snapshot.status.isFinal || (end == .change && found.progress > seen)
        }
        if isEnough(first) || limit <= .zero { return first }
        if first.snapshot.host != nil {
            return try await watchElsewhere(id, for: caller, within: limit, report: report)
        }
        let start = machine.clock.uptime()
        func left() -> Duration { limit - .milliseconds(machine.clock.milliseconds(since: start)) }
        guard let directory = first.directory, let watch = eyes(on: directory) else {
            // Its files are out of sight: a look at the end of the time, or at the end of the job where that is known.
            await settle(id, within: limit)
            return try await find(id, for: caller)
        }
        while true {
            // Looked at after the watch began, so that nothing falls between.
            guard let found = try await find(id, for: caller) else { return nil }
            if isEnough(found) || left() <= .zero || Task.isCancelled { return found }
            report(found.snapshot)
            if let handle = handle(id), directory.hasEnd(machine.files) {
                // Nothing more is written; what follows is its commit.
                _ = await handle.outcome(within: left())
            } else if await watch.next(within: left()), end == .end {
                await settle(id, within: min(left(), JobScheduler.timeBetweenLooks))
            }
        }
    }

    /// How long output may come unseen by who waits for the end alone: looking at every piece of much output would take more of a
    /// processor than what writes it.
    private static let timeBetweenLooks = Duration.milliseconds(20)

    private func settle(_ id: String, within limit: Duration) async {
        if let handle = handle(id) {
            _ = await handle.outcome(within: limit)
        } else {
            try? await machine.clock.sleep(limit)
        }
    }

    /// A watch on a job's directory; `nil` where that can't be had, or the directory has gone.
    private func eyes(on directory: JobDirectory) -> DirectoryWatch? {
        do throws(GatewayError) {
            return try DirectoryWatch(directory.path, reactor: machine.reactor)
        } catch {
            if error.code != "file-not-found" { report(error) }
            return nil
        }
    }
}

/// Tells that something happens in a directory: a file is made, written to or moved in, or the directory itself goes.
private final class DirectoryWatch {
    private let reactor: Reactor
    private let watch: Int32

    init(_ path: String, reactor: Reactor) throws(GatewayError) {
        self.reactor = reactor
        watch = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        let events = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR
        guard watch >= 0, inotify_add_watch(watch, path, UInt32(events)) >= 0 else {
            let number = errno
            if watch >= 0 { close(watch) }
            throw Files.failure("watch", path, number)
        }
    }

    deinit { close(watch) }

    /// Waits for the next event, at most so long; `false` when none came.
    func next(within limit: Duration) async -> Bool {
        guard await reactor.readable(watch, within: limit) else { return false }
        var events = [UInt8](repeating: 0, count: 4096)
        while read(watch, &events, events.count) > 0 {}
        return true
    }
}
