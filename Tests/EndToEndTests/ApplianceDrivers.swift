import Testing

@Suite(
    "The appliance in an empty home",
    .serialized,
    .enabled(if: Driver.isProvided, Driver.missing)
)
struct ApplianceDrivers {
    @Test("is installed, used, killed, damaged, repaired, upgraded and removed by its own commands")
    func life() async throws {
        try await Driver("appliance.py").run()
    }

    @Test("refuses what is no bundle, is not the one that was asked for, or cannot be installed here")
    func refusals() async throws {
        try await Driver("hostile_bundles.py").run()
    }

    @Test("is a systemd service in systemd's own eyes: units, activation, watchdog, journal, a second home")
    func systemd() async throws {
        try await Driver("systemd_service.py").run()
    }
}
