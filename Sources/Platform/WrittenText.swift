package import Appliance

/// A text that a run has written: held as a whole where it is short, or a reference to bytes that are read in pieces.
package struct WrittenText: Sendable, Equatable {
    private enum Form: Sendable, Equatable {
        case text(String)
        case bytes(WrittenBytes)
    }

    private let form: Form

    /// A text that is there as a whole, however long.
    package init(_ text: String) { form = .text(text) }

    /// UTF-8; where it is invalid it is repaired when it is read.
    package init(_ bytes: WrittenBytes) {
        form = bytes.inMemory.map { .text(String(decoding: $0, as: UTF8.self)) } ?? .bytes(bytes)
    }

    /// Bytes of its UTF-8.
    package var size: Int {
        switch form {
        case .text(let text): text.utf8.count
        case .bytes(let bytes): bytes.count
        }
    }

    /// Whether there is nothing in it.
    package var isEmpty: Bool { size == 0 }

    /// The text itself where it is held; `nil` where it has to be read.
    package var inMemory: String? {
        guard case .text(let text) = form else { return nil }
        return text
    }

    /// All of it at once.
    ///
    /// Throws what the file system throws.
    package func whole() throws(GatewayError) -> String {
        switch form {
        case .text(let text): text
        case .bytes(let bytes): String(decoding: try bytes.all(), as: UTF8.self)
        }
    }

    /// The same; a long one is read on a thread of its own.
    package func read() async throws(GatewayError) -> String {
        if let inMemory { return inMemory }
        return try await BlockingThread.run("text") { () throws(GatewayError) in try whole() }
    }

    /// Whether there is nothing in it but white space.
    package func isBlank() throws(GatewayError) -> Bool {
        if case .bytes(let bytes) = form {
            // Where the beginning says it already, the rest is not read.
            let beginning = String(decoding: try bytes.bytes(from: 0, 4096), as: UTF8.self)
            if beginning.unicodeScalars.contains(where: { $0 != "\u{FFFD}" && !$0.properties.isWhitespace }) {
                return false
            }
        }
        return try whole().allSatisfy(\.isWhitespace)
    }

    /// Gives the bytes of its UTF-8 piece by piece; a text that is held is one piece.
    package func forEachPiece(_ body: ([UInt8]) throws(GatewayError) -> Bool) throws(GatewayError) {
        switch form {
        case .text(let text): _ = try body(Array(text.utf8))
        case .bytes(let bytes): try bytes.forEachPiece(body)
        }
    }
}

extension WrittenText: ExpressibleByStringInterpolation {
    /// A text that is there as a whole.
    package init(stringLiteral value: String) { self.init(value) }
}
