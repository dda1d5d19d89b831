import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Supervising without systemd")
struct SupervisionTests {
    private let crash = Supervision.Event.ended(.signalled(11), after: .seconds(1))

    private func serving() -> Supervision {
        var state = Supervision()
        _ = state.handle(.started)
        _ = state.handle(.ready)
        return state
    }

    @Test("begins with a start and a deadline, and reports that the gateway is ready")
    func begins() {
        var state = Supervision()
        #expect(state.beginning == [.wake(after: Supervision.readyWithin), .start])
        #expect(state.handle(.started) == [])
        #expect(state.handle(.ready) == [.reportReady])
        // A deadline that was set before means nothing any more.
        #expect(state.handle(.timeUp) == [])
    }

    @Test("tries nothing twice before the gateway was ready once")
    func firstFailure() {
        var state = Supervision()
        #expect(
            state.handle(.ended(.exited(3), after: .zero))
                == [.reportFailure("it ended before it was ready: exit code 3"), .leave(1)]
        )
        var slow = Supervision()
        #expect(
            slow.handle(.timeUp)
                == [.kill, .reportFailure("it did not become ready within 30 s"), .leave(1)]
        )
        #expect(slow.handle(.ready) == [])
    }

    @Test("starts again after pauses that double up to half a minute")
    func backoff() {
        var state = serving()
        var pauses: [Duration] = []
        for _ in 0..<7 {
            guard case .wake(let pause) = state.handle(crash).first else { break }
            pauses.append(pause)
            #expect(state.handle(.timeUp) == [.wake(after: Supervision.readyWithin), .start])
        }
        #expect(pauses == [1, 2, 4, 8, 16, 30, 30].map { .seconds($0) })
        #expect(state.restarts == 7)
    }

    @Test("begins with the shortest pause again after a minute of service")
    func recovers() {
        var state = serving()
        _ = state.handle(crash)
        _ = state.handle(.timeUp)
        _ = state.handle(.ready)
        #expect(state.handle(.ended(.exited(1), after: .seconds(60))) == [.wake(after: .seconds(1))])
    }

    @Test("stops politely, then by force, and leaves when the gateway has gone")
    func stops() {
        var state = serving()
        #expect(state.handle(.stop) == [.terminate, .wake(after: Supervision.stopWithin)])
        #expect(state.handle(.stop) == [])
        #expect(state.handle(.timeUp) == [.kill])
        #expect(state.handle(.ended(.signalled(9), after: .seconds(1))) == [.leave(0)])
        var pausing = serving()
        _ = pausing.handle(crash)
        #expect(pausing.handle(.stop) == [.leave(0)])
    }

    @Test("tells whoever waits that the gateway was stopped before it was ready")
    func stopsEarly() {
        var state = Supervision()
        _ = state.handle(.started)
        let word = Supervision.Action.reportStopped
        #expect(state.handle(.stop) == [word, .terminate, .wake(after: Supervision.stopWithin)])
        #expect(state.handle(.ready) == [])
        #expect(state.handle(.ended(.signalled(15), after: .zero)) == [.leave(0)])
        var replacing = Supervision()
        _ = replacing.handle(.replace)
        #expect(replacing.handle(.stop) == [word])
    }

    @Test("replaces the gateway at once, and a stop during that wins")
    func replaces() {
        var state = serving()
        #expect(state.handle(.replace) == [.terminate, .wake(after: Supervision.stopWithin)])
        #expect(
            state.handle(.ended(.exited(0), after: .seconds(1)))
                == [.wake(after: Supervision.readyWithin), .start]
        )
        #expect(state.restarts == 0)
        var stopped = serving()
        _ = stopped.handle(.replace)
        _ = stopped.handle(.stop)
        #expect(stopped.handle(.ended(.exited(0), after: .seconds(1))) == [.leave(0)])
        var pausing = serving()
        _ = pausing.handle(crash)
        #expect(pausing.handle(.replace).last == .start)
    }

    @Test("ends a gateway that has fallen silent")
    func silent() {
        var state = serving()
        #expect(state.handle(.silent) == [.kill])
        #expect(state.handle(.ended(.signalled(9), after: .seconds(40))) == [.wake(after: .seconds(1))])
    }
}

@Suite("Unit files")
struct UnitFilesTests {
    @Test("quote what systemd would read as something else")
    func quoting() throws {
        let layout = try Layout(environment: [
            "HOME": "/home/user", "LLM_GATEWAY_HOME": "/srv/a b/50%/$x",
            "LLM_GATEWAY_CONFIG": "/etc/c\"d.toml",
        ])
        let text = UnitFiles(layout: layout, settings: try Settings(), log: "/l o/50%.log").service.text
        #expect(text.contains("ExecStart=\"/srv/a b/50%%/$x/current/bin/llm-gateway\" --transport=http\n"))
        #expect(text.contains("Environment=\"LLM_GATEWAY_HOME=/srv/a b/50%%/$x\"\n"))
        #expect(text.contains("Environment=\"LLM_GATEWAY_CONFIG=/etc/c\\\"d.toml\"\n"))
        #expect(text.contains("EnvironmentFile=-/srv/a b/50%%/$x/environment\n"))
        #expect(text.contains("StandardOutput=append:/l o/50%%.log\n"))
    }

    @Test(
        "are refused for a home whose programs systemd could not start",
        arguments: ["a\"b", "a'b", "a\\b"]
    )
    func oddPaths(_ name: String) throws {
        let layout = try Layout(environment: ["HOME": "/home/user", "LLM_GATEWAY_HOME": "/srv/\(name)"])
        let error = #expect(throws: GatewayError.self) { try UnitFiles.check(layout) }
        #expect(error?.message.contains("the home is '/srv/\(name)'") == true)
        #expect(error?.help?.contains("start --detached") == true)
    }

    @Test("are in a slice inside those that systemd makes for the parts of its name")
    func slices() {
        let around = SystemdService.slices(around: "llm-cli-gateway")
        #expect(around == ["llm-cli-gateway.slice", "llm-cli.slice", "llm.slice"])
    }

    @Test("have names of their own for a second home, and listen where the settings say")
    func names() throws {
        let layout = try Layout(environment: ["HOME": "/home/user", "LLM_GATEWAY_HOME": "/srv/two"])
        let settings = try Settings(environment: [
            "LLM_GATEWAY_HTTP_HOST": "::1", "LLM_GATEWAY_HTTP_PORT": "4000",
        ])
        let units = UnitFiles(layout: layout, settings: settings, log: nil)
        #expect(units.all.allSatisfy { $0.name.hasPrefix("llm-cli-gateway-") })
        #expect(units.socket.text.contains("ListenStream=[::1]:4000\n"))
        #expect(units.service.text.contains("Sockets=\(units.socket.name)\nSlice=\(units.slice.name)\n"))
    }

    @Test("are replaced when they are ours, and left alone when they are not")
    func plan() {
        typealias Present = UnitPlan.Present
        #expect(UnitPlan.step(wanted: "new", present: nil) == .write(over: nil))
        #expect(UnitPlan.step(wanted: "new", present: Present(sha256: "new", isOurs: false)) == .keep)
        #expect(
            UnitPlan.step(wanted: "new", present: Present(sha256: "old", isOurs: true)) == .write(over: "old")
        )
        #expect(UnitPlan.step(wanted: "new", present: Present(sha256: "edited", isOurs: false)) == .leave)
    }

    @Test("are written with our folders, and an edited one is reported and kept")
    func writing() throws {
        let home = try ScratchHome()
        try Files().makeDirectory(home.layout.home)
        let installation = UnitInstallation(layout: home.layout, files: Files())
        var receipt = Receipt()
        let units = UnitFiles(layout: home.layout, settings: try Settings(), log: nil)
        #expect(try installation.write(units.all, receipt: &receipt).written == units.all.map(\.name))
        #expect(receipt.created.filter { $0.kind == .directory }.map(\.path).last == home.layout.userUnits)
        #expect(try installation.write(units.all, receipt: &receipt) == .init())
        let path = Layout.join(home.layout.userUnits, units.socket.name)
        try Files().append(Array("# mine\n".utf8), to: path)
        let moved = UnitFiles(
            layout: home.layout,
            settings: try Settings(environment: ["LLM_GATEWAY_HTTP_PORT": "4000"]),
            log: nil
        )
        let outcome = try installation.write(moved.all, receipt: &receipt)
        #expect(outcome.written.isEmpty && outcome.notices.count == 1)
        #expect(outcome.notices.first?.hasPrefix("'\(path)' was not written by this program") == true)
        #expect(try Files().readText(path).hasSuffix("# mine\n"))
    }
}

@Suite("Who has the port")
struct PortOwnerTests {
    @Test("shows a stranger's command in one line, without the secrets in it")
    func strangersCommand() {
        #expect(
            PortOwner.shortened("serve\u{0}--url\nhttp://ada:pass@host/")
                == "serve --url http://<redacted>@host/"
        )
        #expect(PortOwner.shortened(String(repeating: "x", count: 200))?.count == 158)
        #expect(PortOwner.shortened(" \n") == nil)
    }

    @Test("reads the kernel's tables")
    func tables() {
        let four = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:0D05 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0
               1: 0100007F:0D05 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1
            """
        #expect(
            PortOwner.listeners(in: four)
                == [PortOwner.Listener(address: [127, 0, 0, 1], port: 3333, uid: 1000, inode: "4711")]
        )
        let six = """
              sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 00000000000000000000000001000000:0D05 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0
            """
        #expect(PortOwner.listeners(in: six).first?.address == Array(repeating: 0, count: 15) + [1])
        #expect(PortOwner.listeners(in: "nonsense\n1 2 3").isEmpty)
    }

    @Test("knows which listeners are in the way")
    func conflicts() {
        #expect(PortOwner.conflicts([0, 0, 0, 0], "127.0.0.1"))
        #expect(PortOwner.conflicts([127, 0, 0, 1], "0.0.0.0"))
        #expect(PortOwner.conflicts([127, 0, 0, 1], "127.0.0.1"))
        #expect(PortOwner.conflicts([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1], "127.0.0.1"))
        #expect(!PortOwner.conflicts([127, 0, 0, 2], "127.0.0.1"))
        #expect(PortOwner.conflicts(Array(repeating: 0, count: 15) + [1], "::1"))
        #expect(!PortOwner.conflicts([127, 0, 0, 1], "::1"))
        #expect(PortOwner.conflicts([127, 0, 0, 1], "::"))
        #expect(PortOwner.conflicts(Array(repeating: 0, count: 16), "127.0.0.1"))
        #expect(!PortOwner.conflicts(Array(repeating: 0, count: 15) + [1], "0.0.0.0"))
        #expect(!PortOwner.conflicts([0, 0, 0, 0], "::1"))
    }

    @Test("names the process that listens, and refuses to take it for ours")
    func foreign() async throws {
        let listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        defer { close(listener.descriptor) }
        let settings = try Settings(environment: ["LLM_GATEWAY_HTTP_PORT": "\(listener.port)"])
        let owner = try #require(PortOwner.find(settings))
        #expect(owner.pid == getpid() && owner.uid == getuid())
        #expect(owner.command?.isEmpty == false)
        #expect(
            GatewayService.portInUse(settings, owner).message.contains("is taken by process \(getpid()) (")
        )
        #expect(await Health.ask(settings, within: .milliseconds(50)) == .silent)
    }

    @Test("says where a process listens, whatever the settings want by now")
    func listened() throws {
        for host in ["127.0.0.1", "::1"] {
            let listener = try HTTPListener.open(host: host, port: 0)
            defer { close(listener.descriptor) }
            var settings = Settings.standard
            settings.host = host
            settings.port = listener.port
            #expect(settings.listened(by: getpid()) == settings)
            settings.port = listener.port == 1 ? 2 : 1
            settings.host = "127.0.0.9"
            let found = settings.listened(by: getpid())
            #expect(PortOwner.find(found)?.pid == getpid())
            #expect(found.path == settings.path)
        }
        #expect(Settings.standard.listened(by: 1 << 30) == .standard)
    }

    @Test("finds nobody on a free port")
    func free() async throws {
        let listener = try HTTPListener.open(host: "127.0.0.1", port: 0)
        close(listener.descriptor)
        let settings = try Settings(environment: ["LLM_GATEWAY_HTTP_PORT": "\(listener.port)"])
        #expect(PortOwner.find(settings) == nil)
        #expect(await Health.ask(settings) == .nobody)
    }

    @Test("only takes an answer for ours that says so")
    func answers() {
        func ask(_ status: Int, _ body: String) -> Health.Answer {
            Health.interpret(status: status, body: Array(body.utf8))
        }
        #expect(
            ask(
                200,
                "{\"ok\":true,\"sessions\":3,\"name\":\"llm-cli-gateway\",\"version\":\"1.0.0\",\"pid\":7}"
            )
                == .gateway(pid: 7, version: "1.0.0", sessions: 3)
        )
        for (status, body) in [
            (200, "{\"ok\":true,\"sessions\":{}}"), (200, "<html>"), (404, "{}"), (200, ""),
        ] {
            #expect(
                ask(status, body)
                    == .foreign("it answers /healthz with status \(status) and not as a gateway")
            )
        }
    }
}

@Suite("Progress of a download")
struct ProgressTests {
    @Test("is said in megabytes, with the share where the size is known")
    func wording() {
        #expect(ProgressLine.wording(.init(received: 12_345_678, total: nil)) == "downloaded 12.3 MB")
        #expect(
            ProgressLine.wording(.init(received: 12_345_678, total: 100_000_000))
                == "downloaded 12.3 of 100.0 MB (12 %)"
        )
    }
}

@Suite("The record of a supervisor")
struct SupervisorRecordTests {
    @Test("is written over the one before when the disk is full, so that it never tells of another gateway")
    func fullDisk() throws {
        let session = try Session()
        let layout = session.layout
        try Files().makeDirectory(layout.home)
        var record = SupervisorRecord(
            supervisor: ProcessIdentity(pid: 1, startTime: 2),
            address: "127.0.0.1:1",
            startedAt: Timestamp(milliseconds: 1000)
        )
        try record.write(layout, files: Files())
        let full = Files(before: { (step) throws(GatewayError) in
            // Only what is there already has room.
            if case .open(let path) = step, path != layout.supervisor {
                throw GatewayError("disk-full", "cannot write '\(path)': no space left on device")
            }
        })
        record.gateway = ProcessIdentity(pid: 3, startTime: 4)
        record.failure = String(repeating: "x", count: 200)
        try record.write(layout, files: full)
        #expect(try SupervisorRecord.read(layout, files: Files()) == record)
        record.failure = nil
        try record.write(layout, files: full)
        #expect(try SupervisorRecord.read(layout, files: Files()) == record)
        #expect(try Files().status(layout.supervisor)?.size == 2048)
        try Files().write([0x7B], to: layout.supervisor)
        let error = #expect(throws: GatewayError.self) { try record.write(layout, files: full) }
        #expect(error?.code == "disk-full")
        try Files().removeFile(layout.supervisor)
        let first = #expect(throws: GatewayError.self) { try record.write(layout, files: full) }
        #expect(first?.code == "disk-full")
    }

    @Test("is none where something is that can be no record, which is said before anything is written")
    func noRecord() throws {
        let session = try Session()
        let layout = session.layout
        try Files().makeDirectory(layout.home)
        let record = SupervisorRecord(
            supervisor: ProcessIdentity(pid: 1, startTime: 2),
            address: "127.0.0.1:1",
            startedAt: Timestamp(milliseconds: 1000)
        )
        try Files().write(Array(repeating: 0x20, count: 65 << 10), to: layout.supervisor)
        #expect(try SupervisorRecord.read(layout, files: Files()) == nil)
        try Files().removeFile(layout.supervisor)
        try Files().makeDirectory(layout.supervisor)
        #expect(try SupervisorRecord.read(layout, files: Files()) == nil)
        let error = #expect(throws: GatewayError.self) { try record.write(layout, files: Files()) }
        #expect(error?.code == "in-the-way")
        #expect(
            error?.message
                == "'\(layout.supervisor)' is a folder, where the record of the supervising process belongs"
        )
    }
}

@Suite("Whose a running supervisor is")
struct SupervisorOwnerTests {
    @Test("tells the folder that it holds: not the name in its record, nor what is at that place by now")
    func heldFolder() async throws {
        let session = try Session()
        let files = Files(), home = session.layout.home
        try files.makeDirectory(home)
        try files.write([], to: session.layout.receipt)
        let folder = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        try #require(folder >= 0)
        defer { close(folder) }
        let processes = Processes(clock: .system, reactor: try Reactor())
        let supervisor = try processes.launch(Command("/bin/sleep", ["300"]), extra: folder)
        func record(at place: String, of home: String) throws -> SupervisorRecord? {
            let layout = try Layout(
                environment: session.environment.merging(["LLM_GATEWAY_HOME": place]) { $1 }
            )
            let record = SupervisorRecord(
                home: home,
                supervisor: supervisor,
                address: "127.0.0.1:1",
                startedAt: Timestamp(milliseconds: 1000)
            )
            try record.write(layout, files: files)
            return try SupervisorRecord.read(layout, files: files)
        }
        let moved = session.scratch.path("moved"), copy = session.scratch.path("copy")
        #expect(try record(at: home, of: home) != nil)
        try files.rename(home, to: moved)
        // Another home is made at the former place, and a copy of this one takes the name in the record.
        try files.makeDirectory(home)
        try files.makeDirectory(copy)
        #expect(try record(at: moved, of: home) != nil)
        #expect(try record(at: home, of: home) == nil)
        #expect(try record(at: copy, of: copy) == nil)
        // Once the folder is gone it is nobody else's.
        try files.removeTree(moved)
        #expect(try record(at: copy, of: home) != nil)
        await processes.end(supervisor)
    }
}

@Suite("Asking a supervisor for another gateway")
struct ReplacingGatewayTests {
    @Test("takes no failure of an earlier gateway for one of the new one")
    func earlierFailure() async throws {
        let session = try Session()
        let layout = session.layout, files = Files()
        try files.makeDirectory(layout.home)
        let machine = Machine(
            environment: session.environment,
            files: files,
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: Terminal(write: { _ in }, writeError: { _ in })
        )
        // Asked for another gateway, it puts the record in place that the test has prepared.
        let mark = session.scratch.path("ready"), next = session.scratch.path("next")
        let script = """
            trap "mv '\(next)' '\(layout.supervisor)'" HUP
            : > '\(mark)'
            while :; do sleep 300 & wait; done
            """
        let supervisor = try machine.processes.launch(
            Command("/bin/sh", ["-c", script], environment: ["PATH": "/usr/bin:/bin"])
        )
        defer {
            for entry in ProcessTable.descendants(of: supervisor.pid) {
                ProcessTable.signal(entry.identity, SIGKILL)
            }
            ProcessTable.signal(supervisor, SIGKILL)
            waitpid(supervisor.pid, nil, 0)
        }
        try #require(try await changes(in: session.scratch.root) { files.exists(mark) })
        let service = DetachedService(machine: machine, layout: layout)
        var record = SupervisorRecord(
            supervisor: supervisor,
            address: Settings.standard.listenAddress,
            startedAt: machine.clock.now()
        )
        try record.write(layout, files: files)
        // One that came with a copy of another home speaks of that one's process.
        record.home = session.scratch.path("of-somebody")
        try files.makeDirectory(session.scratch.path("of-somebody"))
        try record.write(layout, files: files)
        #expect(try SupervisorRecord.read(layout, files: files) == nil)
        // One whose home is not there now may be a copy's: that its supervisor's program lies here would tell.
        record.home = session.scratch.path("nowhere")
        try record.write(layout, files: files)
        #expect(try SupervisorRecord.read(layout, files: files) == nil)
        // By another path it is this one.
        record.home = session.scratch.path("link")
        try files.link(session.scratch.path("link"), to: layout.home)
        try record.write(layout, files: files)
        #expect(try SupervisorRecord.read(layout, files: files) == record)
        record.home = layout.home
        try record.write(layout, files: files)
        #expect(try SupervisorRecord.read(layout, files: files) == record)

        func expect(_ code: String?, within limit: Duration = .seconds(30)) async throws {
            try session.write(record.json.compactText, next)
            do throws(GatewayError) {
                try await service.replaceGateway(.standard, within: limit)
                #expect(code == nil)
            } catch {
                #expect(error.code == code, "\(error)")
            }
            let isTaken = try await changes(in: session.scratch.root) { !files.exists(next) }
            #expect(isTaken)
        }

        // What it tries by itself before it has heard of the request.
        record.failure = "exit code 3"
        try await expect("timed-out", within: .milliseconds(500))
        record.replacements = 1
        try await expect("start-failed")
        record.replacements = 2
        record.failure = nil
        record.gateway = supervisor
        record.readyAt = machine.clock.now()
        try await expect(nil)
    }
}
