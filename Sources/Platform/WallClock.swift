package import Appliance
import Glibc

/// Time.
///
/// Passed in, so that a test can step it.
package struct WallClock: Sendable {
    /// The time of day.
    package var now: @Sendable () -> Timestamp
    /// Nanoseconds since some fixed point; never goes back, counts sleep of the machine.
    package var uptime: @Sendable () -> UInt64
    /// Waits; throws `CancellationError` when the task is cancelled.
    package var sleep: @Sendable (Duration) async throws -> Void

    /// A clock from its parts.
    package init(
        now: @escaping @Sendable () -> Timestamp,
        uptime: @escaping @Sendable () -> UInt64,
        sleep: @escaping @Sendable (Duration) async throws -> Void
    ) {
        self.now = now
        self.uptime = uptime
        self.sleep = sleep
    }

    /// The machine's clock.
    package static let system = WallClock(
        now: {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
        },
        uptime: {
            var time = timespec()
            clock_gettime(CLOCK_BOOTTIME, &time)
            return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        },
        sleep: { try await Task.sleep(for: $0) }
    )

    /// Milliseconds since a value of `uptime`.
    package func milliseconds(since start: UInt64) -> Int { Int((uptime() &- start) / 1_000_000) }
}
