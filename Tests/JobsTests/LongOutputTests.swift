import Appliance
import Glibc
import Platform
import SQL
import Synchronization
import TestSupport
import Testing

@testable import Jobs

@Suite("Long output, whatever the store is kept in", .postgres)
struct LongOutputTests {
    /// More than is held in one value, with characters of every length that pieces end within.
    private static let text: String = {
        var text = "x"
        while text.utf8.count < 3 * StoredStream.pieceSize + (1 << 20) {
            text += "line \(text.utf8.count) naïve → 🙂\n"
        }
        return text
    }()

    private func spec(_ id: String, recording: Configuration.Persistence.Recording = .full) -> JobSpec {
        var request = JobRequest(
            id: id,
            provider: "grok",
            executable: "/bin/true",
            arguments: [],
            environment: [:],
            correlationID: "c-\(id)"
        )
        request.recording = recording
        return JobSpec(request, submitted: WallClock.system.now(), boot: nil, instance: "a-gateway")
    }

    private func ending(
        _ output: [UInt8],
        error: [UInt8] = Array("why\n".utf8),
        at instant: Timestamp = WallClock.system.now()
    ) -> JobEnding {
        JobEnding(
            status: .completed,
            exitCode: 0,
            output: WrittenBytes(output),
            errorOutput: WrittenBytes(error),
            outputTruncated: false,
            error: nil,
            finished: instant,
            hasBegun: true,
            payload: ["context": ["is": "kept"], "files": [:]]
        )
    }

    private func finish(_ store: Store, _ spec: JobSpec, _ ending: JobEnding) async throws {
        try await store.finish(spec, ending, directory: "/jobs/\(spec.id)", instance: "one", host: "here")
    }

    private func keep(_ store: Store, _ spec: JobSpec, _ output: [UInt8]) async throws {
        try await store.keepLongOutput(
            spec,
            WrittenBytes(output),
            [],
            directory: "/jobs/\(spec.id)",
            instance: "one",
            host: "here"
        )
    }

    private func pieces(_ store: Store) async throws -> Int {
        try await store.read { connection throws(GatewayError) in
            try connection.first("SELECT COUNT(*) FROM job_output") { $0.integer(0) ?? 0 } ?? -1
        }
    }

    @Test(
        "is given back byte by byte, and in windows that begin and end anywhere",
        arguments: Backend.allCases
    )
    func windows(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        // Bytes that are no text are kept too.
        let bytes = Array(LongOutputTests.text.utf8) + [0xFF, 0x00, 0xC3]
        let errors = Array("why: \(LongOutputTests.text)".utf8)
        try await finish(store, spec("j"), ending(bytes, error: errors))
        #expect(try await store.job("j")?.outputBytes == bytes.count)
        let output = try #require(try await store.output(of: "j"))
        #expect(output.output.held == bytes && output.errorOutput.held == errors)
        #expect(output.output.inMemory == nil && output.context["is"] == "kept")
        var parts: [String] = []
        var offset = 0
        while true {
            let window = TextWindow(offset: offset, limit: 99_991)
            let shown = try #require(
                try await store.windows(of: "j", window, TextWindow(offset: offset, limit: 7))
            )
            #expect(shown.errors.isTruncated || shown.errors.text.utf16.count <= 7)
            parts.append(shown.output.text)
            offset = shown.output.next
            if !shown.output.isTruncated { break }
        }
        #expect(parts.joined() == String(decoding: bytes, as: UTF8.self) && parts.count > 10)
        // A row alone shows its beginning, whole characters.
        let row = try await store.read { connection throws(GatewayError) in
            try connection.first("SELECT stdout, stdout_pieces FROM jobs WHERE id = 'j'") {
                ($0.text(0) ?? "", $0.integer(1))
            }
        }
        let (column, count) = try #require(row)
        #expect(column.utf8.count > 65_000 && LongOutputTests.text.hasPrefix(column) && count == 8)
        #expect(try await store.windows(of: "k", TextWindow(limit: 1), TextWindow(limit: 1)) == nil)
        await store.close()
    }

    @Test(
        "of which some was written by a gateway that ended then is written again",
        arguments: Backend.allCases
    )
    func crash(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let store = try room.store()
        let bytes = Array(LongOutputTests.text.utf8)
        // Other bytes, and more of them: whatever is there does not count.
        try await keep(store, spec("j"), bytes.reversed() + bytes)
        #expect(try await pieces(store) > 8)
        #expect(try await store.job("j")?.status == .running)
        #expect(try await store.output(of: "j")?.output.isEmpty == true)
        let heir = try room.store()
        try await finish(heir, spec("j"), ending(bytes))
        #expect(try await heir.output(of: "j")?.output.held == bytes)
        #expect(try await pieces(heir) == StoredStream.count(of: WrittenBytes(bytes)))
        // Its end is there: nothing of it is written any more.
        try await keep(store, spec("j"), bytes.reversed())
        try await finish(store, spec("j"), ending(bytes.reversed()))
        #expect(try await heir.output(of: "j")?.output.held == bytes)
        await store.close()
        if backend != .memory { await heir.close() }
    }

    @Test("that somebody has removed meanwhile does not become the end of a job", arguments: Backend.allCases)
    func taken(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let bytes = Array(LongOutputTests.text.utf8)
        try await keep(store, spec("j"), bytes)
        // As a gateway does that takes this one for dead.
        try await store.orphan(["j"], error: "gone")
        #expect(try await pieces(store) == 0)
        var ending = ending(bytes)
        ending.isOutputKept = true
        await #expect(throws: GatewayError.self) { try await finish(store, spec("j"), ending) }
        #expect(try await store.job("j")?.status == .orphaned)
        ending.isOutputKept = false
        try await finish(store, spec("j"), ending)
        #expect(try await store.job("j")?.status == .completed)
        #expect(try await store.output(of: "j")?.output.held == bytes)
        await store.close()
    }

    @Test("goes with its job, beyond the limit, and when it is forgotten", arguments: Backend.allCases)
    func removal(_ backend: Backend) async throws {
        let hand = HandClock()
        let store = try RecordRoom(backend, clock: hand.clock).store()
        let bytes = Array(LongOutputTests.text.utf8)
        for id in ["1", "2", "3"] {
            hand.advance(seconds: 1)
            try await finish(store, spec(id), ending(bytes, at: hand.clock.now()))
        }
        let each = StoredStream.count(of: WrittenBytes(bytes))
        #expect(try await pieces(store) == 3 * each)
        #expect(try await store.trimOutput(to: 2 * bytes.count + 100) == 1)
        #expect(try await pieces(store) == 2 * each)
        let trimmed = try #require(try await store.output(of: "1"))
        #expect(trimmed.output.isEmpty && trimmed.errorOutput.isEmpty)
        #expect(try await store.job("1")?.outputBytes == bytes.count)
        var selection = RecordSelection()
        selection.correlationID = "c-2"
        #expect(try await store.remove(selection).jobs == 1)
        #expect(try await pieces(store) == each)
        hand.advance(seconds: 31 * 86_400)
        #expect(try await store.removeExpired().jobs == 2)
        #expect(try await pieces(store) == 0)
        // A job that is recorded in part, or not at all, leaves none.
        try await finish(store, spec("4", recording: .metadata), ending(bytes))
        try await finish(store, spec("5", recording: .none), ending(bytes))
        #expect(try await pieces(store) == 0)
        #expect(try await store.job("4")?.outputBytes == bytes.count)
        #expect(try await store.output(of: "4")?.output.isEmpty == true)
        await store.close()
    }

    @Test("leaves no byte in the database's files when it was forgotten")
    func scrubbed() async throws {
        let room = try RecordRoom(.sqlite)
        let store = try room.store()
        let line = Array("the secret line of it\n".utf8)
        let bytes = (0..<60_000).flatMap { _ in line }
        try await finish(store, spec("j"), ending(bytes))
        await store.settleLog()
        func holds() throws -> Bool {
            try ["logs.db", "logs.db-wal"].contains { name in
                let file = try Files().readIfPresent(room.directory.path(name)) ?? []
                return String(decoding: file, as: UTF8.self).contains("secret line")
            }
        }
        #expect(try holds())
        #expect(try await store.remove(RecordSelection()).jobs == 1)
        #expect(try await store.scrub(isInUse: true))
        #expect(try !holds())
        await store.close()
    }

    @Test("is exported as a whole", arguments: Backend.shared)
    func export(_ backend: Backend) async throws {
        let room = try RecordRoom(backend)
        let store = try room.store()
        let bytes = Array(LongOutputTests.text.utf8)
        try await finish(store, spec("long"), ending(bytes))
        try await finish(store, spec("short"), ending([0x41]))
        await store.close()
        let lines = Mutex<[JSON]>([])
        let count = try await RecordExport.run(room.source, RecordSelection(), files: Files()) {
            (line: JSON) throws(GatewayError) in lines.withLock { $0.append(line) }
        }
        #expect(count.jobs == 2)
        let found = lines.withLock { $0 }
        #expect(found.map { $0["stdout"]?.string } == [LongOutputTests.text, "A"])
        #expect(found.map { $0["stderr"] } == ["why\n", "why\n"])
        #expect(found.allSatisfy { $0["stdout_pieces"] == nil && $0["stderr_pieces"] == nil })
    }

    @Test("as an answer is recorded with its beginning and its length", arguments: Backend.allCases)
    func answer(_ backend: Backend) async throws {
        let store = try RecordRoom(backend).store()
        let recorder = FlightRecorder(store) { Issue.record("\($0)") }
        let room = try TemporaryDirectory()
        let secret = "sk-ant-" + String(repeating: "a", count: 40)
        // A secret that goes on beyond what is kept, and one that is not kept at all.
        let text =
            String(repeating: "🙂", count: 999_990) + secret + String(repeating: "b ", count: 600_000) + secret
        let path = try room.write(Array(text.utf8), "answer")
        let forms = [WrittenText(text), WrittenText(try WrittenBytes(file: path, limit: 64 << 20))]
        for (number, response) in forms.enumerated() {
            var start = FlightStart(correlationID: "c\(number)", provider: "grok", model: "m", prompt: "p")
            start.jobID = "j\(number)"
            await recorder.start(start)
            await recorder.complete(
                "c\(number)",
                FlightEnd(succeeded: true, response: response, durationMilliseconds: 1)
            )
            let record = try #require(
                try await recorder.record(of: "c\(number)", owner: "local", maximumCharacters: 2_000_000)
            )
            let kept = record["response"]?.string ?? ""
            #expect(kept.utf16.count <= 2_000_000 && kept.utf16.count > 1_999_990)
            #expect(kept.hasPrefix("🙂🙂") && kept.contains(Redaction.mark) && !kept.contains("sk-ant"))
            #expect(record["responseChars"]?.int == text.utf16.count)
            #expect(record["responseTruncated"] == true)
            let short = try await recorder.record(of: "c\(number)", owner: "local", maximumCharacters: 1000)
            #expect(short?["response"]?.string?.utf16.count == 1000)
            #expect(short?["responseChars"]?.int == text.utf16.count)
        }
        // What fits is kept whole.
        await recorder.start(FlightStart(correlationID: "s", provider: "grok", model: "m", prompt: "p"))
        let fits = WrittenText(String(repeating: "→", count: 1_000_000))
        await recorder.complete("s", FlightEnd(succeeded: true, response: fits, durationMilliseconds: 1))
        let record = try await recorder.record(of: "s", owner: "local", maximumCharacters: 2_000_000)
        #expect(record?["responseChars"]?.int == 1_000_000 && record?["responseTruncated"] == false)
        await store.close()
    }
}
