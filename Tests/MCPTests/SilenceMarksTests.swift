import Platform
import Testing

@testable import MCP

@Suite("Marks of calls that are silent")
struct SilenceMarksTests {
    @Test("come for the first time after one while and then after another, for each call by itself")
    func marks() async {
        let marks = SilenceMarks(first: .milliseconds(20), later: .milliseconds(5), clock: .system)
        let (events, continuation) = AsyncStream.makeStream(of: String.self)
        let start = ContinuousClock.now
        let early = marks.begin { continuation.yield("early") }
        let over = marks.begin { continuation.yield("over") }
        marks.end(over)
        var late: UInt64?
        var seen: [String] = []
        for await event in events {
            seen.append(event)
            // One that comes while the timer waits for the other.
            if seen.count == 3 { late = marks.begin { continuation.yield("late") } }
            if event == "late", seen.count(where: { $0 == "late" }) == 2 { break }
        }
        #expect(ContinuousClock.now - start >= .milliseconds(45))
        #expect(seen.prefix(3) == ["early", "early", "early"])
        #expect(!seen.contains("over"))
        marks.end(early)
        if let late { marks.end(late) }
    }
}
