import Appliance
import Platform

/// Automatic upgrades as a timer of the user's service manager.
///
/// 1. The manager is asked first, so that nothing is written where nobody would read it.
/// 2. Under the lock: the mode goes into `settings.json`, the units into their folder, and all that comes to be into the
///    receipt, also the file that systemd keeps for the timer.
/// 3. The timer is started now and with every session; switched off, it is stopped and removed, and the file with it.
struct UpgradeTimer: Sendable {
    var service: GatewayService

    private var machine: Machine { service.machine }
    private var layout: Layout { service.layout }
    private var systemd: SystemdService { SystemdService(machine: machine, layout: layout, say: service.say) }
    private var units: [UnitFiles.Unit] { UpgradeUnits.all(layout) }
    private var timer: String { "\(layout.upgradeUnitName).timer" }
    private var hasUnits: Bool {
        units.contains { machine.files.exists(Layout.join(layout.userUnits, $0.name)) }
    }

    /// The digest of nothing: what systemd's file for a timer holds.
    private static let emptyDigest = SHA256.hex([])

    /// What `settings.json` says.
    ///
    /// Throws `settings-corrupt` or `settings-invalid`.
    static func mode(_ layout: Layout, files: Files) throws(GatewayError) -> UpgradeMode {
        try UpgradeMode(stored: try files.storedSettings(of: layout))
    }

    /// Where its runs find releases and whom they believe; `nil` where nobody said.
    ///
    /// Throws `settings-corrupt` or `settings-invalid`.
    static func source(_ layout: Layout, files: Files) throws(GatewayError) -> TimerSource? {
        try TimerSource(stored: try files.storedSettings(of: layout))
    }

    /// Whether the timer is waiting for its time; `nil` when nobody can say.
    func isScheduled() async -> Bool? {
        guard ServiceBus.machineHasSystemd(files: machine.files) else { return false }
        return try? await systemd.isActive(timer)
    }

    /// Changes the mode, and what its runs believe unless `source` is `nil`; gives what the reader should know.
    ///
    /// Switched off, it forgets both. Throws `no-user-manager`, `user-manager-unreachable` or `gateway-missing`.
    func change(to mode: UpgradeMode, _ source: TimerSource? = nil) async throws(GatewayError) -> [String] {
        if mode == .off {
            guard machine.files.exists(layout.home) else { return [] }
            try await record(mode, nil)
            return try await remove()
        }
        guard ServiceBus.machineHasSystemd(files: machine.files) else {
            throw GatewayError(
                "no-user-manager",
                "automatic upgrades need a user service manager, and this machine has none",
                help: "run '\(Product.name) upgrade' in a daily job of yours, with cron for example"
            )
        }
        guard machine.files.isExecutable(layout.currentManager) else {
            throw GatewayError(
                "gateway-missing",
                "no gateway is installed: '\(layout.currentManager)' does not exist",
                help: "run '\(ReleaseSource.installCommand(machine.environment))'"
            )
        }
        try UnitFiles.check(layout)
        try await systemd.refuseForeign(timer)
        try await record(mode, source)
        return try await place()
    }

    /// Puts units and timer in place that the settings ask for; for `start`, which may follow an uninstall.
    func restore() async throws(GatewayError) -> [String] {
        // A mode that cannot be understood is the doctor's to report.
        guard let mode = try? UpgradeTimer.mode(layout, files: machine.files), mode != .off else { return [] }
        return try await place()
    }

    private func record(_ mode: UpgradeMode, _ source: TimerSource?) async throws(GatewayError) {
        let files = machine.files
        let lock = try await MutationLock.acquire(layout, verb: "upgrade", machine: machine, say: service.say)
        defer { withExtendedLifetime(lock) {} }
        // What a command before this one was writing when it was killed.
        for leftover in try Leftovers(layout: layout, files: files).staged() {
            try files.removeFile(leftover)
        }
        let stored = try files.storedSettings(of: layout)
        var document = mode.recorded(in: stored)
        if mode == .off || source != nil { document = TimerSource.recorded(source, in: document) }
        guard document != stored else { return }
        try files.writeUsersFile(Array((JSON.object(document).prettyText + "\n").utf8), to: layout.settings)
    }

    private func place() async throws(GatewayError) -> [String] {
        let installation = UnitInstallation(layout: layout, files: machine.files)
        let stamp = layout.upgradeTimerStamp
        let socket = await service.unreadSocket()
        let outcome = try await service.changingReceipt("upgrade") { (receipt) throws(GatewayError) in
            // An uninstall may have been waited for.
            try service.checkStartable()
            try installation.makeFolder(Files.parent(of: stamp), &receipt)
            receipt.note(Receipt.Created(path: stamp, kind: .file, sha256: UpgradeTimer.emptyDigest))
            return try installation.write(units + socket, receipt: &receipt)
        }
        try await systemd.activate([timer])
        let dropIns = try await systemd.dropIns(units.map(\.name))
        guard !dropIns.isEmpty else { return outcome.notices }
        return outcome.notices + ["your own settings apply: \(dropIns.joined(separator: ", "))"]
    }

    private func remove() async throws(GatewayError) -> [String] {
        try machine.files.removeFile(layout.upgradeRecord)
        guard hasUnits else { return [] }
        if ServiceBus.machineHasSystemd(files: machine.files) { try await systemd.retire([timer]) }
        let files = machine.files
        let stamp = layout.upgradeTimerStamp
        let socket = await service.unreadSocket()
        let outcome = try await service.changingReceipt("upgrade") { (receipt) throws(GatewayError) in
            if receipt.entry(stamp) != nil {
                if try files.status(stamp)?.size == 0 { try files.removeFile(stamp) }
                receipt.forget(stamp)
            }
            let installation = UnitInstallation(layout: layout, files: files)
            let removal = try installation.remove(units, receipt: &receipt)
            let writing = try installation.write(socket, receipt: &receipt)
            return UnitInstallation.Outcome(notices: removal.notices + writing.notices)
        }
        try await service.reloadUnits()
        return outcome.notices
    }
}
