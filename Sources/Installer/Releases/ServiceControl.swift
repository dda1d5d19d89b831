import Appliance

/// What an installation needs of the service: whether it runs, a restart, and its health.
protocol ServiceControl: Sendable {
    /// Whether the gateway of this home is running now.
    func isRunning() async -> Bool
    /// Whether somebody has stopped it, or is about to, so that its silence says nothing about its version.
    func isStopped() async -> Bool
    /// Throws why the running gateway could not be replaced, whatever the version is, before anything is switched.
    func checkReplaceable() async throws(GatewayError)
    /// Starts the version that `current` names in place of the running one.
    ///
    /// Throws `service-stopped` when it does not run any more.
    func restart() async throws(GatewayError)
    /// Returns once the gateway answers as healthy; throws when it has ended or the time is up.
    func waitUntilHealthy(within limit: Duration) async throws(GatewayError)
    /// A digest of everything that the gateway would be started with now: version, units, environment, address.
    func fingerprint() throws(GatewayError) -> String
    /// Stops the gateway and takes its units out of the session's start; says what could not be done.
    func retire() async throws(GatewayError) -> [String]
    /// Ends what serves this home still, or once more, although it was stopped; `false` when nothing does.
    func endRest() async throws(GatewayError) -> Bool
    /// Whether something serves the home that was at this place, although there is none.
    func isServedWithoutHome() -> Bool
    /// What it does now, for `reinstate`.
    func standing() async -> ServiceStanding
    /// Puts unit files back that are gone, and enables and starts what was enabled and active; the caller holds the lock.
    ///
    /// Says what was done.
    func reinstate(
        _ standing: ServiceStanding,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String]
    /// Whether the user's service manager runs without a login.
    var lingers: Bool { get }
    /// Lets the user's service manager run without a login, or no longer; nothing happens where it is so already.
    func setLingering(_ on: Bool) async throws(GatewayError)
    /// Lets the service manager see that unit files have changed or gone.
    func reloadUnits() async throws(GatewayError)
}
