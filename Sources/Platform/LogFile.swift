package import Appliance
import CShims
import Glibc
import Synchronization

/// A log file of bounded size, for where there is no journal: `gateway.log`, `gateway.log.1` (the last one before),
/// and so on.
package final class LogFile: Sendable {
    private struct State {
        var descriptor: Int32 = -1
        var size: Int64 = 0
    }

    private let path: String
    private let limit: Int64
    private let keep: Int
    private let files: Files
    // A leaf: held for one write or one rotation.
    private let state = Mutex(State())

    /// Opens the file for appending, mode 0600.
    ///
    /// `limit` is in bytes; `keep` older files stay. Throws the error of the failed open.
    package init(_ path: String, limit: Int64 = 10 << 20, keep: Int = 3, files: Files) throws(GatewayError) {
        self.path = path
        self.limit = limit
        self.keep = keep
        self.files = files
        let opened = try LogFile.open(path)
        state.withLock { $0 = opened }
    }

    deinit { state.withLock { if $0.descriptor >= 0 { _ = close($0.descriptor) } } }

    private static func open(_ path: String) throws(GatewayError) -> State {
        let descriptor = shim_open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("open", path, -descriptor) }
        var info = stat()
        fstat(descriptor, &info)
        return State(descriptor: descriptor, size: Int64(info.st_size))
    }

    /// Appends bytes, which should end with a line break; when they would exceed the limit the file is rotated first.
    package func append(_ bytes: [UInt8]) throws(GatewayError) {
        let result = state.withLock { state in
            Result<Void, GatewayError> { () throws(GatewayError) in
                if state.size > 0, state.size + Int64(bytes.count) > limit { try rotate(&state) }
                try Files.writeAll(bytes, to: state.descriptor, path: path)
                state.size += Int64(bytes.count)
            }
        }
        try result.get()
    }

    private func rotate(_ state: inout State) throws(GatewayError) {
        for number in stride(from: keep, to: 0, by: -1) {
            let from = number == 1 ? path : "\(path).\(number - 1)"
            if files.exists(from) { try files.rename(from, to: "\(path).\(number)", durable: false) }
        }
        if keep == 0 { try files.removeFile(path) }
        // The old descriptor is kept until there is a new one: a full disk must not silence the log.
        let opened = try LogFile.open(path)
        close(state.descriptor)
        state = opened
    }
}
