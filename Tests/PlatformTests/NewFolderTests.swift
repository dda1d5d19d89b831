import Appliance
import Glibc
import Platform
import TestSupport
import Testing

@Suite("Filling a new folder")
struct NewFolderTests {
    @Test("makes it with its parents and its files, for the user alone")
    func fills() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("parent/new")
        let steps = GuardedValue<[Files.Step]>([])
        let files = Files { step in steps.withLock { $0.append(step) } }
        let folder = try NewFolder(path, files: files)
        try folder.add("one", Array("1".utf8))
        try files.makeDirectory(path + "/inner")
        try folder.add("inner/two", [])
        #expect(try Files().readText(path + "/one") == "1" && Files().read(path + "/inner/two") == [])
        #expect(try Files().status(path)?.mode == 0o700 && Files().status(path + "/one")?.mode == 0o600)
        let expected: [Files.Step] = [
            .write(path + "/one"), .makeDirectory(path + "/inner"), .write(path + "/inner/two"),
        ]
        #expect(steps.withLock { Array($0.suffix(3)) } == expected)
        #expect(steps.withLock { $0.contains(.makeDirectory(directory.path("parent"))) })
    }

    @Test("puts the files into the folder that was made, wherever that has gone since")
    func moved() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("new")
        let folder = try NewFolder(path, files: Files())
        try Files().rename(path, to: directory.path("elsewhere"))
        try Files().makeDirectory(path)
        try folder.add("file", [])
        #expect(Files().exists(directory.path("elsewhere/file")) && !Files().exists(path + "/file"))
    }

    @Test("takes an empty folder that is there, but no file of the same name and no link for a folder")
    func taken() throws {
        let directory = try TemporaryDirectory()
        try Files().makeDirectory(directory.path("there"))
        let folder = try NewFolder(directory.path("there"), files: Files())
        try folder.add("file", [])
        let error = #expect(throws: GatewayError.self) { try folder.add("file", []) }
        #expect(error?.message == "cannot write '\(directory.path("there/file"))': file exists")
        try Files().link(directory.path("link"), to: directory.path("there"))
        #expect(throws: GatewayError.self) { _ = try NewFolder(directory.path("link"), files: Files()) }
        try Files().write("x".utf8, to: directory.path("plain"))
        #expect(throws: GatewayError.self) { _ = try NewFolder(directory.path("plain"), files: Files()) }
    }
}
