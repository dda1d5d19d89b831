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
        var bytes: [UInt8] = []
        // Each word is a call of the kernel.
        while bytes.count < count {
            withUnsafeBytes(of: generator.next()) { bytes += $0.prefix(count - bytes.count) }
        }
        return bytes
    }

    /// A version 4 UUID (RFC 9562), lower case.
    package func uuid() -> String {
        var bytes = bytes(16)
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        var out: [UInt8] = []
        for (index, digit) in Hex.encode(bytes).utf8.enumerated() {
            if index == 8 || index == 12 || index == 16 || index == 20 { out.append(UInt8(ascii: "-")) }
            out.append(digit)
        }
        return String(decoding: out, as: UTF8.self)
    }
}
