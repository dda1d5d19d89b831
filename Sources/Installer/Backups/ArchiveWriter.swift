import Appliance
import CArchive
import Glibc
import Platform

/// Writes a tar.gz into an open file: plain ustar, with a pax header (POSIX.1-2001) before what does not fit into that.
///
/// libarchive's own writers bring every format they know, and XML with it; this needs one.
///
/// Blocks: to be used on a thread of its own.
final class ArchiveWriter {
    private let descriptor: Int32
    private let path: String
    /// Behind a pointer: zlib keeps its address, and refuses a stream that was moved.
    private let stream: UnsafeMutablePointer<z_stream>
    private var output = [UInt8](repeating: 0, count: 256 << 10)
    /// Bytes of the current file that are still to come, and those that fill its last block.
    private var missing: Int64 = 0
    private var padding = 0

    /// Begins an archive; `path` is only for messages.
    init(_ descriptor: Int32, path: String) throws(GatewayError) {
        self.descriptor = descriptor
        self.path = path
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // Level 4: text shrinks nearly as well as with the highest one, three times as fast. 31: a gzip header.
        let size = Int32(MemoryLayout<z_stream>.size)
        guard deflateInit2_(stream, 4, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, size) == Z_OK
        else {
            throw GatewayError("internal-error", "no memory is left for writing an archive")
        }
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// Begins a file; exactly `size` bytes follow.
    func begin(_ name: String, size: Int64, mode: UInt32, modified: Timestamp) throws(GatewayError) {
        try pad()
        var extended = ""
        if name.utf8.count > 100 { extended += ArchiveWriter.record("path", name) }
        if size >= 1 << 33 { extended += ArchiveWriter.record("size", "\(size)") }
        if !extended.isEmpty {
            let bytes = Array(extended.utf8)
            try deflateAll(ArchiveWriter.header("pax", Int64(bytes.count), 0o600, modified, type: "x"))
            try deflateAll(bytes)
            padding = ArchiveWriter.fill(Int64(bytes.count))
            try pad()
        }
        let shown = size < 1 << 33 ? size : 0
        try deflateAll(ArchiveWriter.header(name, shown, mode, modified, type: "0"))
        missing = size
        padding = ArchiveWriter.fill(size)
    }

    /// Adds to the current file.
    func write(_ bytes: UnsafeRawBufferPointer) throws(GatewayError) {
        missing -= Int64(bytes.count)
        guard missing >= 0 else { throw changed() }
        try deflate(bytes, Z_NO_FLUSH)
    }

    /// Writes what is left; nothing may follow.
    func finish() throws(GatewayError) {
        try pad()
        // Two empty blocks are the end of an archive.
        try deflateAll([UInt8](repeating: 0, count: 1024))
        try deflate(UnsafeRawBufferPointer(start: nil, count: 0), Z_FINISH)
    }

    private func changed() -> GatewayError {
        GatewayError("internal-error", "a file of '\(path)' has another size than its header says")
    }

    // MARK: tar

    private func pad() throws(GatewayError) {
        guard missing == 0 else { throw changed() }
        if padding > 0 { try deflateAll([UInt8](repeating: 0, count: padding)) }
        padding = 0
    }

    private static func fill(_ size: Int64) -> Int { Int((512 - size % 512) % 512) }

    /// `27 path=some/name\n`, where the number counts the whole record, itself included.
    private static func record(_ key: String, _ value: String) -> String {
        let rest = " \(key)=\(value)\n"
        var length = rest.utf8.count
        while "\(length)".utf8.count + rest.utf8.count != length {
            length = "\(length)".utf8.count + rest.utf8.count
        }
        return "\(length)\(rest)"
    }

    private static func header(
        _ name: String,
        _ size: Int64,
        _ mode: UInt32,
        _ modified: Timestamp,
        type: Character
    ) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, _ offset: Int, _ width: Int) {
            for (index, byte) in text.utf8.prefix(width).enumerated() { block[offset + index] = byte }
        }
        func octal(_ value: some BinaryInteger, _ width: Int) -> String {
            let digits = String(value, radix: 8)
            return String(repeating: "0", count: max(0, width - 1 - digits.count)) + digits
        }
        put(name, 0, 100)
        put(octal(mode, 8), 100, 8)
        // Owner and group mean nothing on another machine.
        put(octal(0, 8), 108, 8)
        put(octal(0, 8), 116, 8)
        put(octal(size, 12), 124, 12)
        put(octal(max(0, modified.milliseconds / 1000), 12), 136, 12)
        put("        ", 148, 8)
        put(String(type), 156, 1)
        put("ustar", 257, 5)
        put("00", 263, 2)
        let sum = block.reduce(0) { $0 + Int($1) }
        put(octal(sum, 7), 148, 6)
        block[154] = 0
        block[155] = UInt8(ascii: " ")
        return block
    }

    // MARK: gzip

    private func deflateAll(_ bytes: [UInt8]) throws(GatewayError) {
        let result = bytes.withUnsafeBytes { buffer in
            Result { () throws(GatewayError) in try deflate(buffer, Z_NO_FLUSH) }
        }
        try result.get()
    }

    private func deflate(_ bytes: UnsafeRawBufferPointer, _ flush: Int32) throws(GatewayError) {
        // zlib takes the address as one to write to, and does not.
        stream.pointee.next_in = UnsafeMutablePointer(
            mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        )
        stream.pointee.avail_in = UInt32(bytes.count)
        repeat {
            let room = output.count
            let code = output.withUnsafeMutableBufferPointer { buffer -> Int32 in
                stream.pointee.next_out = buffer.baseAddress
                stream.pointee.avail_out = UInt32(room)
                return CArchive.deflate(stream, flush)
            }
            guard code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR else {
                throw GatewayError("internal-error", "compressing '\(path)' failed with \(code)")
            }
            let count = room - Int(stream.pointee.avail_out)
            let written = output.withUnsafeBytes { buffer in
                Result { () throws(GatewayError) in
                    try Files.writeAll(
                        UnsafeRawBufferPointer(rebasing: buffer.prefix(count)),
                        to: descriptor,
                        path: path
                    )
                }
            }
            try written.get()
        } while stream.pointee.avail_out == 0
    }
}
