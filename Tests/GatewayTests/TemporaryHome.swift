import Appliance
import Glibc
import Platform

/// A directory of a test's own with every symlink resolved, removed when the value goes.
final class TemporaryHome: Sendable {
    let root: String

    init() throws {
        var template = Array("/tmp/llm-gateway-test.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Files.failure("make directory", "/tmp") }
        let made = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
        root = Files().realPath(made) ?? made
    }

    deinit { try? Files().removeTree(root) }

    /// A path inside.
    func path(_ name: String) -> String { Layout.join(root, name) }
}
