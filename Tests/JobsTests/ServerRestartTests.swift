import Appliance
import Platform
import PostgreSQL
import SQL
import TestSupport
import Testing

@testable import Jobs

@Suite("A database server", .postgres, .serialized)
struct ServerRestartTests {
    private let room: RecordRoom

    init() throws { room = try RecordRoom(.postgres) }

    private func server() throws -> PostgresServer {
        if let server = PostgresServer.current { return server }
        try Test.cancel("no server was started")
    }

    @Test(
        "that restarts while changes are made makes each of them once",
        arguments: PostgresServer.Stop.allCases
    )
    func once(_ how: PostgresServer.Stop) async throws {
        let server = try server()
        let stores = try (0..<2).map { _ in try room.store() }
        for store in stores { try await store.open() }
        let now = WallClock.system.now()
        let restarted = Gate()
        let counted = try await withThrowingTaskGroup(of: Int.self) { group in
            for store in stores {
                group.addTask {
                    // Changes before, during and after it.
                    var count = 0, left = 100
                    let end = ContinuousClock.now + .seconds(30)
                    while left > 0, ContinuousClock.now < end {
                        do throws(GatewayError) {
                            let refusal = try await store.commit { connection throws(GatewayError) in
                                let none = Configuration.Budget()
                                return try Store.countRun(of: "claude", at: now, none, connection)
                            }
                            if refusal == nil { count += 1 }
                        } catch {
                            // On a busy machine it may be away for longer than a call waits.
                            guard error.code == "database-unreachable", !error.message.contains("not known")
                            else { throw error }
                        }
                        if restarted.isOpen { left -= 1 }
                    }
                    return count
                }
            }
            group.addTask {
                for _ in 0..<3 {
                    try await server.stop(how)
                    try await server.start()
                }
                restarted.open()
                return 0
            }
            return try await group.reduce(0, +)
        }
        let use = try await BudgetUse.recorded(in: room.source, on: now, files: Files())
        #expect(use.total.runs == counted && counted >= 200)
        for store in stores { await store.close() }
    }

    @Test("that is away costs no job and no answer: the end is committed when it is back")
    func away() async throws {
        let server = try server()
        let shop = try Workshop(store: try room.store())
        try await shop.store.open()
        let handle = try await shop.scheduler.submit(shop.script("\(shop.gate); echo kept"))
        try await server.stop()
        try shop.openGate()
        let outcome = try #require(await handle.outcome(within: .seconds(60)))
        #expect(outcome.status == .completed && outcome.output.held == Array("kept\n".utf8))
        let place = shop.scheduler.directory(of: handle.id)
        #expect(Files().exists(place.exit))
        // What is asked for meanwhile is in its directory.
        let found = try await shop.scheduler.find(handle.id, for: Ownership.local)
        #expect(found?.snapshot.status == .completed)
        try await server.start()
        #expect(try await changes(in: shop.layout.jobs, within: .seconds(60)) { !Files().exists(place.path) })
        let row = try #require(try await shop.store.job(handle.id))
        #expect(row.status == .completed && row.exitCode == 0)
        #expect(shop.findings.all.contains { $0.contains("the database 'postgres' on ") })
        await shop.store.close()
    }

    @Test("that nobody answers for is named with its database, and without the password")
    func unreachable() async throws {
        for dsn in [
            "postgresql://gateway:s3cret@localhost:1/records",
            "host=localhost port=1 user=gateway password=s3cret dbname=records",
        ] {
            let store = Store(server: try DatabaseServer(dsn), clock: .system)
            let error = await #expect(throws: GatewayError.self) { try await store.open() }
            #expect(error?.code == "database-unreachable")
            #expect(
                error?.message.hasPrefix("the database 'records' on 'localhost' cannot be reached: ") == true
            )
            #expect(error.map { !"\($0)".contains("s3cret") } == true)
        }
        for dsn in ["postgresql://gateway:s3cret@[", "password=s3cret host", "secret=s3cret"] {
            let error = #expect(throws: GatewayError.self) { try DatabaseServer(dsn) }
            #expect(error?.code == "dsn-malformed")
            #expect(error.map { !"\($0)".contains("s3cret") } == true)
        }
    }

    @Test("gives back every type as it was bound, and takes back what fails, an inner part alone")
    func connection() async throws {
        let store = try room.store()
        let bytes: [UInt8] = [0, 255, 0, 7]
        let values = try await store.write { connection throws(GatewayError) in
            try connection.execute(
                "CREATE TABLE t (a BIGINT, b DOUBLE PRECISION, c TEXT, d BYTEA, e BIGINT, f TEXT)"
            )
            try connection.execute(
                "INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                [.integer(.min), .real(1.5), .text("naïve 🦊"), .blob(bytes), .null, .text("")]
            )
            return try connection.first("SELECT * FROM t") { row in (0..<row.count).map(row.value) }
        }
        #expect(
            values == [.integer(.min), .real(1.5), .text("naïve 🦊"), .blob(bytes), .null, .text("")]
        )
        let refusal = GatewayError("refused", "no")
        let count = try await store.write { connection throws(GatewayError) in
            try connection.transaction { () throws(GatewayError) in
                try connection.execute("INSERT INTO t (a) VALUES (1)")
                do throws(GatewayError) {
                    try connection.transaction { () throws(GatewayError) in
                        try connection.execute("INSERT INTO t (a) VALUES (2)")
                        throw refusal
                    }
                } catch {
                    guard error == refusal else { throw error }
                }
                try connection.execute("INSERT INTO t (a) VALUES (3)")
            }
            do throws(GatewayError) {
                try connection.transaction { () throws(GatewayError) in
                    try connection.execute("INSERT INTO t (a) VALUES (4)")
                    throw refusal
                }
            } catch {
                guard error == refusal else { throw error }
            }
            return try connection.all("SELECT a FROM t WHERE a > 0 ORDER BY a") { $0.integer(0) }
        }
        #expect(count == [1, 3])
        let error = await #expect(throws: GatewayError.self) {
            try await store.write { connection throws(GatewayError) in
                try connection.execute("INSERT INTO t (a) VALUES (CAST(?1 AS TEXT)::bigint)", ["s3cret"])
            }
        }
        #expect(error?.code == "database-error")
        #expect(error.map { !"\($0)".contains("s3cret") && "\($0)".contains("22P02") } == true)
        let refused = await #expect(throws: GatewayError.self) {
            try await store.read { connection throws(GatewayError) in try connection.execute("DELETE FROM t")
            }
        }
        #expect(refused?.code == "database-read-only")
        await store.close()
    }
}
