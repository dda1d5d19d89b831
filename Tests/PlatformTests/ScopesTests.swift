import Appliance
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Platform

@Suite("Control groups")
struct ControlGroupTests {
    private let directory: TemporaryDirectory
    private let root: String

    init() throws {
        directory = try TemporaryDirectory()
        root = directory.path("tree")
        try write("", "/cgroup.controllers")
        try write("1\n", "/cgroup.procs")
    }

    private func write(_ text: String, _ path: String) throws {
        try Files().makeDirectory(Files.parent(of: root + path))
        try Files().write(text.utf8, to: root + path, durable: false)
    }

    private func found(_ path: String) -> ControlGroup? {
        ControlGroup(path: path, roots: [directory.path("none"), root], files: Files())
    }

    @Test("tell the processes in them and below them")
    func processes() throws {
        try write("10\n12\n0\n", "/a/job.scope/cgroup.procs")
        try write("nr_descendants 1\nnr_dying_descendants 0\n", "/a/job.scope/cgroup.stat")
        try write("14\n", "/a/job.scope/inner/cgroup.procs")
        try write("99\n", "/a/other.scope/cgroup.procs")
        let group = try #require(found("/a/job.scope"))
        #expect(group.name == "job.scope")
        #expect(group.processes() == [10, 12, 14])
    }

    @Test("tell how many processes the kernel has ended for want of memory")
    func memory() throws {
        try write("10\n", "/job.scope/cgroup.procs")
        let group = try #require(found("/job.scope"))
        #expect(group.outOfMemoryKills == 0)
        try write("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", "/job.scope/memory.events")
        #expect(group.outOfMemoryKills == 2)
    }

    @Test("are none where version 2 is not mounted, nothing is, or the path leaves the tree")
    func none() throws {
        #expect(found("/gone.scope") == nil && found("/") == nil && found("job.scope") == nil)
        try write("10\n", "/job.scope/cgroup.procs")
        #expect(found("/job.scope") != nil && found("/x/../job.scope") == nil)
        #expect(ControlGroup(path: "/job.scope", roots: [directory.path("none")], files: Files()) == nil)
    }

    @Test("kill by a request to the kernel, not by a file of ours")
    func kill() throws {
        try write("10\n", "/job.scope/cgroup.procs")
        try write("", "/job.scope/cgroup.kill")
        let group = try #require(found("/job.scope"))
        #expect(group.kill())
        #expect(try Files().readText(root + "/job.scope/cgroup.kill") == "1")
    }
}

@Suite("Scopes of the user's service manager")
struct UserScopesTests {
    private let now = Journal()
    private let notes = Journal()
    private let uptime = Hours()

    /// A clock that a test sets.
    private final class Hours: Sendable {
        private let seconds = Mutex<UInt64>(1000)
        var nanoseconds: UInt64 { seconds.withLock { $0 } * 1_000_000_000 }
        func pass(_ count: UInt64) { seconds.withLock { $0 += count } }
    }

    private let scope = ServiceBus.Scope(name: "a.scope", slice: "a.slice", description: "a", pid: getpid())

    private func scopes(failing error: GatewayError) throws -> UserScopes {
        let notes = notes, uptime = uptime, tries = now
        let clock = WallClock(
            now: WallClock.system.now,
            uptime: { uptime.nanoseconds },
            sleep: WallClock.system.sleep
        )
        return UserScopes(
            clock: clock,
            reactor: try Reactor(),
            note: { notes.note($0.description) },
            connect: { () throws(GatewayError) in
                tries.note("tried")
                throw error
            }
        )
    }

    @Test("are asked for once where there are none, and after longer and longer times")
    func patience() async throws {
        let scopes = try scopes(failing: GatewayError("user-manager-unreachable", "there is no manager"))
        let answers = Journal()
        func ask() async { await scopes.place(scope) { answers.note($0?.code ?? "placed") } }
        #expect(scopes.areWorthTrying)
        await ask()
        #expect(!scopes.areWorthTrying)
        await ask()
        #expect(now.all.count == 1 && answers.all == ["user-manager-unreachable", "no-user-manager"])
        uptime.pass(59)
        #expect(!scopes.areWorthTrying)
        uptime.pass(1)
        #expect(scopes.areWorthTrying)
        await ask()
        uptime.pass(119)
        #expect(!scopes.areWorthTrying)
        uptime.pass(1)
        await ask()
        #expect(now.all.count == 3 && notes.all.count == 3)
        // Never less than once an hour.
        for _ in 0..<8 {
            uptime.pass(3600)
            #expect(scopes.areWorthTrying)
            await ask()
        }
        #expect(now.all.count == 11)
    }

    @Test("are asked for with less where a manager does not know a property")
    func detail() {
        let details = ServiceBus.ScopeDetail.allCases
        #expect(details.map(\.less) == [.accounting, .bare, nil])
        var refusal = GatewayError("service-manager", "Cannot set property OOMPolicy, or unknown property.")
        #expect(!ServiceBus.isOfProperty(refusal))
        refusal.cause = "org.freedesktop.DBus.Error.PropertyReadOnly"
        #expect(ServiceBus.isOfProperty(refusal))
        refusal.cause = "org.freedesktop.systemd1.UnitExists"
        #expect(!ServiceBus.isOfProperty(refusal))
    }

    @Test("have names that systemd takes, or are not asked for")
    func names() {
        #expect(ServiceBus.Scope.canName("0b4f6d3e-9a5c-4c80-8f3e-2f1f6a1d2b3c"))
        for text in ["", "a/b", "a b", "ä", "a%i", String(repeating: "a", count: 129)] {
            #expect(!ServiceBus.Scope.canName(text))
        }
    }
}
