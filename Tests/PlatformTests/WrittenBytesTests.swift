import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@Suite("What a run has written")
struct WrittenBytesTests {
    private static let text = Array("first\nsecond →🙂\n\r\n\n".utf8)

    /// The same bytes in memory, and in a file that is read in pieces of so many bytes.
    private func both(_ bytes: [UInt8], piece: Int, _ room: TemporaryDirectory) throws -> [WrittenBytes] {
        let path = try room.write(bytes, "written")
        return [WrittenBytes(bytes), try WrittenBytes(file: path, limit: 1 << 20, memory: 0, piece: piece)]
    }

    @Test("is the same in memory and in a file, whatever the size of the pieces", arguments: 1...9)
    func pieces(size: Int) throws {
        let room = try TemporaryDirectory()
        let bytes = WrittenBytesTests.text
        for written in try both(bytes, piece: size, room) {
            var read: [UInt8] = []
            try written.forEachPiece { piece throws(GatewayError) in
                read += piece
                return true
            }
            #expect(read == bytes && written.held == bytes && written.count == bytes.count)
            #expect(try written.bytes(from: 6, 6) == Array("second".utf8))
            #expect(try written.bytes(from: bytes.count - 2, 99) == Array("\n\n".utf8))
            #expect(written.prefix(5).held == Array("first".utf8))
            #expect(try written.withoutLineBreaksAtEnd().held == Array("first\nsecond →🙂".utf8))
            #expect(WrittenText(try written.withoutLineBreaksAtEnd()).held == "first\nsecond →🙂")
        }
        for written in try both(Array("\n\n\r\n".utf8), piece: size, room) {
            #expect(try written.withoutLineBreaksAtEnd().isEmpty)
        }
    }

    @Test("ends early when nobody wants more")
    func early() throws {
        let room = try TemporaryDirectory()
        var pieces = 0
        try both(WrittenBytesTests.text, piece: 4, room)[1].forEachPiece { piece throws(GatewayError) in
            pieces += 1
            return pieces < 2
        }
        #expect(pieces == 2)
    }

    @Test("can be read after its file was removed, and no longer than somebody holds it")
    func removed() throws {
        let room = try TemporaryDirectory()
        let path = try room.write(WrittenBytesTests.text, "gone")
        let before = try Files().list("/proc/self/fd").count
        do {
            let written = try WrittenBytes(file: path, limit: 1 << 20, memory: 0)
            try Files().removeFile(path)
            #expect(written.held == WrittenBytesTests.text)
            let file = try WrittenBytesFile(in: room.path("new/place"))
            try file.append(Array("one ".utf8))
            try file.append(Array("two".utf8))
            #expect(file.bytes.held == Array("one two".utf8))
            #expect(try Files().list(room.path("new/place")) == [])
        }
        #expect(try Files().list("/proc/self/fd").count <= before)
    }

    @Test("says what is no file of a run, and what is too large for one")
    func refusals() throws {
        let room = try TemporaryDirectory()
        #expect(try WrittenBytes(file: room.path("none"), limit: 1).isEmpty)
        let path = try room.write([1, 2, 3], "file")
        #expect(throws: GatewayError("file-too-large", "'\(path)' is larger than 2 bytes")) {
            try WrittenBytes(file: path, limit: 2)
        }
        #expect(throws: GatewayError("not-a-file", "'\(room.root)' is no regular file")) {
            try WrittenBytes(file: room.root, limit: 10)
        }
    }

    @Test("that is cut while it is read is not taken for the whole")
    func cut() throws {
        let room = try TemporaryDirectory()
        let written = try both(WrittenBytesTests.text, piece: 8, room)[1]
        #expect(truncate(room.path("written"), 10) == 0)
        #expect(throws: GatewayError.self) { try written.all() }
    }

    @Test(
        "is blank where there is nothing to see",
        arguments: [("", true), (" \n\u{3000}\t", true), (" x", false), ("\u{3000}→", false)]
    )
    func blank(text: String, isBlank: Bool) throws {
        let room = try TemporaryDirectory()
        for written in try both(Array(text.utf8), piece: 3, room) {
            #expect(try WrittenText(written).isBlank() == isBlank)
        }
        let long = String(repeating: " ", count: 5000) + text
        for written in try both(Array(long.utf8), piece: 3, room) {
            #expect(try WrittenText(written).isBlank() == isBlank)
        }
    }
}
