import Appliance
import Platform

/// Whose turn it is to start, replace or stop the gateway of a home: one command after the other.
///
/// The lock is the home's own folder, so that nothing is left on the disk. Who starts a supervisor hands the lock on to it,
/// and the supervisor lets go of it when the gateway is ready: the next command finds a gateway that runs or none at all,
/// even when the command that started it was killed. systemd knows by itself what it is starting; there the lock keeps what
/// is done to socket and service together. Whoever has the lock of the installation may wait for this one, never the other
/// way round.
enum ServiceTurn {
    /// Longer than a supervisor takes to say whether its gateway is ready.
    static let limit = Duration.seconds(60)

    /// Takes the turn if nobody has it.
    ///
    /// Throws `file-not-found` without a home.
    static func attempt(_ layout: Layout) throws(GatewayError) -> FileLock? {
        try FileLock.attempt(folder: layout.home)
    }

    /// Waits for the turn.
    ///
    /// Throws `busy` when the time is up, and `file-not-found` without a home.
    static func take(
        _ layout: Layout,
        within limit: Duration = ServiceTurn.limit
    ) async throws(GatewayError) -> FileLock {
        do throws(GatewayError) {
            return try await BlockingThread.run("turn") { () throws(GatewayError) in
                try FileLock.wait(folder: layout.home, within: limit)
            }
        } catch  where error.code == "busy" {
            throw GatewayError(
                "busy",
                "waited \(limit.components.seconds) s for another command that starts or stops this gateway",
                help: "wait for it to end, then run the command again"
            )
        }
    }
}
