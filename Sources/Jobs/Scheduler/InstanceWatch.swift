import Appliance
import CShims
import Glibc
import Platform

/// Tells when another gateway that shares the `jobs` directory ends, however it ends, and when it wants a job ended: inotify(7)
/// reports that its lock file, or the mark of the job, is closed.
///
/// Only its holder opens a lock file for writing; earlier versions do so to ask for it as well.
final class InstanceWatch {
    /// What other gateways have done.
    struct News: Sendable, Equatable {
        /// Those whose lock files were closed.
        var ended: Set<String> = []
        /// Jobs that their callers want ended.
        var canceled: Set<String> = []
    }

    private let registry: InstanceRegistry
    private let reactor: Reactor
    private let watch: Int32

    /// Bytes of events that are read at once; a name is a UUID with a prefix.
    private static let bufferSize = 16 << 10

    /// Begins to watch; throws what the file system throws.
    init(_ registry: InstanceRegistry, reactor: Reactor) throws(GatewayError) {
        self.registry = registry
        self.reactor = reactor
        watch = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        let events = IN_CLOSE_WRITE | IN_ONLYDIR
        guard watch >= 0, inotify_add_watch(watch, registry.directory, UInt32(events)) >= 0 else {
            let number = errno
            if watch >= 0 { close(watch) }
            throw InstanceWatch.failure(registry.directory, number)
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

    /// What happens next; `nil` when the waiting task was cancelled.
    ///
    /// A lock file is closed a moment before its lock is free.
    func next() async -> News? {
        while await reactor.readable(watch), !Task.isCancelled {
            let news = read()
            if news != News() { return news }
        }
        return nil
    }

    private func read() -> News {
        var news = News()
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: InstanceWatch.bufferSize, alignment: 8)
        defer { bytes.deallocate() }
        while true {
            let count = Glibc.read(watch, bytes.baseAddress, bytes.count)
            guard count > 0 else { return news }
            var offset = 0
            let headSize = MemoryLayout<inotify_event>.size
            while offset + headSize <= count {
                let head = bytes.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
                let name = bytes[(offset + headSize)..<min(count, offset + headSize + Int(head.len))]
                offset += headSize + Int(head.len)
                let text = String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
                if text.hasPrefix(InstanceRegistry.lockPrefix) {
                    let instance = String(text.dropFirst(InstanceRegistry.lockPrefix.count))
                    if instance != registry.name { news.ended.insert(instance) }
                } else if text.hasPrefix(InstanceRegistry.cancelPrefix) {
                    news.canceled.insert(String(text.dropFirst(InstanceRegistry.cancelPrefix.count)))
                }
            }
        }
    }
}
