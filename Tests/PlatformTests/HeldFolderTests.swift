import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@Suite("A folder that a process holds open")
struct HeldFolderTests {
    private let files = Files()

    @Test("is known to be there, moved away, replaced by another one, and back")
    func place() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("home"), moved = directory.path("moved")
        try files.makeDirectory(path)
        let folder = try HeldFolder(path)
        #expect(folder.isThere)
        try files.rename(path, to: moved)
        #expect(!folder.isThere)
        try files.makeDirectory(path)
        #expect(!folder.isThere)
        try files.removeEmptyDirectory(path)
        try files.link(path, to: moved)
        #expect(folder.isThere)
        #expect(throws: GatewayError.self) { try HeldFolder(directory.path("nowhere")) }
    }

    @Test("is not made again once it has gone, and another one in its place is not written to")
    func guarding() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("home"), moved = directory.path("moved")
        try files.makeDirectory(path)
        let guarded = try HeldFolder(path).guarding(files)
        try guarded.makeDirectory(path + "/jobs/1")
        try guarded.write("x".utf8, to: path + "/file")
        try files.rename(path, to: moved)
        let again = #expect(throws: GatewayError.self) { try guarded.makeDirectory(path + "/jobs/2") }
        #expect(again?.code == "home-moved")
        #expect(again?.message == "'\(path)' was moved or removed while this process ran in it")
        #expect(!files.exists(path))
        try files.makeDirectory(path)
        #expect(throws: GatewayError.self) { try guarded.write("y".utf8, to: path + "/file") }
        #expect(throws: GatewayError.self) { try guarded.rename(moved + "/file", to: path + "/file") }
        #expect(throws: GatewayError.self) { try guarded.removeEmptyDirectory(path) }
        #expect(try files.list(path) == [])
        // What lies beside it is none of its business.
        try guarded.write("z".utf8, to: directory.path("home-too"))
    }

    @Test("tells others whose the process is, and the name of one that was removed")
    func seenFromOutside() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("home"), moved = directory.path("moved (deleted)")
        try files.makeDirectory(path)
        let identity = try #require(try files.target(path)).identity
        _ = try HeldFolder(path)
        #expect(HeldFolders(of: getpid()).identities.contains(identity))
        try files.rename(path, to: moved)
        #expect(HeldFolders(of: getpid()).identities.contains(identity))
        try files.removeEmptyDirectory(moved)
        let seen = HeldFolders(of: getpid())
        #expect(!seen.identities.contains(identity) && seen.removed.contains(moved))
    }

    @Test("is a home to others when something is installed in it, and not any folder")
    func home() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("home")
        try files.makeDirectory(path)
        let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        try #require(folder >= 0)
        defer { close(folder) }
        let processes = Processes(clock: .system, reactor: try Reactor())
        let holder = try processes.launch(Command("/bin/sleep", ["300"]), extra: folder)
        #expect(!HeldFolders(of: holder.pid).holdsHome)
        try files.write([], to: path + "/receipt.json")
        #expect(HeldFolders(of: holder.pid).holdsHome)
        await processes.end(holder)
    }

    @Test("goes by one name, also where it is not there and the way to it has links")
    func resolved() throws {
        let directory = try TemporaryDirectory()
        let real = files.resolved(directory.path("real"))
        try files.makeDirectory(real)
        try files.link(directory.path("link"), to: real)
        #expect(files.resolved(directory.path("link/a/b")) == real + "/a/b")
        #expect(files.resolved("/") == "/")
        #expect(files.resolved("/nowhere/at/all") == "/nowhere/at/all")
    }

    @Test("can be made whatever the umask is", arguments: [UInt32(0o777), 0o277, 0o022, 0])
    func umask(mask: UInt32) async throws {
        await #expect(processExitsWith: .success) { [mask] in
            Glibc.umask(mode_t(mask))
            Files.keepOwnAccess()
            let kept = Glibc.umask(0)
            exit(kept == mode_t(mask & 0o077) ? 0 : 1)
        }
    }
}
