import Appliance
import CShims
import Glibc
import Platform
import Synchronization

/// How far a download is.
struct FetchProgress: Sendable, Equatable {
    /// Bytes so far.
    var received: Int64
    /// Bytes in all, where known.
    var total: Int64?
    /// Bytes that were there already, from an earlier command.
    var resumed: Int64 = 0
}

/// What happens to the bytes of a bundle: digested, kept, handed to the unpacking thread.
///
/// Unchecked, because bytes come on one thread at a time and `mutex` guards every member below it.
final class ByteSink: @unchecked Sendable {
    private let feed: ByteFeed
    private let report: @Sendable (FetchProgress) -> Void
    private let mutex = Mutex(())
    private let digest = SHA256()
    private var kept: (descriptor: Int32, path: String, files: Files)?
    private var slab: Slab?
    /// The unpacking thread wants nothing more.
    private var isDetached = false
    private var progress = FetchProgress(received: 0, total: nil)

    init(feed: ByteFeed, progress: @escaping @Sendable (FetchProgress) -> Void) {
        self.feed = feed
        report = progress
    }

    deinit { if let kept { close(kept.descriptor) } }

    /// Also writes the bytes to the end of a file; begins a new one unless it goes on with one.
    ///
    /// What is in the file already is taken first, as if it came now. `resumed` gets how many bytes that was.
    func keep(in path: String, resuming: Bool, files: Files) throws(GatewayError) {
        try files.step(.open(path))
        let mode = O_RDWR | O_CREAT | O_NOFOLLOW | (resuming ? 0 : O_TRUNC)
        let descriptor = shim_open(path, mode, 0o600)
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        do throws(GatewayError) {
            if resuming { try readFile(descriptor, path, limit: .max) }
        } catch {
            close(descriptor)
            throw error
        }
        mutex.withLock { _ in
            progress.resumed = progress.received
            kept = (descriptor, path, files)
        }
    }

    /// Takes a whole file.
    func readFile(_ descriptor: Int32, _ path: String, limit: Int64) throws(GatewayError) {
        let slab = Slab(capacity: 256 << 10)
        var total: Int64 = 0
        while true {
            let count = read(descriptor, slab.bytes, slab.capacity)
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("read", path)
            }
            if count == 0 { return }
            total += Int64(count)
            guard total <= limit else {
                throw GatewayError(
                    "archive-too-large",
                    "'\(path)' has more than the \(limit) bytes that are allowed"
                )
            }
            slab.count = count
            try take(slab.contents)
        }
    }

    /// How many bytes will come in all.
    func expect(_ total: Int64?) { mutex.withLock { _ in progress.total = total } }

    /// How many bytes have come.
    var received: Int64 { mutex.withLock { _ in progress.received } }

    func take(_ bytes: UnsafeRawBufferPointer) throws(GatewayError) {
        let result = mutex.withLock { _ -> Result<FetchProgress, GatewayError> in
            do throws(GatewayError) {
                return .success(try add(bytes))
            } catch {
                return .failure(error)
            }
        }
        report(try result.get())
    }

    private func add(_ bytes: UnsafeRawBufferPointer) throws(GatewayError) -> FetchProgress {
        if let kept {
            try kept.files.step(.write(kept.path))
            try Files.writeAll(bytes, to: kept.descriptor, path: kept.path)
        }
        digest.update(bytes)
        var rest = bytes
        while rest.count > 0, !isDetached {
            guard let slab = slab ?? feed.empty() else {
                isDetached = true
                slab = nil
                break
            }
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(slab.append(rest)))
            if slab.count == slab.capacity {
                feed.send(slab)
                self.slab = nil
            } else {
                self.slab = slab
            }
        }
        progress.received += Int64(bytes.count)
        return progress
    }

    /// The digest, in hexadecimal; the last bytes go to the unpacking thread.
    func finish() -> String {
        mutex.withLock { _ in
            if let slab { feed.send(slab) }
            slab = nil
            feed.finish()
            return Hex.encode(digest.finish())
        }
    }
}
