import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Finding a Node gateway in a home")
struct ReferenceHomeTests {
    @Test(
        "takes only Node with this home's script for the gateway",
        arguments: [
            ("/h/runtime/node", ["/h/runtime/node", "/h/gateway/dist/index.js", "--transport=http"], true),
            ("/usr/bin/node", ["node", "--no-warnings", "/h/gateway/dist/index.js"], true),
            ("/usr/bin/nodejs", ["node", "/real/h/gateway/dist/index.js"], true),
            ("/usr/bin/node", ["node", "/other/gateway/dist/index.js"], false),
            ("/usr/bin/node", ["node", "-e", "/h/gateway/dist/index.js.txt"], false),
            ("/usr/bin/vim", ["vim", "/h/gateway/dist/index.js"], false),
            ("/usr/bin/node", ["/h/gateway/dist/index.js"], false),
            ("/usr/bin/node", [], false),
        ] as [(String, [String], Bool)]
    )
    func identity(executable: String, arguments: [String], isIt: Bool) {
        #expect(
            ReferenceHome.isGateway(
                executable: executable,
                arguments: arguments,
                scripts: ["/h/gateway/dist/index.js", "/real/h/gateway/dist/index.js"]
            ) == isIt
        )
        #expect(!ReferenceHome.isGateway(executable: nil, arguments: arguments, scripts: arguments))
    }

    @Test("sees nothing in a home of ours, nor in folders of the user's that have the same names")
    func nothing() async throws {
        let session = try Session()
        _ = await session.run("setup")
        try session.write("mine", session.layout.home + "/gateway/notes.txt")
        try session.write("mine", session.layout.home + "/runtime/notes.txt")
        #expect(try ReferenceHome.find(session.layout, files: Files()) == nil)
        #expect(await session.run("setup").json["reference"] == nil)
    }

    @Test("sees what an interrupted exchange of versions left")
    func interrupted() async throws {
        let session = try Session()
        try session.write("{\"version\":\"3.0.1\"}", session.layout.home + "/gateway.previous/package.json")
        try Files().makeDirectory(session.layout.home + "/gateway")
        let found = try #require(try ReferenceHome.find(session.layout, files: Files()))
        #expect(found.items == ["gateway", "gateway.previous"])
        #expect(found.version == nil && found.recorded == .nothing && found.others.isEmpty)
    }
}

/// A home with a Node gateway whose process is a shell of that name.
///
/// Its script says `ready` when it has come to where the test wants it; by then nothing of the program before it is left.
private final class NodeGateway: Sendable {
    let session: Session
    let process: ProcessIdentity
    var home: String { session.layout.home }

    init(_ script: String, environment: [String: String] = [:]) async throws {
        session = try Session()
        let home = session.layout.home
        try session.write("{\"version\":\"2.11.1\"}", home + "/gateway/package.json")
        let mark = session.scratch.path("ready")
        try session.write("ready() { : > '\(mark)'; }\n" + script, home + "/gateway/dist/index.js")
        try session.write("", home + "/runtime/.llm-cli-gateway-runtime")
        try Files().write(
            try Files().read("/bin/sh"),
            to: home + "/runtime/node",
            mode: 0o755,
            durable: false
        )
        process = try Processes(clock: .system, reactor: try Reactor()).launch(
            Command(
                home + "/runtime/node",
                [home + "/gateway/dist/index.js", "--transport=http"],
                environment: ["PATH": "/usr/bin:/bin"].merging(environment) { $1 },
                directory: home
            )
        )
        try #require(try await changes(in: session.scratch.root) { Files().exists(mark) })
        try session.write("\(process.pid)", home + "/gateway.pid")
    }

    deinit {
        for entry in ProcessTable.descendants(of: process.pid) {
            ProcessTable.signal(entry.identity, SIGKILL)
        }
        ProcessTable.signal(process, SIGKILL)
        waitpid(process.pid, nil, 0)
    }

    /// Makes the home look as if a bundle were installed.
    func install() throws {
        try session.write("#!/bin/sh\n", session.layout.version("1.0.0") + "/bin/llm-gateway", mode: 0o755)
        try Files().link(session.layout.current, to: "versions/1.0.0")
    }

    func takeover(patience: Duration = .seconds(15)) throws -> Takeover {
        let machine = Machine(
            environment: session.environment,
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: Terminal(write: { _ in }, writeError: { _ in })
        )
        return Takeover(machine: machine, layout: session.layout, patience: patience)
    }

    func found() throws -> ReferenceHome {
        try #require(try ReferenceHome.find(session.layout, files: Files()))
    }
}

@Suite("Taking the place of a Node gateway")
struct TakeoverTests {
    @Test("does not end it while it runs a CLI, unless that is asked for")
    func runs() async throws {
        let old = try await NodeGateway("sleep 300 &\nready\nwait\n")
        let takeover = try old.takeover(patience: .milliseconds(100))
        let found = try old.found()
        #expect(found.process?.identity == old.process && found.version == "2.11.1")
        let error = await refusal { try await takeover.end(found, endingRuns: false) }
        #expect(error.code == "reference-busy" && error.exitCode == .busy)
        #expect(
            error.message.contains(
                "the Node gateway 2.11.1 (process \(old.process.pid)) is running a provider"
            )
        )
        #expect(ProcessTable.isRunning(old.process) && !Files().exists(old.session.layout.takeover))
        let run = try #require(ProcessTable.descendants(of: old.process.pid).first).identity
        let outcome = try await takeover.end(found, endingRuns: true)
        #expect(outcome.mustStart && outcome.pid == old.process.pid)
        #expect(!ProcessTable.isRunning(old.process) && !ProcessTable.isRunning(run))
        // Killed now, the next one knows that a gateway has to run.
        #expect(try old.found().isInterrupted)
        let again = try await takeover.end(try old.found(), endingRuns: false)
        #expect(again.mustStart && again.pid == nil)
    }

    @Test("knows what it has started from another one, also before that has a program of its own")
    func children() async throws {
        // A shell in brackets is a fork of this one: same program, same words.
        let old = try await NodeGateway("(ready; sleep 300; :) &\nwait\n")
        let child = try #require(ProcessTable.descendants(of: old.process.pid).first)
        #expect(ProcessTable.arguments(child.identity.pid) == ProcessTable.arguments(old.process.pid))
        let found = try old.found()
        #expect(found.others.isEmpty && found.notices.isEmpty)
        #expect(found.movable == ["gateway", "gateway.pid", "runtime"])
        let error = await refusal {
            try await old.takeover(patience: .milliseconds(1)).end(found, endingRuns: false)
        }
        #expect(error.code == "reference-busy")
    }

    @Test("leaves a process alone that was started after 'gateway.pid' was written")
    func later() async throws {
        let old = try await NodeGateway("ready\nsleep 300\n")
        let times = [
            timespec(tv_sec: time(nil) - 3600, tv_nsec: 0), timespec(tv_sec: time(nil) - 3600, tv_nsec: 0),
        ]
        #expect(utimensat(AT_FDCWD, old.home + "/gateway.pid", times, 0) == 0)
        let found = try old.found()
        guard case .stranger(let pid, _, let reason) = found.recorded else {
            Issue.record("\(found.recorded)")
            return
        }
        #expect(pid == old.process.pid && reason.contains("after 'gateway.pid' was written"))
        let outcome = try await old.takeover().end(found, endingRuns: true)
        #expect(outcome.pid == nil && ProcessTable.isRunning(old.process))
        // It runs the program of this home all the same, so that stays where it is.
        #expect(found.others.map(\.identity) == [old.process])
        #expect(found.movable == ["gateway.pid"])
        #expect(
            outcome.notices.contains {
                $0.contains("still runs the Node gateway of this home, and is left alone")
            }
        )
    }

    @Test("takes its address where nobody has decided otherwise")
    func address() async throws {
        let old = try await NodeGateway(
            "ready\nsleep 300\n",
            environment: [
                "LLM_GATEWAY_HTTP_PORT": "4711", "LLM_GATEWAY_HTTP_PATH": "/old",
                "LLM_GATEWAY_HTTP_HOST": "127.0.0.1",
                "ANTHROPIC_API_KEY": "sk-old", "LLM_GATEWAY_AUTH_TOKEN": "t", "EDITOR": "vi",
            ]
        )
        let answer = await old.session.run("setup")
        #expect(answer.json["url"]?.string == "http://127.0.0.1:4711/old")
        #expect(answer.json["reference"]?["state"]?.string == "waiting")
        #expect(
            try old.takeover().lostVariables(of: try #require(try old.found().process)) == [
                "ANTHROPIC_API_KEY"
            ]
        )
        _ = await old.session.run("setup", "--port", "4712")
        #expect(await old.session.run("setup").json["url"]?.string == "http://127.0.0.1:4712/old")
    }

    @Test("says what it would do, and does none of it")
    func rehearsal() async throws {
        let old = try await NodeGateway("ready\nsleep 300\n", environment: ["XAI_API_KEY": "k"])
        try old.install()
        let answer = await old.session.run("setup", "--dry-run", "--remove-reference", "--text")
        #expect(answer.output.hasPrefix("would have done this:\n"))
        for part in [
            "copy XAI_API_KEY from the Node gateway's process into", "make a token in",
            "end the Node gateway 2.11.1 (process \(old.process.pid))", "start this gateway in its place",
            "move what is left of its program (gateway, gateway.pid, runtime) into",
            "remove '\(old.session.layout.reference)' with the program of the Node gateway",
        ] { #expect(answer.output.contains(part), "\(part)") }
        #expect(ProcessTable.isRunning(old.process))
        #expect(try Files().list(old.home) == ["current", "gateway", "gateway.pid", "runtime", "versions"])
    }

    @Test("removes from 'reference' what it had moved there, and nothing of anybody else's")
    func strangers() async throws {
        let session = try Session()
        let reference = session.layout.reference
        for name in ["gateway.log", "gateway.log.2", "runtime/node", "gateway.2/package.json"] {
            try session.write("its", "\(reference)/\(name)")
        }
        for name in ["notes.md", "gateway.log.old", "gateway.log.2.gz", "runtime-mine/x"] {
            try session.write("mine", "\(reference)/\(name)")
        }
        let answer = await session.run("setup", "--remove-reference")
        #expect(answer.json["reference"]?["state"]?.string == "removed", "\(answer.output)\(answer.error)")
        #expect(
            answer.json["changes"]?.array?.contains(
                .string(
                    "removed the program of the Node gateway from '\(reference)'; what else is there is not its, and stays"
                )
            ) == true
        )
        #expect(
            try Files().list(reference) == [
                "gateway.log.2.gz", "gateway.log.old", "notes.md", "runtime-mine",
            ]
        )
        // A second time there is nothing left of it.
        #expect(await session.run("setup", "--remove-reference").json["reference"] == nil)
    }

    @Test("takes a folder that 'reference' links to for the user's")
    func linkedReference() async throws {
        let session = try Session()
        let elsewhere = session.scratch.path("elsewhere")
        try session.write("mine", elsewhere + "/gateway.log")
        try Files().makeDirectory(session.layout.home)
        try Files().link(session.layout.reference, to: elsewhere)
        _ = await session.run("setup", "--remove-reference")
        #expect(try Files().list(elsewhere) == ["gateway.log"])
    }

    @Test("keeps what was taken over before, and moves nothing over it")
    func twice() async throws {
        let session = try Session()
        try session.write("1", session.layout.home + "/gateway.log")
        try session.write("0", session.layout.reference + "/gateway.log")
        try session.write("#!/bin/sh\n", session.layout.version("1.0.0") + "/bin/llm-gateway", mode: 0o755)
        try Files().link(session.layout.current, to: "versions/1.0.0")
        let answer = await session.run("setup")
        #expect(
            answer.json["reference"]?["moved"]?.array == ["gateway.log"],
            "\(answer.output)\(answer.error)"
        )
        #expect(try Files().list(session.layout.reference) == ["gateway.log", "gateway.log.2"])
        #expect(try session.read(session.layout.reference + "/gateway.log") == "0")
    }
}
