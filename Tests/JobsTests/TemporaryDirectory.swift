import Appliance
import Glibc
import Platform

/// A directory of a test's own, removed when the value goes.
final class TemporaryDirectory: Sendable {
    let root: String

    init() throws {
        var template = Array("/tmp/llm-gateway-jobs.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Files.failure("make directory", "/tmp") }
        root = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    }

    deinit { try? Files().removeTree(root) }

    /// A path inside.
    func path(_ name: String) -> String { Layout.join(root, name) }
}
