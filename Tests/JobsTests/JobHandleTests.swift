import Platform
import Testing

@testable import Jobs

@Suite("Waiting for a job")
struct JobHandleTests {
    @Test("ends at its limit, however short that is", .timeLimit(.minutes(1)))
    func limits() async throws {
        let handle = JobHandle(JobDirectory("/nowhere/jobs/one"), reactor: try Reactor())
        for nanoseconds in 0..<5000 {
            let outcome = await handle.outcome(within: .nanoseconds(nanoseconds * 20))
            #expect(outcome == nil)
        }
    }
}
