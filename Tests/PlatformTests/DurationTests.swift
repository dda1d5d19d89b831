import Platform
import Testing

@Suite("Counting a duration in nanoseconds")
struct DurationTests {
    @Test("gives what it is, nothing for less than nothing, and a limit for what is longer than centuries")
    func limits() {
        #expect(Duration.milliseconds(1500).nanoseconds == 1_500_000_000)
        #expect(Duration.seconds(-1).nanoseconds == 0 && Duration.milliseconds(-1).nanoseconds == 0)
        // 18446744074 s are 2^64 ns and a little: by wrapping they became 0.3 s.
        #expect(Duration.seconds(18_446_744_074).nanoseconds == UInt64(Int64.max))
        #expect(Duration.seconds(Int64.max).nanoseconds == UInt64(Int64.max))
        #expect(Duration.seconds(9_223_372_036).nanoseconds == 9_223_372_036_000_000_000)
    }
}
