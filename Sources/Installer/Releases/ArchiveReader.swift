import Appliance
import CArchive
import Glibc

/// One entry of an archive, as it was written there; nothing about it is believed yet.
struct ArchiveEntry: Sendable, Equatable {
    enum Kind: Sendable, Equatable {
        case file
        case directory
        /// A symbolic link and where it points.
        case link(String)
        /// Another name of an earlier entry.
        case hardLink(String)
        /// A device, a FIFO or a socket, with its name for messages.
        case special(String)
    }

    var path: String
    var kind: Kind
    /// Permission bits with setuid, setgid and sticky.
    var mode: UInt32
    /// Bytes, where the header tells.
    var size: Int64?
}

/// Reads the entries of a tar.gz, tar.zst or zip archive with libarchive; writes nothing.
///
/// Blocks while it waits for bytes: to be used on a thread of its own.
final class ArchiveReader {
    /// Where the bytes come from.
    enum Input {
        case feed(ByteFeed)
        /// An open file, read from its current position; needed for zip, whose directory is at its end.
        case descriptor(Int32)
    }

    private final class Source {
        let feed: ByteFeed
        var current: Slab?
        init(_ feed: ByteFeed, first: Slab?) {
            self.feed = feed
            current = first
            isFresh = first != nil
        }
        /// `current` has not been handed to libarchive yet.
        var isFresh: Bool
    }

    private let archive: OpaquePointer
    private let source: Unmanaged<Source>?

    /// Opens an archive; `first` is what was already taken out of the feed.
    ///
    /// Throws `archive-damaged` when it does not begin like one.
    init(_ input: Input, first: Slab? = nil) throws(GatewayError) {
        guard let archive = archive_read_new() else {
            throw GatewayError("internal-error", "no memory is left for reading an archive")
        }
        self.archive = archive
        archive_read_support_filter_gzip(archive)
        archive_read_support_filter_zstd(archive)
        archive_read_support_format_tar(archive)
        let status: Int32
        switch input {
        case .feed(let feed):
            let source = Unmanaged.passRetained(Source(feed, first: first))
            self.source = source
            status = archive_read_open2(
                archive,
                source.toOpaque(),
                nil,
                { _, context, buffer in ArchiveReader.deliver(context, buffer) },
                nil,
                nil
            )
        case .descriptor(let descriptor):
            source = nil
            archive_read_support_format_zip_seekable(archive)
            status = archive_read_open_fd(archive, descriptor, 256 << 10)
        }
        guard status == ARCHIVE_OK else { throw damage() }
    }

    deinit {
        archive_read_free(archive)
        source?.release()
    }

    /// libarchive's read callback: the bytes stay valid until the next call.
    private static func deliver(
        _ context: UnsafeMutableRawPointer?,
        _ buffer: UnsafeMutablePointer<UnsafeRawPointer?>?
    ) -> Int {
        guard let context, let buffer else { return -1 }
        let source = Unmanaged<Source>.fromOpaque(context).takeUnretainedValue()
        if source.isFresh {
            source.isFresh = false
        } else {
            if let used = source.current { source.feed.recycle(used) }
            source.current = source.feed.receive()
        }
        guard let slab = source.current else { return 0 }
        buffer.pointee = UnsafeRawPointer(slab.bytes)
        return slab.count
    }

    /// How many bytes of the archive file were used so far.
    var consumed: Int64 { archive_filter_bytes(archive, -1) }

    /// The next entry; `nil` at the end.
    ///
    /// Throws `archive-damaged` or `unsafe-archive`.
    func next() throws(GatewayError) -> ArchiveEntry? {
        var entry: OpaquePointer?
        switch archive_read_next_header(archive, &entry) {
        case ARCHIVE_EOF: return nil
        case ARCHIVE_OK, ARCHIVE_WARN: break
        default: throw damage()
        }
        guard let entry else { throw damage() }
        guard let name = archive_entry_pathname(entry) else {
            throw GatewayError("unsafe-archive", "the archive has an entry whose name is not plain text")
        }
        return ArchiveEntry(
            path: String(cString: name),
            kind: ArchiveReader.kind(of: entry),
            mode: UInt32(archive_entry_mode(entry)) & 0o7777,
            size: archive_entry_size_is_set(entry) != 0 ? archive_entry_size(entry) : nil
        )
    }

    private static func kind(of entry: OpaquePointer) -> ArchiveEntry.Kind {
        if let target = archive_entry_hardlink(entry) { return .hardLink(String(cString: target)) }
        switch mode_t(archive_entry_filetype(entry)) {
        case S_IFREG: return .file
        case S_IFDIR: return .directory
        case S_IFLNK: return .link(archive_entry_symlink(entry).map { String(cString: $0) } ?? "")
        case S_IFCHR: return .special("character device")
        case S_IFBLK: return .special("block device")
        case S_IFIFO: return .special("FIFO")
        case S_IFSOCK: return .special("socket")
        default: return .special("entry of an unknown kind")
        }
    }

    /// The next piece of the current file and its offset; `nil` at its end.
    func block() throws(GatewayError) -> (bytes: UnsafeRawBufferPointer, offset: Int64)? {
        var start: UnsafeRawPointer?
        var count = 0
        var offset: la_int64_t = 0
        switch archive_read_data_block(archive, &start, &count, &offset) {
        case ARCHIVE_EOF: return nil
        case ARCHIVE_OK, ARCHIVE_WARN:
            return (UnsafeRawBufferPointer(start: start, count: count), offset)
        default: throw damage()
        }
    }

    /// All of the current file, piece by piece; every piece is counted against the limits before `body` gets it.
    ///
    /// Throws `archive-damaged`, `unsafe-archive`, `archive-too-large`, or what `body` throws.
    func content(
        of path: String,
        _ rules: inout EntryRules,
        _ body: (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) throws(GatewayError) {
        var position: Int64 = 0
        while let (bytes, offset) = try block() {
            guard offset == position else {
                throw GatewayError(
                    "unsafe-archive",
                    "the archive is not safe to unpack: '\(path)' is a sparse file"
                )
            }
            position += Int64(bytes.count)
            try rules.admit(bytes: bytes.count, consumed: consumed)
            try body(bytes)
        }
    }

    private func damage() -> GatewayError {
        let reason = archive_error_string(archive).map { String(cString: $0) } ?? "no reason given"
        return GatewayError(
            "archive-damaged",
            "the archive is cut off or damaged: \(reason)",
            help: "download it again; if that does not help, the published file itself is damaged"
        )
    }
}
