package import Appliance
import CShims
import Glibc

/// Bytes that a run has written: few are held in memory, many stay in a file and are read in pieces.
///
/// The file is held open, so that they can be read for as long as somebody has this value, whatever becomes of the file's name.
package struct WrittenBytes: Sendable {
    /// More bytes than this are not held in memory.
    package static let longestInMemory = 1 << 20
    /// Bytes that are read from a file at once.
    package static let usualPiece = 256 << 10

    private enum Place: Sendable {
        case memory([UInt8])
        case file(HeldFile)
    }

    private let place: Place
    /// How many there are.
    package let count: Int
    private let piece: Int

    /// Bytes that are there already.
    package init(_ bytes: [UInt8]) {
        place = .memory(bytes)
        count = bytes.count
        piece = WrittenBytes.usualPiece
    }

    private init(_ place: Place, _ count: Int, _ piece: Int) {
        self.place = place
        self.count = count
        self.piece = piece
    }

    /// What a file holds now; nothing where there is none.
    ///
    /// A file of more than `limit` bytes is refused with `file-too-large`, what is no regular file with `not-a-file`; one of at most
    /// `memory` bytes is read at once. Throws what the file system throws when it cannot be told.
    package init(
        file path: String,
        limit: Int,
        memory: Int = WrittenBytes.longestInMemory,
        piece: Int = WrittenBytes.usualPiece
    ) throws(GatewayError) {
        let descriptor = shim_open(path, O_RDONLY | O_NONBLOCK, 0)
        if descriptor == -ENOENT {
            self.init([])
            return
        }
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        let file = HeldFile(descriptor, path)
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Files.failure("read", path) }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw GatewayError("not-a-file", "'\(path)' is no regular file")
        }
        let size = Int(info.st_size)
        guard size <= limit else {
            throw GatewayError("file-too-large", "'\(path)' is larger than \(limit) bytes")
        }
        if size <= memory {
            self.init(try file.read(from: 0, size))
        } else {
            self.init(.file(file), size, piece)
        }
    }

    fileprivate init(_ file: HeldFile, _ count: Int) {
        self.init(.file(file), count, WrittenBytes.usualPiece)
    }

    /// Whether there are too many to be handled as one value.
    package var isLong: Bool { count > WrittenBytes.longestInMemory }
    /// Whether there are none.
    package var isEmpty: Bool { count == 0 }

    /// The bytes themselves where they are in memory; `nil` where they are in a file.
    package var inMemory: [UInt8]? {
        guard case .memory(let bytes) = place else { return nil }
        return bytes.count == count ? bytes : Array(bytes[..<count])
    }

    /// Gives the bytes piece by piece, for as long as `body` wants another one; those in memory are one piece.
    ///
    /// Throws what the file system throws, and what `body` throws.
    package func forEachPiece(
        _ body: ([UInt8]) throws(GatewayError) -> Bool
    ) throws(GatewayError) {
        if let inMemory {
            if !inMemory.isEmpty { _ = try body(inMemory) }
            return
        }
        var offset = 0
        while offset < count {
            let bytes = try bytes(from: offset, piece)
            offset += bytes.count
            guard try body(bytes) else { return }
        }
    }

    /// At most `length` bytes from an offset on; fewer only at the end.
    package func bytes(from offset: Int, _ length: Int) throws(GatewayError) -> [UInt8] {
        let length = max(0, min(length, count - offset))
        switch place {
        case .memory(let bytes): return Array(bytes[offset..<offset + length])
        case .file(let file): return try file.read(from: offset, length)
        }
    }

    /// All of them at once.
    package func all() throws(GatewayError) -> [UInt8] {
        if let inMemory { return inMemory }
        return try bytes(from: 0, count)
    }

    /// Without what comes after so many bytes.
    package func prefix(_ length: Int) -> WrittenBytes {
        WrittenBytes(place, max(0, min(length, count)), piece)
    }

    /// Without the line breaks at the end.
    package func withoutLineBreaksAtEnd() throws(GatewayError) -> WrittenBytes {
        var end = count
        while end > 0 {
            let start = max(0, end - piece)
            let bytes = try bytes(from: start, end - start)
            if let last = bytes.lastIndex(where: { $0 != 0x0A && $0 != 0x0D }) {
                return prefix(start + last + 1)
            }
            end = start
        }
        return prefix(0)
    }
}

extension WrittenBytes: Equatable {
    /// The same bytes in memory, or as many of the same file.
    package static func == (one: WrittenBytes, other: WrittenBytes) -> Bool {
        switch (one.place, other.place) {
        case (.memory, .memory): one.inMemory == other.inMemory
        case (.file(let file), .file(let second)): file === second && one.count == other.count
        default: false
        }
    }
}

extension WrittenBytes: ExpressibleByArrayLiteral {
    /// Bytes in memory.
    package init(arrayLiteral elements: UInt8...) { self.init(elements) }
}

/// Puts together bytes that come in pieces, in a file without a name.
package final class WrittenBytesFile {
    private let file: HeldFile
    private var count = 0

    /// An empty file in `directory`, which is made when it is missing.
    package init(in directory: String) throws(GatewayError) {
        try Files().makeDirectory(directory)
        let path = Layout.join(directory, ".reading-\(Randomness.system.uuid())")
        let descriptor = shim_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Files.failure("write", path, -descriptor) }
        file = HeldFile(descriptor, path)
        unlink(path)
    }

    /// Adds what follows.
    package func append(_ bytes: [UInt8]) throws(GatewayError) {
        try file.write(bytes, at: count)
        count += bytes.count
    }

    /// What was added so far.
    package var bytes: WrittenBytes { WrittenBytes(file, count) }
}

/// An open file; closed with its last user.
private final class HeldFile: Sendable {
    private let descriptor: Int32
    private let path: String

    init(_ descriptor: Int32, _ path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    /// Exactly so many bytes: what is shorter than it was has been cut by somebody.
    func read(from offset: Int, _ length: Int) throws(GatewayError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: length) { buffer, done in
            while done < length {
                let got = pread(
                    descriptor,
                    buffer.baseAddress?.advanced(by: done),
                    length - done,
                    offset + done
                )
                if got < 0, errno == EINTR { continue }
                if got < 0 { failure = errno }
                if got <= 0 { return }
                done += got
            }
        }
        if failure != 0 { throw Files.failure("read", path, failure) }
        guard bytes.count == length else { throw Files.failure("read", path, EIO) }
        return bytes
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(GatewayError) {
        var done = 0
        while done < bytes.count {
            let put = bytes.withUnsafeBytes {
                pwrite(descriptor, $0.baseAddress?.advanced(by: done), bytes.count - done, offset + done)
            }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw Files.failure("write", path) }
            done += put
        }
    }
}
