import Appliance
import Glibc
import Jobs
import Platform
import Testing

@Suite("Running a job")
struct SchedulerTests {
    @Test("gives back output, errors and exit code, and keeps them")
    func collects() async throws {
        let shop = try Workshop()
        var request = shop.script("cat; echo oops >&2; exit 3")
        request.standardInput = Array("hello".utf8)
        request.context = ["format": "text"]
        let outcome = try await shop.run(request)
        #expect(outcome.status == .failed)
        #expect(outcome.exit?.exitCode == 3)
        #expect(String(decoding: outcome.output, as: UTF8.self) == "hello")
        #expect(String(decoding: outcome.errorOutput, as: UTF8.self) == "oops\n")
        #expect(outcome.message == nil)
        let stored = try #require(try await shop.store.job(request.id))
        #expect(stored.status == .failed && stored.exitCode == 3)
        #expect(stored.outputBytes == 5 && stored.errorBytes == 5)
        let output = try #require(try await shop.store.output(of: request.id))
        #expect(output.output == Array("hello".utf8) && output.context == ["format": "text"])
        #expect(shop.ended.all == ["\(request.id) failed"])
        #expect(shop.findings.all == [])
        #expect(try await eventually { !Files().exists(shop.layout.job(request.id)) })
    }
}
