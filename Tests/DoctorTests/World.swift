import Appliance
import Platform
import TestSupport

@testable import Doctor

/// A user with an empty home, provider CLIs that are shell scripts, and a folder of programs of their own.
final class World: Sendable {
    private let directory: TemporaryDirectory
    let files = Files()

    init() throws {
        directory = try TemporaryDirectory()
        try files.makeDirectory(home)
    }

    var root: String { directory.root }
    var user: String { Layout.join(root, "user") }
    var home: String { Layout.join(user, ".llm-cli-gateway") }
    /// Where the user's shell finds programs.
    var programs: String { Layout.join(root, "programs") }

    /// Writes a file of the appliance, private unless said otherwise.
    func write(_ name: String, _ text: String, mode: UInt32 = 0o600) throws {
        let path = Layout.join(home, name)
        try files.write(Array(text.utf8), to: path)
        try files.changeMode(path, to: mode)
    }

    /// Puts a CLI on the shell's search path.
    func install(_ name: String, _ script: String) throws {
        try files.makeDirectory(programs)
        let path = Layout.join(programs, name)
        try files.write(Array("#!/bin/sh\n\(script)\n".utf8), to: path)
        try files.changeMode(path, to: 0o755)
    }

    /// What `setup` does as far as the doctor cares: a token, and the shell's search path.
    func setUp(_ variables: String = "") throws {
        try write("auth-token", "0123456789abcdef-secret\n")
        try write("environment", "PATH=\(programs):/usr/bin:/bin\n\(variables)")
    }

    func machine(_ variables: [String: String] = [:]) throws -> Machine {
        let environment = ["HOME": user, "PATH": "\(programs):/usr/bin:/bin", "LANG": "C.UTF-8"]
        return Machine(
            environment: environment.merging(variables) { $1 },
            files: files,
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
    }

    /// The report that the manager would give.
    func examine(
        _ variables: [String: String] = [:],
        service: ServiceFacts = ServiceFacts(manager: .none),
        install: InstallFacts = InstallFacts(),
        source: Doctor.Source = .manager
    ) async throws -> DoctorReport {
        let machine = try machine(variables)
        return await Doctor(
            machine: machine,
            layout: try machine.layout(),
            source: source,
            service: { service },
            install: { install }
        ).examine()
    }

    /// A service that runs as it should.
    static var running: ServiceFacts {
        ServiceFacts(
            manager: .systemd,
            unit: "llm-cli-gateway.service",
            isRunning: true,
            isHealthy: true,
            pid: 4711,
            since: Timestamp(milliseconds: 1_700_000_000_000),
            isEnabled: true,
            lingers: false
        )
    }

    static var installed: InstallFacts {
        InstallFacts(
            version: "1.2.3",
            previousVersion: "1.2.2",
            trust: "pinned-checksum",
            filesAreIntact: true
        )
    }

    /// A claude that is logged in.
    static let claude = """
        case "$1" in
        --version) echo "2.1.329 (Claude Code)" ;;
        auth) echo '{"loggedIn": true, "email": "somebody@example.org"}' ;;
        esac
        """
}

extension DoctorReport {
    var codes: [String] { findings.map(\.code) }

    func finding(_ code: String) -> Finding? { findings.first { $0.code == code } }
}
