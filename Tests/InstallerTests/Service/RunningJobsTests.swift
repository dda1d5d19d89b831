import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Commands that meet running jobs")
struct RunningJobsTests {
    private let session: Session
    private let processes: Processes
    private let job = "0b4f6d3e-9a5c-4c80-8f3e-2f1f6a1d2b3c"
    private let since = "2026-11-21T10:10:00.000Z"

    init() throws {
        session = try Session()
        processes = Processes(clock: .system, reactor: try Reactor())
    }

    /// A job whose runner is a process that ends on SIGTERM.
    private func begin() throws -> ProcessIdentity {
        let runner = try processes.launch(Command("/bin/sleep", ["600"]))
        let folder = session.layout.job(job)
        let spec: JSON = [
            "version": 1,
            "job": [
                "id": .string(job), "provider": "codex", "correlationId": "c", "context": [:],
                "collected": [], "instance": "a-gateway-that-is-gone", "submittedAt": .string(since),
                "bootId": .null,
            ],
            "run": [
                "executable": "/bin/sleep", "arguments": ["600"], "environment": [:], "hasInput": false,
                "outputBytes": 1000, "graceMs": 300,
            ],
        ]
        try session.write(String(decoding: spec.compact, as: UTF8.self), folder + "/spec.json")
        let record: JSON = ["runner": runner.json, "startedAt": .string(since)]
        try session.write(String(decoding: record.compact, as: UTF8.self) + "\n", folder + "/runner.jsonl")
        return runner
    }

    private func end(_ runner: ProcessIdentity) async {
        ProcessTable.signal(runner, SIGKILL)
        _ = await processes.waitForEnd(of: runner, within: .seconds(5))
    }

    @Test("count them, and leave them alone")
    func counted() async throws {
        let runner = try begin()
        let status = await session.run("status")
        #expect(
            status.json["status"]?["jobs"]
                == ["running": 1, "waiting": 0, "canceled": .null]
        )
        let stop = await session.run("stop", "--text")
        #expect(
            stop.output
                == "the gateway is not running\n"
                + "  running jobs  1; the next start collects what comes of it\n"
        )
        #expect(ProcessTable.isRunning(runner))
        await end(runner)
    }

    @Test("cancel them for 'stop --jobs', and say how many")
    func canceled() async throws {
        let runner = try begin()
        let stop = await session.run("stop", "--jobs")
        #expect(stop.json["status"]?["jobs"] == ["running": 0, "waiting": 0, "canceled": 1])
        #expect(!ProcessTable.isRunning(runner))
        let again = await session.run("stop", "--jobs", "--text")
        #expect(again.output == "the gateway is not running\n  canceled jobs  0\n")
    }

    @Test("list them before an uninstall, which cancels them only when it is confirmed")
    func uninstalled() async throws {
        _ = await session.run("setup")
        let runner = try begin()
        let plan = await session.run("uninstall")
        #expect(
            plan.json["jobs"]
                == [["id": .string(job), "provider": "codex", "state": "running", "since": .string(since)]]
        )
        let text = await session.run("uninstall", "--purge", "--text").output
        #expect(text.contains("canceled first:\n  codex, running since \(since), \(job)\n"))
        #expect(ProcessTable.isRunning(runner))
        let done = await session.run("uninstall", "--yes", "--purge")
        #expect(done.json["canceled_jobs"]?.int == 1 && done.json["jobs"] == [])
        #expect(!ProcessTable.isRunning(runner) && !Files().exists(session.layout.home))
    }

    @Test("remove nothing under a job that goes on")
    func unstoppable() async throws {
        _ = await session.run("setup")
        let runner = try begin()
        // It waits for its turn with a gateway that lives.
        try session.write("another", session.layout.job(job) + "/adopter")
        try Files().removeFile(session.layout.job(job) + "/runner.jsonl")
        var lock = try FileLock.attempt(Layout.join(session.layout.jobs, ".instance-another"))
        #expect(lock != nil)
        let answer = await session.run("uninstall", "--yes", "--purge")
        #expect(answer.code == .busy)
        #expect(
            answer.error == """
                error: a job goes on: codex, waiting since \(since), \(job)
                help: end the clients that run a gateway on stdio, then repeat the command

                """
        )
        #expect(Files().exists(session.layout.job(job) + "/spec.json"))
        lock = nil
        await end(runner)
        #expect(await session.run("uninstall", "--yes", "--purge").json["removed"]?.bool == true)
    }

    @Test("say in words how many go on, and who takes their answers")
    func words() {
        var counts = JobCounts()
        #expect(counts.rows(afterwards: true, isCollecting: false).isEmpty)
        counts.running = 2
        #expect(counts.rows(afterwards: false, isCollecting: true) == [["running jobs", "2"]])
        #expect(counts.rows(afterwards: true, isCollecting: true) == [["running jobs", "2, which go on"]])
        #expect(
            counts.rows(afterwards: true, isCollecting: false)
                == [["running jobs", "2, which go on; the next start collects what comes of them"]]
        )
        counts.running = 0
        counts.waiting = 1
        counts.canceled = 3
        #expect(
            counts.rows(afterwards: true, isCollecting: false)
                == [["canceled jobs", "3"], ["waiting jobs", "1; a start within their time runs them"]]
        )
    }
}
