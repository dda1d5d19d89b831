import Appliance
import Platform
import SQL

/// What the store makes of a request that comes in.
struct Intake: Sendable {
    enum Decision: Sendable {
        /// Its job is written down and counted.
        case reserved
        /// That job answers it.
        case shared(SharedRow)
        /// The day's budget has no room for it.
        case refused(GatewayError)
    }

    var decision: Decision
    /// The id of the request's record; `nil` where none was to be written.
    var record: String?

    /// Which jobs may answer a request in place of its own.
    struct Rule: Sendable {
        /// When they have begun, at the earliest.
        var start: Timestamp
        /// Whether they may be over.
        var includesFinished: Bool
    }
}

/// A request becomes a job in one transaction: whoever else asks, and wherever its gateway ends, there is all of it or nothing.
extension Store {
    /// Writes down that a request starts, and finds the newest job that answers it, or writes its own down in the place of one
    /// and counts it.
    ///
    /// Without a rule no other job does. A finished job counts when it has an answer, a running one when its end can be seen:
    /// its files are on this machine, or a server tells. The record of the request is told whose answer it gets; of one that
    /// the budget refuses it stays open.
    func takeIn(
        _ spec: JobSpec,
        noting entry: FlightEntry? = nil,
        directory: String,
        instance: String,
        host: String,
        budget: Configuration.Budget = Configuration.Budget(),
        sharing rule: Intake.Rule? = nil
    ) async throws(GatewayError) -> Intake {
        try await commit { connection throws(GatewayError) in
            var spec = spec
            let record = try entry?.write(to: connection, of: self)
            if let record { spec.correlationID = record }
            if let rule, let found = try answering(spec, rule, host: host, connection) {
                try Store.link(spec.correlationID, to: found.id, found.correlationID, connection)
                return Intake(decision: .shared(found), record: record)
            }
            if let refusal = try Store.countRun(of: spec.provider, at: spec.submitted, budget, connection) {
                return Intake(decision: .refused(refusal), record: record)
            }
            if spec.recording != .none {
                try Store.insert(spec, directory: directory, instance: instance, host: host, connection)
            }
            return Intake(decision: .reserved, record: record)
        }
    }

    /// The newest job with the request's key that a rule allows.
    private func answering(
        _ spec: JobSpec,
        _ rule: Intake.Rule,
        host: String,
        _ connection: any DatabaseConnection
    ) throws(GatewayError) -> SharedRow? {
        try connection.first(
            """
            SELECT \(Store.sharedColumns) FROM jobs
            WHERE request_key = ?1 AND started_at >= ?2 AND id <> ?3
                AND (status = 'running' AND directory IS NOT NULL AND (owner_hostname = ?4 OR ?6 = 1)
                    OR status = 'completed' AND error_category IS NULL AND payload_json IS NOT NULL AND ?5 = 1)
            ORDER BY started_at DESC LIMIT 1
            """,
            [
                .optional(spec.requestKey), .text(rule.start.iso8601), .text(spec.id), .text(host),
                .flag(rule.includesFinished), .flag(server != nil),
            ],
            SharedRow.init(row:)
        )
    }

    /// Writes down that a request starts, and that its answer is that of another request's run; returns the id of its record.
    func join(
        _ correlationID: String,
        noting entry: FlightEntry?,
        to job: String,
        of leader: String
    ) async throws(GatewayError) -> String? {
        try await commit { connection throws(GatewayError) in
            let record = try entry?.write(to: connection, of: self)
            try Store.link(record ?? correlationID, to: job, leader, connection)
            return record
        }
    }

    /// Takes back what was written down of a job that never came to be.
    func withdraw(_ spec: JobSpec, isCounted: Bool) async throws(GatewayError) {
        try await commit { connection throws(GatewayError) in
            try connection.execute("DELETE FROM jobs WHERE id = ?1 AND status = 'running'", [.text(spec.id)])
            if isCounted { try Store.uncountRun(of: spec.provider, at: spec.submitted, connection) }
            try connection.announce(StoreNews.ended(spec.id).text)
        }
    }
}
