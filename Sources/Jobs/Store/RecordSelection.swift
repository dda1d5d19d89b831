package import Appliance
import SQL

/// Which records are meant: those for which everything that is given here holds; all of them where nothing is given.
package struct RecordSelection: Sendable, Equatable {
    /// The id of one request's record.
    package var correlationID: String?
    /// A conversation, as its provider named it.
    package var session: String?
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String?
    /// Only what began before this instant.
    package var before: Timestamp?

    /// Everything.
    package init() {}

    /// Whether nothing narrows it.
    package var isEverything: Bool { self == RecordSelection() }

    /// A condition in SQL, with the values for ?1, ?2 and so on.
    struct Condition: Sendable {
        var text: String
        var values: [SQLValue]
    }

    /// Of rows of `requests`.
    var requests: Condition {
        condition(
            [
                ("requests.id = #", correlationID), ("requests.session_id = #", session),
                ("requests.cli = #", provider), ("requests.datetime_utc < #", before?.iso8601),
            ]
        )
    }

    /// Of rows of `jobs`.
    var jobs: Condition {
        condition(
            [
                ("jobs.correlation_id = #", correlationID),
                ("jobs.correlation_id IN (SELECT id FROM requests WHERE session_id = #)", session),
                ("jobs.cli = #", provider), ("jobs.started_at < #", before?.iso8601),
            ]
        )
    }

    private func condition(_ parts: [(text: String, value: String?)]) -> Condition {
        var condition = Condition(text: "TRUE", values: [])
        for case (let text, let value?) in parts {
            condition.values.append(.text(value))
            condition.text += " AND " + text.replacing("#", with: "?\(condition.values.count)")
        }
        return condition
    }

    /// Whether a job that is described by its own file is meant.
    func holds(_ spec: JobSpec) -> Bool {
        if let correlationID, spec.correlationID != correlationID { return false }
        if let provider, spec.provider != provider { return false }
        if let before, spec.submitted >= before { return false }
        guard let session else { return true }
        return spec.arguments.contains { $0.contains(session) } || spec.context.compactText.contains(session)
    }

    /// Whether a session record is meant; one request's id says nothing of its conversation.
    func holds(_ record: SessionRecord, _ lastUsed: Timestamp?) -> Bool {
        if correlationID != nil { return false }
        if let session, record.id != session { return false }
        if let provider, record.provider != provider { return false }
        if let before, let lastUsed, lastUsed >= before { return false }
        return true
    }

    /// Whether a line of `approvals.jsonl` is meant, which names neither request nor conversation.
    func holds(approval: JSON) -> Bool {
        if correlationID != nil || session != nil { return false }
        if let provider, approval["cli"]?.string != provider { return false }
        guard let before else { return true }
        return approval["ts"]?.string.flatMap(Timestamp.init(iso8601:)).map { $0 < before } ?? false
    }
}
