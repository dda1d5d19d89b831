import Appliance
import CShims
import Glibc
import Platform

/// Tells when another gateway that shares the `jobs` directory ends, however it ends, and when it wants a job ended: its lock
/// file, or the mark of the job, is closed.
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
    private let watch: EntryWatch

    /// Begins to watch; throws what the file system throws.
    init(_ registry: InstanceRegistry, reactor: Reactor) throws(GatewayError) {
        self.registry = registry
        watch = try EntryWatch(registry.directory, events: IN_CLOSE_WRITE, reactor: reactor)
    }

    /// What happens next; `nil` when the waiting task was cancelled.
    ///
    /// A lock file is closed a moment before its lock is free.
    func next() async -> News? {
        while let names = await watch.next() {
            var news = News()
            for name in names {
                if name.hasPrefix(InstanceRegistry.lockPrefix) {
                    let instance = String(name.dropFirst(InstanceRegistry.lockPrefix.count))
                    if instance != registry.name { news.ended.insert(instance) }
                } else if name.hasPrefix(InstanceRegistry.cancelPrefix) {
                    news.canceled.insert(String(name.dropFirst(InstanceRegistry.cancelPrefix.count)))
                }
            }
            if news != News() { return news }
        }
        return nil
    }
}
