import Testing

@Suite(
    "The installed gateway as a service",
    .serialized,
    .enabled(if: Driver.isProvided, Driver.missing)
)
struct ServiceDrivers {
    @Test("is installed, started, crashed, replaced, stopped and removed without systemd")
    func detached() async throws {
        try await Driver("service.py").run()
    }

    @Test("is all that under a real user service manager, and spares what the user edited")
    func systemd() async throws {
        try await Driver("service.py", "systemd").run()
    }
}
