import Appliance
import Glibc
import Platform
import Synchronization

/// The one lock that every command takes before it changes the installation; readers never do.
enum MutationLock {
    /// Takes the lock of a home, waiting at most `limit`.
    ///
    /// When it takes longer than a second, `say` gets one sentence with who holds it. Throws `busy` when the time is up,
    /// `file-not-found` for a home that is not there and not to be made, and what `HomeClaim.check` throws.
    static func acquire(
        _ layout: Layout,
        verb: String,
        machine: Machine,
        limit: Duration = .seconds(60),
        makesHome: Bool = true,
        say: @escaping @Sendable (String) -> Void
    ) async throws(GatewayError) -> FileLock {
        try await take(layout, verb: verb, machine: machine, limit: limit, makesHome: makesHome, say: say)
            .lock
    }

    /// As `acquire`; also tells whether the home was made for it.
    static func take(
        _ layout: Layout,
        verb: String,
        machine: Machine,
        limit: Duration = .seconds(60),
        makesHome: Bool = true,
        say: @escaping @Sendable (String) -> Void
    ) async throws(GatewayError) -> (lock: FileLock, madeHome: Bool) {
        var attempts = 0
        while true {
            try HomeClaim.check(layout, files: machine.files)
            let madeHome = !machine.files.exists(layout.home)
            guard makesHome || !madeHome else {
                throw GatewayError("file-not-found", "'\(layout.home)' does not exist")
            }
            try machine.files.makeDirectory(layout.home, durable: true)
            do throws(GatewayError) {
                return (try await hold(layout, verb, machine, limit, say), madeHome)
            } catch {
                // Whoever had the lock has removed the home, and the folder of the lock with it; others may do so again.
                attempts += 1
                guard error.code == "file-not-found", attempts < 100 else { throw error }
            }
        }
    }

    private static func hold(
        _ layout: Layout,
        _ verb: String,
        _ machine: Machine,
        _ limit: Duration,
        _ say: @escaping @Sendable (String) -> Void
    ) async throws(GatewayError) -> FileLock {
        let note: @Sendable () -> String = {
            "\(Product.name) \(verb) (process \(getpid()), since \(machine.clock.now().iso8601))"
        }
        if let lock = try FileLock.attempt(layout.lock, note: note()) { return lock }
        let race = Race()
        let path = layout.lock
        BlockingThread.start("lock") {
            do throws(GatewayError) {
                // When the time was up first, the lock is let go as soon as it is had.
                race.end(.taken(try FileLock.wait(path, note: note())))
            } catch {
                race.end(.failed(error))
            }
        }
        let holder: @Sendable () -> String = { named(layout, machine.files) }
        let clock = machine.clock
        let timer = Task {
            let patience = Duration.seconds(1)
            if limit > patience {
                try await clock.sleep(patience)
                say("waiting for \(holder()), which \(underWay)")
                try await clock.sleep(limit - patience)
            } else {
                try await clock.sleep(limit)
            }
            race.end(.timeUp)
        }
        defer { timer.cancel() }
        let outcome = await withTaskCancellationHandler {
            await race.outcome()
        } onCancel: {
            race.end(.timeUp)
        }
        switch outcome {
        case .taken(let lock): return lock
        case .failed(let error): throw error
        case .timeUp:
            throw GatewayError(
                "busy",
                "waited \(limit.components.seconds) s for \(holder()), which is still changing this installation",
                help: "wait for it to end, then run the command again"
            )
        }
    }

    /// What is said of whoever holds it.
    static let underWay = "is changing this installation"

    /// Who changes this installation right now, with its process: `nil` when nobody does.
    ///
    /// For readers, who take no part in the lock; the answer may be out of date when it comes.
    static func holder(_ layout: Layout, files: Files) -> String? {
        FileLock.isHeld(layout.lock) ? named(layout, files) : nil
    }

    /// What the holder, or the last one, wrote into the lock's file.
    private static func named(_ layout: Layout, _ files: Files) -> String {
        let text = (try? files.readText(layout.lock, limit: 4096)) ?? ""
        return text.isEmpty ? "another command" : text
    }

    private enum Outcome: Sendable {
        case taken(FileLock)
        case failed(GatewayError)
        case timeUp
    }

    /// The first outcome wins.
    private final class Race: Sendable {
        private struct State {
            var outcome: Outcome?
            var waiter: CheckedContinuation<Outcome, Never>?
        }

        private let state = Mutex(State())

        func end(_ outcome: Outcome) {
            let waiter = state.withLock { state -> CheckedContinuation<Outcome, Never>? in
                guard state.outcome == nil else { return nil }
                state.outcome = outcome
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume(returning: outcome)
        }

        func outcome() async -> Outcome {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state -> Outcome? in
                    if state.outcome == nil { state.waiter = continuation }
                    return state.outcome
                }
                if let ready { continuation.resume(returning: ready) }
            }
        }
    }
}
