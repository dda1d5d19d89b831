import Appliance
import Platform

/// `end.json`: how a job ended, where that does not follow from its runner's `exit.json`, or its directory is kept aside.
///
/// One that never got a runner, lost it, or was canceled before another attempt has no word of a runner that says so. It is written
/// before anybody hears of the end: who finds it neither starts the job nor tries it again, and says of it what was said.
struct EndRecord: Sendable, Equatable {
    /// Final.
    var status: JobStatus
    /// By the wall clock.
    var finished: Timestamp
    /// Why the job did not end by itself.
    var message: String?
    /// Why the job was not given to a runner; `nil` when it was.
    var refusal: GatewayError?
    /// Whether the provider may have been started.
    var hasBegun: Bool
    /// Attempts after the first one.
    var retryCount: Int
    /// The provider's circuit when the job ended: `closed`, `open`, `half_open`.
    var circuit: String

    /// How a job ended that nobody ran.
    init(_ status: JobStatus, at finished: Timestamp, message: String?) {
        self.status = status
        self.finished = finished
        self.message = message
        hasBegun = false
        retryCount = 0
        circuit = "closed"
    }

    /// What an outcome says.
    init(_ outcome: JobOutcome, at finished: Timestamp) {
        status = outcome.status
        self.finished = finished
        message = outcome.message
        refusal = outcome.refusal
        hasBegun = outcome.hasBegun
        retryCount = outcome.retryCount
        circuit = outcome.circuit
    }

    /// The file's form.
    var json: JSON {
        [
            "status": .string(status.rawValue), "finishedAt": .string(finished.iso8601),
            "message": .optional(message), "refusal": refusal?.json["error"] ?? .null,
            "hasBegun": .bool(hasBegun), "retryCount": .integer(retryCount), "circuit": .string(circuit),
        ]
    }

    /// Reads an `end.json`; `nil` when it is none.
    init?(json: JSON) {
        guard let status = json["status"]?.string.flatMap(JobStatus.init(rawValue:)), status.isFinal,
            let finished = json["finishedAt"]?.string.flatMap(Timestamp.init(iso8601:))
        else { return nil }
        self.status = status
        self.finished = finished
        message = json["message"]?.string
        refusal = json["refusal"].flatMap(GatewayError.init(body:))
        hasBegun = json["hasBegun"]?.bool ?? false
        retryCount = json["retryCount"]?.int ?? 0
        circuit = json["circuit"]?.string ?? "closed"
    }

    /// Reads the `end.json` of a job; `nil` when there is none that is whole.
    ///
    /// Throws what the file system throws when it cannot be told.
    static func of(_ directory: JobDirectory, files: Files) throws(GatewayError) -> EndRecord? {
        try RecordFile.readIfWhole(directory.end, files).flatMap(EndRecord.init(json:))
    }
}
