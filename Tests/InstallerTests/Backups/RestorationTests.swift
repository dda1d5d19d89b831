import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

/// A gateway that a restore stops and starts, as a test wants it to go.
private final class ScriptedGateway: Sendable {
    private struct State {
        var runs = true
        /// What watches over it, and what it says of one that does not run.
        var supervisor = ServiceStatus.Supervisor.systemd
        var word = "inactive (dead)"
        var deeds: [String] = []
        /// What the next starts come to; the last for all that follow.
        var starts: [Result<Void, GatewayError>] = [.success(())]
        var stop: Result<Void, GatewayError> = .success(())
    }

    private let state = Mutex(State())
    private let layout: Layout

    init(
        _ layout: Layout,
        runs: Bool = true,
        supervisor: ServiceStatus.Supervisor = .systemd,
        word: String = "inactive (dead)",
        starts: [Result<Void, GatewayError>] = [.success(())],
        stop: Result<Void, GatewayError> = .success(())
    ) {
        self.layout = layout
        state.withLock { state in
            state.runs = runs
            state.supervisor = supervisor
            state.word = word
            state.starts = starts
            state.stop = stop
        }
    }

    var deeds: [String] { state.withLock { $0.deeds } }
    var runs: Bool { state.withLock { $0.runs } }

    /// What is in the home's `notes.md` at each deed.
    private var notes: String { (try? Files().readText(layout.home + "/notes.md")) ?? "nothing" }

    private func status() -> ServiceStatus {
        var status = ServiceStatus(url: "")
        state.withLock { state in
            status.running = state.runs
            status.healthy = state.runs
            status.supervisor = state.supervisor
            if !state.runs { status.state = state.word }
        }
        return status
    }

    var control: Restoration.Gateway {
        Restoration.Gateway(
            status: { () async throws(GatewayError) in self.status() },
            stop: { () async throws(GatewayError) in
                let notes = self.notes
                try self.state.withLock { state throws(GatewayError) in
                    state.deeds.append("stop with \(notes)")
                    state.runs = false
                    try state.stop.get()
                }
            },
            start: { options async throws(GatewayError) in
                let notes = self.notes
                try self.state.withLock { state throws(GatewayError) in
                    state.deeds.append("start \(options.detached ? "detached " : "")with \(notes)")
                    let result = state.starts.count > 1 ? state.starts.removeFirst() : state.starts[0]
                    try result.get()
                    state.runs = true
                }
                try Files().removeFile(self.layout.pendingStart)
                return self.status()
            }
        )
    }
}

@Suite("What a restore does to the gateway and to the files beside it")
struct RestorationTests {
    private let session: Session
    private let files = Files()
    private var layout: Layout { session.layout }
    private var archive: String { session.scratch.path("backup.tar.gz") }

    /// A home of which there is a backup, and which has changed since.
    init() async throws {
        session = try Session()
        _ = await session.run("setup")
        try session.write("old", session.layout.home + "/notes.md")
        try session.write("one", session.layout.home + "/skills/a.md")
        try session.write("two", session.layout.home + "/skills/deep/b.md")
        try session.write("key", session.layout.home + "/skills/server.key")
        _ = await session.run("backup", session.scratch.path("backup.tar.gz"))
        try session.write("new", session.layout.home + "/notes.md")
    }

    private func gateway(
        runs: Bool = true,
        supervisor: ServiceStatus.Supervisor = .systemd,
        word: String = "inactive (dead)",
        starts: [Result<Void, GatewayError>] = [.success(())],
        stop: Result<Void, GatewayError> = .success(())
    ) -> ScriptedGateway {
        ScriptedGateway(
            layout,
            runs: runs,
            supervisor: supervisor,
            word: word,
            starts: starts,
            stop: stop
        )
    }

    private func restoration(_ gateway: ScriptedGateway, files: Files = Files()) throws -> Restoration {
        var restoration = Restoration(
            machine: Machine(
                environment: session.environment,
                files: files,
                clock: .system,
                random: .system,
                reactor: try Reactor(),
                terminal: Terminal(write: { _ in }, writeError: { _ in })
            ),
            layout: layout
        )
        restoration.gateway = gateway.control
        return restoration
    }

    private var options: Restoration.Options { Restoration.Options(file: archive, replaces: true) }

    private var leftovers: [String] {
        get throws {
            let staging = try files.list(layout.staging)
            return staging + [layout.restoration, layout.pendingStart].filter(files.exists)
        }
    }

    private static let busy = GatewayError("busy", "waited 60 s for somebody", help: "wait")
    private static let broken = GatewayError("unhealthy", "it does not answer")

    @Test("stops the gateway before a file is touched, and starts it when all are in place")
    func order() async throws {
        let gateway = gateway()
        let outcome = try await restoration(gateway).run(options)
        #expect(gateway.deeds == ["stop with new", "start with old"])
        #expect(outcome.status?.running == true && outcome.placed == ["notes.md"])
        #expect(try leftovers == [])
    }

    @Test(
        "ends as busy while the lock keeps the gateway from starting, and leaves the start to the next command"
    )
    func busy() async throws {
        let gateway = gateway(starts: [.failure(Self.busy)])
        let error = await refusal { try await restoration(gateway).run(options) }
        #expect(error.code == "busy" && error.exitCode == .busy)
        #expect(
            error.message
                == "the backup was restored, but the gateway is still stopped: waited 60 s for somebody"
        )
        #expect(error.help == "run 'llm-cli-gateway start' when that command has ended")
        #expect(try session.read(layout.home + "/notes.md") == "old" && !gateway.runs)
        #expect(try leftovers == [layout.pendingStart])
        #expect(
            await session.run("status").output.contains(
                "a restore has stopped the gateway; unless it is still"
            )
        )
        // Here nothing is installed that could be started; with a gateway it would run now.
        let notices = await session.run("repair").json["notices"]?.array ?? []
        #expect(
            notices.contains {
                $0.string?.hasPrefix("the gateway, which a restore had stopped, does not start: no gateway")
                    == true
            }
        )
        // Whichever command puts right what is missing finds the note.
        #expect(try leftovers == [layout.pendingStart])
        _ = await session.run("stop")
        #expect(try leftovers == [])
    }

    @Test("is content when the command that had the lock has started the gateway")
    func startedByAnother() async throws {
        let gateway = gateway(starts: [.failure(Self.busy)])
        var restoration = try restoration(gateway)
        let status = gateway.control.status
        let isStarted = Mutex(false)
        restoration.gateway.start = { _ async throws(GatewayError) in
            // The other command comes to its end before ours gives up.
            isStarted.withLock { $0 = true }
            throw Self.busy
        }
        restoration.gateway.status = { () async throws(GatewayError) in
            var status = try await status()
            if isStarted.withLock({ $0 }) { status.running = true }
            return status
        }
        let outcome = try await restoration.run(options)
        #expect(outcome.status?.running == true && isStarted.withLock { $0 })
        #expect(try leftovers == [])
    }

    @Test("a start that another command got ahead of undoes nothing", arguments: Meddling.allCases)
    fileprivate func meddling(_ other: Meddling) async throws {
        let gateway = gateway(starts: [.failure(GatewayError("port-in-use", "port 1 is taken by process 2"))])
        var restoration = try restoration(gateway)
        let (status, start, layout) = (gateway.control.status, gateway.control.start, layout)
        let hasMeddled = Mutex(false)
        restoration.gateway.start = { options async throws(GatewayError) in
            hasMeddled.withLock { $0 = true }
            switch other {
            case .starts: break
            case .stops: try Files().removeFile(layout.pendingStart)
            case .restores: try PendingStart(restore: "restore-2").write(layout, files: Files())
            }
            return try await start(options)
        }
        restoration.gateway.status = { () async throws(GatewayError) in
            var status = try await status()
            if other == .starts, hasMeddled.withLock({ $0 }) {
                status.running = true
                status.healthy = true
            }
            return status
        }
        let outcome = try await restoration.run(options)
        #expect(outcome.status?.running == (other == .starts))
        #expect(gateway.deeds == ["stop with new", "start with old"])
        #expect(try session.read(layout.home + "/notes.md") == "old")
        // Whoever restored something else starts the gateway.
        #expect(try leftovers == (other == .restores ? [layout.pendingStart] : []))
    }

    @Test("a home that another command has removed before the start is not made again")
    func purged() async throws {
        var restoration = try restoration(gateway())
        let layout = layout
        restoration.gateway.start = { _ async throws(GatewayError) in
            try Files().removeTree(layout.home)
            throw GatewayError("gateway-missing", "no gateway is installed")
        }
        let error = await refusal { try await restoration.run(options) }
        #expect(
            error.message
                == "the backup was restored, and then another command has removed '\(layout.home)'"
        )
        #expect(!files.exists(layout.home))
    }

    @Test("what was replaced and is gone by then is not put back: the restored files stay")
    func nothingToPutBack() async throws {
        let gateway = gateway(starts: [.failure(Self.broken)])
        var restoration = try restoration(gateway)
        let (start, layout) = (gateway.control.start, layout)
        restoration.gateway.start = { options async throws(GatewayError) in
            for name in try Files().list(layout.home) where name.hasPrefix(Layout.replacedPrefix) {
                try Files().removeTree(Layout.join(layout.home, name))
            }
            return try await start(options)
        }
        let error = await refusal { try await restoration.run(options) }
        #expect(error.message == "the backup was restored, but the gateway did not start: it does not answer")
        #expect(try session.read(layout.home + "/notes.md") == "old")
        #expect(try !files.list(layout.home).contains { $0.hasPrefix(Layout.replacedPrefix) })
    }

    @Test("a rehearsal starts nothing that an earlier restore has stopped, and moves nothing")
    func rehearsal() async throws {
        try PendingStart().write(layout, files: files)
        let gateway = gateway(runs: false, starts: [.failure(Self.broken)])
        var rehearsal = options
        rehearsal.isDry = true
        let outcome = try await restoration(gateway).run(rehearsal)
        #expect(outcome.placed == ["notes.md"] && outcome.status == nil)
        rehearsal.file = session.scratch.path("none.tar.gz")
        let error = await refusal { try await restoration(gateway).run(rehearsal) }
        #expect(error.code == "file-not-found")
        rehearsal.file = archive
        let full = Files { step throws(GatewayError) in
            guard case .open(let path) = step, path.contains("/staging/") else { return }
            throw GatewayError("disk-full", "no space is left")
        }
        let halfway = await refusal { try await restoration(gateway, files: full).run(rehearsal) }
        #expect(halfway.code == "disk-full")
        #expect(gateway.deeds.isEmpty)
        #expect(try session.read(layout.home + "/notes.md") == "new")
        #expect(try leftovers == [layout.pendingStart])
    }

    @Test("one that ran without systemd is started without it, also when it is all undone")
    func detached() async throws {
        let gateway = gateway(supervisor: .detached, starts: [.failure(Self.broken), .success(())])
        _ = await refusal { try await restoration(gateway).run(options) }
        #expect(
            gateway.deeds == [
                "stop with new", "start detached with old", "stop with old", "start detached with new",
            ]
        )
    }

    @Test("so it is by the next command, and by a restore after one that was killed")
    func detachedForOthers() async throws {
        let journal = RestoreJournal(
            source: layout.staging + "/restore-1/home",
            aside: layout.home + "/replaced-1",
            placed: [],
            removed: [],
            wasRunning: true,
            wasDetached: true,
            state: .placing
        )
        try journal.write(layout, files: files)
        _ = try RestoreJournal.recover(layout, files: files)
        let pending = try #require(try PendingStart.read(layout, files: files))
        #expect(pending == PendingStart(restore: "restore-1", isDetached: true) && pending.options.detached)
        let gateway = gateway(runs: false, supervisor: .none)
        let outcome = try await restoration(gateway).run(options)
        #expect(gateway.deeds == ["stop with new", "start detached with old"])
        #expect(outcome.status?.running == true)
        #expect(try leftovers == [])
    }

    @Test("one that crashes and is started again all the time is started: the backup may be what it needs")
    func crashing() async throws {
        let gateway = gateway(runs: false, supervisor: .detached, word: "activating (auto-restart)")
        let outcome = try await restoration(gateway).run(options)
        #expect(gateway.deeds == ["stop with new", "start detached with old"])
        #expect(outcome.status?.running == true)
    }

    @Test("a restore that was cut off before it replaced anything is said to be given up, not to be finished")
    func interruptedEarly() async throws {
        var journal = RestoreJournal(
            source: layout.staging + "/restore-1/home",
            aside: layout.home + "/replaced-1",
            placed: ["notes.md"],
            removed: []
        )
        try journal.write(layout, files: files)
        let sentence =
            "a restore was interrupted that had replaced nothing yet, and the gateway does not start before it is given up"
        let help = "run 'llm-cli-gateway repair': it gives the restore up, and starts the gateway if it ran"
        #expect(await session.run("status").output.contains("\(sentence); \(help)"))
        let doctor = await session.run("doctor", "--json").json["findings"]?.array ?? []
        let finding = doctor.first { $0["code"]?.string == "restore-interrupted" }
        #expect(finding?["help"]?.string == help)
        #expect(!doctor.contains { $0["code"]?.string == "service-notice" })
        let steps = await session.run("repair", "--dry-run").json["steps"]?.array ?? []
        #expect(steps.contains("give the interrupted restore up, which had replaced nothing yet"))
        #expect(
            await session.run("backup", archive + "2").error.contains("error: \(sentence)\nhelp: \(help)")
        )
        journal.state = .placing
        try journal.write(layout, files: files)
        #expect(await session.run("status").output.contains("repair': it puts the rest in place, and starts"))
    }

    @Test("stops what does not answer before the files are exchanged again, and starts it with the old ones")
    func undoing() async throws {
        let gateway = gateway(starts: [.failure(Self.broken), .success(())])
        let error = await refusal { try await restoration(gateway).run(options) }
        #expect(
            error.code == "restore-undone" && error.message.hasSuffix("so what was there is in use again")
        )
        #expect(
            gateway.deeds == ["stop with new", "start with old", "stop with old", "start with new"]
        )
        #expect(gateway.runs && error.help?.contains(".undone'") == true)
        #expect(try leftovers == [])
        let undone = try #require(try files.list(layout.home).first { $0.hasSuffix(".undone") })
        #expect(try session.read("\(layout.home)/\(undone)/notes.md") == "old")
    }

    @Test("a stop that fails replaces nothing, and the gateway is started again")
    func stopping() async throws {
        let gateway = gateway(stop: .failure(GatewayError("stop-failed", "it did not end")))
        let error = await refusal { try await restoration(gateway).run(options) }
        #expect(error.code == "stop-failed" && error.message == "it did not end")
        #expect(gateway.deeds == ["stop with new", "start with new"] && gateway.runs)
        #expect(try leftovers == [])
    }

    @Test("says so when the gateway does not start again after a failure")
    func stoppedForGood() async throws {
        let gateway = gateway(
            starts: [.failure(Self.broken)],
            stop: .failure(GatewayError("stop-failed", "it did not end"))
        )
        let error = await refusal { try await restoration(gateway).run(options) }
        #expect(
            error.message
                == "it did not end; the gateway, which was stopped meanwhile, does not start again: it does not answer"
        )
        #expect(try leftovers == [layout.pendingStart])
    }

    @Test("whatever fails or is killed on the way, the next command has the gateway started again")
    func everyStep() async throws {
        var tried = 0
        for kills in [false, true] {
            for steps in 0..<400 {
                let left = Mutex(steps)
                let failing = Files { _ throws(GatewayError) in
                    let isOver = left.withLock { left in
                        left -= 1
                        // A full disk fails once, a killed program does nothing more.
                        return kills ? left < 0 : left == -1
                    }
                    if isOver { throw GatewayError("disk-full", "no space is left") }
                }
                try session.write("new", layout.home + "/notes.md")
                let gateway = gateway()
                let result: Restoration.Outcome?
                do { result = try await restoration(gateway, files: failing).run(options) } catch {
                    result = nil
                }
                let wasStopped = gateway.deeds.contains("stop with new")
                // The next command.
                _ = try RestoreJournal.recover(layout, files: files)
                let isPending = files.exists(layout.pendingStart)
                #expect(gateway.runs || isPending, "step \(steps), kills \(kills): \(gateway.deeds)")
                if !wasStopped { #expect(gateway.deeds.allSatisfy { $0 == "start with new" }) }
                let notes = try session.read(layout.home + "/notes.md")
                #expect(notes == "old" || notes == "new")
                #expect(try session.read(layout.home + "/skills/server.key") == "key")
                try files.removeFile(layout.pendingStart)
                for name in try files.list(layout.home) where name.hasPrefix(Layout.replacedPrefix) {
                    try files.removeTree(Layout.join(layout.home, name))
                }
                try files.removeFile(layout.home + "/notes.md")
                tried += 1
                if result != nil, left.withLock({ $0 }) >= 0 { break }
            }
        }
        #expect(tried > 40, "\(tried)")
    }

    @Test("compares folders file by file: what is the same, and what the backup left out, stays in its place")
    func folders() async throws {
        try session.write("mine", layout.home + "/skills/later.md")
        let same = try await restoration(gateway(runs: false)).run(options)
        #expect(same.placed == ["notes.md"])
        #expect(same.same.contains("skills/a.md") && same.same.contains("skills/deep/b.md"))
        try session.write("changed", layout.home + "/skills/deep/b.md")
        try files.removeFile(layout.home + "/skills/a.md")
        let outcome = try await restoration(gateway(runs: false)).run(options)
        #expect(outcome.placed == ["skills/a.md", "skills/deep/b.md"])
        #expect(outcome.replaced == ["skills/deep/b.md"])
        let aside = try #require(outcome.aside)
        #expect(try session.read(aside + "/skills/deep/b.md") == "changed")
        #expect(try files.list(layout.home + "/skills") == ["a.md", "deep", "later.md", "server.key"])
        #expect(try session.read(layout.home + "/skills/server.key") == "key")
    }

    @Test("moves aside what is in the way of a folder, and writes through no link")
    func inTheWay() async throws {
        let elsewhere = session.scratch.path("elsewhere")
        try session.write("mine", elsewhere + "/a.md")
        try files.removeTree(layout.home + "/skills")
        try files.link(layout.home + "/skills", to: elsewhere)
        let error = await refusal {
            try await restoration(gateway()).run(Restoration.Options(file: archive))
        }
        #expect(error.code == "home-not-empty" && error.message.hasSuffix("notes.md, skills"))
        let outcome = try await restoration(gateway()).run(options)
        #expect(outcome.replaced == ["notes.md", "skills"])
        #expect(files.destination(ofLink: try #require(outcome.aside) + "/skills") == elsewhere)
        #expect(try session.read(layout.home + "/skills/a.md") == "one")
        #expect(try files.list(elsewhere) == ["a.md"] && session.read(elsewhere + "/a.md") == "mine")
    }

    @Test("leaves nothing of a home that was made for a backup which is damaged inside")
    func damaged() async throws {
        let other = try Session()
        let bytes = try Files().read(archive)
        let half = other.scratch.path("half.tar.gz")
        try Files().write(bytes.prefix(bytes.count - 40), to: half)
        let answer = await other.run("restore", half)
        #expect(answer.code == .verificationRefused, "\(answer.error)")
        #expect(!Files().exists(other.layout.home))
    }

    @Test("a broken link of the user's is found before the gateway is stopped")
    func brokenLink() async throws {
        try files.removeFile(layout.environmentFile)
        try files.link(layout.environmentFile, to: "nowhere")
        let gateway = gateway()
        let error = await refusal { try await restoration(gateway).run(options) }
        #expect(error.code == "broken-link" && gateway.deeds.isEmpty)
        #expect(try session.read(layout.home + "/notes.md") == "new")
        #expect(try leftovers == [])
    }

    @Test("neither a FIFO nor a folder is waited for", arguments: ["restore", "install-bundle", "verify"])
    func pipes(verb: String) async throws {
        let pipe = session.scratch.path("pipe")
        #expect(mkfifo(pipe, 0o600) == 0)
        let digest = String(repeating: "a", count: 64)
        let words =
            switch verb {
            case "restore": [verb, pipe]
            case "verify": [verb, pipe, "--bundle", pipe, "--identity", "x", "--issuer", "y"]
            default: [verb, "--url", "file://\(pipe)", "--sha256", digest]
            }
        let answer = await session.run(words)
        #expect(answer.code != .done)
        #expect(answer.error.contains("'\(pipe)'") || verb == "verify", "\(answer.error)")
        let from = await session.run("install-bundle", "--from", pipe)
        #expect(from.code != .done)
    }
}

/// What another command does while a restore starts the gateway.
private enum Meddling: CaseIterable { case starts, stops, restores }
