import Glibc
import Platform
import TestSupport
import Testing

@Suite("The temporary directories of the tests")
struct TemporaryDirectoryTests {
    @Test("go with their value, whatever is in them")
    func goes() async throws {
        var root = ""
        do {
            let directory = try TemporaryDirectory()
            root = directory.root
            try Files().makeDirectory(directory.path("a/b"))
            _ = try directory.write([1], "a/b/c")
            #expect(Files().exists(directory.path("a/b/c")))
        }
        #expect(!Files().exists(root))
        await #expect(throws: CancellationError.self) {
            try await inTemporaryDirectory { path in
                root = path
                #expect(Files().exists(path))
                throw CancellationError()
            }
        }
        #expect(!Files().exists(root))
    }

    @Test("go when the process ends, however it ends", arguments: [0, SIGKILL])
    func outliveNothing(number: Int32) async throws {
        let ended = try await #require(
            processExitsWith: number == 0 ? .success : .signal(number),
            observing: [\.standardOutputContent]
        ) { [number] in
            let directory = try TemporaryDirectory(in: "/tmp")
            print("<\(directory.root)>")
            fflush(nil)
            if number != 0 { raise(number) }
            withExtendedLifetime(directory) { exit(0) }
        }
        let output = String(decoding: ended.standardOutputContent, as: UTF8.self)
        let root = try #require(output.firstMatch(of: /<(\/tmp\/[^>]+)>/)).1
        #expect(Files().exists(String(root)) == (number != 0))
        TestRun.removeAbandoned(in: "/tmp")
        #expect(!Files().exists(Files.parent(of: String(root))))
    }
}
