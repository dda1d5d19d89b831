import Appliance
import Platform

/// What `uninstall` removes and keeps, from the receipt and what is there: pure.
///
/// Only what the receipt says this program created is removed, and only where it still is what was created.
struct UninstallPlan: Sendable, Equatable {
    /// What is at a path now.
    struct Present: Sendable, Equatable {
        var kind: Files.Kind
        /// Of a file.
        var sha256: String?
        /// Of a link.
        var target: String?
    }

    /// One thing to remove.
    struct Removal: Sendable, Equatable {
        enum Kind: String, Sendable {
            /// A file or a link.
            case file
            /// A whole folder that is ours.
            case tree
            /// A folder that goes only when nothing else is in it.
            case emptyFolder = "empty-folder"
        }

        var path: String
        var kind: Kind
        /// Paths in a whole folder that stay, and with them the folders they are in.
        var keeping: [String] = []
    }

    /// Something that stays, and why.
    struct Kept: Sendable, Equatable {
        var path: String
        var reason: String
    }

    var removals: [Removal] = []
    var kept: [Kept] = []
    /// Whether lingering was switched on by us and goes off again.
    var disablesLinger = false

    /// The user's own files in a home, by name.
    static let data = [
        "auth-token", "settings.json", "environment", "config.toml", "logs.db", "logs.db-wal", "logs.db-shm",
        "sessions.json", "approvals.jsonl", "jobs", "reference",
    ]

    /// Plans from the receipt, what makes the gateway run first.
    ///
    /// `present` looks at a path, `list` gives the names in a folder, `altered` what differs from an installed version's
    /// manifest; `leftovers` are staged forms of files that were being written; a bare home holds nothing but our lock.
    init(
        receipt: Receipt,
        layout: Layout,
        purge: Bool,
        isBareHome: Bool = false,
        leftovers: [String] = [],
        list: (String) throws(GatewayError) -> [String],
        altered: (Receipt.Installed) throws(GatewayError) -> [BundleManifest.Finding],
        present: (String) throws(GatewayError) -> Present?
    ) throws(GatewayError) {
        let names = try list(layout.home)
        disablesLinger = receipt.enabledLinger
        var folders: [String] = []
        for entry in receipt.created where entry.path != layout.home {
            guard let there = try present(entry.path) else { continue }
            switch (entry.kind, there.kind) {
            case (.directory, .directory):
                folders.append(entry.path)
            // `current` is made to point elsewhere by every upgrade, and the command's link after the home was moved.
            case (.link, .link)
            where entry.target == there.target || entry.path == layout.current
                || (entry.path == layout.commandLink && there.target == layout.currentManager),
                (.file, .file) where entry.wrote(there.sha256),
                (.unit, .file) where entry.wrote(there.sha256):
                removals.append(Removal(path: entry.path, kind: .file))
            default:
                kept.append(Kept(path: entry.path, reason: "it was changed since this program made it"))
            }
        }
        // An interrupted uninstall is undone as long as `current` leads to a version; so it goes before that does.
        try planVersions(receipt, layout, purge: purge, list: list, altered: altered, present: present)
        removals += leftovers.filter { path in !removals.contains { path.hasPrefix($0.path + "/") } }
            .map { Removal(path: $0, kind: .file) }
        let working: [(folder: String, isOurs: (String) -> Bool)] = [
            (layout.cache, HomeClaim.isDownload),
            (layout.staging, { HomeClaim.isStaging($0) || $0.hasPrefix(RestoreJournal.stagingPrefix) }),
            (layout.logs, HomeClaim.isLog),
        ]
        for (folder, isOurs) in working where try present(folder)?.kind == .directory {
            for name in try list(folder) {
                let path = Layout.join(folder, name)
                if isOurs(name) {
                    removals.append(
                        Removal(path: path, kind: try present(path)?.kind == .directory ? .tree : .file)
                    )
                } else {
                    kept.append(Kept(path: path, reason: "this program did not make it"))
                }
            }
            if !folders.contains(folder) { folders.append(folder) }
        }
        // Locks beside the records say nothing once nobody runs.
        for lock in UninstallPlan.data.map({ "\($0).lock" }) where names.contains(lock) {
            removals.append(Removal(path: Layout.join(layout.home, lock), kind: .file))
        }
        for name in names where UninstallPlan.isData(name) {
            let path = Layout.join(layout.home, name)
            if purge {
                removals.append(
                    Removal(path: path, kind: try present(path)?.kind == .directory ? .tree : .file)
                )
            } else {
                kept.append(Kept(path: path, reason: "it is yours (--purge removes it)"))
            }
        }
        // The deepest first, so that a folder is empty when its turn comes.
        removals += folders.sorted { ($0.count, $0) > ($1.count, $1) }
            .map { Removal(path: $0, kind: .emptyFolder) }
        let own = [
            layout.supervisor, layout.clientSessions, layout.upgradeRecord, layout.takeover,
            layout.restoration, layout.pendingStart, layout.receipt, layout.lock,
        ]
        let known = Set(removals.map(\.path) + kept.map(\.path) + own)
        for name in names {
            let path = Layout.join(layout.home, name)
            if !known.contains(path) { kept.append(Kept(path: path, reason: "this program did not make it")) }
        }
        // The receipt goes when everything that it names has gone: an interrupted uninstall can be repeated.
        for path in own where try present(path) != nil {
            removals.append(Removal(path: path, kind: .file))
        }
        if receipt.entry(layout.home)?.kind == .directory || purge || isBareHome {
            removals.append(Removal(path: layout.home, kind: .emptyFolder))
        }
    }

    /// The unpacked versions, and what is in them that did not come with them.
    private mutating func planVersions(
        _ receipt: Receipt,
        _ layout: Layout,
        purge: Bool,
        list: (String) throws(GatewayError) -> [String],
        altered: (Receipt.Installed) throws(GatewayError) -> [BundleManifest.Finding],
        present: (String) throws(GatewayError) -> Present?
    ) throws(GatewayError) {
        // What a link leads to is not what was made here.
        guard try present(layout.versions)?.kind == .directory else { return }
        for installed in receipt.installed {
            let path = layout.version(installed.directory)
            guard try present(path)?.kind == .directory else { continue }
            var staying: [Kept] = []
            for finding in try altered(installed) {
                switch finding.problem {
                case .missing, .mode: continue
                case .extra, .inTheWay:
                    // What a repair was staging is listed by itself.
                    if Files.staged(Files.name(of: finding.path)) != nil { continue }
                    staying.append(
                        Kept(
                            path: Layout.join(path, finding.path),
                            reason: "it did not come with version \(installed.version)"
                        )
                    )
                case .altered:
                    if purge { continue }
                    staying.append(
                        Kept(
                            path: Layout.join(path, finding.path),
                            reason: "it was changed since this program made it (--purge removes it)"
                        )
                    )
                }
            }
            kept += staying
            removals.append(Removal(path: path, kind: .tree, keeping: staying.map(\.path)))
        }
        let known = receipt.installed.map(\.directory)
        for name in try list(layout.versions) where !known.contains(name) {
            let path = layout.version(name)
            if receipt.discarded.contains(name) {
                removals.append(
                    Removal(path: path, kind: try present(path)?.kind == .directory ? .tree : .file)
                )
            } else {
                kept.append(Kept(path: path, reason: "this program did not make it"))
            }
        }
    }

    /// Data of the user, with what was kept aside of it.
    static func isData(_ name: String) -> Bool {
        data.contains { name == $0 || name.hasPrefix("\($0).corrupt-") }
            || name.hasPrefix(Receipt.damagedPrefix) || name.hasPrefix(Layout.replacedPrefix)
    }
}
