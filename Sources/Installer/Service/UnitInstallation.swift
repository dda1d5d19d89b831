import Appliance
import Glibc
import Platform

/// Puts the unit files in place.
///
/// 1. Our folders that are missing are made and noted in the receipt.
/// 2. Each file that is missing, or ours in an older form, is written and noted with its digest.
/// 3. A file that somebody changed stays as it is and is reported.
struct UnitInstallation {
    /// What was done.
    struct Outcome: Sendable, Equatable {
        /// Names of units that were written, or removed.
        var written: [String] = []
        var notices: [String] = []
    }

    var layout: Layout
    var files: Files

    /// Writes what has to be written; the caller holds the lock and writes the receipt.
    func write(_ units: [UnitFiles.Unit], receipt: inout Receipt) throws(GatewayError) -> Outcome {
        var outcome = Outcome()
        try makeFolder(layout.userUnits, &receipt)
        for unit in units {
            let path = Layout.join(layout.userUnits, unit.name)
            let bytes = Array(unit.text.utf8)
            let wanted = SHA256.hex(bytes)
            var present: UnitPlan.Present?
            if let old = try files.readIfPresent(path, limit: 1 << 20) {
                present = UnitPlan.Present(sha256: SHA256.hex(old), recorded: receipt.entry(path)?.sha256)
            }
            switch UnitPlan.step(wanted: wanted, present: present) {
            case .write:
                try files.write(bytes, to: path, mode: 0o644)
                receipt.note(Receipt.Created(path: path, kind: .unit, sha256: wanted))
                outcome.written.append(unit.name)
            case .keep:
                // The receipt may have been lost between the two writes.
                receipt.note(Receipt.Created(path: path, kind: .unit, sha256: wanted))
            case .leave:
                outcome.notices.append(
                    "'\(path)' was not written by this program, or was changed since; it is left as it is "
                        + "(to get ours, move it away and start again)"
                )
            }
        }
        return outcome
    }

    /// Removes units that are as we wrote them; one that somebody changed stays and is reported.
    func remove(_ units: [UnitFiles.Unit], receipt: inout Receipt) throws(GatewayError) -> Outcome {
        var outcome = Outcome()
        for unit in units {
            let path = Layout.join(layout.userUnits, unit.name)
            guard let entry = receipt.entry(path) else { continue }
            if let old = try files.readIfPresent(path, limit: 1 << 20), SHA256.hex(old) != entry.sha256 {
                outcome.notices.append("'\(path)' was changed since this program wrote it, and stays")
                continue
            }
            try files.removeFile(path)
            receipt.forget(path)
            outcome.written.append(unit.name)
        }
        return outcome
    }

    /// Makes a folder, and notes every part of its path that was not there.
    func makeFolder(_ path: String, _ receipt: inout Receipt) throws(GatewayError) {
        var missing: [String] = []
        var folder = path
        while folder != "/", try files.target(folder) == nil {
            missing.append(folder)
            folder = Files.parent(of: folder)
        }
        for folder in missing.reversed() {
            try files.makeDirectory(folder)
            receipt.note(Receipt.Created(path: folder, kind: .directory))
        }
    }

    /// Whether the user can read a journal of their own; otherwise the gateway needs a log file.
    ///
    /// On the disk it is kept in a folder with the machine's number, and by user. The folder around it is there on many
    /// machines that keep none; and the journal in memory is one for all, which only root may read.
    static func journalIsReadable(files: Files = Files()) -> Bool {
        let machine = ((try? files.readText("/etc/machine-id", limit: 4096)) ?? "").trimmed
        guard !machine.isEmpty else { return false }
        if files.exists("/var/log/journal/\(machine)") { return true }
        return getuid() == 0 && files.exists("/run/log/journal/\(machine)")
    }
}
