import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Jobs

/// What lies in the directory of a job, and what is made of it.
@Suite("the directory of a job", .timeLimit(.minutes(1)))
struct JobDirectoryTests {
    private let shop: Workshop

    init() throws { shop = try Workshop() }

    /// The directory of a job that a gateway which is gone had accepted.
    private func leave(_ script: String) throws -> JobDirectory {
        let request = shop.script(script)
        let place = shop.scheduler.directory(of: request.id)
        let spec = JobSpec(request, submitted: WallClock.system.now(), boot: nil, instance: "gone")
        try JobFiles.stage(request, spec, as: place, for: place, files: Files())
        return place
    }

    private func run(_ place: JobDirectory) throws -> ProcessIdentity {
        try shop.machine.processes.launch(Command(Workshop.gateway, ["run-job", place.path]))
    }

    @Test("has five files while it runs, and five afterwards")
    func files() async throws {
        let place = try leave("echo begun; \(shop.gate)")
        let runner = try run(place)
        #expect(try await changes(in: place.path) { try Files().status(place.standardOutput)?.size == 6 })
        #expect(try Files().list(place.path) == ["runner.jsonl", "running", "spec.json", "stderr", "stdout"])
        #expect(FileLock.isHeld(place.running))
        try shop.openGate()
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        #expect(
            try Files().list(place.path) == ["exit.json", "runner.jsonl", "spec.json", "stderr", "stdout"]
        )
        #expect(!FileLock.isHeld(place.exit))
        // Nothing of the room that was kept for it is left behind the record.
        let record = try #require(try ExitRecord.of(place))
        #expect(try Files().read(place.exit) == record.json.compact && record.exitCode == 0)
    }

    @Test("gives its provider the environment that was asked for, and nothing of its runner's")
    func environment() async throws {
        let outcome = try await shop.run(shop.script("exec env"))
        let names = String(decoding: outcome.output.held, as: UTF8.self).split(separator: "\n").map {
            $0.prefix { $0 != "=" }
        }
        // What a shell adds by itself is among them.
        #expect(Set(names).subtracting(["PWD", "OLDPWD", "SHLVL", "_"]) == ["PATH", "LLM_GATEWAY_JOB_ID"])
    }

    @Test(
        "tells of the runner by whole lines only",
        arguments: ["", "{", "{}", "\n", "null\n", "{\"runner\":{}}\n"]
    )
    func noRunner(text: String) throws {
        let place = try leave("true")
        #expect(try RunnerRecord.of(place) == nil)
        try Files().write(text.utf8, to: place.runner)
        #expect(try RunnerRecord.of(place) == nil)
    }

    @Test("tells of the provider once its line is whole")
    func provider() throws {
        let place = try leave("true")
        let own = try #require(ProcessTable.identity(getpid()))
        var record = RunnerRecord(runner: own, started: Timestamp(milliseconds: 1_800_000_000_000))
        record.group = "/a.slice/b.scope"
        try record.begin(in: place, Files())
        #expect(try RunnerRecord.of(place) == record)
        let begun = try Files().read(place.runner)
        var whole = record
        try whole.add(provider: own, in: place, Files())
        #expect(try RunnerRecord.of(place) == whole && whole.provider == own)
        let text = try Files().read(place.runner)
        for count in begun.count..<text.count {
            try Files().write(text[..<count], to: place.runner)
            #expect(try RunnerRecord.of(place) == record, "\(count) bytes of \(text.count)")
        }
        for count in 0..<begun.count {
            try Files().write(text[..<count], to: place.runner)
            #expect(try RunnerRecord.of(place) == nil, "\(count) bytes of \(begun.count)")
        }
    }

    @Test("belongs to the gateway that accepted it, until another one adopts it")
    func gateway() throws {
        let place = try leave("true")
        #expect(try place.gateway(Files()) == "gone")
        try Files().write("heir".utf8, to: place.adopter)
        #expect(try place.gateway(Files()) == "heir")
        try Files().removeFile(place.adopter)
        try Files().write("{".utf8, to: place.spec)
        #expect(try place.gateway(Files()) == nil)
        try Files().removeFile(place.spec)
        #expect(try place.gateway(Files()) == nil)
    }

    @Test("is not run again by a second runner, nor after its end")
    func once() async throws {
        let place = try leave("echo ran; \(shop.gate)")
        let runner = try run(place)
        #expect(try await changes(in: place.path) { try Files().status(place.standardOutput)?.size == 4 })
        let again = Command(Workshop.gateway, ["run-job", place.path])
        #expect(try await shop.machine.processes.run(again).status == .exited(ExitCode.busy.rawValue))
        try shop.openGate()
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        #expect(try await shop.machine.processes.run(again).status == .exited(ExitCode.busy.rawValue))
        #expect(try Files().readText(place.standardOutput) == "ran\n")
    }
}
