import Appliance
import Glibc
import SQL
import SQLite
import TestSupport
import Testing

@Suite("A database connection")
struct ConnectionTests {
    private let directory: TemporaryDirectory
    private let path: String

    init() throws {
        directory = try TemporaryDirectory()
        path = directory.path("test.db")
    }

    @Test("gives back every type as it was bound")
    func types() throws {
        let connection = try Connection(path)
        try connection.execute("CREATE TABLE t (a, b, c, d, e, f)")
        let bytes: [UInt8] = [0, 255, 0, 7]
        try connection.execute(
            "INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            [.integer(.min), .real(1.5), .text("naïve\u{0}🦊"), .blob(bytes), .null, .text("")]
        )
        let seen = try connection.first("SELECT * FROM t") { row in
            #expect(row.integer(0) == Int(Int64.min))
            #expect(row.real(1) == 1.5)
            #expect(row.text(2) == "naïve\u{0}🦊")
            #expect(row.blob(3) == bytes)
            #expect(row.isNull(4) && row.text(4) == nil && row.blob(4) == nil && row.integer(4) == nil)
            #expect(row.text(5) == "" && !row.isNull(5))
            return true
        }
        #expect(seen == true)
    }

    @Test("an empty blob is not null")
    func emptyBlob() throws {
        let connection = try Connection(path)
        let value = try connection.first("SELECT ?1, typeof(?1)", [.blob([])]) { ($0.blob(0), $0.text(1)) }
        #expect(value?.0 == [])
        #expect(value?.1 == "blob")
    }

    @Test("says how many rows were changed")
    func changes() throws {
        let connection = try Connection(path)
        try connection.execute("CREATE TABLE t (a)")
        for number in 0..<5 { try connection.execute("INSERT INTO t VALUES (?1)", [.integer(Int64(number))]) }
        #expect(try connection.execute("UPDATE t SET a = 9 WHERE a >= ?1", [3]) == 2)
        #expect(try connection.execute("UPDATE t SET a = 9 WHERE a > ?1", [100]) == 0)
    }

    @Test("undoes a transaction that fails, and an inner one alone")
    func transactions() throws {
        let connection = try Connection(path)
        try connection.execute("CREATE TABLE t (a)")
        let refusal = GatewayError("refused", "no")
        #expect(throws: refusal) {
            try connection.transaction { () throws(GatewayError) in
                try connection.execute("INSERT INTO t VALUES (1)")
                throw refusal
            }
        }
        try connection.transaction { () throws(GatewayError) in
            try connection.execute("INSERT INTO t VALUES (2)")
            let inner = Result { () throws(GatewayError) in
                try connection.transaction { () throws(GatewayError) in
                    try connection.execute("INSERT INTO t VALUES (3)")
                    throw refusal
                }
            }
            #expect(throws: refusal) { try inner.get() }
        }
        #expect(try connection.all("SELECT a FROM t") { $0.integer(0) } == [2])
    }

    @Test("a query may run inside the rows of the same query")
    func nested() throws {
        let connection = try Connection(path)
        try connection.execute("CREATE TABLE t (a)")
        try connection.execute("INSERT INTO t VALUES (1), (2)")
        var pairs: [[Int?]] = []
        try connection.each("SELECT a FROM t ORDER BY a") { outer throws(GatewayError) in
            try connection.each("SELECT a FROM t ORDER BY a") { inner throws(GatewayError) in
                pairs.append([outer.integer(0), inner.integer(0)])
            }
        }
        #expect(pairs == [[1, 1], [1, 2], [2, 1], [2, 2]])
    }

    @Test("tells statements of the same length apart, and keeps each of them prepared once")
    func sameLength() throws {
        let connection = try Connection(path)
        for _ in 0..<2 {
            #expect(try connection.first("SELECT 'one'") { $0.text(0) } == "one")
            #expect(try connection.first("SELECT 'two'") { $0.text(0) } == "two")
        }
        #expect(
            connection.preparedTexts.filter { $0.hasPrefix("SELECT") } == ["SELECT 'one'", "SELECT 'two'"]
        )
    }

    @Test("names the file and the statement, never a bound value")
    func errors() throws {
        let connection = try Connection(path)
        try connection.execute("CREATE TABLE t (a UNIQUE)")
        try connection.execute("INSERT INTO t VALUES (?1)", ["hunter2"])
        let error = #expect(throws: GatewayError.self) {
            try connection.execute("INSERT INTO t\n  VALUES (?1)", ["hunter2"])
        }
        #expect(
            error?.message
                == "cannot run 'INSERT INTO t VALUES (?1)' on '\(path)': UNIQUE constraint failed: t.a (SQLite 2067)"
        )
        #expect(error?.code == "database-error")
    }

    @Test("a read-only connection is held to it by the engine")
    func readOnly() throws {
        let writer = try Connection(path)
        try writer.execute("CREATE TABLE t (a)")
        let reader = try Connection(path, mode: .readOnly)
        let error = #expect(throws: GatewayError.self) { try reader.execute("INSERT INTO t VALUES (1)") }
        #expect(error?.code == "database-read-only")
        try writer.execute("INSERT INTO t VALUES (7)")
        #expect(try reader.first("SELECT a FROM t") { $0.integer(0) } == 7)
    }

    @Test("a writer waits for another, and says so when it waits in vain")
    func busy() throws {
        let first = try Connection(path)
        try first.execute("CREATE TABLE t (a)")
        let second = try Connection(path, busyMilliseconds: 50)
        let error = #expect(throws: GatewayError.self) {
            try first.transaction { () throws(GatewayError) in
                try first.execute("INSERT INTO t VALUES (1)")
                try second.execute("INSERT INTO t VALUES (2)")
            }
        }
        #expect(error?.code == "database-busy")
        try second.execute("INSERT INTO t VALUES (3)")
    }

    @Test("says that a file is no database")
    func noDatabase() throws {
        let stream = try #require(fopen(path, "w"))
        fputs(String(repeating: "this is a text file. ", count: 100), stream)
        fclose(stream)
        let error = #expect(throws: GatewayError.self) { try Connection(path) }
        #expect(error?.code == "database-corrupt")
        #expect(error?.help == "move '\(path)' aside; the gateway makes a new one")
    }

    @Test("says that a folder is missing")
    func noFolder() throws {
        let missing = directory.path("no/such/test.db")
        let error = #expect(throws: GatewayError.self) { try Connection(missing) }
        #expect(error?.message == "cannot open '\(missing)': unable to open database file (SQLite 14)")
    }
}

@Suite("Migrations")
struct MigrationTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func migrations(_ log: @escaping (String) -> Void) -> [Migration] {
        [
            Migration("first") { connection throws(GatewayError) in
                log("first")
                try connection.execute("CREATE TABLE IF NOT EXISTS t (a TEXT)")
            },
            Migration("second") { connection throws(GatewayError) in
                log("second")
                try connection.addColumns(["b INTEGER DEFAULT 3", "a TEXT"], to: "t")
            },
        ]
    }

    @Test("run in order and once")
    func once() throws {
        let connection = try Connection(directory.path("m.db"))
        var log: [String] = []
        for _ in 0..<2 {
            try Migration.apply(migrations { log.append($0) }, to: connection, appliedAt: "now")
        }
        #expect(log == ["first", "second"])
        #expect(try connection.columns(of: "t") == ["a", "b"])
    }

    @Test("accept a table that somebody else made")
    func foreign() throws {
        let connection = try Connection(directory.path("m.db"))
        try connection.execute("CREATE TABLE t (a TEXT, b INTEGER)")
        try connection.execute("INSERT INTO t VALUES ('kept', 1)")
        try Migration.apply(migrations { _ in }, to: connection, appliedAt: "now")
        #expect(try connection.first("SELECT a FROM t") { $0.text(0) } == "kept")
    }

    @Test("leave nothing behind when one fails")
    func failing() throws {
        let connection = try Connection(directory.path("m.db"))
        let broken = Migration("broken") { connection throws(GatewayError) in
            try connection.execute("CREATE TABLE u (a)")
            try connection.execute("CREATE TABLE u (a)")
        }
        #expect(throws: GatewayError.self) {
            try Migration.apply(migrations { _ in } + [broken], to: connection, appliedAt: "now")
        }
        #expect(try connection.columns(of: "t").isEmpty)
        try Migration.apply(migrations { _ in }, to: connection, appliedAt: "now")
        #expect(try connection.columns(of: "t") == ["a", "b"])
    }
}

@Suite("Copying a database that is in use")
struct OnlineCopyTests {
    @Test("copies one instant of it while another connection writes")
    func consistent() throws {
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let path = directory.path("a.db"), copy = directory.path("b.db")
        let writer = try Connection(path)
        try writer.execute("CREATE TABLE first (n INTEGER, filler TEXT)")
        try writer.execute("CREATE TABLE second (n INTEGER, filler TEXT)")
        func write(_ count: Int) throws(GatewayError) {
            for number in 0..<count {
                try writer.transaction { () throws(GatewayError) in
                    for table in ["first", "second"] {
                        try writer.execute(
                            "INSERT INTO \(table) VALUES (?1, ?2)",
                            [.integer(Int64(number)), .text(String(repeating: "x", count: 4000))]
                        )
                    }
                }
            }
        }
        // More than one step of the copy, so that there is something between its steps.
        try write(6000)
        var steps = 0
        try Connection(path, mode: .readOnly).copy(to: copy) { done, total in
            steps += 1
            #expect(done <= total)
            try? write(10)
        }
        #expect(steps > 1)
        let copied = try Connection(copy, mode: .immutable)
        try copied.check()
        let counts = try ["first", "second"].map { table in
            try copied.first("SELECT count(*) FROM \(table)") { $0.integer(0) }
        }
        #expect(counts == [6000, 6000])
    }

    @Test("finds a page that is damaged, and a change that it does not know")
    func damage() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("a.db")
        let connection = try Connection(path)
        try Migration.apply(
            [Migration("1") { _ in }, Migration("2") { _ in }],
            to: connection,
            appliedAt: ""
        )
        #expect(try Migration.unknown(to: [Migration("1") { _ in }], in: connection) == ["2"])
        try connection.execute("CREATE TABLE t (x TEXT)")
        for _ in 0..<200 { try connection.execute("INSERT INTO t VALUES (randomblob(500))") }
        try Connection(path, mode: .readOnly).copy(to: directory.path("b.db"))
        let file = open(directory.path("b.db"), O_RDWR)
        defer { close(file) }
        #expect(pwrite(file, [UInt8](repeating: 0xFF, count: 4096), 4096, 8192) == 4096)
        let error = #expect(throws: GatewayError.self) {
            try Connection(directory.path("b.db"), mode: .immutable).check()
        }
        #expect(error?.code == "database-corrupt")
    }
}
