import Appliance
import Platform

/// Where an automatic upgrade finds its releases: only those whose signature was verified.
protocol UpgradeSource: Sendable {
    /// The newest release.
    func newest() async throws(GatewayError) -> SemanticVersion
    /// Installs the newest release.
    func install() async throws(GatewayError) -> InstallReport
}

/// One run of the timer.
///
/// 1. The mode is read anew: whoever switched it off since the timer was set wins.
/// 2. The newest release is looked up and compared with the installed version.
/// 3. Where the mode says so, it is installed, as `upgrade` does it.
/// 4. However it ended, the record says so; the doctor and `status` read it.
struct AutomaticUpgrade {
    var layout: Layout
    var files: Files
    var clock: WallClock
    var source: any UpgradeSource

    /// Runs it.
    ///
    /// Throws what the source throws, once that is recorded.
    func run() async throws(GatewayError) -> AutomaticUpgradeReport {
        let mode = try UpgradeTimer.mode(layout, files: files)
        guard mode != .off else { return AutomaticUpgradeReport(mode: .off) }
        let before = try UpgradeRecord.read(layout, files: files)
        do throws(GatewayError) {
            let record = try await attempt(mode)
            try record.write(layout, files: files)
            return AutomaticUpgradeReport(mode: mode, record: record)
        } catch {
            var record = UpgradeRecord(at: clock.now(), outcome: .failed, error: error)
            record.failures = (before?.failures ?? 0) + 1
            // A home that is gone has nobody to tell.
            if files.exists(layout.home) { try record.write(layout, files: files) }
            throw error
        }
    }

    private func attempt(_ mode: UpgradeMode) async throws(GatewayError) -> UpgradeRecord {
        let newest = try await source.newest()
        let active = try Receipt.read(layout, files: files).active.flatMap { SemanticVersion($0.version) }
        if let active, newest <= active {
            return UpgradeRecord(at: clock.now(), outcome: .upToDate, version: active.description)
        }
        guard mode == .on else {
            return UpgradeRecord(at: clock.now(), outcome: .available, version: newest.description)
        }
        let report = try await source.install()
        return UpgradeRecord(
            at: clock.now(),
            outcome: report.changed ? .upgraded : .upToDate,
            version: report.installed.version
        )
    }
}

/// What one run of the timer came to.
struct AutomaticUpgradeReport: Report {
    var mode: UpgradeMode
    /// `nil` when nothing was to be done.
    var record: UpgradeRecord?

    var json: JSON {
        [
            "ok": true, "action": "upgrade", "auto": .string(mode.rawValue),
            "last": record?.json ?? .null,
        ]
    }

    var text: String {
        guard let record else { return "automatic upgrades are off" }
        return record.wording
    }
}

extension UpgradeRecord {
    /// One sentence without its time.
    var wording: String {
        let version = version ?? "?"
        return switch outcome {
        case .upToDate: "version \(version) is the newest"
        case .available: "version \(version) can be installed: \(Product.name) upgrade"
        case .upgraded: "upgraded to version \(version)"
        case .failed:
            "failed\(failures > 1 ? " \(failures) times in a row" : ""): \(error?.description ?? "?")"
        }
    }
}
