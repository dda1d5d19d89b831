import Appliance
import Platform
import Testing

@testable import Installer

@Suite("What the pages say")
struct PagesTests {
    @Test("there are pages for what the plan and the overviews speak of")
    func isThere() {
        let names = Pages.all.map(\.name)
        for name in [
            "README.md", "setup/troubleshooting.md", "setup/assistants/CONTRACT.md", "releases/CHANGELOG.md",
        ] {
            #expect(names.contains(name))
        }
        #expect(names.count { $0.hasPrefix("setup/clients/") } > ClientConfiguration.all.count)
    }

    @Test(
        "every link within the checkout leads somewhere",
        arguments: Pages.all.filter { $0.name.hasSuffix(".md") }
    )
    func links(page: Pages.Page) throws {
        for link in page.text.matches(of: /\]\(([^)\s]+)\)/).map({ String($0.output.1) })
        where !link.contains("://") {
            let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
            let target =
                parts[0].isEmpty
                ? page.path : Layout.join(Files.parent(of: page.path), String(parts[0]))
            #expect(Files().exists(target), "\(page.name) links to '\(link)'")
            guard parts.count == 2 else { continue }
            let headings = try Files().readText(target).split(separator: "\n").filter { $0.hasPrefix("#") }
            #expect(
                headings.map { anchor(of: $0) }.contains(String(parts[1])),
                "\(page.name) links to '\(link)', which is no heading"
            )
        }
    }

    /// The name under which a heading can be linked to.
    private func anchor(of heading: Substring) -> String {
        String(
            heading.drop { $0 == "#" || $0 == " " }.lowercased().compactMap { character in
                character == " "
                    ? "-" : character.isLetter || character.isNumber || character == "-" ? character : nil
            }
        )
    }

    @Test("every command that is shown would be understood", arguments: Pages.all)
    func commands(page: Pages.Page) {
        for words in Pages.commands(in: page.text) {
            // What stands for something of the reader's own, and the word for any verb.
            guard words[0] != "VERB", words[0] != "help" || words.last != "VERB" else { continue }
            #expect(throws: Never.self, "\(page.name): \(words.joined(separator: " "))") {
                _ = try Arguments(words, verbs: Verb.all)
            }
        }
    }

    @Test("the table of commands in README.md names all of them and no others")
    func table() throws {
        let readme = try #require(Pages.page("README.md"))
        let rows = readme.lines.drop { !$0.hasPrefix("| You want to") }.prefix { $0.hasPrefix("|") }
            .dropFirst(2)
        let shown = rows.flatMap { row in row.matches(of: /`([a-z][^`]*)`/).map { String($0.output.1) } }
            .map { command in
                let words = command.split(separator: " ").map(String.init)
                return words[0] == Product.name ? words[1] : words[0]
            }
        #expect(Set(shown) == Set(Verb.all.filter { $0.group != nil }.map(\.name)))
    }

    @Test("the pages name the C library and the exit codes that the code has")
    func facts() throws {
        for name in ["README.md", "releases/README.md"] {
            let page = try #require(Pages.page(name))
            let versions = page.text.matches(of: /(?:glibc |GLIBC_)(2\.\d+)/).map { String($0.output.1) }
            #expect(
                !versions.isEmpty && versions.allSatisfy { $0 == Product.oldestGlibc },
                "\(name): \(versions)"
            )
        }
        let readme = try #require(Pages.page("README.md")).text.replacing("\n", with: " ")
        for (code, meaning) in [
            (ExitCode.done, "done"), (.failed, "failed or findings"), (.usage, "usage"),
            (.verificationRefused, "verification refused"), (.busy, "busy"), (.network, "network"),
            (.internalError, "a defect of ours"),
        ] {
            #expect(readme.contains("\(code.rawValue) \(meaning)"))
        }
    }

    @Test("every message that troubleshooting quotes is one that the code prints")
    func quotes() throws {
        let page = try #require(Pages.page("setup/troubleshooting.md"))
        // Texts that go over several lines of source are joined; what is put in differs from machine to machine.
        let sources = Pages.files(below: "Sources").filter { $0.hasSuffix(".swift") }
            .compactMap { Pages.page($0)?.text }.joined(separator: "\n").replacing(/"\s*\+\s*"/, with: "")
        var count = 0
        for line in page.lines where line.hasPrefix("> ") {
            var quote = line.dropFirst(2)
            if quote.hasPrefix("{\"error\":\"") { quote = quote.dropFirst(10).dropLast(2) }
            for part in quote.split(separator: "…") {
                let words = trimmed(part)
                guard words.count >= 6 else { continue }
                count += 1
                // Named first, so that a failure does not print every source.
                let isSaid = sources.contains(words)
                #expect(isSaid, "no source says '\(words)'")
            }
        }
        #expect(count > 40)
    }

    /// Without the punctuation at the edges, which may belong to what is put in.
    private func trimmed(_ text: Substring) -> String {
        var text = text
        while let first = text.first, " '\":,.;()=".contains(first) { text.removeFirst() }
        while let last = text.last, " '\":,.;()=".contains(last) { text.removeLast() }
        return String(text)
    }
}
