package import Appliance
import Glibc
import Platform
import Synchronization

/// A directory of a test's own, removed when the value goes, when the process ends, or by the next run.
///
/// Swift lets a value go after its last use, not at the end of the scope: a test that hands on no more than the path
/// takes `inTemporaryDirectory`.
package final class TemporaryDirectory: Sendable {
    /// Absolute, every symlink resolved.
    package let root: String

    /// An empty directory, below `place`; in memory where that is possible, because much of what tests write is synced.
    package init(in place: String = TemporaryDirectory.usualPlace) throws(GatewayError) {
        root = try TestRun.directory(in: place)
    }

    deinit { try? Files().removeTree(root) }

    /// A path inside; nothing is made there.
    package func path(_ name: String) -> String { Layout.join(root, name) }

    /// Writes a file inside and gives its path.
    package func write(_ bytes: [UInt8], _ name: String) throws(GatewayError) -> String {
        try Files().write(bytes, to: path(name), durable: false)
        return path(name)
    }

    /// `/dev/shm` where programs may be started from it and it has a gigabyte to spare, else `/tmp`.
    package static let usualPlace: String = {
        var info = statvfs()
        guard access("/dev/shm", W_OK) == 0, statvfs("/dev/shm", &info) == 0 else { return "/tmp" }
        // 8 is ST_NOEXEC.
        let isUsable = info.f_flag & 8 == 0 && UInt64(info.f_bavail) * UInt64(info.f_frsize) > 1 << 30
        return isUsable ? "/dev/shm" : "/tmp"
    }()
}

/// Gives the body a directory that is removed afterwards, whatever the body throws.
package func inTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = try TemporaryDirectory()
    defer { withExtendedLifetime(directory) {} }
    return try await body(directory.root)
}

/// What this process has made below each place.
///
/// One folder for each, locked (flock(2)) as long as the process lives: a test that crashes, or that a time limit ends,
/// removes nothing itself, but a folder whose lock is free is nobody's, and the next run removes it.
package enum TestRun {
    private static let prefix = "llm-gateway-tests."
    /// Place to folder.
    private static let folders = Mutex<[String: String]>([:])

    /// Makes a directory in this process's folder below a place.
    static func directory(in place: String) throws(GatewayError) -> String {
        let folder = try folders.withLock { folders throws(GatewayError) -> String in
            if let folder = folders[place] { return folder }
            if folders.isEmpty { atexit { TestRun.removeFolders() } }
            removeAbandoned(in: place)
            let folder = try claim(in: place)
            folders[place] = folder
            return folder
        }
        return try make("\(folder)/XXXXXX")
    }

    /// Removes the folders below a place that processes left which are gone.
    package static func removeAbandoned(in place: String) {
        for name in (try? Files().list(place)) ?? [] where name.hasPrefix(prefix) {
            let path = Layout.join(place, name)
            let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { try? Files().removeTree(path) }
            close(descriptor)
        }
    }

    private static func claim(in place: String) throws(GatewayError) -> String {
        while true {
            let path = try make("\(place)/\(prefix)XXXXXX")
            let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            // Kept open until the process ends. Between making and locking, another run may have taken it for abandoned.
            if descriptor >= 0, flock(descriptor, LOCK_EX) == 0, Files().exists(path) {
                return Files().realPath(path) ?? path
            }
            if descriptor >= 0 { close(descriptor) }
        }
    }

    private static func make(_ template: String) throws(GatewayError) -> String {
        var path = Array(template.utf8CString)
        guard mkdtemp(&path) != nil else { throw Files.failure("make directory", template) }
        return String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func removeFolders() {
        for folder in folders.withLock({ $0.values }) { try? Files().removeTree(folder) }
    }
}
