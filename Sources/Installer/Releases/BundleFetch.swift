import Appliance
import CShims
import Glibc
import Platform

/// Fetches a bundle and unpacks it while it comes.
///
/// 1. One thread receives, digests, and keeps the bytes of a download in `cache/<sha256>.part` (see `Download`).
/// 2. A second decompresses, a third writes into the staging directory (see `Unpacking`).
/// 3. The digest decides: when it is wrong, whatever was unpacked means nothing. When parts of several transfers made it
///    wrong, the staging directory is emptied and everything is fetched anew.
/// 4. A zip archive has its directory at the end, so it is unpacked from the kept file after the digest was right. One on
///    this machine is copied there while it is digested: what is unpacked is what was digested, whoever writes to it.
struct BundleFetch: Sendable {
    var request: BundleRequest
    /// Where downloads are kept; in an existing directory.
    var cache: String
    var files: Files
    var transport: any BundleTransport
    var clock = WallClock.system
    var policy = DownloadState.Policy()
    var say: @Sendable (String) -> Void = { _ in }
    var progress: @Sendable (FetchProgress) -> Void = { _ in }
    /// The largest archive that is fetched, in bytes.
    var limit: Int64 = 1 << 30

    /// The kept file while it is incomplete.
    private var partial: PartialDownload {
        PartialDownload(cache: cache, sha256: request.sha256, files: files)
    }

    /// Fetches and unpacks.
    ///
    /// The kept file is gone afterwards, unless the network failed and the next command can go on with it.
    ///
    /// Throws `digest-mismatch` with both digests, what `Download.pass` throws, and what `Unpacking.run` throws.
    func run(into unpacking: Unpacking) async throws(GatewayError) -> Unpacking.Unpacked {
        if let size = request.size, size > limit {
            throw GatewayError(
                "archive-too-large",
                "'\(request.shown)' has \(size) bytes, more than the \(limit) allowed"
            )
        }
        switch request.location {
        case .file(let path): return try await unpackFile(path, unpacking)
        case .web(let url):
            do throws(GatewayError) {
                let unpacked = try await unpackDownload(url, unpacking)
                try partial.remove()
                return unpacked
            } catch {
                do throws(GatewayError) {
                    let isOfUse = try partial.size() > 0 && Download.leavesBytesUsable(error)
                    if !isOfUse { try partial.remove() }
                } catch {
                    // The next command removes what could not be removed now.
                }
                throw error
            }
        }
    }

    private func unpackFile(
        _ path: String,
        _ unpacking: Unpacking
    ) async throws(GatewayError) -> Unpacking.Unpacked {
        try makeRoom(0, unpacking)
        let file = try await BlockingThread.run("bundle-open") { () throws(GatewayError) in try open(path) }
        defer { close(file.descriptor) }
        let result: Result<Unpacking.Unpacked, GatewayError>
        do throws(GatewayError) {
            result = .success(try await unpack(file, path, unpacking))
        } catch {
            result = .failure(error)
        }
        if file.isZip { try partial.remove() }
        return try result.get()
    }

    private func unpack(
        _ file: LocalFile,
        _ path: String,
        _ unpacking: Unpacking
    ) async throws(GatewayError) -> Unpacking.Unpacked {
        let feed = ByteFeed()
        async let unpacked = BundleFetch.unpack(feed, unpacking)
        let digest: String
        do throws(GatewayError) {
            digest = try await BlockingThread.run("bundle-read") { () throws(GatewayError) in
                let sink = ByteSink(feed: feed, progress: progress)
                sink.expect(file.size)
                if file.isZip {
                    try DiskSpace.require([(file.size, cache)], files: files)
                    try sink.keep(in: partial.path, resuming: false, files: files)
                }
                try sink.readFile(file.descriptor, path, limit: limit)
                return sink.finish()
            }
        } catch {
            feed.finish()
            _ = await unpacked
            throw error
        }
        let outcome = await unpacked
        guard digest == request.sha256 else { throw mismatch(digest, unpackingFailed: outcome) }
        if case .success(.needsWholeFile) = outcome, !file.isZip {
            throw GatewayError(
                "file-changed",
                "'\(path)' changed while it was read",
                help: "run the command again when nothing writes to it"
            )
        }
        return try await finish(outcome, unpacking)
    }

    private func unpackDownload(
        _ url: String,
        _ unpacking: Unpacking
    ) async throws(GatewayError) -> Unpacking.Unpacked {
        let download = Download(
            request: request,
            url: url,
            partial: partial,
            files: files,
            transport: transport,
            clock: clock,
            policy: policy,
            say: say,
            progress: progress,
            limit: limit,
            makeRoom: { (bytes) throws(GatewayError) in try makeRoom(bytes, unpacking) }
        )
        let deadline = clock.uptime() + policy.total.wholeNanoseconds
        var state = try download.begin()
        while true {
            let feed = ByteFeed()
            async let unpacked = BundleFetch.unpack(feed, unpacking)
            let ending: Download.Ending
            do throws(GatewayError) {
                ending = try await download.pass(&state, into: feed, until: deadline)
            } catch {
                feed.finish()
                _ = await unpacked
                throw error
            }
            feed.finish()
            let outcome = await unpacked
            if case .complete(let digest) = ending {
                switch state.handle(.digested(matches: digest == request.sha256)) {
                case .accept: return try await finish(outcome, unpacking)
                case .startOver:
                    say("what came in parts does not make up the right file; downloading all of it again")
                default: throw mismatch(digest, unpackingFailed: outcome)
                }
            }
            try partial.remove()
            try files.removeTree(unpacking.directory)
            try files.makeDirectory(unpacking.directory)
        }
    }

    /// Checks that what is still to come and what it unpacks to find room, where the size is known.
    private func makeRoom(_ bytes: Int64, _ unpacking: Unpacking) throws(GatewayError) {
        try DiskSpace.require(
            [(bytes, cache), (request.unpackedSize ?? 0, unpacking.directory)],
            files: files
        )
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

    /// The result of unpacking bytes whose digest was right.
    private func finish(
        _ outcome: Result<Streamed, GatewayError>,
        _ unpacking: Unpacking
    ) async throws(GatewayError) -> Unpacking.Unpacked {
        switch try outcome.get() {
        case .unpacked(let result): return result
        case .needsWholeFile:
            let path = partial.path
            return try await BlockingThread.run("bundle-unpack") { () throws(GatewayError) in
                let descriptor = shim_open(path, O_RDONLY | O_NOFOLLOW, 0)
                guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
                defer { close(descriptor) }
                return try unpacking.run(.descriptor(descriptor))
            }
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

    /// Throws `file-not-found` or `not-a-file` for a bundle on this machine that cannot be one, before anything is made for it.
    static func check(_ request: BundleRequest, files: Files) throws(GatewayError) {
        guard case .file(let path) = request.location else { return }
        guard let status = try files.target(path) else { throw Files.failure("read", path, ENOENT) }
        guard status.kind == .file else { throw notAFile(path) }
    }

    private static func notAFile(_ path: String) -> GatewayError {
        GatewayError("not-a-file", "'\(path)' is no file", help: "name the bundle file itself")
    }

    /// A bundle on this machine, opened once.
    private struct LocalFile: Sendable {
        var descriptor: Int32
        var size: Int64
        /// Whether it begins as a zip archive does.
        var isZip: Bool
    }

    private func open(_ path: String) throws(GatewayError) -> LocalFile {
        // Nobody may ever write into a pipe.
        let descriptor = shim_open(path, O_RDONLY | O_NONBLOCK, 0)
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        do throws(GatewayError) {
            let start = Slab(capacity: 64)
            let size = try checkedSize(descriptor, path)
            start.count = max(0, pread(descriptor, start.bytes, start.capacity, 0))
            return LocalFile(
                descriptor: descriptor,
                size: size,
                isZip: Unpacking.Format(start.contents) == .zip
            )
        } catch {
            close(descriptor)
            throw error
        }
    }

    private func checkedSize(_ descriptor: Int32, _ path: String) throws(GatewayError) -> Int64 {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Files.failure("read", path) }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw BundleFetch.notAFile(path)
        }
        let size = Int64(info.st_size)
        guard size <= limit else {
            throw GatewayError(
                "archive-too-large",
                "'\(path)' has \(size) bytes, more than the \(limit) allowed"
            )
        }
        if let expected = request.size, expected != size {
            throw GatewayError(
                "wrong-size",
                "'\(path)' has \(size) bytes, but \(expected) in the release",
                help: "it is damaged or not what was released; get it anew"
            )
        }
        return size
    }
}
