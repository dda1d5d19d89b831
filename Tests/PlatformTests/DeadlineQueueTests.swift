import Testing

@testable import Platform

@Suite("A queue of deadlines")
struct DeadlineQueueTests {
    /// Numbers that look random and are the same every time.
    private struct Numbers {
        var state: UInt64 = 88_172_645_463_325_252

        mutating func next(below limit: UInt64) -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state % limit
        }
    }

    @Test("gives what is due in the order of time, as a sorted list would, and forgets what is over")
    func order() {
        var queue = DeadlineQueue()
        var numbers = Numbers()
        var waiting: [UInt64: UInt64] = [:]
        var now: UInt64 = 0
        for token in 1...20_000 as ClosedRange<UInt64> {
            let deadline = now + numbers.next(below: 1000)
            queue.add(deadline, token)
            waiting[token] = deadline
            // Most waits end before their time.
            if numbers.next(below: 4) > 0 { waiting[numbers.next(below: token) + 1] = nil }
            guard numbers.next(below: 8) == 0 else { continue }
            now += numbers.next(below: 50)
            let due = queue.takeDue(now)
            let expected = waiting.filter { $0.value <= now }
            #expect(Set(due).intersection(waiting.keys) == Set(expected.keys))
            for token in due { waiting[token] = nil }
            queue.forget { waiting[$0] == nil }
            #expect(queue.next == waiting.values.min() ?? .max)
            #expect(queue.count < 2000)
        }
        #expect(
            queue.takeDue(.max).filter { waiting[$0] != nil }.map { waiting[$0] } == waiting.values.sorted()
        )
        #expect(queue.next == .max)
    }
}
