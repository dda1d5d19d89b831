import Appliance
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Platform

private final class Lines: Sendable {
    let all = Mutex<[String]>([])

    func log(_ style: Log.Style, minimum: Log.Level = .info) -> Log {
        Log(
            style: style,
            minimum: minimum,
            now: { Timestamp(milliseconds: 1_795_252_528_123) },
            write: { record in self.all.withLock { $0.append(String(decoding: record, as: UTF8.self)) } }
        )
    }

    var text: String { all.withLock { $0.joined() } }
}

@Suite("The log")
struct LogTests {
    @Test("writes the contract's form where nobody in particular reads")
    func plain() {
        let lines = Lines()
        lines.log(.plain).info("listening", ["address": "127.0.0.1:1", "what": "two words"])
        #expect(
            lines.text
                == "[INFO] 2026-11-21T09:15:28.123Z - listening address=127.0.0.1:1 what=\"two words\"\n"
        )
    }

    @Test("writes priorities for the journal and short times for a terminal")
    func styles() {
        let lines = Lines()
        lines.log(.journal).warning("careful")
        lines.log(.terminal).error("broken")
        lines.log(.terminal).info("fine")
        #expect(lines.text == "<4>careful\n09:15:28 error: broken\n09:15:28 fine\n")
    }

    @Test("makes debug records only when asked")
    func gate() {
        let lines = Lines()
        lines.log(.plain).debug("hidden")
        lines.log(.plain, minimum: .debug).debug("shown")
        #expect(lines.text == "[DEBUG] 2026-11-21T09:15:28.123Z - shown\n")
    }

    @Test("lets no message pass for another record or steer a terminal")
    func injection() {
        let lines = Lines()
        lines.log(.journal).info("a\n<0>b\u{1B}[2J\r", ["k": "v\nw=\"1\""])
        #expect(lines.text == "<6>a\n<6>    <0>b\\x1b[2J k=\"v\\nw=\\\"1\\\"\"\n")
        let others = Lines()
        others.log(.plain).info("\u{9B}2J é\u{A0}")
        #expect(others.text.hasSuffix(" - \\x9b2J é\u{A0}\n"))
    }

    @Test("takes secrets out, and bounds a record")
    func secrets() {
        let lines = Lines()
        lines.log(.plain).info("Bearer abcdefghijklmnop", ["api_key": "0123456789"])
        #expect(lines.text.hasSuffix(" - Bearer <redacted> api_key=<redacted>\n"))
        lines.log(.plain).info(String(repeating: "x", count: 100_000))
        #expect(lines.text.utf8.count < 17_000 && lines.text.hasSuffix("(83616 more bytes)\n"))
    }

    @Test("words an error with its code and advice")
    func errors() {
        let lines = Lines()
        lines.log(.terminal).error(GatewayError("busy", "it is busy", help: "wait"))
        #expect(lines.text == "09:15:28 error: it is busy code=busy help=wait\n")
    }

    @Test("knows the journal by its descriptor")
    func style() {
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        defer { for end in ends { close(end) } }
        var info = stat()
        fstat(ends[1], &info)
        #expect(
            Log.style(of: ends[1], environment: ["JOURNAL_STREAM": "\(info.st_dev):\(info.st_ino)"])
                == .journal
        )
        #expect(Log.style(of: ends[1], environment: ["JOURNAL_STREAM": "1:1"]) == .plain)
    }

    @Test("does not hang on a reader that stopped, and tells it later what it missed")
    func stuckReader() throws {
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        defer { for end in ends { close(end) } }
        let output = LogOutput(descriptor: ends[1])
        let record = [UInt8](repeating: 120, count: 1023) + [10]
        let took = ContinuousClock().measure { for _ in 0..<1000 { output.write(record) } }
        #expect(took < .seconds(15))
        var scratch = [UInt8](repeating: 0, count: 1 << 20)
        var got = read(ends[0], &scratch, scratch.count)
        output.write(record)
        got = read(ends[0], &scratch, scratch.count)
        let text = String(decoding: scratch[..<max(0, got)], as: UTF8.self)
        #expect(text.hasSuffix(" earlier records were dropped because nobody read them\n"))
    }
}

@Suite("A log file")
struct LogFileTests {
    @Test("rotates before it exceeds its limit and keeps so many older ones")
    func rotation() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("gateway.log")
        let log = try LogFile(path, limit: 100, keep: 2, files: Files())
        for number in 0..<10 {
            try log.append(Array((String(repeating: "\(number)", count: 39) + "\n").utf8))
        }
        #expect(
            try Files().list(directory.root).sorted() == ["gateway.log", "gateway.log.1", "gateway.log.2"]
        )
        let newest = try Files().readText(path)
        #expect(newest.hasPrefix("888") && newest.contains("\n999") && newest.utf8.count == 80)
        #expect(try Files().readText(path + ".1").hasPrefix("666"))
        #expect(try Files().readText(path + ".2").hasPrefix("444"))
        #expect(try Files().status(path)?.mode == 0o600)
    }

    @Test("that cannot begin a new file goes on in the old one, and loses none of the older ones")
    func noRoomToRotate() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("gateway.log")
        let log = try LogFile(path, limit: 10, keep: 2, files: Files())
        for word in ["one", "two", "three"] { try log.append(Array("\(word) 6789\n".utf8)) }
        // A folder in the place of the new file: it cannot be opened, as on a full disk.
        try Files().makeDirectory(path + ".new")
        for word in ["four", "five", "six"] { try log.append(Array("\(word) 6789\n".utf8)) }
        #expect(try Files().readText(path) == "three 6789\nfour 6789\nfive 6789\nsix 6789\n")
        #expect(try Files().readText(path + ".1") == "two 6789\n")
        #expect(try Files().readText(path + ".2") == "one 6789\n")
        try Files().removeTree(path + ".new")
        try log.append(Array("seven\n".utf8))
        #expect(try Files().readText(path) == "seven\n")
    }

    @Test("goes on at the end of what is there")
    func appends() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("gateway.log")
        for text in ["one\n", "two\n"] { try LogFile(path, files: Files()).append(Array(text.utf8)) }
        #expect(try Files().readText(path) == "one\ntwo\n")
    }

    @Test("that a service manager opened is kept within its limit, with all that the process writes")
    func standardError() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("gateway.log")
        // In a process of its own, whose standard output and error are the file, as systemd opens it.
        await #expect(processExitsWith: .success) { [path = path as String] in
            let opened = open(path, O_WRONLY | O_CREAT | O_APPEND, 0o644)
            for descriptor: Int32 in [1, 2] { dup2(opened, descriptor) }
            close(opened)
            #expect(LogFile(standardErrorAt: path + ".1", files: Files()) == nil)
            let file = try #require(LogFile(standardErrorAt: path, limit: 100, keep: 1, files: Files()))
            let log = Log.standardError(environment: [:], clock: .system, file: file)
            for number in 0..<3 { log.info("record \(number) of the test") }
            for descriptor: Int32 in [1, 2] {
                try Files.writeAll(Array("descriptor \(descriptor)\n".utf8), to: descriptor, path: path)
            }
        }
        #expect(try Files().list(directory.root).sorted() == ["gateway.log", "gateway.log.1"])
        #expect(try Files().readText(path + ".1").hasSuffix("record 1 of the test\n"))
        let newest = try Files().readText(path)
        #expect(newest.contains("record 2 of the test\ndescriptor 1\ndescriptor 2\n"))
    }

    @Test("names the file that cannot be opened")
    func failure() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("no/gateway.log")
        let error = #expect(throws: GatewayError.self) { _ = try LogFile(path, files: Files()) }
        #expect(error?.message.contains("'\(path)'") == true)
    }
}
