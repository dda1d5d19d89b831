package import Appliance
import CShims
import Glibc

/// A folder that is filled before anybody else knows of it.
///
/// It is held open meanwhile: its path is looked up once, and whatever goes by that path since, the files come into the folder that
/// was made.
package struct NewFolder: ~Copyable {
    /// Where it was made.
    package let path: String
    private let files: Files
    private let descriptor: Int32

    /// Makes a folder, and its parents where they are missing; an empty one that is there already is taken.
    package init(_ path: String, mode: UInt32 = 0o700, files: Files) throws(GatewayError) {
        try files.step(.makeDirectory(path))
        if mkdir(path, mode_t(mode)) != 0, errno != EEXIST {
            guard errno == ENOENT else { throw Files.failure("make directory", path) }
            try files.makeDirectory(path, mode: mode)
        }
        let opened = shim_open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
        guard opened >= 0 else { throw Files.failure("make directory", path, -opened) }
        self.path = path
        self.files = files
        descriptor = opened
    }

    deinit { close(descriptor) }

    /// Makes a file in it; throws `file-error` where there is one of the name.
    ///
    /// `name` may lead through folders in it that are there.
    package borrowing func add(_ name: String, _ bytes: [UInt8], mode: UInt32 = 0o600) throws(GatewayError) {
        let full = Layout.join(path, name)
        try files.step(.write(full))
        let file = shim_open_in(descriptor, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode_t(mode))
        guard file >= 0 else { throw Files.failure("write", full, -file) }
        defer { close(file) }
        try Files.writeAll(bytes, to: file, path: full)
    }
}
