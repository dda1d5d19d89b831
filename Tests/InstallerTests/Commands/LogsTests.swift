import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Following the log")
struct LogsTests {
    /// What `logs --follow --json` answers when this script reads the log.
    private func follow(_ script: String, _ words: String...) async throws -> (Session.Answer, log: String) {
        let session = try Session()
        let tools = session.scratch.path("tools")
        try session.write("#!/bin/sh\n\(script)\n", Layout.join(tools, "tail"), mode: 0o700)
        try session.write("", session.layout.gatewayLog)
        let answer = await session.run(["logs", "--follow"] + words, with: ["PATH": tools])
        return (answer, session.layout.gatewayLog)
    }

    @Test("prints an object for each line, and also says in one why nothing more comes")
    func objects() async throws {
        let (answer, log) = try await follow(
            #"printf 'first "quoted"\n\nse'; /bin/sleep 0.1; printf 'cond\n\377\n'; echo lost >&2; exit 3"#,
            "--json"
        )
        let objects = try answer.output.split(separator: "\n").map { try JSON.parse(String($0)) }
        let wanted = [#"first "quoted""#, "second", "\u{FFFD}"].map { line -> JSON in
            ["source": "file", "path": .string(log), "line": .string(line)]
        }
        #expect(Array(objects.dropLast()) == wanted)
        #expect(objects.last?["error"]?["code"] == "log-unreadable")
        #expect(
            answer.error.hasPrefix("lost\nerror: the log cannot be followed any further: '")
                && answer.error.hasSuffix("/tail' ended with exit code 3\n")
        )
        #expect(answer.code == .failed)
    }

    @Test("asks for so many of the last lines, and goes on when the file is replaced")
    func arguments() async throws {
        let (answer, log) = try await follow(#"printf '%s\n' "$*"; exit 1"#, "--json", "-n", "7")
        let first = answer.output.split(separator: "\n").first.map(String.init) ?? ""
        #expect(try JSON.parse(first)["line"] == .string("-n 7 -F -- \(log)"))
    }

    @Test("is a stream of events with --progress")
    func events() async throws {
        let (answer, log) = try await follow("echo one; exit 1", "--progress")
        let objects = try answer.output.split(separator: "\n").map { try JSON.parse(String($0)) }
        #expect(
            objects.first == ["event": "line", "source": "file", "path": .string(log), "line": "one"]
        )
        #expect(objects.count == 2 && objects.last?["event"] == "error")
        #expect(objects.last?["error"]?["code"] == "log-unreadable")
    }

    @Test("gives a line without end in parts")
    func limit() {
        var lines = LogLines()
        let piece = [UInt8](repeating: 0x61, count: LogLines.limit / 2)
        #expect(lines.take(piece).isEmpty)
        #expect(lines.take(piece).map(\.utf8.count) == [LogLines.limit])
        #expect(lines.take([0x0A, 0x62, 0x0A]) == ["b"])
    }
}
