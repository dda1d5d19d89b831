import Appliance
import Platform
import Synchronization

/// Jobs of gateways on other machines that share a server's database.
///
/// Their files cannot be seen from here. Each gateway hears what the others announce (`StoreNews`): the end of a job, for who waits
/// for it or shares it, and the wish to end one, for its own gateway. What was announced while nobody listened is looked up when
/// the connection is back.
extension JobScheduler {
    /// Hears what other gateways announce until the task is cancelled; returns at once where there is nothing to hear.
    package func hearOthers() async {
        await store?.hear(machine.reactor, report: report) { news in await self.take(news) }
    }

    /// `nil`: anything may have happened.
    private func take(_ news: [StoreNews]?) async {
        guard let news else {
            for id in Array(bells.keys) { ring(id) }
            await endUnwanted()
            return await lookElsewhere()
        }
        for piece in news {
            switch piece {
            case .ended(let id):
                ring(id)
                if elsewhere[id] != nil { await lookElsewhere([id]) }
            case .unwanted(let id): endUnwanted(id)
            }
        }
    }

    /// Ends the jobs here that callers of gateways on other machines want ended.
    func endUnwanted() async {
        guard let store, store.server != nil else { return }
        await noting { _ throws(GatewayError) in
            for id in try await store.unwanted(of: registry.name) { endUnwanted(id) }
        }
    }

    private func endUnwanted(_ id: String) {
        guard let job = jobs[id], !job.isCancelWanted else { return }
        markCanceled(id)
        try? cancel(id)
    }

    /// Whether a machine is another one, whose files are not those that are seen here.
    func isElsewhere(_ host: String?) -> Bool { store?.server != nil && host != registry.host }

    /// Waits until something happens to a job of another machine, at most so long: of what it does there, only its end is told.
    func watchElsewhere(
        _ id: String,
        for caller: String,
        within limit: Duration,
        report: @Sendable (JobSnapshot) -> Void
    ) async throws(GatewayError) -> FoundJob? {
        let start = machine.clock.uptime()
        while true {
            // Before it is looked at, so that nothing falls between.
            let bell = bells[id] ?? EndBell()
            bells[id] = bell
            guard let found = try await find(id, for: caller) else { return nil }
            let left = limit - .milliseconds(machine.clock.milliseconds(since: start))
            if found.snapshot.status.isFinal || left <= .zero || Task.isCancelled { return found }
            report(found.snapshot)
            await bell.wait(within: left, machine.clock)
        }
    }

    private func ring(_ id: String) { bells.removeValue(forKey: id)?.ring() }
}

/// What those wait for who wait for a job of another machine; rung once.
final class EndBell: Sendable {
    private struct State {
        var isRung = false
        var last = 0
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
    }

    private let state = Mutex(State())

    /// Ends all waits, also those that have not begun.
    func ring() {
        let waiting = state.withLock { state in
            state.isRung = true
            defer { state.waiting = [:] }
            return state.waiting.values
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Returns when the bell was rung, the time is over, or the task is cancelled.
    func wait(within limit: Duration, _ clock: WallClock) async {
        let ticket = state.withLock { state in
            state.last += 1
            return state.last
        }
        let timer = Task {
            try? await clock.sleep(limit)
            if !Task.isCancelled { self.leave(ticket) }
        }
        defer { timer.cancel() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mustWait = state.withLock { state in
                    guard !state.isRung, !Task.isCancelled else { return false }
                    state.waiting[ticket] = continuation
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            leave(ticket)
        }
    }

    private func leave(_ ticket: Int) { state.withLock { $0.waiting.removeValue(forKey: ticket) }?.resume() }
}
