import Appliance
import Platform

/// Where a home was before that was moved, or that is a copy of another one: a receipt names paths, which change with it.
struct HomeOrigin {
    /// The home that the receipt was written for.
    var home: String
    /// Whether this is that home, and not a copy of it.
    var isMoved: Bool
    /// Paths of then and what they are now, the longest first.
    private var moves: [(from: String, to: String)]

    /// `nil` for a receipt that was written for this home.
    ///
    /// An older receipt is known by `current`, which every installation notes.
    init?(of receipt: Receipt, _ layout: Layout, files: Files) {
        let name = "/" + Files.name(of: layout.current)
        let links = receipt.created.filter { $0.kind == .link && $0.path.hasSuffix(name) }.map(\.path)
        let homes = receipt.home.map { [$0] } ?? links.map { String($0.dropLast(name.count)) }
        guard let home = homes.first, !homes.contains(layout.home) else { return nil }
        // One home may be reached by two paths.
        let here = files.realPath(layout.home)
        guard !homes.contains(where: { files.realPath($0) == here }) else { return nil }
        self.home = home
        isMoved = HomeOrigin.isMoved(from: home, receipt, layout, files)
        moves = [(home, layout.home)]
        // With the whole home directory of a user went the command's link and the units.
        let userHome = Files.parent(of: home)
        if layout.isDefaultHome, Files.name(of: home) == Layout.standardName, userHome != layout.userHome {
            moves.append((userHome, layout.userHome))
        }
    }

    /// Whether the folder is the one that the receipt was written in, whatever is at its former place by now; or the former place
    /// is gone from a file system that is there, as after a move to another one.
    ///
    /// What is not there may be away for a while, with the disk that it is on: that would be the original of a copy.
    private static func isMoved(
        from home: String,
        _ receipt: Receipt,
        _ layout: Layout,
        _ files: Files
    ) -> Bool {
        let isGone = (try? files.status(home)) == .some(nil)
        func seen(_ path: String) -> Files.Status? { (try? files.target(path)) ?? nil }
        guard let inode = receipt.inode, let here = seen(layout.home) else { return isGone }
        if inode == here.inode {
            // The numbers of two file systems may be the same.
            return isGone || (receipt.device ?? seen(home)?.device) == here.device
        }
        return isGone && receipt.device != nil && seen(Files.parent(of: home))?.device == receipt.device
    }

    /// What is known of this home: `found`, what is on the disk, with what the receipt still says truly.
    ///
    /// Of a copy only what lies in what was copied: everything else belongs to the original. Whatever is removed later is
    /// compared with digest or target first.
    func receipt(_ receipt: Receipt, onto found: Receipt, files: Files) -> Receipt {
        var found = found
        found.installed = found.installed.map { version in
            receipt.installed.first { $0.directory == version.directory } ?? version
        }
        found.discarded = receipt.discarded
        found.enabledLinger = isMoved && receipt.enabledLinger
        for var entry in receipt.created {
            if let path = moved(entry.path) { entry.path = path } else if !isMoved { continue }
            guard found.entry(entry.path) == nil, files.exists(entry.path) else { continue }
            found.note(entry)
        }
        return found
    }

    private func moved(_ path: String) -> String? {
        for move in moves where path == move.from || path.hasPrefix(move.from + "/") {
            return move.to + path.dropFirst(move.from.count)
        }
        return nil
    }
}
