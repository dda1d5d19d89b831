import Appliance
import Glibc
import Platform
import SQL
import SQLite
import TestSupport
import Testing

@testable import Jobs

@Suite("Committing together")
struct SharedCommitTests {
    private let directory: TemporaryDirectory
    private var path: String { directory.path("logs.db") }

    init() throws { directory = try TemporaryDirectory() }

    /// How many transactions its log has; none of them is in the file alone as long as there are few.
    private func commits() throws -> Int {
        let log = try Files().read(path + "-wal")
        // https://www.sqlite.org/fileformat2.html section 4.1: the frame that ends a transaction says how large the file is then.
        return stride(from: 32, to: log.count, by: 24 + 4096).count {
            log[$0 + 4..<$0 + 8].contains { $0 > 0 }
        }
    }

    @Test("commits together what is asked for together")
    func together() async throws {
        let store = Store(path: path, clock: .system)
        try await store.write { connection throws(GatewayError) in
            try connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        }
        let before = try commits()
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let count = GuardedValue(0)
        let inserted = try await withThrowingTaskGroup(of: Int?.self) { [ends] group in
            // The thread is held until all of them want it.
            group.addTask {
                try await store.write { _ throws(GatewayError) in
                    var byte: UInt8 = 0
                    _ = read(ends[0], &byte, 1)
                }
                return nil
            }
            for number in 0..<200 {
                group.addTask {
                    let isLast = count.withLock { count in
                        count += 1
                        return count == 200
                    }
                    if isLast { _ = write(ends[1], "x", 1) }
                    return try await store.commit { connection throws(GatewayError) in
                        try connection.execute("INSERT INTO numbers VALUES (?1)", [.integer(Int64(number))])
                        return number
                    }
                }
            }
            return try await group.reduce(into: Set<Int>()) { $0.formUnion($1.map { [$0] } ?? []) }
        }
        #expect(inserted == Set(0..<200))
        let shared = try commits() - before
        // No more than 64 in one, and a few that came late.
        #expect(shared >= 4 && shared < 50, "\(shared) transactions")
        let stored = try await store.read { connection throws(GatewayError) in
            try connection.all("SELECT number FROM numbers ORDER BY number") { $0.integer(0) }
        }
        #expect(stored == Array(0..<200))
        await store.close()
    }

    @Test("undoes of what was asked for together only what fails")
    func failsAlone() async throws {
        let store = Store(path: path, clock: .system)
        try await store.write { connection throws(GatewayError) in
            try connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        }
        let failed = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<100 {
                group.addTask {
                    do throws(GatewayError) {
                        try await store.commit { connection throws(GatewayError) in
                            try connection.execute(
                                "INSERT INTO numbers VALUES (?1)",
                                [.integer(Int64(number))]
                            )
                            if number % 10 == 3 {
                                throw GatewayError("invalid-input", "no \(number)")
                            }
                        }
                        return nil
                    } catch {
                        return error.message == "no \(number)" ? number : -1
                    }
                }
            }
            return await group.reduce(into: Set<Int>()) { $0.formUnion($1.map { [$0] } ?? []) }
        }
        #expect(failed == Set(stride(from: 3, to: 100, by: 10)))
        let stored = try await store.read { connection throws(GatewayError) in
            try connection.all("SELECT number FROM numbers ORDER BY number") { $0.integer(0) }
        }
        #expect(stored == (0..<100).filter { $0 % 10 != 3 })
        await store.close()
        await #expect(throws: GatewayError.self) { try await store.commit { _ throws(GatewayError) in } }
    }

    @Test("prepares each before the transaction, which one that cannot be prepared has no part in")
    func preparation() async throws {
        let store = Store(path: path, clock: .system)
        try await store.write { connection throws(GatewayError) in
            try connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        }
        let failed = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<20 {
                group.addTask {
                    do throws(GatewayError) {
                        try await store.commit(
                            preparing: { [path] () throws(GatewayError) in
                                // Another gateway can write meanwhile.
                                let other = try Connection(path)
                                try other.execute("PRAGMA busy_timeout = 0")
                                try other.execute("BEGIN IMMEDIATE")
                                try other.execute("ROLLBACK")
                                if number == 7 { throw GatewayError("invalid-input", "no \(number)") }
                                return Int64(number)
                            },
                            { connection, number throws(GatewayError) in
                                try connection.execute("INSERT INTO numbers VALUES (?1)", [.integer(number)])
                            }
                        )
                        return nil
                    } catch {
                        return error.message == "no \(number)" ? number : -1
                    }
                }
            }
            return await group.reduce(into: Set<Int>()) { $0.formUnion($1.map { [$0] } ?? []) }
        }
        #expect(failed == [7])
        let stored = try await store.read { connection throws(GatewayError) in
            try connection.all("SELECT number FROM numbers ORDER BY number") { $0.integer(0) }
        }
        #expect(stored == (0..<20).filter { $0 != 7 })
        await store.close()
    }

    @Test("shares a transaction only among those that prepare little")
    func large() async throws {
        let store = Store(path: path, clock: .system)
        try await store.write { connection throws(GatewayError) in
            try connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        }
        let before = try commits()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask {
                    _ = try await store.commit(
                        bytes: Database.byteLimit,
                        preparing: { () throws(GatewayError) in number },
                        { connection, number throws(GatewayError) in
                            try connection.execute(
                                "INSERT INTO numbers VALUES (?1)",
                                [.integer(Int64(number))]
                            )
                        }
                    )
                }
            }
            try await group.waitForAll()
        }
        #expect(try commits() - before == 20)
        await store.close()
    }

    @Test("accepts a job with its request and its run in one transaction")
    func submission() async throws {
        var limits = Configuration.Limits()
        limits.maxRunningJobs = 1
        let shop = try Workshop(in: directory, limits: limits, store: Store(path: path, clock: .system))
        let recorder = FlightRecorder(shop.store) { Issue.record("\($0)") }
        let busy = try await shop.scheduler.submit(shop.script(shop.gate))
        for (name, sharing) in [
            ("alone", nil), ("shared", Sharing(window: .seconds(60), includesFinished: true)),
        ] as [(String, Sharing?)] {
            let before = try commits()
            var request = shop.script("true")
            request.requestKey = "key"
            var flight = FlightStart(correlationID: name, provider: "claude", model: "m", prompt: "p")
            flight.jobID = request.id
            let reception = await shop.scheduler.receive(
                request,
                sharing: sharing,
                noting: recorder.entry(flight)
            )
            #expect(reception.record == name)
            let submission = try reception.submission.get()
            #expect(try commits() == before + 1, "\(name)")
            #expect((submission.leader == nil) == (sharing == nil))
            #expect(submission.snapshot?.id == submission.handle.id)
        }
        try shop.openGate()
        _ = await busy.outcome(within: .seconds(20))
    }
}
