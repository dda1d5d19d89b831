import Appliance
import Glibc
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

    /// The wish that the gateway be stopped, to be held until it is: starts that come to their turn meanwhile start nothing.
    ///
    /// The lock is the folder of the versions. `nil` when another command has the same wish, or where nothing is installed.
    static func wish(_ layout: Layout) -> FileLock? {
        for _ in 0..<1000 {
            if let wish = (try? FileLock.attempt(folder: layout.versions)) ?? nil { return wish }
            // Who only asks whether somebody has it shares it for that instant.
            guard Files().exists(layout.versions), !FileLock.isHeld(folder: layout.versions) else { break }
            sched_yield()
        }
        return nil
    }

    /// Throws `service-stopped` while somebody waits to stop the gateway.
    static func yieldToStop(_ layout: Layout) throws(GatewayError) {
        guard FileLock.isHeld(folder: layout.versions) else { return }
        throw GatewayError("service-stopped", "another command stops the gateway, so it was not started")
    }

    /// Takes the turn of a stop, which nobody who starts the gateway may keep it from: `interrupt` ends the start that is under
    /// way, and is called again for whoever has the turn a second later.
    ///
    /// Throws `busy` when the time is up, `file-not-found` without a home, and what `interrupt` throws.
    static func takeToStop(
        _ layout: Layout,
        clock: WallClock,
        say: @escaping @Sendable (String) -> Void,
        interrupt: () async throws(GatewayError) -> Void
    ) async throws(GatewayError) -> FileLock {
        if let turn = try attempt(layout) { return turn }
        let deadline = clock.uptime() &+ limit.nanoseconds
        var isSaid = false
        while true {
            let wish = wish(layout)
            defer { withExtendedLifetime(wish) {} }
            try await interrupt()
            do throws(GatewayError) {
                return try await take(layout, clock: clock, patience: .seconds(60), within: .seconds(1)) {
                    _ in
                }
            } catch  where error.code == "busy" {
                guard clock.uptime() < deadline else { throw busy(layout, limit) }
                if !isSaid {
                    say("waiting for \(holder(layout)), which is starting or stopping this gateway")
                }
                isSaid = true
            }
        }
    }

    /// Takes the turn if nobody has it.
    ///
    /// Throws `file-not-found` without a home.
    static func attempt(_ layout: Layout) throws(GatewayError) -> FileLock? {
        try FileLock.attempt(folder: layout.home)
    }

    /// Waits for the turn; when that takes longer than `patience`, `say` gets one sentence with who has it.
    ///
    /// Throws `busy` when the time is up, and `file-not-found` without a home.
    static func take(
        _ layout: Layout,
        clock: WallClock = .system,
        patience: Duration = .seconds(1),
        within limit: Duration = ServiceTurn.limit,
        say: @escaping @Sendable (String) -> Void
    ) async throws(GatewayError) -> FileLock {
        if let turn = try attempt(layout) { return turn }
        let notice = Task {
            try await clock.sleep(patience)
            say("waiting for \(holder(layout)), which is starting or stopping this gateway")
        }
        defer { notice.cancel() }
        do throws(GatewayError) {
            return try await BlockingThread.run("turn") { () throws(GatewayError) in
                try FileLock.wait(folder: layout.home, within: limit)
            }
        } catch  where error.code == "busy" {
            throw busy(layout, limit)
        }
    }

    private static func busy(_ layout: Layout, _ limit: Duration) -> GatewayError {
        GatewayError(
            "busy",
            "waited \(limit.components.seconds) s for \(holder(layout)), which is still starting or stopping this gateway",
            help: "wait for it to end, then run the command again"
        )
    }

    /// Who has the turn, as far as that can be told: a supervisor that was handed it is not named.
    private static func holder(_ layout: Layout) -> String {
        guard let pid = FileLock.holder(of: layout.home),
            let command = PortOwner.shortened(ProcessTable.commandLine(pid))
        else { return "another command" }
        return "process \(pid) (\(command))"
    }
}
