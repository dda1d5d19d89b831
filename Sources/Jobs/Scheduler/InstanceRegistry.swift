import Appliance
import Glibc
import Platform

/// The gateways that share a `jobs` directory.
///
/// Each holds a lock on a file of its own for as long as it lives, so that another can tell whether it still answers
/// for its jobs. Used by one scheduler, on its thread.
///
/// `@unchecked Sendable`: `lock` is only touched by the scheduler's actor.
final class InstanceRegistry: @unchecked Sendable {
    /// Directories of jobs that are being written; the instance's name follows.
    static let stagingPrefix = ".new-"
    static let lockPrefix = ".instance-"
    /// Marks of jobs that a caller of another gateway wants ended; the job's id follows.
    static let cancelPrefix = ".cancel-"

    /// Directories of jobs that could not be read; the job's id follows.
    static let damagedPrefix = ".damaged-"

    /// A UUID.
    let name: String
    let host: String
    /// The kernel's id of this boot; `nil` where /proc does not say.
    let boot: String?
    let directory: String
    private let files: Files
    private var lock: FileLock?

    init(directory: String, machine: Machine) {
        self.directory = directory
        files = machine.files
        name = machine.random.uuid()
        boot = ProcessTable.boot.isEmpty ? nil : ProcessTable.boot
        var buffer = [CChar](repeating: 0, count: 256)
        gethostname(&buffer, buffer.count - 1)
        host = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Makes this gateway known; repeating it changes nothing.
    func enrol() throws(GatewayError) {
        guard lock == nil else { return }
        try files.makeDirectory(directory)
        let guardLock = try guardChanges()
        // Who asks whether it is held has it for a moment, and without it this gateway would pass for one that is gone.
        lock = try FileLock.wait(lockFile(name), within: .seconds(10))
        withExtendedLifetime(guardLock) {}
    }

    /// Held while it is decided who answers for what; only for a moment.
    func guardChanges() throws(GatewayError) -> FileLock {
        try InstanceRegistry.guardChanges(of: directory)
    }

    static func guardChanges(of directory: String) throws(GatewayError) -> FileLock {
        try FileLock.wait(Layout.join(directory, ".adoption"), within: .seconds(10))
    }

    /// Whether a gateway still lives.
    ///
    /// Only with `guardChanges` held.
    func isAlive(_ instance: String) -> Bool { isAlive(instance, in: directory) }

    /// Whether a gateway that shares another `jobs` directory, or this one, still lives; with the directory's guard held.
    func isAlive(_ instance: String, in directory: String) -> Bool {
        if instance == name { return true }
        let path = Layout.join(directory, InstanceRegistry.lockPrefix + instance)
        if instance.isEmpty || instance.contains("/") { return false }
        do throws(GatewayError) {
            guard try files.status(path) != nil else { return false }
        } catch {
            // Who cannot be looked at is not dead.
            return true
        }
        // Asked with a descriptor for reading: the end of one for writing is what `InstanceWatch` waits for.
        return FileLock.isHeld(path)
    }

    /// Whether another gateway than this one lives, by the names in the directory; with the guard held.
    func hasOthers(_ names: [String]) -> Bool {
        names.contains { name in
            name.hasPrefix(InstanceRegistry.lockPrefix)
                && name.dropFirst(InstanceRegistry.lockPrefix.count) != self.name[...]
                && FileLock.isHeld(Layout.join(directory, name))
        }
    }

    /// Whether any gateway works in a `jobs` directory.
    static func isAnyAlive(in directory: String, files: Files) -> Bool {
        ((try? files.list(directory)) ?? []).contains { name in
            name.hasPrefix(lockPrefix) && FileLock.isHeld(Layout.join(directory, name))
        }
    }

    /// Removes what dead gateways have left of themselves.
    ///
    /// Only with `guardChanges` held.
    func sweep(_ names: [String]) {
        for name in names {
            if name.hasPrefix(InstanceRegistry.lockPrefix) {
                let instance = String(name.dropFirst(InstanceRegistry.lockPrefix.count))
                if !isAlive(instance) { try? files.removeFile(Layout.join(directory, name)) }
            } else if name.hasPrefix(InstanceRegistry.stagingPrefix) {
                let instance = name.dropFirst(InstanceRegistry.stagingPrefix.count).prefix { $0 != "." }
                if !isAlive(String(instance)) { try? files.removeTree(Layout.join(directory, name)) }
            } else if name.hasPrefix(InstanceRegistry.cancelPrefix) {
                let job = String(name.dropFirst(InstanceRegistry.cancelPrefix.count))
                if !files.exists(Layout.join(directory, job)) {
                    try? files.removeFile(Layout.join(directory, name))
                }
            }
        }
    }

    /// The mark that somebody wants a job ended, for the gateway that answers for it.
    func cancelMark(_ job: String) -> String {
        Layout.join(directory, InstanceRegistry.cancelPrefix + job)
    }

    /// Where a job's directory is while it is being made or removed: nobody takes it for a job there, and once this gateway is
    /// gone, what is left of it is removed.
    func staging(_ job: String) -> String { InstanceRegistry.staging(job, of: name, in: directory) }

    /// Where a gateway has a job's directory while it is being made or removed.
    static func staging(_ job: String, of instance: String, in directory: String) -> String {
        Layout.join(directory, "\(stagingPrefix)\(instance).\(job)")
    }

    func lockFile(_ instance: String) -> String {
        Layout.join(directory, InstanceRegistry.lockPrefix + instance)
    }
}
