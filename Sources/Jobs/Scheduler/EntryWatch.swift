import Appliance
import CShims
import Glibc
import Platform

/// Tells which entries of a directory come, go or change their names: inotify(7).
final class EntryWatch {
    private let path: String
    private let reactor: Reactor
    private let watch: Int32

    /// Bytes of events that are read at once; a name is a UUID or two with a prefix.
    private static let bufferSize = 16 << 10

    /// Begins to watch; throws what the file system throws.
    init(
        _ path: String,
        events: Int32 = IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE,
        reactor: Reactor
    ) throws(GatewayError) {
        self.path = path
        self.reactor = reactor
        watch = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        guard watch >= 0, inotify_add_watch(watch, path, UInt32(events | IN_ONLYDIR)) >= 0 else {
            let number = errno
            if watch >= 0 { close(watch) }
            throw EntryWatch.failure(path, number)
        }
    }

    /// The kernel names its own limits by the words for full disks and too many files, which would mislead.
    private static func failure(_ path: String, _ number: Int32) -> GatewayError {
        switch number {
        case ENOSPC, EMFILE:
            GatewayError(
                "watch-limit",
                "the kernel watches no more folders for this user",
                help: "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances (sysctl)"
            )
        default: Files.failure("watch", path, number)
        }
    }

    deinit { close(watch) }

    /// The names of the entries that changed next; `nil` when the waiting task was cancelled.
    func next() async -> Set<String>? {
        while await reactor.readable(watch), !Task.isCancelled {
            let names = read()
            if !names.isEmpty { return names }
        }
        return nil
    }

    private func read() -> Set<String> {
        var names: Set<String> = []
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: EntryWatch.bufferSize, alignment: 8)
        defer { bytes.deallocate() }
        while true {
            let count = Glibc.read(watch, bytes.baseAddress, bytes.count)
            guard count > 0 else { return names }
            var offset = 0
            let headSize = MemoryLayout<inotify_event>.size
            while offset + headSize <= count {
                let head = bytes.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
                let name = bytes[(offset + headSize)..<min(count, offset + headSize + Int(head.len))]
                offset += headSize + Int(head.len)
                names.insert(String(decoding: name.prefix { $0 != 0 }, as: UTF8.self))
            }
        }
    }
}
