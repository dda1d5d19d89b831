import Glibc
import Testing

/// A directory of a test's own, removed when the value goes.
final class TemporaryDirectory {
    let root: String

    init() throws {
        var template = Array("/tmp/llm-gateway-sqlite.XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        root = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        guard let directory = opendir(root) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            unlink("\(root)/\(name)")
        }
        closedir(directory)
        rmdir(root)
    }

    /// A path inside.
    func path(_ name: String) -> String { "\(root)/\(name)" }
}
