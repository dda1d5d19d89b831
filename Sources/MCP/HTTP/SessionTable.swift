/// The legacy sessions of an HTTP endpoint: who they belong to, how many there may be, when they end.
///
/// A pure value; `now` is nanoseconds of a clock that never goes back. Sessions end by DELETE or by idleness, which is
/// noticed when somebody looks, so that no timer runs for it.
struct SessionTable: Sendable {
    /// What a token leads to.
    enum Lookup: Equatable {
        case found(LegacySession)
        /// Never existed, belongs to somebody else, was deleted, or was idle for too long: no difference is shown.
        case unknown
        case full
    }

    private struct Entry {
        let session: LegacySession
        let principal: Principal
        /// Made by an earlier gateway.
        let isAdopted: Bool
        var lastUse: UInt64
        var calls = 0

        func belongs(to principal: Principal) -> Bool {
            self.principal.id == principal.id && self.principal.kind == principal.kind
        }
    }

    private let limit: Int
    private let idle: UInt64
    private let started: UInt64
    private var entries: [String: Entry] = [:]
    /// Sessions of an earlier gateway that were taken over and have ended, which must not come back.
    private var ended: Set<String> = []

    /// An empty table of a gateway that started at `now`.
    init(limit: Int, idle: Duration, now: UInt64) {
        self.limit = limit
        let parts = idle.components
        self.idle = UInt64(parts.seconds) * 1_000_000_000 + UInt64(parts.attoseconds / 1_000_000_000)
        started = now
    }

    /// Enters a session after its handshake; false when there is no room.
    mutating func open(
        _ token: String,
        _ session: LegacySession,
        of principal: Principal,
        now: UInt64
    ) -> Bool {
        guard makeRoom(now: now) else { return false }
        entries[token] = Entry(session: session, principal: principal, isAdopted: false, lastUse: now)
        return true
    }

    /// Looks a session up and notes the use.
    ///
    /// `contents` reads a token that is not in the table: one that an earlier gateway gave out is taken over, as long
    /// as it may not have been idle for too long.
    mutating func use(
        _ token: String,
        by principal: Principal,
        now: UInt64,
        reading contents: (String) -> SessionTokens.Contents?
    ) -> Lookup {
        if let entry = entries[token] {
            guard entry.belongs(to: principal) else { return .unknown }
            guard !isOver(entry, now) else {
                remove(token)
                return .unknown
            }
            entries[token]?.lastUse = now
            return .found(entry.session)
        }
        guard !ended.contains(token), let contents = contents(token), !contents.isOurs, now - started < idle
        else { return .unknown }
        guard makeRoom(now: now), ended.count < limit * 10 else { return .full }
        let session = LegacySession(version: contents.version)
        entries[token] = Entry(session: session, principal: principal, isAdopted: true, lastUse: now)
        return .found(session)
    }

    /// Ends a session; whether it was this principal's.
    mutating func close(_ token: String, by principal: Principal) -> Bool {
        guard entries[token]?.belongs(to: principal) == true else { return false }
        remove(token)
        return true
    }

    /// Notes the start of a call: a session is not idle while one runs.
    mutating func callStarted(_ token: String) { entries[token]?.calls += 1 }

    /// Notes the end of a call.
    mutating func callEnded(_ token: String, now: UInt64) {
        entries[token]?.calls -= 1
        entries[token]?.lastUse = now
    }

    /// Sessions that have not ended.
    func count(now: UInt64) -> Int { entries.values.count { !isOver($0, now) } }

    private func isOver(_ entry: Entry, _ now: UInt64) -> Bool {
        entry.calls == 0 && now - entry.lastUse >= idle
    }

    private mutating func makeRoom(now: UInt64) -> Bool {
        guard entries.count >= limit else { return true }
        for (token, entry) in entries where isOver(entry, now) { remove(token) }
        return entries.count < limit
    }

    /// Tokens of our own instance need no memory: they count only while they are in the table.
    private mutating func remove(_ token: String) {
        if entries.removeValue(forKey: token)?.isAdopted == true { ended.insert(token) }
    }
}
