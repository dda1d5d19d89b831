import Appliance
import Glibc
import TestSupport
import Testing

@testable import Platform

@Suite("A lock")
struct FileLockTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// Waits on a thread of its own, as a blocking call must.
    private func wait(_ path: String, _ limit: Duration) async throws(GatewayError) -> FileLock {
        try await BlockingThread.run("lock-test") { () throws(GatewayError) in
            try FileLock.wait(path, within: limit)
        }
    }

    private func waitForFolder(_ path: String, _ limit: Duration) async throws(GatewayError) -> FileLock {
        try await BlockingThread.run("lock-test") { () throws(GatewayError) in
            try FileLock.wait(folder: path, within: limit)
        }
    }

    @Test("is waited for no longer than allowed, and the error says what to do")
    func timeUp() async throws {
        let path = directory.path("lock")
        let holder = try #require(try FileLock.attempt(path))
        let error = await #expect(throws: GatewayError.self) { try await wait(path, .seconds(1)) }
        #expect(error?.code == "busy" && error?.exitCode == .busy)
        #expect(error?.message == "'\(path)' has been locked by another process for more than 1 s")
        #expect(error?.help == "'fuser \(path)' names that process; end it if it hangs")
        withExtendedLifetime(holder) {}
    }

    @Test("goes to the one that waits, and one that came too late does not keep it")
    func handover() async throws {
        let path = directory.path("lock")
        var holder = try FileLock.attempt(path)
        _ = try? await wait(path, .milliseconds(50))
        async let waiting = wait(path, .seconds(20))
        #expect(try FileLock.attempt(path) == nil)
        withExtendedLifetime(holder) {}
        holder = nil
        let next = try await waiting
        #expect(try FileLock.attempt(path) == nil)
        withExtendedLifetime(next) {}
    }

    @Test("can be asked for by who does not take it, and nothing is made for the question")
    func held() throws {
        let path = directory.path("lock")
        #expect(!FileLock.isHeld(path) && !Files().exists(path))
        var holder = try FileLock.attempt(path)
        #expect(holder != nil && FileLock.isHeld(path))
        holder = nil
        #expect(!FileLock.isHeld(path))
        #expect(try FileLock.attempt(path) != nil)
    }

    @Test("that cannot be looked at for want of descriptors counts as held, and is not waited for in vain")
    func heldWithoutDescriptors() throws {
        let path = directory.path("lock")
        try Files().write([], to: path)
        var waiting: GatewayError?
        let isHeld = withoutDescriptors {
            do throws(GatewayError) { try FileLock.waitWhileHeld(path) } catch { waiting = error }
            return FileLock.isHeld(path)
        }
        #expect(isHeld && waiting != nil)
        #expect(!FileLock.isHeld(path) && !FileLock.isHeld(directory.path("nothing")))
        try FileLock.waitWhileHeld(directory.path("nothing"))
    }

    @Test("can be that of a folder, also through a link to it, and nothing is made for it")
    func folder() async throws {
        let path = directory.path("folder"), link = directory.path("link")
        #expect(throws: GatewayError.self) { try FileLock.attempt(folder: path) }
        try Files().makeDirectory(path)
        try Files().link(link, to: path)
        var holder = try FileLock.attempt(folder: link)
        #expect(holder != nil)
        #expect(try FileLock.attempt(folder: path) == nil)
        let error = await #expect(throws: GatewayError.self) {
            try await waitForFolder(path, .milliseconds(50))
        }
        #expect(error?.code == "busy")
        holder = nil
        // The one that came too late may have it for a moment.
        _ = try await waitForFolder(path, .seconds(20))
        #expect(try Files().list(path) == [])
    }

    @Test("of a folder is not that of one that was removed meanwhile")
    func removedFolder() throws {
        let path = directory.path("folder")
        try Files().makeDirectory(path)
        let holder = try #require(try FileLock.attempt(folder: path))
        try Files().removeEmptyDirectory(path)
        let error = #expect(throws: GatewayError.self) { try FileLock.attempt(folder: path) }
        #expect(error?.code == "file-not-found")
        try Files().makeDirectory(path)
        #expect(try FileLock.attempt(folder: path) != nil)
        withExtendedLifetime(holder) {}
    }

    @Test("names its taker, and nobody once it is free")
    func holder() throws {
        let path = directory.path("folder")
        try Files().makeDirectory(path)
        #expect(FileLock.holder(of: path) == nil)
        let lock = try #require(try FileLock.attempt(folder: path))
        #expect(FileLock.holder(of: path) == getpid())
        withExtendedLifetime(lock) {}
        let table = """
            1: FLOCK  ADVISORY  WRITE 32253 fe:00:16236787 0 EOF
            1: -> FLOCK  ADVISORY  WRITE 7 fe:00:16236787 0 EOF
            2: POSIX  ADVISORY  WRITE 9 fe:00:5 0 EOF
            3: FLOCK  ADVISORY  READ  10 fe:00:6 0 EOF
            4: FLOCK  ADVISORY  WRITE 0 fe:01:16236787 0 EOF
            5: FLOCK

            """
        #expect(FileLock.holder(in: table, device: (0xfe, 0), inode: 16_236_787) == 32253)
        #expect(FileLock.holder(in: table, device: (0xfe, 1), inode: 16_236_787) == nil)
        for inode: UInt64 in [5, 6, 7] {
            #expect(FileLock.holder(in: table, device: (0xfe, 0), inode: inode) == nil)
        }
    }
}
