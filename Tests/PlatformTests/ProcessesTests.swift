import Appliance
import Glibc
import Platform
import TestSupport
import Testing

/// Runs a script with a real shell.
private func shell(_ script: String, input: Command.Input = .none) -> Command {
    Command("/bin/sh", ["-c", script], environment: ["PATH": "/usr/bin:/bin"], input: input)
}

private func processes() throws -> Processes {
    Processes(clock: .system, reactor: try Reactor())
}

@Suite("Running a command")
struct ProcessesTests {
    @Test("keeps output, error and exit code apart")
    func collects() async throws {
        let result = try await processes().run(shell("echo out; echo err >&2; exit 7"))
        #expect(result.outputText == "out\n")
        #expect(result.errorText == "err\n")
        #expect(result.status == .exited(7))
        #expect(!result.succeeded)
    }

    @Test("reports the signal that ended it")
    func signalled() async throws {
        let result = try await processes().run(shell("kill -SEGV $$"))
        #expect(result.status == .signalled(SIGSEGV))
        #expect(result.status.code == 139)
    }

    @Test("carries a megabyte through standard input and back")
    func megabyte() async throws {
        let bytes = [UInt8](repeating: 0x61, count: 1 << 20)
        let result = try await processes().run(
            shell("cat", input: .bytes(bytes)),
            limits: ProcessLimits(output: 2 << 20)
        )
        #expect(result.output == bytes)
    }

    @Test("does not mind a child that never reads its input")
    func unreadInput() async throws {
        let result = try await processes().run(
            shell("exit 0", input: .bytes([UInt8](repeating: 0, count: 1 << 20)))
        )
        #expect(result.succeeded)
    }

    @Test("gives the child no descriptor but its three and no variable but those named")
    func nothingInherited() async throws {
        let result = try await processes().run(
            shell("ls /proc/self/fd | wc -l; env | grep -v -e '^PWD=' -e '^_=' -e SHLVL")
        )
        // The fourth is the directory that ls itself has open.
        #expect(result.outputText == "4\nPATH=/usr/bin:/bin\n")
    }

    @Test("ends a run that is over its time, with everything it started")
    func wallTime() async throws {
        let limits = ProcessLimits(wall: .milliseconds(300), grace: .milliseconds(200))
        let result = try await processes().run(
            shell("sleep 60 & echo $!; trap '' TERM; sleep 60; sleep 60"),
            limits: limits
        )
        #expect(result.intervention == .wallTime)
        let pid = try #require(Int32(result.outputText.filter(\.isNumber)))
        #expect(ProcessTable.entry(pid).map { $0.state == "Z" } ?? true)
    }

    @Test("ends a silent run after its idle time, and every byte starts that anew")
    func idleTime() async throws {
        let limits = ProcessLimits(wall: .seconds(20), idle: .milliseconds(400), grace: .milliseconds(200))
        let lively = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.15; done"
        #expect(try await processes().run(shell(lively), limits: limits).succeeded)
        #expect(
            try await processes().run(shell("echo a; exec sleep 30"), limits: limits).intervention
                == .idleTime
        )
    }

    @Test("ends a flood at the limit and keeps what fits")
    func flood() async throws {
        let limits = ProcessLimits(output: 100_000, wall: .seconds(20), grace: .milliseconds(200))
        let result = try await processes().run(shell("yes"), limits: limits)
        #expect(result.intervention == .outputLimit)
        #expect(result.output.count == 100_000)
    }

    @Test("passes nothing on to a sink that has failed once, so that what it has is a beginning")
    func brokenSink() throws {
        let child = try ChildProcess(
            shell("trap 'echo two; exit 3' TERM; echo one; sleep 64 & wait"),
            limits: ProcessLimits()
        )
        var pieces: [String] = []
        #expect(throws: GatewayError("disk-full", "full")) {
            try child.supervise { (_, bytes) throws(GatewayError) in
                pieces.append(String(decoding: bytes, as: UTF8.self))
                throw GatewayError("disk-full", "full")
            }
        }
        #expect(pieces == ["one\n"])
    }

    @Test("does not wait for a grandchild that left the session and holds the pipe")
    func heldPipe() async throws {
        let script = "setsid sh -c 'echo $$; exec sleep 60' & read -r line < /dev/null; sleep 0.2"
        let result = try await processes().run(shell(script), limits: ProcessLimits(wall: .seconds(30)))
        let pid = try #require(Int32(result.outputText.filter(\.isNumber)))
        let stray = try #require(ProcessTable.identity(pid))
        defer { ProcessTable.signal(stray, SIGKILL) }
        #expect(result.succeeded)
    }

    @Test("a cancelled task ends its run")
    func cancelled() async throws {
        let processes = try processes()
        let task = Task {
            try await processes.run(shell("echo ready; exec sleep 60"), limits: ProcessLimits(wall: nil))
        }
        task.cancel()
        let result = try await task.value
        #expect(result.intervention == .cancelled)
    }

    @Test("names a program that is missing, may not be run, or is none")
    func failures() async throws {
        let files = try TemporaryDirectory()
        let processes = try processes()
        await #expect(throws: GatewayError("command-not-found", "the program '/no/such' does not exist")) {
            try await processes.run(Command("/no/such"))
        }
        let path = files.path("plain")
        try Files().write("#!/bin/sh\n".utf8, to: path, mode: 0o644)
        let refused = await #expect(throws: GatewayError.self) { try await processes.run(Command(path)) }
        #expect(refused?.code == "not-executable")
        let missing = await #expect(throws: GatewayError.self) {
            try await processes.run(Command("/bin/true", directory: "/no/such/place"))
        }
        #expect(missing?.message == "the working directory '/no/such/place' does not exist")
        let noFolder = await #expect(throws: GatewayError.self) {
            try await processes.run(Command("/bin/true", directory: path))
        }
        #expect(noFolder?.message == "the working directory '\(path)' is no directory")
    }

    @Test("names the interpreter that a script has lost, not the script")
    func lostInterpreter() async throws {
        let files = try TemporaryDirectory()
        let path = files.path("vibe")
        try Files().write("#!/opt/gone/python3 -I\nprint(1)\n".utf8, to: path, mode: 0o755)
        let error = await #expect(throws: GatewayError.self) { try await processes().run(Command(path)) }
        #expect(error?.code == "command-not-found")
        #expect(error?.message == "the program '\(path)' needs '/opt/gone/python3', which does not exist")
        #expect(error?.help == "install 'vibe' again")
    }

    @Test("ends a descendant in a session of its own whose name is no text")
    func oddDescendant() async throws {
        let files = try TemporaryDirectory()
        // A combining mark joins with the parenthesis that the kernel puts around the name.
        let name = "\u{301}hidden"
        try Files().write(try Files().read("/bin/sleep"), to: files.path(name), mode: 0o755)
        let script = "setsid '\(files.path(name))' 60 & echo $!; exec sleep 60"
        let result = try await processes().run(
            shell(script),
            limits: ProcessLimits(wall: .milliseconds(500), grace: .milliseconds(200))
        )
        let pid = try #require(Int32(result.outputText.trimmed))
        #expect(ProcessTable.entry(pid).map { $0.state == "Z" } ?? true)
    }

    @Test("a hundred runs leave no descriptor behind")
    func noLeak() async throws {
        let processes = try processes()
        let before = try Files().list("/proc/self/fd").count
        for _ in 0..<100 { _ = try await processes.run(Command("/bin/true")) }
        // Other suites run at the same time; a leak of one descriptor for each run would show as a hundred.
        #expect(try Files().list("/proc/self/fd").count < before + 50)
    }
}

@Suite("A process that outlives its starter")
struct LaunchedProcessTests {
    @Test("is known by pid and start time, and its end is noticed")
    func noticed() async throws {
        let processes = try processes()
        let identity = try processes.launch(shell("exec sleep 30"))
        #expect(ProcessTable.isRunning(identity))
        #expect(await processes.waitForEnd(of: identity, within: .milliseconds(50)) == false)
        #expect(await processes.end(identity))
        #expect(!ProcessTable.isRunning(identity))
    }

    @Test("is never confused with another process of the same number")
    func notConfused() {
        let stranger = ProcessIdentity(pid: getpid(), startTime: 1)
        #expect(!ProcessTable.isRunning(stranger))
        #expect(!ProcessTable.signal(stranger, SIGKILL))
    }

    @Test("is not the one that an earlier boot gave the same number at the same tick")
    func otherBoot() async throws {
        let own = try #require(ProcessTable.identity(getpid()))
        #expect(!own.boot.isEmpty)
        var earlier = own
        earlier.boot = "00000000-0000-0000-0000-000000000000"
        #expect(ProcessTable.isRunning(own) && !ProcessTable.isRunning(earlier))
        #expect(!ProcessTable.signal(earlier, SIGKILL))
        #expect(try await processes().waitForEnd(of: earlier, within: .zero))
    }

    @Test("is written with its boot, and read without one as an older version wrote it")
    func recorded() throws {
        let own = try #require(ProcessTable.identity(getpid()))
        #expect(ProcessIdentity(json: own.json) == own)
        #expect(own.json["boot"]?.string == own.boot)
        let older: JSON = ["pid": .integer(own.pid), "startTime": .integer(own.startTime)]
        #expect(ProcessIdentity(json: older) == own)
        #expect(ProcessIdentity(json: ["pid": 0, "startTime": 1]) == nil)
    }

    @Test("a command with parentheses and spaces in its name is read right")
    func oddNames() {
        let line =
            "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 1 0 777 1000 3 18446744073709551615"
        let entry = ProcessTable.parse(Array(line.utf8))
        #expect(entry?.identity == ProcessIdentity(pid: 42, startTime: 777))
        #expect(entry?.state == "S")
        #expect(entry?.processorTicks == 56)
        let marked = Array(line.replacing("a) b", with: "\u{301}x\u{600}").utf8) + [0x0A]
        #expect(ProcessTable.parse(marked)?.identity == ProcessIdentity(pid: 42, startTime: 777))
        let bytes = Array("42 (".utf8) + [0xFF, 0xFE] + Array(line.utf8.dropFirst(8))
        #expect(ProcessTable.parse(bytes)?.identity.startTime == 777)
    }

    @Test("that cannot be looked at for want of descriptors is not taken for a dead one")
    func noDescriptors() throws {
        let own = try #require(ProcessTable.identity(getpid()))
        let (sight, runs, gone) = withoutDescriptors {
            (ProcessTable.look(own.pid), ProcessTable.isRunning(own), ProcessTable.look(1 << 22))
        }
        #expect(sight == .unreadable && runs && gone == .gone)
        #expect(ProcessTable.look(own.pid) != .gone)
    }

    @Test("is the same in two records of which one does not know the boot")
    func unknownBoot() throws {
        let own = try #require(ProcessTable.identity(getpid()))
        var other = own
        other.boot = ""
        #expect(other == own)
        other.boot = "another"
        #expect(other != own)
    }
}

@Suite("Waiting")
struct ReactorTests {
    @Test("a sleep ends at its time, and earlier ones that were added later end first")
    func order() async throws {
        let reactor = try Reactor()
        let ended = await withTaskGroup(of: Int.self) { group in
            for milliseconds in [120, 30, 75] {
                group.addTask {
                    #expect(await reactor.sleep(.milliseconds(milliseconds)))
                    return milliseconds
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(ended == [30, 75, 120])
    }

    @Test("a cancelled sleep ends at once and says so")
    func cancelled() async throws {
        let reactor = try Reactor()
        let task = Task { await reactor.sleep(.seconds(600)) }
        task.cancel()
        #expect(await task.value == false)
    }

    @Test("a descriptor that becomes readable wakes its task, one that does not lets it go at the deadline")
    func descriptors() async throws {
        let reactor = try Reactor()
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        #expect(await reactor.readable(ends[0], within: .milliseconds(20)) == false)
        var byte: UInt8 = 1
        #expect(write(ends[1], &byte, 1) == 1)
        #expect(await reactor.readable(ends[0], within: .seconds(10)))
    }

    @Test("what cannot be waited for is answered at once, and keeps nobody else from waiting")
    func unwatchable() async throws {
        let reactor = try Reactor()
        let file = open("/proc/self/exe", O_RDONLY)
        defer { close(file) }
        #expect(await reactor.readable(file, within: .seconds(10)))
        #expect(await reactor.readable(1_000_000, within: .seconds(10)) == false)
        let sleep = Task { await reactor.sleep(.milliseconds(10)) }
        let alarm = Task {
            try await Task.sleep(for: .seconds(20))
            sleep.cancel()
        }
        #expect(await sleep.value)
        alarm.cancel()
    }

    @Test("of two waits for one descriptor one is refused, and the other goes on")
    func twice() async throws {
        let reactor = try Reactor()
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let (input, output) = (ends[0], ends[1])
        await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<2 { group.addTask { await reactor.readable(input, within: .seconds(20)) } }
            #expect(await group.next() == false)
            var byte: UInt8 = 1
            #expect(write(output, &byte, 1) == 1)
            #expect(await group.next() == true)
        }
    }

    @Test("waits that are cancelled while they begin leave nothing behind for the next user of the number")
    func cancelledEarly() async throws {
        let reactor = try Reactor()
        for _ in 0..<2000 {
            var ends: [Int32] = [0, 0]
            #expect(pipe(&ends) == 0)
            let descriptor = ends[0]
            let wait = Task.detached { await reactor.readable(descriptor, within: .seconds(20)) }
            wait.cancel()
            _ = await wait.value
            var byte: UInt8 = 1
            #expect(write(ends[1], &byte, 1) == 1)
            // A leftover of the cancelled wait would refuse this one.
            #expect(await reactor.readable(descriptor, within: .seconds(20)))
            for end in ends { close(end) }
        }
    }
}
