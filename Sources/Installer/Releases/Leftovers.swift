import Appliance
import Platform

/// What a command that was killed leaves: recognised by place, form and name, so that no file of the user's matches.
extension Installation {
    /// Staging directories, partial downloads that nobody will go on with, and staged forms of files that were being
    /// written.
    ///
    /// The caller has the lock, so that nobody else is at work on what only commands write. What the gateway and its jobs
    /// write as well counts only when the process that staged it has gone.
    func leftovers() throws(GatewayError) -> [String] {
        try Leftovers(layout: layout, files: files).all(now: machine.clock.now())
    }
}

/// Finds them; changes nothing.
struct Leftovers {
    var layout: Layout
    var files: Files

    /// All of them, absolute.
    func all(now: Timestamp) throws(GatewayError) -> [String] {
        try working(now) + staged()
    }

    /// In the working folders.
    private func working(_ now: Timestamp) throws(GatewayError) -> [String] {
        try names(ofOurs: layout.staging).filter(HomeClaim.isStaging).map { Layout.join(layout.staging, $0) }
            + PartialDownload.leftovers(in: layout.cache, files: files, now: now)
    }

    /// Staged forms of files and links that only commands write, which are held back by the lock.
    private var guarded: Set<String> {
        let units =
            ["service", "socket", "slice"].map { "\(layout.unitName).\($0)" }
            + ["service", "timer"].map { "\(layout.upgradeUnitName).\($0)" }
        return Set(
            [
                layout.receipt, layout.current, layout.authToken, layout.settings, layout.environmentFile,
                layout.commandLink, layout.takeover, layout.restoration, layout.pendingStart,
            ] + units.map { Layout.join(layout.userUnits, $0) }
        )
    }

    /// What the gateway writes in the home, or the process that supervises it.
    private static let shared: Set = [
        "config.toml", "sessions.json", "supervisor.json", "auto-upgrade.json",
    ]

    /// Staged forms anywhere: in the home, beside the command's link and the units, and in what was unpacked.
    func staged() throws(GatewayError) -> [String] {
        var found: [String] = []
        for folder in [layout.home, Files.parent(of: layout.commandLink), layout.userUnits] {
            for name in try names(in: folder) {
                let path = Layout.join(folder, name)
                guard let staged = Files.staged(name) else { continue }
                let original = Layout.join(folder, staged.name)
                let isOurs =
                    guarded.contains(original) || isBackup(staged.name, in: folder)
                    || (folder == layout.home && Leftovers.shared.contains(staged.name)
                        && !isHeld(path, staged.pid))
                if isOurs, try isPlain(path) { found.append(path) }
            }
        }
        for path in [layout.authToken, layout.settings, layout.environmentFile]
        where try files.status(path)?.kind == .link {
            found += try staged(besideTargetOf: path)
        }
        for job in try names(ofOurs: layout.jobs) { found += try staged(inJob: layout.job(job)) }
        for version in try names(ofOurs: layout.versions) {
            found += try staged(below: layout.version(version))
        }
        return found
    }

    /// Where a link of the user's leads: its file is written there.
    private func staged(besideTargetOf link: String) throws(GatewayError) -> [String] {
        guard let target = files.realPath(link) else { return [] }
        let folder = Files.parent(of: target)
        var found: [String] = []
        for name in try names(in: folder) where Files.staged(name)?.name == Files.name(of: target) {
            let path = Layout.join(folder, name)
            if try isPlain(path) { found.append(path) }
        }
        return found
    }

    /// A job's folder: its runner and the gateway write there.
    private func staged(inJob folder: String) throws(GatewayError) -> [String] {
        var found: [String] = []
        for name in try names(ofOurs: folder) {
            let path = Layout.join(folder, name)
            guard let staged = Files.staged(name), !isHeld(path, staged.pid), try isPlain(path) else {
                continue
            }
            found.append(path)
        }
        return found
    }

    /// An unpacked version: what repairing a file of it staged.
    private func staged(below folder: String) throws(GatewayError) -> [String] {
        var found: [String] = []
        for name in try names(ofOurs: folder) {
            let path = Layout.join(folder, name)
            if Files.staged(name) != nil, try isPlain(path) {
                found.append(path)
            } else if try files.status(path)?.kind == .directory {
                found += try staged(below: path)
            }
        }
        return found
    }

    /// A file that was being kept aside.
    private func isBackup(_ name: String, in folder: String) -> Bool {
        folder == layout.home && name.hasPrefix(Receipt.damagedPrefix)
    }

    /// Whether the process that staged it may still be about to rename it.
    private func isHeld(_ path: String, _ pid: Int32) -> Bool {
        guard let entry = ProcessTable.entry(pid), entry.state != "Z" else { return false }
        // A number that was given to another process since is no sign of life.
        guard let status = (try? files.status(path)) ?? nil else { return true }
        return ProcessTable.startedAt(entry.identity).milliseconds <= status.modified.milliseconds + 1000
    }

    /// Only files and links of this user are staged.
    private func isPlain(_ path: String) throws(GatewayError) -> Bool {
        guard let status = try files.status(path) else { return false }
        return status.kind == .file || status.kind == .link
    }

    /// The names in a folder that only this program makes; none in a link to one, which leads to somebody else's files.
    private func names(ofOurs folder: String) throws(GatewayError) -> [String] {
        guard try files.status(folder)?.kind == .directory else { return [] }
        return try files.list(folder)
    }

    /// The names in a folder that may be the user's, and a link; none where there is no folder.
    private func names(in folder: String) throws(GatewayError) -> [String] {
        guard try files.target(folder)?.kind == .directory else { return [] }
        return try files.list(folder)
    }
}
