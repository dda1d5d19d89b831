import Appliance
import CShims
import Glibc
import Platform

/// Tells when another gateway that shares the `jobs` directory ends, however it ends: inotify(7) reports that its lock
/// file is closed.
///
/// Only its holder opens that file for writing; earlier versions do so to ask for it as well.
final class InstanceWatch {
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

    /// The gateways whose lock files are closed next; `nil` when the waiting task was cancelled.
    ///
    /// A file is closed a moment before its lock is free.
    func next() async -> Set<String>? {
        while await reactor.readable(watch), !Task.isCancelled {
            let others = read().subtracting([registry.name])
            if !others.isEmpty { return others }
        }
        return nil
    }

    /// The instances whose lock files were closed.
    private func read() -> Set<String> {
        var instances: Set<String> = []
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: InstanceWatch.bufferSize, alignment: 8)
        defer { bytes.deallocate() }
        while true {
            let count = Glibc.read(watch, bytes.baseAddress, bytes.count)
            guard count > 0 else { return instances }
            var offset = 0
            let headSize = MemoryLayout<inotify_event>.size
            while offset + headSize <= count {
                let head = bytes.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
                let name = bytes[(offset + headSize)..<min(count, offset + headSize + Int(head.len))]
                offset += headSize + Int(head.len)
                let text = String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
                guard text.hasPrefix(InstanceRegistry.lockPrefix) else { continue }
                instances.insert(String(text.dropFirst(InstanceRegistry.lockPrefix.count)))
            }
        }
    }
}
