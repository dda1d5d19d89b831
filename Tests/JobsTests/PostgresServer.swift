import Appliance
import Glibc
import Platform
import Testing

/// A PostgreSQL server of the test's own: in a temporary directory, reached by a socket there, gone when the suite is over.
final class PostgresServer: Sendable {
    /// The server of the suite that is running, with the trait `.postgres`; `nil` on a machine that has none to start.
    @TaskLocal static var current: PostgresServer?

    private static let folders = (12...20).reversed().map { "/usr/lib/postgresql/\($0)/bin" } + ["/usr/bin"]
    private static let programs: String? = folders.first {
        access("\($0)/initdb", X_OK) == 0 && access("\($0)/pg_ctl", X_OK) == 0
    }

    /// Why there is none on this machine; `nil` where there can be one.
    static var absence: String? {
        programs == nil
            ? "no PostgreSQL server is installed (Debian and Ubuntu: apt install postgresql)" : nil
    }

    /// Where its socket and its data are.
    let directory: String
    private let programs: String
    private let processes: Processes

    private init(_ programs: String) throws {
        self.programs = programs
        var template = Array("/tmp/llm-gateway-postgres-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Files.failure("create", "/tmp") }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        processes = Processes(clock: .system, reactor: try Reactor())
    }

    fileprivate static func start() async throws -> PostgresServer? {
        guard let programs else {
            print("skip - tests on PostgreSQL: \(absence ?? "")")
            return nil
        }
        let server = try PostgresServer(programs)
        // initdb(1) does nothing for root.
        if getuid() == 0, let user = getpwnam("nobody") {
            chown(server.directory, user.pointee.pw_uid, user.pointee.pw_gid)
        }
        try await server.run(
            "initdb",
            ["-D", server.data, "-U", "gateway", "-A", "trust", "-E", "UTF8", "--no-sync"]
        )
        try await server.start()
        return server
    }

    private var data: String { "\(directory)/data" }

    /// Starts it, again after `stop`.
    func start() async throws {
        let options =
            "-c listen_addresses='' -c unix_socket_directories='\(directory)' -c fsync=off -c shared_buffers=32MB -c max_connections=80"
        try await run(
            "pg_ctl",
            ["-D", data, "-w", "-t", "30", "-l", "\(directory)/log", "-o", options, "start"]
        )
    }

    /// How a server goes.
    enum Stop: String, Sendable, CaseIterable {
        /// In order: what is not committed is undone.
        case fast
        /// As in a crash.
        case immediate
    }

    /// Ends it.
    func stop(_ how: Stop = .fast) async throws {
        try await run("pg_ctl", ["-D", data, "-w", "-t", "30", "-m", how.rawValue, "stop"])
    }

    /// A connection string for a schema, so that each test has tables of its own.
    func dsn(schema: String) -> String {
        "host=\(directory) user=gateway dbname=postgres options=-csearch_path=\(schema)"
    }

    fileprivate func remove() async {
        try? await stop(.immediate)
        try? Files().removeTree(directory)
    }

    private func run(_ program: String, _ arguments: [String]) async throws {
        var line = ["\(programs)/\(program)"] + arguments
        if getuid() == 0 {
            line = ["/usr/bin/setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] + line
        }
        var command = Command(line[0], Array(line.dropFirst()), directory: "/")
        command.environment = ["PATH": "/usr/bin:/bin", "LC_ALL": "C"]
        let limits = ProcessLimits(output: 1 << 20, wall: .seconds(60), idle: nil, grace: .seconds(1))
        let result = try await processes.run(command, limits: limits)
        guard result.succeeded else {
            throw GatewayError(
                "database-error",
                "\(program) failed: \(result.outputText) \(result.errorText)"
            )
        }
    }
}

/// Runs a suite with a server.
struct PostgresTrait: SuiteTrait, TestScoping {
    /// Starts the server, and ends it when the suite is over.
    func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        let server = try await PostgresServer.start()
        do {
            try await PostgresServer.$current.withValue(server, operation: function)
            await server?.remove()
        } catch {
            await server?.remove()
            throw error
        }
    }
}

extension Trait where Self == PostgresTrait {
    /// With a PostgreSQL server for all tests of the suite (`PostgresServer.current`).
    static var postgres: PostgresTrait { PostgresTrait() }
}
