import Appliance
import Platform
import TestSupport
import Testing

@testable import MCP

/// A table that a test can use inside an expectation; times are minutes.
private final class Keeper {
    private var table: SessionTable
    private let tokens = SessionTokens(key: Array(repeating: 3, count: 32), random: .system)
    private static let minute: Int64 = 60_000

    init(limit: Int = 2, past: SessionPast = SessionPast(unknownUntil: 0)) {
        table = SessionTable(limit: limit, idle: .seconds(1800), past: past)
    }

    /// Opens a session; its token, or `nil` when there is no room.
    func open(of principal: Principal, now: Int64) -> String? {
        let now = now * Keeper.minute
        let (token, contents) = tokens.issue(.november2025, to: principal, now: now)
        let session = LegacySession(version: .november2025)
        return table.open(token, contents, session, of: principal, now: now) ? token : nil
    }

    func use(_ token: String?, by principal: Principal, now: Int64) -> Bool? {
        let lookup = table.use(token ?? "", by: principal, now: now * Keeper.minute) {
            tokens.read($0, of: principal)
        }
        switch lookup {
        case .found(let session): return session == LegacySession(version: .november2025)
        case .unknown: return false
        case .full: return nil
        }
    }

    func close(_ token: String?, by principal: Principal, now: Int64) -> Bool {
        table.close(token ?? "", by: principal, now: now * Keeper.minute) {
            tokens.read($0, of: principal)
        } != nil
    }

    func callStarted(_ token: String?) { table.callStarted(token ?? "") }
    func callEnded(_ token: String?, now: Int64) { table.callEnded(token ?? "", now: now * Keeper.minute) }
    func count(now: Int64) -> Int { table.count(now: now * Keeper.minute) }
    func known(now: Int64) -> SessionPast { table.known(now: now * Keeper.minute) }
}

@Suite("Keeping the sessions of an endpoint")
struct SessionTests {
    private let alice = Principal(id: "alice", kind: .bearer)
    private let bob = Principal(id: "bob", kind: .bearer)

    @Test("ends a session half an hour after its last use, not after its start")
    func idle() {
        let table = Keeper()
        let token = table.open(of: alice, now: 0)
        #expect(table.use(token, by: alice, now: 29) == true)
        #expect(table.use(token, by: alice, now: 58) == true)
        #expect(table.use(token, by: bob, now: 58) == false)
        #expect(table.count(now: 87) == 1)
        #expect(table.count(now: 88) == 0)
        #expect(table.use(token, by: alice, now: 88) == false)
        #expect(table.use(token, by: alice, now: 58) == false)
    }

    @Test("keeps a session while a call of it runs")
    func busy() {
        let table = Keeper()
        let token = table.open(of: alice, now: 0)
        table.callStarted(token)
        #expect(table.count(now: 300) == 1)
        table.callEnded(token, now: 300)
        #expect(table.count(now: 329) == 1)
        #expect(table.count(now: 330) == 0)
    }

    @Test("makes room by forgetting what was used least recently, and takes it up when it comes back")
    func room() {
        let table = Keeper(limit: 2)
        let first = table.open(of: alice, now: 0), second = table.open(of: alice, now: 1)
        #expect(table.use(first, by: alice, now: 2) == true)
        let third = table.open(of: alice, now: 3)
        #expect(third != nil && table.count(now: 3) == 2)
        for token in [second, first, third, second] { #expect(table.use(token, by: alice, now: 4) == true) }
        #expect(table.use(second, by: bob, now: 4) == false)
    }

    @Test("refuses a session only while all that it keeps in mind have a call running")
    func full() {
        let table = Keeper(limit: 2)
        let first = table.open(of: alice, now: 0), second = table.open(of: alice, now: 0)
        for token in [first, second] { table.callStarted(token) }
        #expect(table.open(of: alice, now: 1) == nil)
        table.callEnded(second, now: 1)
        #expect(table.open(of: alice, now: 1) != nil)
        #expect(table.use(second, by: alice, now: 1) == true)
        table.callStarted(second)
        #expect(table.use(table.open(of: alice, now: 1), by: alice, now: 1) == false)
    }

    @Test("does not take up what was deleted, or forgotten for too long")
    func ended() {
        let table = Keeper(limit: 1)
        let first = table.open(of: alice, now: 0), second = table.open(of: alice, now: 1)
        #expect(table.close(first, by: bob, now: 2) == false)
        #expect(table.close(first, by: alice, now: 2))
        #expect(table.close(first, by: alice, now: 2) == false)
        #expect(table.use(first, by: alice, now: 2) == false)
        let third = table.open(of: alice, now: 3)
        #expect(table.use(second, by: alice, now: 31) == false)
        #expect(table.use(third, by: alice, now: 31) == true)
    }

    @Test("tells the next gateway what was used when, and what has ended")
    func handover() {
        let table = Keeper(limit: 3)
        let old = table.open(of: alice, now: 0), used = table.open(of: alice, now: 0)
        let deleted = table.open(of: alice, now: 0)
        #expect(table.use(used, by: alice, now: 20) == true)
        #expect(table.close(deleted, by: alice, now: 21))
        let next = Keeper(limit: 3, past: table.known(now: 25))
        #expect(next.count(now: 26) == 2)
        #expect(next.use(old, by: alice, now: 31) == false)
        #expect(next.use(deleted, by: alice, now: 26) == false)
        #expect(next.use(used, by: bob, now: 49) == false)
        #expect(next.use(used, by: alice, now: 49) == true)
        let third = Keeper(limit: 3, past: next.known(now: 50))
        #expect(third.use(used, by: alice, now: 78) == true)
        #expect(third.use(deleted, by: alice, now: 51) == false)
    }

    @Test("believes any session for half an hour when its predecessor left no word")
    func crash() {
        let table = Keeper()
        let token = table.open(of: alice, now: 0)
        let lucky = Keeper(past: SessionPast(unknownUntil: 40 * 60_000))
        #expect(lucky.use(token, by: alice, now: 69) == true)
        let late = Keeper(past: SessionPast(unknownUntil: 40 * 60_000))
        #expect(late.use(token, by: alice, now: 70) == false)
    }

    @Test("remembers a bounded number of ends, and counts what it can no longer tell apart as ended")
    func bounds() {
        let tokens = SessionTokens(key: Array(repeating: 3, count: 32), random: .system)
        var past = SessionPast(unknownUntil: 0)
        let contents = (1...4).map { tokens.issue(.november2025, to: alice, now: $0).contents }
        for (index, one) in contents.prefix(3).enumerated() { past.ended[one.name] = Int64(10 + index) }
        past.forgetEnds(beyond: 1)
        #expect(past.ended.count == 1 && past.settled == 2)
        #expect(contents.map { past.mayLive($0, idle: 100, now: 20) } == [false, false, false, true])
        past.sessions = [contents[3].name: 15, "x": 14, "y": 16]
        past.forgetUses(beyond: 2)
        #expect(past.sessions == [contents[3].name: 15, "y": 16] && past.forgotten == 14)
        #expect(SessionPast(json: past.json) == past)
        #expect(SessionPast(json: ["sessions": [:]]) == nil)
    }

    @Test("reads back its own tokens and nobody else's")
    func tokens() {
        let tokens = SessionTokens(key: Array(0..<32), random: .system)
        let (token, contents) = tokens.issue(.june2025, to: alice, now: 1_800_000_000_123)
        #expect(contents.version == .june2025 && contents.issued == 1_800_000_000_123)
        #expect(SessionTokens.issued(contents.name) == contents.issued)
        #expect(tokens.read(token, of: alice) == contents)
        #expect(tokens.read(token.uppercased(), of: alice) == nil)
        #expect(tokens.issue(.june2025, to: alice, now: 1_800_000_000_123).token != token)
        let restarted = SessionTokens(key: Array(0..<32), random: .system)
        #expect(restarted.read(token, of: alice) == contents)
        #expect(tokens.read(token, of: Principal(id: "alice", kind: .oauth)) == nil)
        #expect(tokens.read(token, of: Principal(id: "alicf", kind: .bearer)) == nil)
        for index in token.indices {
            var forged = token
            forged.replaceSubrange(index...index, with: token[index] == "0" ? "1" : "0")
            #expect(tokens.read(forged, of: alice) == nil)
        }
        #expect(tokens.read("", of: alice) == nil)
        #expect(tokens.read(String(repeating: "z", count: token.count), of: alice) == nil)
    }

    @Test("proves a message as RFC 4231 does")
    func authentication() {
        let proof = SHA256.authentication(
            of: Array("what do ya want for nothing?".utf8),
            key: Array("Jefe".utf8)
        )
        #expect(Hex.encode(proof) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }
}

@Suite("Leaving sessions to the next gateway")
struct SessionMemoryTests {
    /// A file in a folder of its own, which goes with it.
    private struct Place {
        let folder = Result { () throws(GatewayError) in try TemporaryDirectory() }

        func path() throws -> String { try folder.get().path("client-sessions.jsonl") }

        func memory() throws -> SessionMemory {
            SessionMemory(path: try path(), files: Files()) { Issue.record("\($0)") }
        }
    }

    @Test("knows every use after an orderly end, and every end after a crash")
    func both() throws {
        let place = Place()
        let first = try place.memory()
        #expect(first.begin(now: 100) == SessionPast(unknownUntil: 100))
        var past = SessionPast(unknownUntil: 50)
        past.sessions = ["a": 90, "b": 95]
        past.ended = ["c": 60]
        first.end(past)
        let second = try place.memory()
        #expect(second.begin(now: 110) == past)
        second.ended("b", now: 111) { SessionPast(unknownUntil: 0) }
        // It crashes: nothing more is written.
        let third = try place.memory().begin(now: 120)
        #expect(third.sessions.isEmpty && third.ended == ["c": 60, "b": 111] && third.forgotten == 120)
    }

    @Test("takes a file that it cannot understand for none, and a torn line for one that was not written")
    func damage() throws {
        let place = Place()
        try Files().write("not JSON\n".utf8, to: place.path())
        #expect(try place.memory().begin(now: 7) == SessionPast(unknownUntil: 7))
        try place.memory().end(SessionPast(unknownUntil: 3))
        let lines = #"{"ended":"x","at":4}"# + "\n" + #"{"ended":"y""#
        try Files().append(Array(lines.utf8), to: place.path())
        let past = try place.memory().begin(now: 8)
        #expect(past.ended == ["x": 4] && past.forgotten == 3)
    }

    @Test("writes the file anew when many sessions have ended")
    func compaction() throws {
        let place = Place()
        let memory = try place.memory()
        _ = memory.begin(now: 0)
        var past = SessionPast(unknownUntil: 0)
        past.ended = ["kept": 1]
        for number in 0...SessionTable.endedLimit { memory.ended("\(number)", now: 2) { past } }
        #expect(try Files().read(place.path()).count < 1000)
        #expect(try place.memory().begin(now: 9).ended == ["kept": 1])
    }
}

@Suite("Counting a session's calls")
struct SessionCallTests {
    @Test("never gives less than none, so that the session still ends by idleness")
    func uncounted() throws {
        let keeper = Keeper()
        let token = try #require(keeper.open(of: .local, now: 0))
        keeper.callEnded(token, now: 0)
        #expect(keeper.use(token, by: .local, now: 29) == true)
        #expect(keeper.use(token, by: .local, now: 59) == false)
    }
}
