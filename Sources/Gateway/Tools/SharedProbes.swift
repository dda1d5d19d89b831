import Providers

/// The probes that are under way, one for each provider: a crowd that asks for versions starts each CLI once, not once
/// for everybody.
actor SharedProbes {
    private var running: [Provider: Task<VersionProbe.Report, Never>] = [:]

    /// The report of the probe that is under way, or of a new one.
    ///
    /// It goes on when a caller leaves, because others may wait for it; the probe's own limits end it.
    func report(
        on provider: Provider,
        _ probe: @escaping @Sendable () async -> VersionProbe.Report
    ) async -> VersionProbe.Report {
        if let task = running[provider] { return await task.value }
        let task = Task { await probe() }
        running[provider] = task
        let report = await task.value
        running[provider] = nil
        return report
    }
}
