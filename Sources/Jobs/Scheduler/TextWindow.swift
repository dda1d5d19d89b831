package import Appliance
import CShims
import Glibc
package import Platform

/// A part of a long text: from an offset on, at most so many characters, counted as the contract's JavaScript does, in
/// UTF-16 units.
///
/// Bytes are taken piece by piece and only what is shown is kept. A character whose bytes have not all been written yet is left
/// for the next reading, so that readings one after the other give the same text as one reading at the end.
package struct TextWindow: Sendable, Equatable {
    /// What is shown.
    package private(set) var text = ""
    /// Whether there is more behind it.
    package private(set) var isTruncated = false
    private let offset: Int
    private let limit: Int
    /// Units of everything that was taken, up to the end of what is shown.
    private var passed = 0
    private var shown = 0
    /// The beginning of a character that goes on in the next piece.
    private var pending: [UInt8] = []

    /// A window that begins after `offset` units and shows at most `limit`.
    package init(offset: Int = 0, limit: Int) {
        self.offset = offset
        self.limit = limit
    }

    /// The same window over a text that is there as a whole.
    package func over(_ text: String) -> TextWindow {
        var window = TextWindow(offset: offset, limit: limit)
        window.take(text)
        return window
    }

    /// The offset at which the next reading goes on.
    package var next: Int { passed }

    /// Takes the bytes that follow.
    mutating func take(_ bytes: [UInt8]) {
        guard !isTruncated else { return }
        let all = pending.isEmpty ? bytes : pending + bytes
        let whole = TextWindow.lengthWithoutOpenCharacter(all)
        pending = Array(all[whole...])
        take(String(decoding: all[..<whole], as: UTF8.self))
    }

    /// Nothing follows: a character that was begun is not completed any more.
    mutating func finish() {
        let rest = pending
        pending = []
        take(String(decoding: rest, as: UTF8.self))
    }

    private mutating func take(_ piece: String) {
        guard !isTruncated, !piece.isEmpty else { return }
        let units = piece.utf16
        let count = units.count
        guard passed + count > offset else {
            passed += count
            return
        }
        let start = units.index(units.startIndex, offsetBy: max(0, offset - passed)).roundedDown(in: piece)
        let wanted = units.index(start, offsetBy: limit - shown, limitedBy: units.endIndex) ?? units.endIndex
        let end = wanted.roundedDown(in: piece)
        text += piece[start..<end]
        shown += units.distance(from: start, to: end)
        passed += units.distance(from: units.startIndex, to: end)
        isTruncated = end < units.endIndex
    }

    /// How many of the bytes are no beginning of a character that is not there as a whole.
    private static func lengthWithoutOpenCharacter(_ bytes: [UInt8]) -> Int {
        for back in 1...3 where back <= bytes.count {
            let byte = bytes[bytes.count - back]
            // A byte within a character: what begins it is before.
            if byte & 0xC0 == 0x80 { continue }
            let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
            return length > back ? bytes.count - back : bytes.count
        }
        return bytes.count
    }

    /// Bytes that are read at once.
    private static let pieceSize = 256 << 10

    /// The same window over bytes that a run has written; those in a file are read as far as they are shown.
    ///
    /// Throws what the file system throws.
    package func over(_ bytes: WrittenBytes) throws(GatewayError) -> TextWindow {
        var window = TextWindow(offset: offset, limit: limit)
        try bytes.forEachPiece { piece throws(GatewayError) in
            window.take(piece)
            return !window.isTruncated
        }
        window.finish()
        return window
    }

    /// The same window over a text that a run has written.
    ///
    /// Throws what the file system throws.
    package func over(_ text: WrittenText) throws(GatewayError) -> TextWindow {
        if let text = text.inMemory { return over(text) }
        var window = TextWindow(offset: offset, limit: limit)
        try text.forEachPiece { piece throws(GatewayError) in
            window.take(piece)
            return !window.isTruncated
        }
        window.finish()
        return window
    }

    /// How many bytes of the beginning are whole characters.
    static func wholeCharacters(of bytes: [UInt8]) -> Int { lengthWithoutOpenCharacter(bytes) }

    /// The same window over a file that may still grow; empty when there is none.
    ///
    /// Throws what the file system throws when it cannot be told.
    func over(file path: String, isComplete: Bool) throws(GatewayError) -> TextWindow {
        var window = TextWindow(offset: offset, limit: limit)
        let descriptor = shim_open(path, O_RDONLY | O_NOFOLLOW, 0)
        if descriptor == -ENOENT { return window }
        guard descriptor >= 0 else { throw Files.failure("read", path, -descriptor) }
        defer { close(descriptor) }
        while !window.isTruncated {
            var failure: Int32 = 0
            let piece = [UInt8](unsafeUninitializedCapacity: TextWindow.pieceSize) { buffer, count in
                let result = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                failure = result < 0 ? errno : 0
                count = max(0, result)
            }
            if failure == EINTR { continue }
            if failure != 0 { throw Files.failure("read", path, failure) }
            if piece.isEmpty { break }
            window.take(piece)
        }
        if isComplete { window.finish() }
        return window
    }
}

extension String.Index {
    fileprivate func roundedDown(in text: String) -> String.Index {
        samePosition(in: text.unicodeScalars) ?? text.utf16.index(before: self)
    }
}
