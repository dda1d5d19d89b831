import Platform
import TestSupport
import Testing

@Suite("What a reactor is armed with", .timeLimit(.minutes(1)))
struct ArmedReactorTests {
    @Test("is done when its time has come, the earliest first, and not when it was disarmed")
    func order() async throws {
        let reactor = try Reactor()
        let done = GuardedValue<[Int]>([])
        let tokens = [300, 200, 100].map { time in
            reactor.arm(after: .milliseconds(time)) { done.withLock { $0.append(time) } }
        }
        reactor.disarm(tokens[1])
        await withCheckedContinuation { continuation in
            _ = reactor.arm(after: .milliseconds(400)) { continuation.resume() }
        }
        #expect(done.withLock { $0 } == [100, 300])
        // Too late, it changes nothing.
        reactor.disarm(tokens[2])
    }

    @Test("comes among many, however many of them are disarmed, and beside who sleeps")
    func many() async throws {
        let reactor = try Reactor()
        let done = GuardedValue(0)
        let tokens = (0..<2000).map { number in
            reactor.arm(after: .milliseconds(50 + number % 7)) { done.withLock { $0 += 1 } }
        }
        for token in tokens where token % 4 != 0 { reactor.disarm(token) }
        #expect(await reactor.sleep(.milliseconds(200)))
        #expect(done.withLock { $0 } == tokens.filter { $0 % 4 == 0 }.count)
    }
}
