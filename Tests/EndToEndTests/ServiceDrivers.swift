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

    @Test("gives each job a scope of its own, and leaves running jobs alone or ends all of them")
    func scopes() async throws {
        try await Driver("scopes.py").run()
    }

    @Test("obeys the last word of commands that start, stop, replace, move and restore it at once")
    func lastWord() async throws {
        try await Driver("last_word.py").run()
    }

    @Test("does so under a real user service manager")
    func lastWordBySystemd() async throws {
        try await Driver("last_word.py", "systemd").run()
    }

    @Test(
        "loses no gateway when a port changes, a version fails, or something of it is gone, suspended or broken"
    )
    func badMoments() async throws {
        try await Driver("bad_moments.py").run()
    }

    @Test("loses none under a real user service manager either")
    func badMomentsBySystemd() async throws {
        try await Driver("bad_moments.py", "systemd").run()
    }

    @Test("says that systemd has closed its socket, and ends no gateway where the next one could not listen")
    func lostSockets() async throws {
        try await Driver("lost_sockets.py").run()
    }

    @Test("says so too where nobody can see what the manager holds")
    func hiddenSockets() async throws {
        try await Driver("lost_sockets.py", "hidden").run()
    }

    @Test("answers every request of a crowd of clients through upgrades and forced rollbacks")
    func underLoad() async throws {
        try await Driver("upgrade_under_load.py").run()
    }

    @Test("answers them under a real user service manager as well")
    func underLoadBySystemd() async throws {
        try await Driver("upgrade_under_load.py", "systemd").run(within: .seconds(1000))
    }
}
