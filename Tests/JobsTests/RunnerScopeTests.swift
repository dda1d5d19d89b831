import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@testable import Jobs

@Suite("A runner and its scope")
struct RunnerScopeTests {
    private let shop: Workshop

    init() throws { shop = try Workshop() }

    /// The directory of a job that was accepted.
    private func leave() throws -> JobDirectory {
        let request = shop.script("echo done")
        let place = shop.scheduler.directory(of: request.id)
        let spec = JobSpec(request, submitted: WallClock.system.now(), boot: nil, instance: "a-gateway")
        try Files().makeDirectory(place.path)
        try Files().write(spec.json.compact, to: place.spec)
        return place
    }

    /// A pipe: what the runner reads, and the door that holds it up.
    private func pipe() throws -> (announcement: Int32, door: Int32) {
        var ends: [Int32] = [-1, -1]
        try #require(Glibc.pipe(&ends) == 0)
        for end in ends { try #require(fcntl(end, F_SETFD, FD_CLOEXEC) == 0) }
        return (ends[0], ends[1])
    }

    private func start(_ place: JobDirectory, _ announcement: Int32) throws -> ProcessIdentity {
        try shop.machine.processes.launch(
            Command(Workshop.gateway, ["run-job", place.path], input: .descriptor(announcement))
        )
    }

    @Test("starts nothing before the manager has answered, and does without a scope that it is not in")
    func waits() async throws {
        let place = try leave()
        let (announcement, door) = try pipe()
        let name = Array("a-job-\(place.id).scope".utf8)
        #expect(write(door, name, name.count) == name.count)
        let runner = try start(place, announcement)
        close(announcement)
        #expect(try await changes(in: place.path) { Files().exists(place.standardOutput) })
        #expect(!(await shop.machine.processes.waitForEnd(of: runner, within: .milliseconds(300))))
        #expect(!Files().exists(place.runner))
        close(door)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        #expect(try ExitRecord.of(place)?.verdict == .succeeded)
        let record = try #require(try RunnerRecord.of(place))
        #expect(record.group == nil && record.scope(of: place.id) == nil)
    }

    @Test("does not wait for ever for a gateway that hangs")
    func impatient() async throws {
        let place = try leave()
        let (announcement, door) = try pipe()
        let runner = try start(place, announcement)
        close(announcement)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        close(door)
        let exit = try #require(try ExitRecord.of(place))
        #expect(exit.verdict == .succeeded && exit.durationMilliseconds >= 2900)
    }

    @Test("is cancelled by a signal that comes while it waits, and says so")
    func canceled() async throws {
        let place = try leave()
        let (announcement, door) = try pipe()
        let runner = try start(place, announcement)
        close(announcement)
        #expect(try await changes(in: place.path) { Files().exists(place.standardOutput) })
        ProcessTable.signal(runner, SIGTERM)
        close(door)
        #expect(await shop.machine.processes.waitForEnd(of: runner, within: .seconds(20)))
        #expect(try ExitRecord.of(place)?.verdict == .canceled)
    }

    @Test("believes a record's scope only in this boot, and only under the job's name")
    func record() throws {
        let runner = try #require(ProcessTable.identity(getpid()))
        var record = RunnerRecord(runner: runner, started: WallClock.system.now())
        record.group = "/a.slice/llm-cli-gateway-job-1.scope"
        let place = shop.scheduler.directory(of: "1")
        try Files().makeDirectory(place.path)
        try record.begin(in: place, Files())
        #expect(try RunnerRecord.of(place) == record)
        // There is no such group, whoever asks; what matters is who is not asked.
        #expect(record.scope(of: "1") == nil && record.scope(of: "2") == nil && record.scope(of: "") == nil)
        if let own = ControlGroup.own() {
            record.group = own.path
            #expect(record.scope(of: "1") == nil)
        }
    }
}

@Suite("The record of a run that the kernel ended for want of memory")
struct MemoryRecordTests {
    private func record(_ status: ProcessStatus, _ intervention: ProcessIntervention?) -> ExitRecord {
        let now = WallClock.system.now()
        var record = ExitRecord(
            status: status,
            intervention: intervention,
            started: now,
            finished: now,
            durationMilliseconds: 1
        )
        record.blameMemory()
        return record
    }

    @Test(
        "is a failure that says so, also when the service manager then ended the whole scope",
        arguments: [nil, ProcessIntervention.cancelled]
    )
    func blamed(intervention: ProcessIntervention?) {
        let record = record(.signalled(intervention == nil ? SIGKILL : SIGTERM), intervention)
        #expect(record.verdict == .failed && record.exitCode == 137 && record.intervention == nil)
        #expect(record.error?.code == "out-of-memory")
    }

    @Test("leaves a CLI that survived the end of a tool its own say, and a limit its own blame")
    func notBlamed() {
        #expect(record(.exited(0), nil).verdict == .succeeded)
        #expect(record(.exited(3), nil).exitCode == 3)
        let late = record(.signalled(SIGKILL), .wallTime)
        #expect(late.exitCode == 124 && late.error == nil)
    }
}
