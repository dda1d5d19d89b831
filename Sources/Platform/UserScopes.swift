package import Appliance
import Glibc

/// Gives processes scopes of their own in the user's service manager, where there is one that can be reached.
///
/// 1. The first request connects, on this actor's thread; the connection stays as long as the manager grants what is asked, and
///    is made again when it is gone.
/// 2. A request is sent and not waited for: the manager works on several at once.
/// 3. When the manager's job for the scope has ended, or has been refused, the one who asked is told.
///
/// Where no scope can be had, that is found out once and asked again after a minute, then after ever longer times.
package actor UserScopes {
    /// Gets why there is no scope, or `nil` when the process is in it.
    package typealias Answer = @Sendable (GatewayError?) -> Void

    private struct Request {
        var scope: ServiceBus.Scope
        var detail: ServiceBus.ScopeDetail
        var cookie: UInt64
        var since: UInt64
        var answer: Answer
    }

    /// When to ask again after failures.
    private struct Patience {
        var until: UInt64 = 0
        var pause = UserScopes.firstPause
    }

    private let executor = ThreadExecutor("scopes")
    private let connect: @Sendable () throws(GatewayError) -> ServiceBus
    private let clock: WallClock
    private let reactor: Reactor
    private let note: @Sendable (GatewayError) -> Void
    private var bus: ServiceBus?
    private var listener: Task<Void, Never>?
    /// What the manager knows, as far as it has not refused it.
    private var detail = ServiceBus.ScopeDetail.whole
    private var pending: [String: Request] = [:]
    private nonisolated let patience = GuardedValue(Patience())

    /// The thread of this actor: connecting blocks.
    package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// How long the manager may take for one request.
    package static let limit = Duration.seconds(2)
    static let firstPause = Duration.seconds(60)
    private static let longestPause = Duration.seconds(3600)

    /// The scopes of the user who runs this process; nothing is connected yet.
    ///
    /// `note` gets why there are none, once for each time that this is found out.
    package init(
        environment: [String: String],
        files: Files,
        clock: WallClock,
        reactor: Reactor,
        note: @escaping @Sendable (GatewayError) -> Void
    ) {
        self.init(clock: clock, reactor: reactor, note: note) { () throws(GatewayError) in
            try ServiceBus.connect(environment: environment, files: files, timeout: UserScopes.limit)
        }
    }

    init(
        clock: WallClock,
        reactor: Reactor,
        note: @escaping @Sendable (GatewayError) -> Void,
        connect: @escaping @Sendable () throws(GatewayError) -> ServiceBus
    ) {
        self.clock = clock
        self.reactor = reactor
        self.note = note
        self.connect = connect
    }

    /// Whether a request may succeed now: it is not known that none can.
    package nonisolated var areWorthTrying: Bool { clock.uptime() >= patience.withLock(\.until) }

    /// Puts a process into a scope of its own; `answer` is called once, on any thread, at the latest when a later request finds
    /// that the manager is stuck.
    package func place(_ scope: ServiceBus.Scope, _ answer: @escaping Answer) {
        guard areWorthTrying else {
            return answer(GatewayError("no-user-manager", "no scope could be had a moment ago"))
        }
        if let oldest = pending.values.map(\.since).min(),
            clock.uptime() &- oldest > UserScopes.limit.nanoseconds
        {
            let error = GatewayError("timed-out", "the service manager does not answer")
            giveUp(error)
            return answer(error)
        }
        do throws(GatewayError) {
            let cookie = try send(scope)
            pending[scope.name] = Request(
                scope: scope,
                detail: detail,
                cookie: cookie,
                since: clock.uptime(),
                answer: answer
            )
        } catch {
            giveUp(error)
            answer(error)
        }
    }

    private func send(_ scope: ServiceBus.Scope) throws(GatewayError) -> UInt64 {
        if let bus {
            do throws(GatewayError) {
                return try bus.request(scope, detail)
            } catch {
                // The manager was restarted, and what it said last was not heard yet.
                disconnect(error)
            }
        }
        return try connection().request(scope, detail)
    }

    private func connection() throws(GatewayError) -> ServiceBus {
        let bus = try connect()
        try bus.watchJobs()
        detail = .whole
        self.bus = bus
        listener = Task { await listen(to: bus) }
        return bus
    }

    /// Hears everything that the manager says: what nobody takes would fill its memory.
    private func listen(to bus: ServiceBus) async {
        let descriptor = bus.descriptor
        repeat {
            guard self.bus === bus else { return }
            do throws(GatewayError) {
                while self.bus === bus, let event = try bus.nextEvent() { take(event) }
            } catch {
                return disconnect(error)
            }
        } while await reactor.readable(descriptor)
    }

    private func take(_ event: ServiceBus.Event) {
        switch event {
        case .other: return
        case .jobEnded(let unit, "done"):
            guard let request = pending.removeValue(forKey: unit) else { return }
            patience.withLock { $0 = Patience() }
            request.answer(nil)
        case .jobEnded(let unit, let result):
            guard let request = pending.removeValue(forKey: unit) else { return }
            refuse(
                request,
                GatewayError("service-manager", "the service manager did not make '\(unit)': \(result)")
            )
        case .refused(let cookie, let error):
            guard let found = pending.first(where: { $0.value.cookie == cookie }) else { return }
            pending[found.key] = nil
            var request = found.value
            // Of several that are under way, the first refusal says for all what is not known.
            if let bus, ServiceBus.isOfProperty(error),
                let next = request.detail == detail ? detail.less : detail,
                let cookie = try? bus.request(request.scope, next)
            {
                (detail, request.detail, request.cookie) = (next, next, cookie)
                pending[found.key] = request
                return
            }
            refuse(request, error)
        }
    }

    /// What was refused now will most likely be refused again: a session that the manager has no power over stays one.
    ///
    /// Nothing will be asked for a while, and a manager tells whoever is connected of each unit that comes and goes.
    private func refuse(_ request: Request, _ error: GatewayError) {
        postpone(error)
        request.answer(error)
        if pending.isEmpty { disconnect(error) }
    }

    private func giveUp(_ error: GatewayError) {
        postpone(error)
        disconnect(error)
    }

    private func postpone(_ error: GatewayError) {
        let now = clock.uptime()
        let isNew = patience.withLock { patience in
            // Of several that fail at once the first one decides.
            guard now >= patience.until else { return false }
            patience.until = now &+ patience.pause.nanoseconds
            patience.pause = min(patience.pause * 2, UserScopes.longestPause)
            return true
        }
        if isNew { note(error) }
    }

    private func disconnect(_ error: GatewayError) {
        // First: the wait for a descriptor must end before that is closed.
        listener?.cancel()
        listener = nil
        bus = nil
        let left = pending.values
        pending = [:]
        for request in left { request.answer(error) }
    }
}
