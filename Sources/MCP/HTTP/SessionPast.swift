import Appliance

/// What is known of legacy sessions beside those in use: pure, and what one gateway leaves to the next.
///
/// Times are milliseconds since the epoch. Names are what `SessionTokens` calls a session; without the rest of its id a
/// name opens nothing.
struct SessionPast: Sendable, Equatable {
    /// When sessions that have not come back yet were used last, by name.
    var sessions: [String: Int64] = [:]
    /// When sessions ended, by name.
    var ended: [String: Int64] = [:]
    /// A session that is in neither list was used at this time at the latest.
    var forgotten: Int64 = 0
    /// A session that is in neither list and was opened at this time or before has ended.
    var settled: Int64 = -1

    /// The past of a gateway whose predecessor left no word: any session may have been used until now.
    init(unknownUntil now: Int64) { forgotten = now }

    /// Whether a session that is not in use may be taken up.
    func mayLive(_ contents: SessionTokens.Contents, idle: Int64, now: Int64) -> Bool {
        if let lastUse = sessions[contents.name] { return now - lastUse < idle }
        guard ended[contents.name] == nil, contents.issued > settled else { return false }
        return now - max(contents.issued, forgotten) < idle
    }

    /// Keeps the uses of the latest sessions only.
    mutating func forgetUses(beyond limit: Int) {
        guard sessions.count > limit else { return }
        for (name, lastUse) in sessions.sorted(by: { $0.value > $1.value }).dropFirst(limit) {
            sessions[name] = nil
            forgotten = max(forgotten, lastUse)
        }
    }

    /// Drops ends from the list; whatever else was opened by then, and is in no list, counts as ended.
    mutating func forgetEnds(before time: Int64) {
        drop(ended.filter { $0.value < time }.map(\.key))
    }

    /// Keeps the latest ends only.
    mutating func forgetEnds(beyond limit: Int) {
        drop(ended.sorted { $0.value > $1.value }.dropFirst(limit).map(\.key))
    }

    private mutating func drop(_ names: [String]) {
        for name in names {
            ended[name] = nil
            if let issued = SessionTokens.issued(name) { settled = max(settled, issued) }
        }
    }

    // MARK: JSON

    /// The form in the file.
    var json: JSON {
        func object(_ times: [String: Int64]) -> JSON {
            .object(JSONObject(times.sorted { $0.key < $1.key }.map { ($0.key, .int($0.value)) }))
        }
        return [
            "sessions": object(sessions), "ended": object(ended), "forgotten": .int(forgotten),
            "settled": .int(settled),
        ]
    }

    /// Reads the form in the file; `nil` when it is something else.
    init?(json: JSON) {
        func times(_ json: JSON?) -> [String: Int64]? {
            guard let members = json?.object?.members else { return nil }
            var times: [String: Int64] = [:]
            for member in members {
                guard let time = member.value.int else { return nil }
                times[member.name] = Int64(time)
            }
            return times
        }
        guard let sessions = times(json["sessions"]), let ended = times(json["ended"]),
            let forgotten = json["forgotten"]?.int, let settled = json["settled"]?.int
        else { return nil }
        self.sessions = sessions
        self.ended = ended
        self.forgotten = Int64(forgotten)
        self.settled = Int64(settled)
    }
}
