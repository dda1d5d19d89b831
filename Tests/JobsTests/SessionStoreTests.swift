import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Jobs

@Suite("Sessions")
struct SessionStoreTests {
    private let directory: TemporaryDirectory
    private let findings = Journal()
    private let now = Instant()

    /// A clock that the test sets.
    final class Instant: Sendable {
        private let value = Mutex(Int64(1_795_000_000_000))
        var milliseconds: Int64 { value.withLock { $0 } }
        func advance(days: Int64) { value.withLock { $0 += days * 86_400_000 } }
    }

    init() throws { directory = try TemporaryDirectory() }

    private func store(
        _ environment: [String: String] = [:],
        files: Files = Files()
    ) throws -> SessionStore {
        let environment = environment.merging(["HOME": directory.root]) { $1 }
        let now = now, findings = findings
        let machine = Machine(
            environment: environment,
            files: files,
            clock: WallClock(
                now: { Timestamp(milliseconds: now.milliseconds) },
                uptime: WallClock.system.uptime,
                sleep: WallClock.system.sleep
            ),
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        return SessionStore(
            layout: try Layout(environment: environment),
            machine: machine,
            report: { findings.note($0.description) }
        )
    }

    private var path: String { directory.path(".llm-cli-gateway/sessions.json") }

    private func place(_ text: String) throws {
        try Files().makeDirectory(directory.path(".llm-cli-gateway"))
        try Files().write(text.utf8, to: path)
    }

    @Test("are kept in the reference's format, the first of a provider active")
    func format() async throws {
        let store = try store()
        let record = try await store.create("claude", id: "one", caller: "local")
        #expect(record.description == "Claude Session")
        try await store.create(
            "claude",
            id: "two",
            metadata: JSONObject([("workspaceAlias", "w")]),
            caller: "local"
        )
        let json = try JSON.parse(try Files().read(path))
        #expect(json["sessions"]?["one"]?["cli"] == "claude")
        #expect(json["sessions"]?["two"]?["metadata"]?["workspaceAlias"] == "w")
        #expect(json["sessions"]?["one"]?["ownerPrincipal"] == "local")
        #expect(json["activeSession"]?["claude"] == "one")
        #expect(json["activeSession"]?["grok-api"] == .null)
        #expect(try Files().status(path)?.mode == 0o600)
        #expect(store.list(caller: "local").map(\.id) == ["one", "two"])
        #expect(store.active("claude", caller: "local")?.id == "one")
    }

    @Test("belong to their owner; what belongs to nobody is the local principal's")
    func owners() async throws {
        let used = Timestamp(milliseconds: now.milliseconds).iso8601
        try place(
            """
            {"sessions":{"old":{"id":"old","cli":"codex","createdAt":"\(used)","lastUsedAt":"\(used)",
            "description":"Codex Session","novelty":[1,2]}},"activeSession":{"codex":"old"},"generation":7}
            """
        )
        let store = try store()
        try await store.create("codex", id: "theirs", caller: "someone")
        #expect(store.list(caller: "local").map(\.id) == ["old"])
        #expect(store.list(caller: "someone").map(\.id) == ["theirs"])
        #expect(store.session("old", caller: "someone") == nil)
        #expect(store.standing(of: "old", caller: "someone")?.isAccessible == false)
        // The first of each principal is its active one, whoever else has one.
        #expect(store.active("codex", caller: "someone")?.id == "theirs")
        #expect(store.active("codex", caller: "local")?.id == "old")
        #expect(try await store.delete("old", caller: "someone") == nil)
        #expect(try await store.setActive("old", of: "codex", caller: "someone") == false)
        #expect(try await store.clear(caller: "someone").map(\.id) == ["theirs"])
        // What this program does not know stays.
        let json = try JSON.parse(try Files().read(path))
        #expect(json["generation"] == 7)
        #expect(json["sessions"]?["old"]?["novelty"] == [1, 2])
    }

    @Test("of several gateways that write at the same time are all kept")
    func concurrent() async throws {
        let stores = try (0..<4).map { _ in try store() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, store) in stores.enumerated() {
                group.addTask {
                    for number in 0..<10 {
                        try await store.create("claude", id: "\(index)-\(number)", caller: "local")
                    }
                }
            }
            try await group.waitForAll()
        }
        for store in stores { #expect(store.list(caller: "local").count == 40) }
    }

    @Test("are written in the form of the whole, whatever of them was written before")
    func parts() throws {
        var random = SystemRandomNumberGenerator()
        var document = SessionDocument(
            try JSON.parse(
                """
                {"sessions":{"\\"odd\\"":{"id":"x","cli":"codex","lastUsedAt":"2026-11-21T20:00:00.000Z","novelty":[1,{}]},
                "foreign":7},"activeSession":{"codex":null},"generation":{"a":[]}}
                """
            ).object ?? JSONObject()
        )
        #expect(document.write() == Array((document.json.prettyText + "\n").utf8))
        for step in 0..<200 {
            let before = document
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                document.append(
                    SessionRecord(
                        id: "s\(step)",
                        provider: "claude",
                        created: "2026-11-21T20:00:00.000Z",
                        description: "ä \u{1}\n",
                        metadata: JSONObject(
                            step % 2 == 0 ? [] : [("runningTotal", ["input": .integer(step)])]
                        ),
                        owner: "local"
                    )
                )
            case 1 where !document.sessions.isEmpty:
                let index = Int.random(in: 0..<document.sessions.count, using: &random)
                document.sessions[index].record.metadata["step"] = .integer(step)
            case 2: document.activate(document.sessions.last?.record.id, of: "claude", for: "ann")
            default:
                let gone = document.sessions.randomElement(using: &random)?.record.id
                _ = document.remove { record, _ in record.id == gone && step % 3 == 0 }
            }
            let isOther = document.json != before.json
            #expect(document.differs(from: before) == isOther, "step \(step)")
            // Some changes are written together.
            if step % 3 != 0 {
                #expect(document.write() == Array((document.json.prettyText + "\n").utf8), "step \(step)")
            }
        }
        #expect(SessionDocument().json["sessions"] == [:])
        var empty = SessionDocument()
        #expect(empty.write() == Array((empty.json.prettyText + "\n").utf8))
    }

    @Test("that many runs change at the same time are written together, and what fails changes nothing")
    func together() async throws {
        let writings = Journal()
        let place = directory.path(".llm-cli-gateway/sessions.json")
        let store = try store(
            files: Files { (step) throws(GatewayError) in
                if case .rename(_, place) = step { writings.note("") }
            }
        )
        for number in 0..<50 { try await store.create("codex", id: "\(number)", caller: "local") }
        let before = writings.all.count
        #expect(before == 50)
        // The first one waits for the lock, and the others for the first one.
        var lock: FileLock? = try FileLock.wait(place + ".lock", within: .seconds(10))
        #expect(lock != nil)
        let started = GuardedValue(0), gate = Gate()
        let task = Task {
            await withTaskGroup(of: String?.self) { group in
                for number in 0..<60 {
                    group.addTask {
                        let isLast = started.withLock { started in
                            started += 1
                            return started == 60
                        }
                        if isLast { gate.open() }
                        do throws(GatewayError) {
                            if number < 50 {
                                try await store.update("\(number)", caller: "local") {
                                    $0.metadata["runs"] =
                                        ($0.metadata["runs"]?.int).map { .integer($0 + 1) } ?? 1
                                }
                            } else {
                                try await store.create("codex", id: "\(number - 50)", caller: "local")
                            }
                            return nil
                        } catch {
                            return error.code
                        }
                    }
                }
                return await group.reduce(into: [String]()) { $0 += $1.map { [$0] } ?? [] }
            }
        }
        await gate.wait()
        lock = nil
        #expect(await task.value == Array(repeating: "session-exists", count: 10))
        #expect(writings.all.count - before < 25, "\(writings.all.count - before) writings")
        let read = try self.store()
        #expect(read.list(caller: "local").count == 50)
        #expect(read.list(caller: "local").allSatisfy { $0.metadata["runs"] == 1 })
        #expect(store.list(caller: "local") == read.list(caller: "local"))
    }

    @Test("that another program has written are read before they are changed")
    func foreignWriting() async throws {
        let store = try store()
        try await store.create("codex", id: "one", caller: "local")
        for number in 0..<20 {
            var json = try JSON.parse(try Files().read(path))
            json["generation"] = .integer(number)
            try Files().write(json.compactText.utf8, to: path)
            try await store.update("one", caller: "local") { $0.metadata["number"] = .integer(number) }
            let now = try JSON.parse(try Files().read(path))
            #expect(now["generation"] == .integer(number))
            #expect(now["sessions"]?["one"]?["metadata"]?["number"] == .integer(number))
        }
        try Files().removeFile(path)
        try await store.create("codex", id: "two", caller: "local")
        #expect(store.list(caller: "local").map(\.id) == ["two"])
        try Files().write("{".utf8, to: path)
        try await store.create("codex", id: "three", caller: "local")
        #expect(store.list(caller: "local").map(\.id) == ["three"])
    }

    @Test("carry running totals that a later run reads")
    func totals() async throws {
        let store = try store()
        try await store.create("codex", id: "c", caller: "local")
        now.advance(days: 1)
        try await store.update("c", caller: "local") { $0.metadata["runningTotal"] = ["inputTokens": 1500] }
        let record = try #require(try self.store().session("c", caller: "local"))
        #expect(record.metadata["runningTotal"]?["inputTokens"] == 1500)
        #expect(record.lastUsed > record.created)
        #expect(try await store.update("unknown", caller: "local") == nil)
    }

    @Test("unused for too long are gone, and so is what pointed to them")
    func expiry() async throws {
        let store = try store()
        try await store.create("claude", id: "a", caller: "local")
        now.advance(days: 20)
        try await store.create("claude", id: "b", caller: "local")
        now.advance(days: 11)
        #expect(store.list(caller: "local").map(\.id) == ["b"])
        #expect(store.active("claude", caller: "local") == nil)
        try await store.create("claude", id: "c", caller: "local")
        #expect(store.active("claude", caller: "local")?.id == "c")
        let short = try self.store(["SESSION_TTL": "60"])
        now.advance(days: 1)
        #expect(short.list(caller: "local").isEmpty)
        let long = try self.store(["SESSION_TTL": "18446744074"])
        #expect(long.list(caller: "local").map(\.id) == ["b", "c"])
    }

    @Test("in a damaged file are kept aside and reported, never overwritten")
    func corrupt() async throws {
        try place(#"{"sessions": {"#)
        let store = try store()
        #expect(store.list(caller: "local").isEmpty)
        #expect(store.list(caller: "local").isEmpty)
        #expect(findings.all.count == 1)
        #expect(findings.all.first?.hasPrefix("'\(path)' cannot be read: invalid JSON at byte 14") == true)
        #expect(try Files().readText(path) == #"{"sessions": {"#)
        try await store.create("claude", id: "a", caller: "local")
        let kept = try Files().list(directory.path(".llm-cli-gateway")).filter { $0.contains(".corrupt-") }
        #expect(kept.count == 1)
        let aside = try #require(kept.first)
        #expect(try Files().readText(directory.path(".llm-cli-gateway/\(aside)")) == #"{"sessions": {"#)
        #expect(store.list(caller: "local").map(\.id) == ["a"])
        #expect(findings.all.last?.contains("it was kept as") == true)
    }

    @Test("behind a link are written where they lie, also in place of damaged ones, and the link stays")
    func linked() async throws {
        let place = directory.path("dotfiles/sessions.json")
        try Files().makeDirectory(directory.path("dotfiles"))
        try Files().makeDirectory(directory.path(".llm-cli-gateway"))
        try Files().write(#"{"sessions": {"#.utf8, to: place)
        try Files().link(path, to: place)
        let store = try store()
        try await store.create("claude", id: "a", caller: "local")
        #expect(try Files().status(path)?.kind == .link && Files().readText(place).contains(#""a""#))
        let kept = try Files().list(directory.path(".llm-cli-gateway")).filter { $0.contains(".corrupt-") }
        let aside = try #require(kept.first)
        #expect(try Files().readText(directory.path(".llm-cli-gateway/\(aside)")) == #"{"sessions": {"#)
        try await store.create("claude", id: "b", caller: "local")
        #expect(try Files().status(path)?.kind == .link && Files().readText(place).contains(#""b""#))
        #expect(store.list(caller: "local").map(\.id) == ["a", "b"])
    }

    @Test("change the active one, and can have none")
    func activation() async throws {
        let store = try store()
        try await store.create("claude", id: "a", caller: "local")
        try await store.create("claude", id: "b", caller: "local", activation: .always)
        #expect(store.active("claude", caller: "local")?.id == "b")
        #expect(try await store.setActive("a", of: "claude", caller: "local"))
        #expect(try await store.setActive("a", of: "codex", caller: "local") == false)
        #expect(store.active("claude", caller: "local")?.id == "a")
        #expect(try await store.setActive(nil, of: "claude", caller: "local"))
        #expect(store.active("claude", caller: "local") == nil)
        #expect(try await store.delete("b", caller: "local")?.id == "b")
    }

    @Test("have an active one for each principal, which no other can change")
    func activeForEach() async throws {
        let store = try store()
        func active() -> [String?] {
            ["ann", "bob", "local"].map { store.active("claude", caller: $0)?.id }
        }
        func shared() throws -> String? {
            try JSON.parse(try Files().read(path))["activeSession"]?["claude"]?.string
        }
        try await store.create("claude", id: "a1", caller: "ann")
        #expect(try shared() == "a1", "where the reference looks for the first one")
        try await store.create("claude", id: "b1", caller: "bob")
        try await store.create("claude", id: "b2", caller: "bob", activation: .always)
        #expect(active() == ["a1", "b2", nil])
        try await store.create("claude", id: "l1", caller: "local")
        #expect(active() == ["a1", "b2", "l1"])
        #expect(try shared() == "l1")
        #expect(try await store.setActive(nil, of: "claude", caller: "ann"))
        #expect(try await store.setActive("b1", of: "claude", caller: "bob"))
        #expect(try await store.setActive("a1", of: "claude", caller: "bob") == false)
        #expect(active() == [nil, "b1", "l1"])
        #expect(try await store.setActive(nil, of: "claude", caller: "local"))
        #expect(active() == [nil, "b1", nil])
        // Another gateway reads the same.
        #expect(try self.store().active("claude", caller: "bob")?.id == "b1")
        #expect(try await store.clear(caller: "bob").map(\.id) == ["b1", "b2"])
        #expect(active() == [nil, nil, nil])
        try await store.create("claude", id: "b3", caller: "bob")
        #expect(active() == [nil, "b3", nil])
    }

    @Test(
        "which the reference has written are active for their owner, and stay so when another becomes active"
    )
    func activeOfReference() async throws {
        let used = Timestamp(milliseconds: now.milliseconds).iso8601
        try place(
            """
            {"sessions":{"old":{"id":"old","cli":"claude","createdAt":"\(used)","lastUsedAt":"\(used)",
            "description":"Claude Session","ownerPrincipal":"ann"}},"activeSession":{"claude":"old"}}
            """
        )
        let store = try store()
        #expect(store.active("claude", caller: "ann")?.id == "old")
        try await store.create("claude", id: "new", caller: "local", activation: .always)
        #expect(store.active("claude", caller: "ann")?.id == "old")
        #expect(store.active("claude", caller: "local")?.id == "new")
    }

    @Test("are listed fast enough for every call of a busy client")
    func speed() async throws {
        let store = try store()
        for number in 0..<20 { try await store.create("claude", id: "s\(number)", caller: "local") }
        let start = WallClock.system.uptime()
        for _ in 0..<2000 { _ = store.list(caller: "local") }
        let each = Double(WallClock.system.uptime() - start) / 2000
        // A debug build on a busy machine; a release build takes a twentieth of this.
        #expect(each < 1_000_000, "\(each) ns for each listing")
    }
}
