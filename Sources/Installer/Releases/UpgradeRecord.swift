import Appliance
import Platform

/// `auto-upgrade.json`: what the last automatic upgrade came to.
struct UpgradeRecord: Sendable, Equatable {
    /// How it ended; the raw values are in the file and in the doctor's report.
    enum Outcome: String, Sendable {
        /// The installed version is the newest.
        case upToDate = "up-to-date"
        /// There is a newer one, which was not to be installed.
        case available
        case upgraded
        case failed
    }

    /// When it ended.
    var at: Timestamp
    var outcome: Outcome
    /// The newest version, where it came to know it.
    var version: String?
    /// How many in a row have failed.
    var failures = 0
    /// Why the last one failed.
    var error: GatewayError?

    /// The record of a home; `nil` when there is none, or one that cannot be read.
    static func read(_ layout: Layout, files: Files) throws(GatewayError) -> UpgradeRecord? {
        guard let bytes = try files.readIfPresent(layout.upgradeRecord, limit: 1 << 20),
            let json = try? JSON.parse(bytes),
            let at = json["at"]?.string.flatMap({ Timestamp(iso8601: $0) }),
            let outcome = json["outcome"]?.string.flatMap(Outcome.init(rawValue:))
        else { return nil }
        var record = UpgradeRecord(at: at, outcome: outcome, version: json["version"]?.string)
        record.failures = json["failures"]?.int ?? 0
        if let error = json["error"], let code = error["code"]?.string, let text = error["message"]?.string {
            record.error = GatewayError(code, text, help: error["help"]?.string)
            record.error?.cause = error["cause"]?.string
        }
        return record
    }

    /// Replaces the record of a home.
    func write(_ layout: Layout, files: Files) throws(GatewayError) {
        try files.write(Array((json.prettyText + "\n").utf8), to: layout.upgradeRecord)
    }

    var json: JSON {
        [
            "at": .string(at.iso8601), "outcome": .string(outcome.rawValue), "version": .optional(version),
            "failures": .integer(failures), "error": error?.json["error"] ?? .null,
        ]
    }
}
