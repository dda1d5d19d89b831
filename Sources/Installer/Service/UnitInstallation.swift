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
        /// Names of units that were written.
        var written: [String] = []
        var notices: [String] = []
    }

    var layout: Layout
    var files: Files

    /// Writes what has to be written; the caller holds the lock and writes the receipt afterwards.
    ///
    /// The receipt is on the disk before anything that it has to name.
    func write(_ units: [UnitFiles.Unit], receipt: inout Receipt) throws(GatewayError) -> Outcome {
        var outcome = Outcome()
        var pending: [(path: String, bytes: [UInt8])] = []
        for unit in units {
            let path = Layout.join(layout.userUnits, unit.name)
            let bytes = Array(unit.text.utf8)
            switch try step(unit, receipt) {
            case .write(let present):
                let wanted = SHA256.hex(bytes)
                receipt.note(
                    Receipt.Created(path: path, kind: .unit, sha256: wanted, formerSHA256: present)
                )
                pending.append((path, bytes))
                outcome.written.append(unit.name)
            case .keep:
                // The receipt may have been lost.
                receipt.note(Receipt.Created(path: path, kind: .unit, sha256: SHA256.hex(bytes)))
            case .leave:
                outcome.notices.append(
                    "'\(path)' was not written by this program, or was changed since; it is left as it is "
                        + "(to get ours, move it away and start again)"
                )
            }
        }
        guard !pending.isEmpty else { return outcome }
        receipt.noteFolders(try files.missingFolders(layout.userUnits))
        try receipt.write(layout, files: files)
        try files.makeDirectory(layout.userUnits, durable: true)
        for (path, bytes) in pending { try files.write(bytes, to: path, mode: 0o644) }
        return outcome
    }

    /// Removes units that are as we wrote them; one that somebody changed stays and is reported.
    func remove(_ units: [UnitFiles.Unit], receipt: inout Receipt) throws(GatewayError) -> Outcome {
        var outcome = Outcome()
        for unit in units {
            let path = Layout.join(layout.userUnits, unit.name)
            guard let entry = receipt.entry(path) else { continue }
            // A link is the user's, whatever it leads to.
            let isLink = try files.status(path)?.kind == .link
            if let old = try files.readIfPresent(path, limit: 1 << 20),
                isLink || !entry.wrote(SHA256.hex(old))
            {
                outcome.notices.append("'\(path)' was changed since this program wrote it, and stays")
                continue
            }
            try files.removeFile(path)
            receipt.forget(path)
            outcome.written.append(unit.name)
        }
        return outcome
    }

    /// Makes a folder; every part of its path that was not there is in the receipt before.
    func makeFolder(_ path: String, _ receipt: inout Receipt) throws(GatewayError) {
        let missing = try files.missingFolders(path)
        guard !missing.isEmpty else { return }
        receipt.noteFolders(missing)
        try receipt.write(layout, files: files)
        try files.makeDirectory(path, durable: true)
    }

    /// What becomes of one unit, by what is there and what the receipt knows.
    private func step(_ unit: UnitFiles.Unit, _ receipt: Receipt) throws(GatewayError) -> UnitPlan.Step {
        let path = Layout.join(layout.userUnits, unit.name)
        var present: UnitPlan.Present?
        if let old = try files.readIfPresent(path, limit: 1 << 20) {
            let digest = SHA256.hex(old)
            let isFile = try files.status(path)?.kind == .file
            present = UnitPlan.Present(
                sha256: digest,
                isOurs: isFile && receipt.entry(path)?.wrote(digest) ?? false
            )
        }
        return UnitPlan.step(wanted: SHA256.hex(Array(unit.text.utf8)), present: present)
    }

    /// Whether the file of a unit is somebody else's, and stays as it is.
    func leaves(_ unit: UnitFiles.Unit, _ receipt: Receipt) throws(GatewayError) -> Bool {
        try step(unit, receipt) == .leave
    }

    /// The paths of units that the receipt has and that are gone, or are ours in an older form.
    func stale(_ units: [UnitFiles.Unit], _ receipt: Receipt) throws(GatewayError) -> [String] {
        var stale: [String] = []
        for unit in units {
            let path = Layout.join(layout.userUnits, unit.name)
            guard receipt.entry(path) != nil, case .write = try step(unit, receipt) else { continue }
            stale.append(path)
        }
        return stale
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
