import Appliance
import CShims
import Glibc
import Platform

/// A directory tree being written below one directory descriptor.
///
/// Every step is relative to a descriptor and refuses to follow a symbolic link, so that nothing that the archive made
/// can lead a later write outside.
final class StagingTree {
    /// What was written at a path.
    struct Written: Sendable, Equatable {
        /// 64 hexadecimal digits of the content; empty for a link.
        var sha256: String
        /// Bytes.
        var size: Int64
        var mode: UInt32
        /// Where a symbolic link points.
        var target: String?
    }

    /// What was written, by path; directories are implied.
    private(set) var written: [String: Written] = [:]

    private let root: String
    private let rootDescriptor: Int32
    private let files: Files
    /// The directory that was used last, because archives come directory by directory.
    private var open: (path: String, descriptor: Int32)?
    private var current: (path: String, descriptor: Int32, digest: SHA256, size: Int64, mode: UInt32)?

    /// Opens an existing, empty directory.
    init(_ root: String, files: Files) throws(GatewayError) {
        self.root = root
        self.files = files
        rootDescriptor = shim_open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
        guard rootDescriptor >= 0 else { throw Files.failure("write", root, -rootDescriptor) }
    }

    deinit {
        if let current { close(current.descriptor) }
        if let open { close(open.descriptor) }
        close(rootDescriptor)
    }

    /// Makes a directory and its parents.
    func makeDirectory(_ path: String) throws(GatewayError) { _ = try directory(path) }

    /// Starts a file; the bytes that follow are its content.
    func beginFile(_ path: String, mode: UInt32) throws(GatewayError) {
        let shown = Layout.join(root, path)
        try files.step(.open(shown))
        let (parent, name) = try place(of: path)
        let descriptor = openat(
            parent,
            name,
            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
            0o600
        )
        guard descriptor >= 0 else { throw Files.failure("write", shown) }
        current = (path, descriptor, SHA256(), 0, mode & 0o777 | 0o600)
    }

    /// Adds to the current file.
    func write(_ bytes: UnsafeRawBufferPointer) throws(GatewayError) {
        guard let current else { return }
        let shown = Layout.join(root, current.path)
        try files.step(.write(shown))
        try Files.writeAll(bytes, to: current.descriptor, path: shown)
        current.digest.update(bytes)
        self.current?.size += Int64(bytes.count)
    }

    /// Ends the current file: sets its mode, starts its way to the disk and notes its digest.
    func endFile() throws(GatewayError) {
        guard let file = current else { return }
        current = nil
        defer { close(file.descriptor) }
        guard fchmod(file.descriptor, mode_t(file.mode)) == 0 else {
            throw Files.failure("write", Layout.join(root, file.path))
        }
        // Only a head start: the sync at the end is what counts, so a file system that cannot do this is fine.
        _ = shim_start_writing_back(file.descriptor)
        written[file.path] = Written(
            sha256: Hex.encode(file.digest.finish()),
            size: file.size,
            mode: file.mode
        )
    }

    /// Makes a symbolic link.
    func link(_ path: String, to target: String) throws(GatewayError) {
        let shown = Layout.join(root, path)
        try files.step(.link(shown, target))
        let (parent, name) = try place(of: path)
        guard symlinkat(target, parent, name) == 0 else { throw Files.failure("link", shown) }
        written[path] = Written(sha256: "", size: Int64(target.utf8.count), mode: 0o777, target: target)
    }

    /// Gives an earlier file another name.
    func hardLink(_ path: String, to first: String) throws(GatewayError) {
        let shown = Layout.join(root, path)
        try files.step(.link(shown, first))
        guard let original = written[first] else { throw Files.failure("link", shown, ENOENT) }
        let (parent, name) = try place(of: path)
        // Both names go through the root: only directories made here lie between.
        let (oldParent, oldName) = try place(of: first, keepingOpen: false)
        defer { close(oldParent) }
        guard linkat(oldParent, oldName, parent, name, 0) == 0 else { throw Files.failure("link", shown) }
        written[path] = original
    }

    /// Sets the mode of a written file, as the manifest has it.
    func changeMode(_ path: String, to mode: UInt32) throws(GatewayError) {
        let shown = Layout.join(root, path)
        try files.step(.changeMode(shown))
        let (parent, name) = try place(of: path)
        let descriptor = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw Files.failure("change the mode of", shown) }
        defer { close(descriptor) }
        guard fchmod(descriptor, mode_t(mode)) == 0 else { throw Files.failure("change the mode of", shown) }
        written[path]?.mode = mode
    }

    // MARK: directories

    /// The directory descriptor and the name of a path.
    ///
    /// The descriptor stays this object's, unless `keepingOpen` is false: then it is the caller's to close.
    private func place(
        of path: String,
        keepingOpen: Bool = true
    ) throws(GatewayError) -> (parent: Int32, name: String) {
        let parent = path.contains("/") ? Files.parent(of: path) : ""
        let name = Files.name(of: path)
        if keepingOpen { return (try directory(parent), name) }
        return (try descend(to: parent), name)
    }

    private func directory(_ path: String) throws(GatewayError) -> Int32 {
        guard !path.isEmpty else { return rootDescriptor }
        if let open, open.path == path { return open.descriptor }
        let descriptor = try descend(to: path)
        if let open { close(open.descriptor) }
        open = (path, descriptor)
        return descriptor
    }

    private func descend(to path: String) throws(GatewayError) -> Int32 {
        var descriptor = fcntl(rootDescriptor, F_DUPFD_CLOEXEC, 0)
        guard descriptor >= 0 else { throw Files.failure("write", root) }
        var shown = root
        for part in path.split(separator: "/") {
            shown = Layout.join(shown, String(part))
            var below = openat(descriptor, String(part), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if below < 0, errno == ENOENT {
                do throws(GatewayError) {
                    try files.step(.makeDirectory(shown))
                } catch {
                    close(descriptor)
                    throw error
                }
                if mkdirat(descriptor, String(part), 0o755) == 0 {
                    below = openat(descriptor, String(part), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                }
            }
            let number = errno
            close(descriptor)
            guard below >= 0 else { throw Files.failure("make directory", shown, number) }
            descriptor = below
        }
        return descriptor
    }
}
