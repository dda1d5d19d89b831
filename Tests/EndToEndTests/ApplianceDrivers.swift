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
}
