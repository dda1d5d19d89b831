import Appliance

/// What an installation needs of the service: whether it runs, a restart, and its health.
protocol ServiceControl: Sendable {
    /// Whether the gateway of this home is running now.
    func isRunning() async -> Bool
    /// Starts the version that `current` names in place of the running one.
    func restart() async throws(GatewayError)
    /// Returns once the gateway answers as healthy; throws when it has ended or the time is up.
    func waitUntilHealthy(within limit: Duration) async throws(GatewayError)
}
