import Appliance
import Glibc
import Platform

/// `restore.json`: which verified files are being put in place, so that whoever finds it goes on.
///
/// The gateway does not start while it is there: half of one home and half of another must not be served.
struct RestoreJournal: Sendable, Equatable {
    /// What the names of restores begin with in `staging`.
    static let stagingPrefix = "restore-"

    /// The folder with the files to put in place, absolute: `home` of a staging directory, or, to undo a restore, the folder
    /// with what it replaced.
    var source: String
    /// Where what they replace goes, absolute.
    var aside: String
    /// Files that the backup has, relative to the home.
    var placed: [String]
    /// Files that belong together with them and that the backup does not have.
    var removed: [String]
    /// Whether the gateway ran, so that it has to be started afterwards.
    var wasRunning = false
    /// Whether it ran under a supervising process of ours.
    var wasDetached = false
    var state = State.stopping

    /// How far it has come.
    enum State: String, Sendable {
        /// The gateway is being stopped, and every file is where it was.
        case stopping
        /// Files are being put in place.
        case placing
    }

    private var json: JSON {
        [
            "source": .string(source), "aside": .string(aside), "placed": .strings(placed),
            "removed": .strings(removed), "was_running": .bool(wasRunning),
            "was_detached": .bool(wasDetached), "state": .string(state.rawValue),
        ]
    }

    /// Reads the journal of a home; `nil` when no restore was interrupted.
    ///
    /// Throws `restore-journal-invalid` for one that names places outside the home.
    static func read(_ layout: Layout, files: Files) throws(GatewayError) -> RestoreJournal? {
        guard let bytes = try files.readIfPresent(layout.restoration, limit: 8 << 20) else { return nil }
        func names(_ value: JSON?) -> [String]? {
            guard let names = value?.array?.map({ $0.string ?? "" }) else { return nil }
            let areInside = names.allSatisfy { name in
                name.split(separator: "/", omittingEmptySubsequences: false)
                    .allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
            }
            return areInside ? names : nil
        }
        guard let json = try? JSON.parse(bytes), let source = json["source"]?.string,
            isSource(source, layout),
            let aside = json["aside"]?.string, Files.parent(of: aside) == layout.home,
            Files.name(of: aside).hasPrefix(Layout.replacedPrefix), let placed = names(json["placed"]),
            let removed = names(json["removed"]),
            let state = State(rawValue: json["state"]?.string ?? State.placing.rawValue)
        else {
            throw GatewayError(
                "restore-journal-invalid",
                "'\(layout.restoration)' cannot be understood, so an interrupted restore cannot be finished",
                help: "restore again with --replace after moving that file away"
            )
        }
        return RestoreJournal(
            source: source,
            aside: aside,
            placed: placed,
            removed: removed,
            wasRunning: json["was_running"]?.bool ?? false,
            wasDetached: json["was_detached"]?.bool ?? false,
            state: state
        )
    }

    private static func isSource(_ path: String, _ layout: Layout) -> Bool {
        let parent = Files.parent(of: path)
        if parent == layout.home { return Files.name(of: path).hasPrefix(Layout.replacedPrefix) }
        return Files.parent(of: parent) == layout.staging && Files.name(of: parent).hasPrefix(stagingPrefix)
    }

    /// Writes it durably.
    func write(_ layout: Layout, files: Files) throws(GatewayError) {
        try files.write(Array((json.prettyText + "\n").utf8), to: layout.restoration)
    }

    /// Puts everything in its place, from wherever an earlier attempt came to; the caller holds the lock.
    func finish(_ layout: Layout, files: Files) throws(GatewayError) {
        try files.makeDirectory(aside)
        // The database's log before the database: alone it would be taken for the log of the next one.
        for name in removed {
            try putAside(name, layout, files)
            for folder in RelativePath.folders(of: name).reversed() {
                try files.removeEmptyDirectory(Layout.join(layout.home, folder))
            }
        }
        for name in placed {
            let verified = Layout.join(source, name)
            guard files.exists(verified) else { continue }
            if let place = try Self.linkedFile(name, layout, files) {
                try writeThroughLink(verified, name, place, layout, files)
                continue
            }
            try putAside(name, layout, files)
            for folder in RelativePath.folders(of: name) {
                let path = Layout.join(layout.home, folder)
                // A link to a folder leads out of the home: nothing is written through it.
                if try files.status(path)?.kind != .directory { try putAside(folder, layout, files) }
                try files.makeDirectory(path, durable: true)
            }
            try files.rename(verified, to: Layout.join(layout.home, name))
        }
        try end(layout, files)
        try removeEmptyFolders(aside, files)
        if Files.parent(of: source) == layout.home {
            try removeEmptyFolders(source, files)
        } else {
            try files.removeTree(Files.parent(of: source))
        }
    }

    /// Where a name of the home leads that stays a link: to a file of the user's, which is written in its own place.
    ///
    /// Any other link goes aside as it is.
    static func linkedFile(_ name: String, _ layout: Layout, _ files: Files) throws(GatewayError) -> String? {
        let path = Layout.join(layout.home, name)
        guard HomeContents.linkable.contains(name), try files.status(path)?.kind == .link,
            let place = files.realPath(path), let target = try files.target(place), target.kind == .file,
            target.owner == geteuid(), access(place, W_OK) == 0, access(Files.parent(of: place), W_OK) == 0
        else { return nil }
        return place
    }

    /// Keeps what the file behind a link holds aside, and writes the verified content there.
    private func writeThroughLink(
        _ verified: String,
        _ name: String,
        _ place: String,
        _ layout: Layout,
        _ files: Files
    ) throws(GatewayError) {
        let kept = Layout.join(aside, name)
        // There already after an interruption, when the file may have been written.
        if !files.exists(kept) {
            // What a killed write leaves goes with the source, and is not kept for the user's.
            let copy = verified + ".kept"
            try files.write(try files.read(place), to: copy)
            try files.rename(copy, to: kept)
        }
        try files.writeUsersFile(try files.read(verified), to: Layout.join(layout.home, name))
        try files.removeFile(verified)
    }

    /// Gives everything up, while every file is where it was.
    private func abandon(_ layout: Layout, files: Files) throws(GatewayError) {
        try end(layout, files)
        try files.removeTree(Files.parent(of: source))
    }

    /// The gateway may start again, and shall if it ran: the one is known before the other is forgotten.
    private func end(_ layout: Layout, _ files: Files) throws(GatewayError) {
        try pendingStart?.write(layout, files: files)
        try files.removeFile(layout.restoration)
    }

    /// What is noted before the journal goes: that the gateway has to be started.
    var pendingStart: PendingStart? {
        guard wasRunning else { return nil }
        let isUndoing = Files.name(of: source).hasPrefix(Layout.replacedPrefix)
        return PendingStart(
            restore: Files.name(of: isUndoing ? source : Files.parent(of: source)),
            isDetached: wasDetached
        )
    }

    private func putAside(_ name: String, _ layout: Layout, _ files: Files) throws(GatewayError) {
        let path = Layout.join(layout.home, name)
        // Through a link nothing is moved: what it leads to is not in the home.
        for folder in RelativePath.folders(of: name)
        where try files.status(Layout.join(layout.home, folder))?.kind != .directory { return }
        guard files.exists(path) else { return }
        var place = Layout.join(aside, name)
        var number = 2
        while files.exists(place) {
            place = Layout.join(aside, "\(name).\(number)")
            number += 1
        }
        try files.makeDirectory(Files.parent(of: place), durable: true)
        try files.rename(path, to: place)
        // Durable on both sides, or a power cut could lose it between them.
        try files.syncDirectory(Files.parent(of: path))
    }

    /// Removes a folder with all folders in it, as far as they are empty.
    private func removeEmptyFolders(_ path: String, _ files: Files) throws(GatewayError) {
        guard try files.status(path)?.kind == .directory else { return }
        for name in try files.list(path) { try removeEmptyFolders(Layout.join(path, name), files) }
        try files.removeEmptyDirectory(path)
    }

    /// What a restore that did not come to its end is called wherever it is spoken of.
    static let cut = "a restore was interrupted"

    /// What `status`, `doctor` and a rehearsed `repair` say while there is a journal, and what to do.
    struct Standing {
        /// What is so.
        var sentence: String
        /// What the reader does about it.
        var help: String
        /// What `repair` does about it, in the imperative.
        var step: String
    }

    /// Says how a restore stands that left a journal; one that cannot be understood says so itself when it is gone on with.
    static func standing(_ layout: Layout, files: Files) -> Standing {
        let command = "run '\(Product.name) repair'"
        let start = "starts the gateway if it ran"
        do throws(GatewayError) {
            guard try read(layout, files: files)?.state == .stopping else {
                return Standing(
                    sentence: "\(cut), and the gateway does not start before it is finished",
                    help: "\(command): it puts the rest in place, and \(start)",
                    step: "finish the interrupted restore"
                )
            }
            return Standing(
                sentence:
                    "\(cut) that had replaced nothing yet, and the gateway does not start before it is given up",
                help: "\(command): it gives the restore up, and \(start)",
                step: "give the interrupted restore up, which had replaced nothing yet"
            )
        } catch {
            return Standing(
                sentence: "\(cut), and \(error.message)",
                help: error.help ?? command,
                step: "finish the interrupted restore"
            )
        }
    }

    /// For what would read or compare a home that may be half another one.
    static func interrupted(_ layout: Layout, files: Files) -> GatewayError {
        let standing = standing(layout, files: files)
        return GatewayError("restore-interrupted", standing.sentence, help: standing.help)
    }

    /// Goes on with an interrupted restore; says so, or `nil` when there was none.
    ///
    /// The caller holds the lock.
    static func recover(_ layout: Layout, files: Files) throws(GatewayError) -> String? {
        guard let journal = try read(layout, files: files) else {
            for name in try files.list(layout.staging) where name.hasPrefix(stagingPrefix) {
                try files.removeTree(Layout.join(layout.staging, name))
            }
            return nil
        }
        switch journal.state {
        case .stopping:
            try journal.abandon(layout, files: files)
            return "gave up an interrupted restore, which had replaced nothing yet"
        case .placing:
            try journal.finish(layout, files: files)
            return "finished an interrupted restore; what it replaced is in '\(journal.aside)'"
        }
    }
}
