import Appliance
import CShims
import Glibc
import Platform
import Synchronization

/// Where the bytes of a bundle come from over HTTP.
protocol BundleTransport: Sendable {
    /// Hands over the bytes in order, on one thread that `sink` may block.
    ///
    /// `began` gets the number of bytes to come where the server says it. Errors of `began` and `sink` end the transfer
    /// and are thrown.
    func transfer(
        _ url: String,
        limit: Int64,
        began: @escaping @Sendable (Int64?) throws(GatewayError) -> Void,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError)
}

/// How far a download is.
struct FetchProgress: Sendable, Equatable {
    /// Bytes so far.
    var received: Int64
    /// Bytes in all, where known.
    var total: Int64?
}

/// Fetches a bundle and unpacks it while it comes.
///
/// 1. One thread receives, digests, and keeps the bytes of a download in `cache/<sha256>.part`.
/// 2. A second decompresses, a third writes into the staging directory (see `Unpacking`).
/// 3. The digest decides: when it is wrong, whatever was unpacked means nothing and the caller discards it.
/// 4. A zip archive has its directory at the end, so it is unpacked from the kept file after the digest was right.
struct BundleFetch: Sendable {
    var request: BundleRequest
    /// Where downloads are kept; in an existing directory.
    var cache: String
    var files: Files
    var transport: any BundleTransport
    var progress: @Sendable (FetchProgress) -> Void = { _ in }
    /// The largest archive that is fetched, in bytes.
    var limit: Int64 = 1 << 30

    /// The kept file while it is incomplete.
    var part: String { Layout.join(cache, request.sha256 + ".part") }

    /// Fetches and unpacks; the kept file is gone afterwards, whatever happened.
    ///
    /// Throws `digest-mismatch` with both digests, what the transport throws, and what `Unpacking.run` throws.
    func run(into unpacking: Unpacking) async throws(GatewayError) -> Unpacking.Unpacked {
        defer { try? files.removeFile(part) }
        let feed = ByteFeed()
        async let unpacked = BundleFetch.unpack(feed, unpacking)
        let digest: String
        do throws(GatewayError) {
            digest = try await receive(into: feed)
        } catch {
            feed.finish()
            _ = await unpacked
            throw error
        }
        let outcome = await unpacked
        guard digest == request.sha256 else {
            throw mismatch(digest, unpackingFailed: outcome)
        }
        switch outcome {
        case .success(.unpacked(let result)): return result
        case .success(.needsWholeFile): return try await unpackZip(unpacking)
        case .failure(let error): throw error
        }
    }

    // MARK: unpacking

    private enum Streamed: Sendable {
        case unpacked(Unpacking.Unpacked)
        case needsWholeFile
    }

    private static func unpack(
        _ feed: ByteFeed,
        _ unpacking: Unpacking
    ) async -> Result<Streamed, GatewayError> {
        do throws(GatewayError) {
            return .success(
                try await BlockingThread.run("bundle-unpack") { () throws(GatewayError) in
                    // The sender goes on digesting when nothing more is wanted here.
                    defer { feed.abandon() }
                    guard let first = feed.receive() else { throw Unpacking.Format.refusal(of: []) }
                    switch Unpacking.Format(first.contents) {
                    case .zip: return .needsWholeFile
                    case .tarGzip, .tarZstd: return .unpacked(try unpacking.run(.feed(feed), first: first))
                    case nil: throw Unpacking.Format.refusal(of: first.contents)
                    }
                }
            )
        } catch {
            return .failure(error)
        }
    }

    private func unpackZip(_ unpacking: Unpacking) async throws(GatewayError) -> Unpacking.Unpacked {
        let path =
            switch request.location {
            case .file(let path): path
            case .web: part
            }
        return try await BlockingThread.run("bundle-unpack") { () throws(GatewayError) in
            let descriptor = shim_open(path, O_RDONLY, 0)
            guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
            defer { close(descriptor) }
            return try unpacking.run(.descriptor(descriptor))
        }
    }

    private func mismatch(
        _ digest: String,
        unpackingFailed outcome: Result<Streamed, GatewayError>
    ) -> GatewayError {
        var cause: GatewayError?
        if case .failure(let error) = outcome { cause = error }
        let fate =
            switch request.location {
            case .file: "nothing was installed, and the file itself was left as it is"
            case .web: "what was fetched is removed"
            }
        return GatewayError(
            "digest-mismatch",
            "the SHA-256 of '\(request.shown)' is \(digest), expected \(request.sha256)",
            help: "\(fate); check the address and the digest, and do not use this file",
            cause: cause
        )
    }

    // MARK: receiving

    /// The digest of everything that came.
    private func receive(into feed: ByteFeed) async throws(GatewayError) -> String {
        switch request.location {
        case .file(let path):
            return try await BlockingThread.run("bundle-read") { () throws(GatewayError) in
                try readFile(path, into: Sink(feed: feed, progress: progress))
            }
        case .web(let url):
            let sink = Sink(feed: feed, progress: progress)
            try sink.keep(in: part, files: files)
            let cache = cache, files = files
            try await transport.transfer(url, limit: limit) { (total) throws(GatewayError) in
                if let total { try DiskSpace.require(total, in: cache, files: files) }
                sink.expect(total)
            } sink: { (bytes) throws(GatewayError) in
                try sink.take(bytes)
            }
            return sink.finish()
        }
    }

    private func readFile(_ path: String, into sink: Sink) throws(GatewayError) -> String {
        let descriptor = shim_open(path, O_RDONLY, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Files.failure("read", path) }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw GatewayError("not-a-file", "'\(path)' is no file", help: "name the bundle file itself")
        }
        guard Int64(info.st_size) <= limit else {
            throw GatewayError(
                "archive-too-large",
                "'\(path)' has \(info.st_size) bytes, more than the \(limit) allowed"
            )
        }
        sink.expect(Int64(info.st_size))
        let slab = Slab(capacity: 256 << 10)
        while true {
            let count = read(descriptor, slab.bytes, slab.capacity)
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("read", path)
            }
            if count == 0 { return sink.finish() }
            slab.count = count
            try sink.take(slab.contents)
        }
    }

    /// What happens to received bytes: digested, kept, handed to the unpacking thread.
    ///
    /// Unchecked, because bytes come on one thread at a time and `mutex` guards every member below it.
    private final class Sink: @unchecked Sendable {
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

        /// Also writes the bytes into a file.
        func keep(in path: String, files: Files) throws(GatewayError) {
            try files.step(.open(path))
            let descriptor = shim_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
            guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
            mutex.withLock { _ in kept = (descriptor, path, files) }
        }

        func expect(_ total: Int64?) { mutex.withLock { _ in progress.total = total } }

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
            digest.update(bytes)
            if let kept {
                try kept.files.step(.write(kept.path))
                try Files.writeAll(bytes, to: kept.descriptor, path: kept.path)
            }
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

        /// The digest; the last bytes go to the unpacking thread.
        func finish() -> String {
            mutex.withLock { _ in
                if let slab { feed.send(slab) }
                slab = nil
                feed.finish()
                return Hex.encode(digest.finish())
            }
        }
    }
}
