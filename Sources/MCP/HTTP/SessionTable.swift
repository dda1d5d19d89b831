/// The legacy sessions of an HTTP endpoint: who they belong to, how many are kept in mind, when they end.
///
/// A pure value; every `now` is milliseconds of the time of day, because what is known of a session outlives the process.
/// A session's id says by itself what was agreed, so the table only has to know when each was used last and which have
/// ended. What it has no room for is forgotten, not ended: its id is believed when it comes back, as long as it may
/// not have been idle for too long. Sessions end by DELETE or by idleness, which is noticed when somebody looks, so
/// that no timer runs for it.
struct SessionTable: Sendable {
    /// What a token leads to.
    enum Lookup: Equatable {
        case found(LegacySession)
        /// Never existed, belongs to somebody else, was deleted, or was idle for too long: no difference is shown.
        case unknown
        /// Every session that is kept in mind has a call running.
        case full
    }

    private struct Entry {
        let session: LegacySession
        let principal: Principal
        let name: String
        var lastUse: Int64
        /// Tells uses in the same millisecond apart.
        var turn: UInt64
        var calls = 0

        func belongs(to principal: Principal) -> Bool {
            self.principal.id == principal.id && self.principal.kind == principal.kind
        }
    }

    /// Ended sessions that are remembered one by one.
    static let endedLimit = 10_000

    private let limit: Int
    private let idle: Int64
    /// By token.
    private var entries: [String: Entry] = [:]
    private var past: SessionPast
    private var turn: UInt64 = 0

    /// A table that knows what an earlier gateway knew.
    init(limit: Int, idle: Duration, past: SessionPast) {
        self.limit = limit
        self.idle = idle.components.seconds * 1000 + idle.components.attoseconds / 1_000_000_000_000_000
        self.past = past
    }

    /// Enters a session after its handshake; false when there is no room.
    mutating func open(
        _ token: String,
        _ contents: SessionTokens.Contents,
        _ session: LegacySession,
        of principal: Principal,
        now: Int64
    ) -> Bool {
        guard makeRoom() else { return false }
        enter(token, contents.name, session, principal, now)
        return true
    }

    private mutating func enter(
        _ token: String,
        _ name: String,
        _ session: LegacySession,
        _ principal: Principal,
        _ now: Int64
    ) {
        turn += 1
        entries[token] = Entry(session: session, principal: principal, name: name, lastUse: now, turn: turn)
    }

    /// Looks a session up and notes the use; `contents` reads a token that is not in the table.
    mutating func use(
        _ token: String,
        by principal: Principal,
        now: Int64,
        reading contents: (String) -> SessionTokens.Contents?
    ) -> Lookup {
        if let entry = entries[token] {
            guard entry.belongs(to: principal) else { return .unknown }
            guard !isOver(entry, now) else {
                end(token, entry.name, now: now)
                return .unknown
            }
            turn += 1
            entries[token]?.lastUse = now
            entries[token]?.turn = turn
            return .found(entry.session)
        }
        guard let contents = contents(token), past.mayLive(contents, idle: idle, now: now) else {
            return .unknown
        }
        guard makeRoom() else { return .full }
        let session = LegacySession(version: contents.version)
        enter(token, contents.name, session, principal, now)
        past.sessions[contents.name] = nil
        return .found(session)
    }

    /// Ends a session; its name if it was this principal's and had not ended before.
    mutating func close(
        _ token: String,
        by principal: Principal,
        now: Int64,
        reading contents: (String) -> SessionTokens.Contents?
    ) -> String? {
        if let entry = entries[token] {
            guard entry.belongs(to: principal) else { return nil }
            end(token, entry.name, now: now)
            return entry.name
        }
        guard let contents = contents(token), past.mayLive(contents, idle: idle, now: now) else { return nil }
        end(token, contents.name, now: now)
        return contents.name
    }

    /// Notes the start of a call: a session is not idle while one runs.
    mutating func callStarted(_ token: String) { entries[token]?.calls += 1 }

    /// Notes the end of a call.
    mutating func callEnded(_ token: String, now: Int64) {
        // A session that was forgotten and came back meanwhile counts from nothing.
        if let calls = entries[token]?.calls { entries[token]?.calls = max(0, calls - 1) }
        entries[token]?.lastUse = now
    }

    /// Sessions that are known and have not ended.
    func count(now: Int64) -> Int {
        entries.values.count { !isOver($0, now) } + past.sessions.values.count { now - $0 < idle }
    }

    /// What the next gateway has to know.
    func known(now: Int64) -> SessionPast {
        var known = past
        known.sessions = known.sessions.filter { now - $0.value < idle }
        for entry in entries.values where !isOver(entry, now) {
            known.sessions[entry.name] = entry.calls > 0 ? now : entry.lastUse
        }
        known.forgetUses(beyond: limit)
        known.forgetEnds(before: now - idle)
        return known
    }

    private func isOver(_ entry: Entry, _ now: Int64) -> Bool {
        entry.calls == 0 && now - entry.lastUse >= idle
    }

    private mutating func end(_ token: String, _ name: String, now: Int64) {
        entries[token] = nil
        past.sessions[name] = nil
        past.ended[name] = now
        if past.ended.count > SessionTable.endedLimit { past.forgetEnds(beyond: SessionTable.endedLimit / 2) }
    }

    /// Forgets what was not used for the longest time, several at once, so that it need not be looked for each time.
    private mutating func makeRoom() -> Bool {
        guard entries.count >= limit else { return true }
        let idle = entries.filter { $0.value.calls == 0 }.sorted { $0.value.turn < $1.value.turn }
        for (token, entry) in idle.prefix(max(1, limit / 16)) {
            past.forgotten = max(past.forgotten, entry.lastUse)
            entries[token] = nil
        }
        return entries.count < limit
    }
}
