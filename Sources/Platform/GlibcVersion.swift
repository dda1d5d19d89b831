package import Appliance
import CShims

/// Whether this system's C library is new enough.
///
/// The dynamic loader refuses a binary whose symbols are missing, in words that only an expert understands; this check
/// is for everything between that and what the product promises.
package enum GlibcVersion {
    /// The version of this system: `2.36`.
    package static var running: String { String(cString: gnu_get_libc_version()) }

    /// Throws `glibc-too-old` on a system older than `Product.oldestGlibc`.
    package static func check() throws(GatewayError) {
        try check(running: running, required: Product.oldestGlibc)
    }

    static func check(running: String, required: String) throws(GatewayError) {
        func numbers(_ text: String) -> [Int] { text.split(separator: ".").map { Int($0) ?? 0 } }
        guard numbers(running).lexicographicallyPrecedes(numbers(required)) else { return }
        throw GatewayError(
            "glibc-too-old",
            "this system has glibc \(running), and \(Product.name) needs \(required) or newer",
            help: "use Debian 12, Ubuntu 22.04, or any newer distribution"
        )
    }
}
