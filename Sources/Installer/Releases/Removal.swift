import Appliance
import Platform

/// Carries out what an `UninstallPlan` says.
///
/// Safe to repeat at any point: what is gone is passed over, and the receipt, which says what is ours, goes last.
struct Removal {
    var layout: Layout
    var files: Files
    /// Whether the home was made for a lock alone.
    var isBareHome = false
    /// The units of this home as they would be written now.
    var units: [UnitFiles.Unit] = []

    /// What stays to the end, so that an interrupted removal can be repeated: receipt, lock and home.
    static func frame(_ layout: Layout) -> Set<String> { [layout.receipt, layout.lock, layout.home] }

    /// Looks at everything that the receipt names.
    ///
    /// Blocks while it reads every installed file.
    func plan(_ receipt: Receipt, purge: Bool) throws(GatewayError) -> UninstallPlan {
        try UninstallPlan(
            receipt: receipt,
            layout: layout,
            purge: purge,
            isBareHome: isBareHome,
            leftovers: try Leftovers(layout: layout, files: files).staged(),
            // A home that was removed by hand may have left something elsewhere.
            list: { (path) throws(GatewayError) in
                path != layout.home || files.exists(path) ? try files.list(path) : []
            },
            altered: { (installed) throws(GatewayError) in
                try InstalledVersions.verify(installed, layout, files: files)
            },
            present: { (path) throws(GatewayError) in
                guard let status = try files.status(path) else { return nil }
                var present = UninstallPlan.Present(kind: status.kind)
                // Nothing that we note by its digest is as large; logs and records are.
                if status.kind == .file, status.size <= 8 << 20 {
                    do throws(GatewayError) {
                        present.sha256 = SHA256.hex(try files.read(path, limit: 8 << 20))
                    } catch  where error.code == "permission-denied" {
                        // What cannot be read is not known to be ours.
                    }
                }
                if status.kind == .link { present.target = files.destination(ofLink: path) }
                return present
            }
        )
    }

    /// Removes in the order of the plan; gives the paths that are gone.
    @discardableResult
    func perform(_ removals: [UninstallPlan.Removal]) throws(GatewayError) -> [String] {
        var gone: [String] = []
        for removal in removals {
            if removal.path == layout.receipt { try sync() }
            switch removal.kind {
            case .file: try files.removeFile(removal.path)
            case .tree: try removeTree(removal.path, keeping: Set(removal.keeping))
            // A home that is a link, or a folder that others put something into, stays.
            case .emptyFolder:
                if try files.status(removal.path)?.kind == .directory {
                    try files.removeEmptyDirectory(removal.path)
                }
            }
            if !files.exists(removal.path) { gone.append(removal.path) }
        }
        return gone
    }

    /// A power cut must not bring anything back that nobody knows to be ours any more.
    private func sync() throws(GatewayError) {
        do throws(GatewayError) {
            try files.syncFileSystem(layout.home)
        } catch  where error.code == "disk-full" {
            // Somebody else's data has no room: what is removed here needs none.
        }
    }

    /// Removes a folder but for some paths; the manifest last, because it says what belongs to it.
    private func removeTree(_ path: String, keeping kept: Set<String>) throws(GatewayError) {
        guard let status = try files.status(path), !kept.contains(path) else { return }
        guard status.kind == .directory else { return try files.removeFile(path) }
        let names = try files.list(path).filter { $0 != BundleManifest.name }
        for name in names { try removeTree(Layout.join(path, name), keeping: kept) }
        try removeTree(Layout.join(path, BundleManifest.name), keeping: kept)
        try files.removeEmptyDirectory(path)
    }
}
