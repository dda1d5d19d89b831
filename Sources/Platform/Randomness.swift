package import Appliance
import Glibc

/// Random bytes from the kernel.
///
/// Passed in, so that a test can repeat them.
package struct Randomness: Sendable {
    /// So many bytes.
    package var bytes: @Sendable (Int) -> [UInt8]

    /// A source of bytes.
    package init(bytes: @escaping @Sendable (Int) -> [UInt8]) { self.bytes = bytes }

    /// getentropy(3).
    package static let system = Randomness { count in
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while initialized < count, let start = buffer.baseAddress {
                // It gives all of so many or nothing.
                let piece = min(count - initialized, 256)
                if getentropy(start + initialized, piece) != 0 {
                    // A sandbox may refuse it; the standard library knows other ways, and to end where there is none.
                    var other = SystemRandomNumberGenerator()
                    for index in initialized..<initialized + piece { buffer[index] = other.next() }
                }
                initialized += piece
            }
        }
    }

    /// A version 4 UUID (RFC 9562), lower case.
    package func uuid() -> String {
        Randomness.text(ofUUID: bytes(16), version: 4)
    }

    /// A version 7 UUID (RFC 9562), lower case: the time in milliseconds, then 74 random bits.
    ///
    /// For the key of a row: rows that are written one after the other lie beside each other in the indexes of a database,
    /// while a random key would make each of them change another page of every one.
    package func orderedUUID(at now: Timestamp) -> String {
        var bytes = bytes(16)
        for index in 0..<6 {
            bytes[index] = UInt8(truncatingIfNeeded: now.milliseconds >> (8 * (5 - index)))
        }
        return Randomness.text(ofUUID: bytes, version: 7)
    }

    private static func text(ofUUID bytes: [UInt8], version: UInt8) -> String {
        var bytes = bytes
        bytes[6] = bytes[6] & 0x0F | version << 4
        bytes[8] = bytes[8] & 0x3F | 0x80
        return String(unsafeUninitializedCapacity: 36) { buffer in
            var next = 0
            for (index, byte) in bytes.enumerated() {
                if index == 4 || index == 6 || index == 8 || index == 10 {
                    buffer[next] = UInt8(ascii: "-")
                    next += 1
                }
                buffer[next] = Hex.digit(byte >> 4)
                buffer[next + 1] = Hex.digit(byte & 15)
                next += 2
            }
            return next
        }
    }
}
