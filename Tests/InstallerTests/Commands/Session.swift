import Appliance
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

/// A shell session in a scratch home: command lines go in, what they print comes out.
final class Session: Sendable {
    struct Answer {
        var output: String
        var error: String
        var code: ExitCode

        var json: JSON { (try? JSON.parse(output)) ?? .null }
    }

    private struct Printed {
        var output = ""
        var error = ""
    }

    let scratch: TemporaryDirectory
    let environment: [String: String]
    let layout: Layout
    private let typed: String?

    /// `typed` is what the person answers, which also makes it a session on a terminal.
    init(_ variables: [String: String] = [:], typed: String? = nil) throws {
        let scratch = try TemporaryDirectory()
        self.scratch = scratch
        let home = scratch.path("home")
        try Files().makeDirectory(home)
        environment = ["HOME": home, "PATH": "/usr/bin:/bin:\(home)/.local/bin"].merging(variables) { $1 }
        layout = try Layout(environment: environment)
        self.typed = typed
    }

    func run(_ words: String...) async -> Answer { await run(words) }

    func run(_ words: [String], with variables: [String: String] = [:]) async -> Answer {
        let typed = typed
        let box = Box()
        let terminal = Terminal(
            write: { text in box.printed.withLock { $0.output += text } },
            writeError: { text in box.printed.withLock { $0.error += text } },
            readLine: { typed },
            inputIsTerminal: typed != nil,
            outputIsTerminal: typed != nil
        )
        let environment = environment.merging(variables) { $1 }
        let code = await Main.run(words, terminal) { () throws(GatewayError) in
            Machine(
                environment: environment,
                files: Files(),
                clock: WallClock(
                    now: { Timestamp(milliseconds: 1_795_255_860_497) },
                    uptime: WallClock.system.uptime,
                    sleep: WallClock.system.sleep
                ),
                random: Randomness { count in [UInt8](repeating: 0xAB, count: count) },
                reactor: try Reactor(),
                terminal: terminal
            )
        }
        return box.printed.withLock { Answer(output: $0.output, error: $0.error, code: code) }
    }

    private final class Box: Sendable {
        let printed = Mutex(Printed())
    }

    /// Writes a file of the home.
    func write(_ text: String, _ path: String, mode: UInt32 = 0o600) throws {
        try Files().makeDirectory(Files.parent(of: path))
        try Files().write(Array(text.utf8), to: path, mode: mode, durable: false)
    }

    func read(_ path: String) throws -> String { try Files().readText(path) }

    func mode(_ path: String) throws -> UInt32? { try Files().status(path)?.mode }
}

/// Compares text with a file in `Tests/Snapshots`; `LLM_GATEWAY_UPDATE_SNAPSHOTS=1` writes it instead.
func expectSnapshot(
    _ name: String,
    _ text: String,
    file: String = #filePath,
    at location: SourceLocation = #_sourceLocation
) throws {
    let tests = Files.parent(of: Files.parent(of: Files.parent(of: file)))
    let path = Layout.join(Layout.join(tests, "Snapshots"), name)
    if Machine.currentEnvironment()["LLM_GATEWAY_UPDATE_SNAPSHOTS"] == "1" {
        try Files().write(Array(text.utf8), to: path, mode: 0o644, durable: false)
    }
    let wanted = (try? Files().readText(path)) ?? ""
    #expect(
        text == wanted,
        "'\(path)' differs; LLM_GATEWAY_UPDATE_SNAPSHOTS=1 swift test --filter Snapshots writes it anew",
        sourceLocation: location
    )
}
