import Testing

@Suite(
    "The appliance in an empty home",
    .serialized,
    .enabled(if: Driver.isProvided, Driver.missing)
)
struct ApplianceDrivers {
    // First: it builds the version that the next one upgrades to.
    @Test("comes up from a clean checkout with one command, and connects a client with one line")
    func setupUp() async throws {
        try await Driver("setup_up.py").run(within: .seconds(1800))
    }

    @Test("is installed, used, killed, damaged, repaired, upgraded and removed by its own commands")
    func life() async throws {
        try await Driver("appliance.py").run()
    }

    @Test("refuses what is no bundle, is not the one that was asked for, or cannot be installed here")
    func refusals() async throws {
        try await Driver("hostile_bundles.py").run()
    }

    @Test("takes the place of the Node gateway in its home, and its clients go on")
    func fromReference() async throws {
        try await Driver("from_reference.py").run()
    }

    @Test("is kept in a file while it works, and answers from it in another home")
    func movingHouse() async throws {
        try await Driver("moving_house.py").run()
    }

    @Test("is completed by bash, zsh and fish as they are")
    func completions() async throws {
        try await Driver("completions.py").run()
    }

    @Test("runs on a Debian that has nothing but its base packages")
    func minimalRoot() async throws {
        try await Driver("minimal_root.py").run()
    }

    @Test("says what it needs on systems that are too old, and runs on the oldest that is new enough")
    func oldSystems() async throws {
        try await Driver("old_systems.py").run()
    }

    @Test("runs from boot without a login, upgrades, loses its power, and leaves a machine as it found it")
    func bootedMachine() async throws {
        try await Driver("booted_machine.py").run()
    }

    @Test("is a systemd service in systemd's own eyes: units, activation, watchdog, journal, a second home")
    func systemd() async throws {
        try await Driver("systemd_service.py").run()
    }

    @Test("is killed before any change to a file, or finds the disk full, and still works afterwards")
    func crashMatrix() async throws {
        try await Driver("crash_matrix.py").run(within: .seconds(1800))
    }

    @Test("is killed while it talks to systemd, and the next command puts service and units right")
    func crashUnderSystemd() async throws {
        try await Driver("crash_under_systemd.py").run(within: .seconds(3600))
    }

    @Test("is told twenty things at once: one command does the work, all end truthfully")
    func concurrentInstalls() async throws {
        try await Driver("concurrent_installs.py").run()
    }
}
