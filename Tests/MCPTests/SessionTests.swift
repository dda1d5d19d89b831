import Appliance
import Platform
import Testing

@testable import MCP

/// A table that a test can use inside an expectation; times are minutes.
private final class Keeper {
    private var table: SessionTable
    private let minute: UInt64 = 60_000_000_000

    init(limit: Int = 2) { table = SessionTable(limit: limit, idle: .seconds(1800), now: 0) }

    func open(_ token: String, _ session: LegacySession, of principal: Principal, now: UInt64) -> Bool {
        table.open(token, session, of: principal, now: now * minute)
    }

    func use(
        _ token: String,
        by principal: Principal,
        now: UInt64,
        reading contents: (String) -> SessionTokens.Contents?
    ) -> SessionTable.Lookup {
        table.use(token, by: principal, now: now * minute, reading: contents)
    }

    func close(_ token: String, by principal: Principal) -> Bool { table.close(token, by: principal) }
    func callStarted(_ token: String) { table.callStarted(token) }
    func callEnded(_ token: String, now: UInt64) { table.callEnded(token, now: now * minute) }
    func count(now: UInt64) -> Int { table.count(now: now * minute) }
}

@Suite("Keeping the sessions of an endpoint")
struct SessionTests {
    private let alice = Principal(id: "alice", kind: .bearer)
    private let session = LegacySession(version: .november2025)

    private func nothing(_: String) -> SessionTokens.Contents? { nil }

    private func foreign(_ version: ProtocolVersion) -> (String) -> SessionTokens.Contents? {
        { _ in SessionTokens.Contents(version: version, isOurs: false) }
    }

    @Test("ends a session half an hour after its last use, not after its start")
    func idle() {
        let table = Keeper()
        #expect(table.open("a", session, of: alice, now: 0))
        #expect(table.use("a", by: alice, now: 29, reading: nothing) == .found(session))
        #expect(table.use("a", by: alice, now: 58, reading: nothing) == .found(session))
        #expect(table.count(now: 87) == 1)
        #expect(table.count(now: 88) == 0)
        #expect(table.use("a", by: alice, now: 88, reading: nothing) == .unknown)
    }

    @Test("keeps a session while a call of it runs")
    func busy() {
        let table = Keeper()
        #expect(table.open("a", session, of: alice, now: 0))
        table.callStarted("a")
        #expect(table.count(now: 300) == 1)
        table.callEnded("a", now: 300)
        #expect(table.count(now: 329) == 1)
        #expect(table.count(now: 330) == 0)
    }

    @Test("makes room by forgetting what is over")
    func room() {
        let table = Keeper(limit: 2)
        #expect(table.open("a", session, of: alice, now: 0))
        #expect(table.open("b", session, of: alice, now: 10))
        #expect(table.open("c", session, of: alice, now: 20) == false)
        #expect(table.open("c", session, of: alice, now: 30))
        #expect(table.use("a", by: alice, now: 30, reading: nothing) == .unknown)
    }

    @Test("takes over what an earlier gateway agreed on, once and only for a while")
    func adoption() {
        let table = Keeper(limit: 2)
        let reading = foreign(.june2025)
        let adopted = LegacySession(version: .june2025)
        #expect(table.use("a", by: alice, now: 5, reading: reading) == .found(adopted))
        let bob = Principal(id: "bob", kind: .bearer)
        #expect(table.use("a", by: bob, now: 5, reading: reading) == .unknown)
        #expect(table.close("a", by: alice))
        #expect(table.use("a", by: alice, now: 6, reading: reading) == .unknown)
        #expect(table.use("late", by: alice, now: 30, reading: reading) == .unknown)
        let ours: (String) -> SessionTokens.Contents? = { _ in .init(version: .june2025, isOurs: true) }
        #expect(table.use("deleted", by: alice, now: 5, reading: ours) == .unknown)
        #expect(table.open("b", session, of: alice, now: 0))
        #expect(table.open("c", session, of: alice, now: 0))
        #expect(table.use("d", by: alice, now: 1, reading: reading) == .full)
    }

    @Test("reads back its own tokens and nobody else's")
    func tokens() {
        let tokens = SessionTokens(key: Array(0..<32), random: .system)
        let token = tokens.issue(.june2025, to: alice)
        #expect(tokens.read(token, of: alice) == .init(version: .june2025, isOurs: true))
        #expect(tokens.issue(.june2025, to: alice) != token)
        let restarted = SessionTokens(key: Array(0..<32), random: .system)
        #expect(restarted.read(token, of: alice) == .init(version: .june2025, isOurs: false))
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
