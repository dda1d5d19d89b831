import Appliance
import Testing

@testable import Platform

@Suite("The oldest C library")
struct GlibcVersionTests {
    @Test("an older one is named with the one that is needed")
    func older() {
        let error = #expect(throws: GatewayError.self) {
            try GlibcVersion.check(running: "2.31", required: "2.35")
        }
        #expect(error?.message == "this system has glibc 2.31, and llm-cli-gateway needs 2.35 or newer")
    }

    @Test("the same and newer ones pass", arguments: ["2.35", "2.36", "2.100", "3.0"])
    func newer(running: String) throws {
        try GlibcVersion.check(running: running, required: "2.35")
    }

    @Test("this machine's passes")
    func here() throws {
        try GlibcVersion.check()
    }
}
