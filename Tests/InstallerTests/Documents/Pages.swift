import Appliance
import Platform
import Testing

@testable import Installer

/// The written part of the product, as it lies in the checkout.
enum Pages {
    static let root: String = {
        var folder = #filePath
        for _ in 0..<4 { folder = Files.parent(of: folder) }
        return folder
    }()

    /// One page, with its path from the root.
    struct Page: CustomTestStringConvertible {
        var name: String
        var text: String

        var testDescription: String { name }
        var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
        var path: String { Layout.join(Pages.root, name) }
    }

    /// Every page for users and assistants: README.md, and what lies below `setup` and `releases`.
    static let all: [Page] = {
        (["README.md"] + files(below: "setup") + files(below: "releases"))
            .filter { $0.hasSuffix(".md") || $0.hasSuffix(".toml") }.compactMap { page($0) }
    }()

    static func page(_ name: String) -> Page? {
        (try? Files().readText(Layout.join(root, name))).map { Page(name: name, text: $0) }
    }

    /// The files below a folder, by their paths from the root, sorted.
    static func files(below folder: String) -> [String] {
        ((try? Files().list(Layout.join(root, folder))) ?? []).sorted().flatMap { name in
            let path = Layout.join(folder, name)
            let kind = try? Files().status(Layout.join(root, path))?.kind
            return kind == .directory ? files(below: path) : [path]
        }
    }

    /// The command lines that a text shows, each as its words after the program's name.
    ///
    /// Found in code: between backquotes, between single quotes (as the plan writes them), and in lines of their own.
    static func commands(in text: String) -> [[String]] {
        text.split(whereSeparator: { "\n`'".contains($0) }).compactMap { line in
            var words = line.split(whereSeparator: \.isWhitespace).map(String.init)[...]
            guard let program = words.popFirst(),
                program == Product.name || program.hasSuffix("/\(Product.name)")
            else { return nil }
            if let end = words.firstIndex(where: { ["|", "#", "&&", ">"].contains($0) }) {
                words = words[..<end]
            }
            return words.isEmpty ? nil : Array(words)
        }
    }
}
