package import Appliance
import CShims
import Glibc

/// A folder that a process holds open for as long as it lives.
///
/// It shows to others whose the process is, by whatever name the folder goes since, and to the process itself whether what is at
/// its path now is still that folder: one that was moved or removed must not be made again.
package struct HeldFolder: Sendable {
    /// The path by which it was opened, absolute.
    package let path: String
    private let identity: Files.Identity

    /// Opens a folder; nothing closes it but the end of the process.
    ///
    /// Throws `file-not-found` and what else keeps it from being opened.
    package init(_ path: String) throws(GatewayError) {
        let descriptor = shim_open(path, O_RDONLY | O_DIRECTORY, 0)
        guard descriptor >= 0 else { throw Files.failure("open", path, -descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else {
            let number = errno
            close(descriptor)
            throw Files.failure("open", path, number)
        }
        self.path = path
        identity = Files.Identity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }

    /// Whether its path still leads to it, as far as that can be told: a disk that fails says nothing.
    package var isThere: Bool {
        do throws(GatewayError) {
            return try Files().target(path)?.identity == identity
        } catch {
            return true
        }
    }

    /// The file system as it is, but for the folder's path: where another folder is now, or none, every change fails with
    /// `home-moved`.
    package func guarding(_ files: Files) -> Files {
        var files = files
        let before = files.before
        let inside = path + "/"
        files.before = { (step) throws(GatewayError) in
            try before?(step)
            guard let place = step.place, place.hasPrefix(inside) || place == path, !isThere else { return }
            throw GatewayError(
                "home-moved",
                "'\(path)' was moved or removed while this process ran in it",
                help: "start the gateway where its home is now"
            )
        }
        return files
    }
}

extension Files.Step {
    /// The path that is changed, of a renaming the new one; `nil` for what has its file open already, wherever that is now.
    fileprivate var place: String? {
        switch self {
        case .write: nil
        case .open(let path), .sync(let path), .syncFileSystem(let path), .rename(_, let path),
            .remove(let path), .makeDirectory(let path), .link(let path, _), .changeMode(let path):
            path
        }
    }
}

extension Files {
    /// What names a file or a folder itself, whatever its paths are.
    package struct Identity: Sendable, Hashable {
        package var device: UInt64
        package var inode: UInt64

        /// From the numbers of stat(2).
        package init(device: UInt64, inode: UInt64) {
            self.device = device
            self.inode = inode
        }
    }
}

extension Files.Status {
    /// The file itself.
    package var identity: Files.Identity { Files.Identity(device: device, inode: inode) }
}

/// The folders that a process holds open, as seen by others.
package struct HeldFolders: Sendable {
    /// The folders themselves.
    package private(set) var identities: Set<Files.Identity> = []
    /// The last paths of those that were removed since.
    package private(set) var removed: Set<String> = []
    /// Whether something is installed in one of them: a process also opens other folders, for a moment.
    package private(set) var holdsHome = false

    /// Looks into /proc; there are none where that may not be read.
    ///
    /// A path is only said of a process that sees the same file systems as this one.
    package init(of pid: Int32, files: Files = Files()) {
        let folder = "/proc/\(pid)/fd"
        let mark = " (deleted)"
        let place = files.destination(ofLink: "/proc/\(pid)/ns/mnt")
        let sharesPaths = place != nil && place == files.destination(ofLink: "/proc/self/ns/mnt")
        for name in (try? files.list(folder)) ?? [] {
            let descriptor = Layout.join(folder, name)
            guard let status = (try? files.target(descriptor)) ?? nil, status.kind == .directory,
                let path = files.destination(ofLink: descriptor)
            else { continue }
            // A folder may have a name that ends like this.
            if path.hasSuffix(mark), ((try? files.target(path)) ?? nil)?.identity != status.identity {
                if sharesPaths { removed.insert(String(path.dropLast(mark.count))) }
            } else {
                identities.insert(status.identity)
                // A link of this kind leads there, also where the path is another one for the process.
                holdsHome =
                    holdsHome || ["receipt.json", "current"].contains { files.exists("\(descriptor)/\($0)") }
            }
        }
    }
}
