import Appliance
import CShims
import Glibc
import Platform

/// Reads what a running job writes, as it comes, without polling: inotify(7) says when there is more.
package final class OutputFollower {
    private let directory: JobDirectory
    private let path: String
    private let reactor: Reactor
    private let watch: Int32
    private var file: Int32 = -1
    private var isOver = false

    /// The largest piece that is given at once.
    private static let pieceSize = 64 << 10

    init(
        _ directory: JobDirectory,
        _ stream: ChildProcess.Stream,
        reactor: Reactor
    ) throws(GatewayError) {
        self.directory = directory
        path = stream == .output ? directory.standardOutput : directory.standardError
        self.reactor = reactor
        watch = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        let events = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR
        guard watch >= 0, inotify_add_watch(watch, directory.path, UInt32(events)) >= 0 else {
            let number = errno
            if watch >= 0 { close(watch) }
            throw Files.failure("watch", directory.path, number)
        }
    }

    deinit {
        close(watch)
        if file >= 0 { close(file) }
    }

    /// The next bytes; `nil` when the job is over, or the waiting task was cancelled.
    package func next() async -> [UInt8]? {
        while true {
            if let piece = read() { return piece }
            if isOver { return nil }
            // Everything was written before the record: after it is seen, one more reading is complete.
            if directory.hasEnd(Files()) || !Files().exists(directory.path) {
                isOver = true
                continue
            }
            guard await reactor.readable(watch) else { return nil }
            var events = [UInt8](repeating: 0, count: 4096)
            while Glibc.read(watch, &events, events.count) > 0 {}
        }
    }

    private func read() -> [UInt8]? {
        if file < 0 { file = shim_open(path, O_RDONLY, 0) }
        guard file >= 0 else { return nil }
        let piece = [UInt8](unsafeUninitializedCapacity: OutputFollower.pieceSize) { buffer, count in
            count = max(0, Glibc.read(file, buffer.baseAddress, buffer.count))
        }
        return piece.isEmpty ? nil : piece
    }
}
