import Appliance
import Glibc

/// Random bytes from the kernel.
///
/// Passed in, so that a test can repeat them.
package struct Randomness: Sendable {
    /// So many bytes.
    package var bytes: @Sendable (Int) -> [UInt8]

    /// A source of bytes.
    package init(bytes: @escaping @Sendable (Int) -> [UInt8]) { self.bytes = bytes }

    /// getrandom(2).
    package static let system = Randomness { count in
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    /// A version 4 UUID (RFC 9562), lower case.
    package func uuid() -> String {
        var bytes = bytes(16)
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        let hex = Hex.encode(bytes)
        var out = ""
        for (index, character) in hex.enumerated() {
            if [8, 12, 16, 20].contains(index) { out.append("-") }
            out.append(character)
        }
        return out
    }
}
