import Platform
import Providers
import Synchronization

/// The model registry, read again when it is older than the contract's two minutes.
final class ModelCache: Sendable {
    private struct Entry {
        var registry: ModelRegistry
        var readAt: UInt64
    }

    private let machine: Machine
    private let userHome: String
    private let entry = Mutex<Entry?>(nil)

    init(machine: Machine, userHome: String) {
        self.machine = machine
        self.userHome = userHome
    }

    /// The registry, at most two minutes old.
    func current() -> ModelRegistry {
        let now = machine.clock.uptime()
        return entry.withLock { entry in
            if let entry, now &- entry.readAt < UInt64(ModelRegistry.lifetimeSeconds) * 1_000_000_000 {
                return entry.registry
            }
            let registry = ModelRegistry(
                environment: machine.environment,
                userHome: userHome,
                files: machine.files
            )
            entry = Entry(registry: registry, readAt: now)
            return registry
        }
    }
}
