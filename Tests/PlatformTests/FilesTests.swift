import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@Suite("Files and folders")
struct FilesTests {
    @Test(
        "may bear any date that a file system can hold",
        arguments: [13_569_465_600, 1 << 34, -(1 << 31), 0, 1_795_252_528]
    )
    func dates(seconds: Int) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("old")
        try Files().write("x".utf8, to: path)
        var times = [timespec(tv_sec: seconds, tv_nsec: 5), timespec(tv_sec: seconds, tv_nsec: 5)]
        #expect(utimensat(AT_FDCWD, path, &times, 0) == 0)
        var info = stat()
        #expect(stat(path, &info) == 0)
        let status = try #require(try Files().status(path))
        #expect(status.modified.milliseconds == Int64(info.st_mtim.tv_sec) * 1000)
        #expect(status.modified.iso8601.hasSuffix("Z"))
        let before = status
        times = [timespec(tv_sec: seconds, tv_nsec: 5), timespec(tv_sec: seconds + 1, tv_nsec: 5)]
        #expect(utimensat(AT_FDCWD, path, &times, 0) == 0)
        // Where the file system's last date is reached, nothing changes.
        var after = stat()
        #expect(stat(path, &after) == 0)
        if after.st_mtim.tv_sec != info.st_mtim.tv_sec { #expect(try Files().status(path) != before) }
    }

    @Test(
        "are read to their end, whatever their size is",
        arguments: [0, 1, 4095, 4096, 4097, 65_536, 200_000]
    )
    func sizes(_ size: Int) throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("file")
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 7) }
        try Files().write(bytes, to: path)
        #expect(try Files().read(path) == bytes)
        #expect(try Files().read(path, limit: size) == bytes)
        if size > 0 {
            let error = #expect(throws: GatewayError.self) { try Files().read(path, limit: size - 1) }
            #expect(error?.code == "file-too-large")
        }
    }

    @Test("are read to their end also where the kernel does not say how large they are")
    func sizeless() throws {
        let maps = try Files().readText("/proc/self/maps")
        #expect(try Files().status("/proc/self/maps")?.size == 0)
        #expect(maps.utf8.count > 4096 && maps.contains("[stack]"))
    }

    @Test("are removed with their folders, and of a link to a folder the link alone")
    func tree() throws {
        let directory = try TemporaryDirectory()
        let tree = directory.path("tree"), outside = directory.path("outside")
        try Files().makeDirectory(tree + "/a/b")
        try Files().makeDirectory(outside)
        for path in [tree + "/1", tree + "/a/2", tree + "/a/b/3", outside + "/kept"] {
            try Files().write("x".utf8, to: path)
        }
        try Files().link(tree + "/a/link", to: outside)
        #expect(mkfifo(tree + "/a/pipe", 0o600) == 0)
        let removed = GuardedValue<[String]>([])
        let files = Files { step in
            if case .remove(let path) = step { removed.withLock { $0.append(path) } }
        }
        try files.removeTree(tree)
        #expect(!Files().exists(tree))
        #expect(Files().exists(outside + "/kept"))
        let names = ["/1", "/a/2", "/a/b/3", "/a/b", "/a/link", "/a/pipe", "/a", ""]
        #expect(removed.withLock { $0 } == names.map { tree + $0 })
        try files.removeTree(tree)
    }

    @Test("are removed with their folder also when their names are no text, and nothing outside is")
    func names() throws {
        let directory = try TemporaryDirectory()
        let tree = directory.path("tree"), outside = directory.path("outside")
        try Files().makeDirectory(tree + "/inner")
        try Files().makeDirectory(outside)
        try Files().write("x".utf8, to: outside + "/kept")
        for name in ["\u{FF}file", "inner/\u{FE}"] {
            let bytes =
                Array((tree + "/").utf8) + name.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
            let path = bytes.map { CChar(bitPattern: $0) } + [0]
            #expect(mkdir(path, 0o700) == 0)
            let link = bytes.map { CChar(bitPattern: $0) } + Array("/l\u{E9}".utf8CString)
            #expect(symlink(outside, link) == 0)
        }
        try Files().removeTree(tree)
        #expect(!Files().exists(tree))
        #expect(Files().exists(outside + "/kept"))
    }
}
