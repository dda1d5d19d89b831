import Appliance

/// One line of `--progress`: an object whose member `event` says what it is.
///
/// Messages and progress come while a command works; a result or an error is the last line, and there is exactly one.
enum Event: Sendable, Equatable {
    /// A sentence for people.
    case message(String)
    /// A phase, and where it has one a measure: bytes so far, bytes in all.
    case progress(String, Int64?, Int64?)
    /// A line of the log, with the members that `logs --follow --json` prints.
    case line(JSON)
    /// What `--json` prints, with the exit status.
    case result(JSON, ExitCode)
    case failure(GatewayError)

    /// `{"event":…}`.
    var json: JSON {
        switch self {
        case .message(let text): return ["event": "message", "message": .string(text)]
        case .progress(let phase, let bytes, let total):
            var json: JSON = ["event": "progress", "phase": .string(phase)]
            if let bytes { json["bytes"] = .int(bytes) }
            if let total { json["total"] = .int(total) }
            return json
        case .line(let members):
            return .object(JSONObject([("event", "line")] + (members.object?.members ?? [])))
        case .result(let document, let code):
            return ["event": "result", "exit_code": .integer(Int(code.rawValue)), "result": document]
        case .failure(let error):
            var json: JSON = ["event": "error", "exit_code": .integer(Int(error.exitCode.rawValue))]
            json["error"] = error.json["error"]
            return json
        }
    }

    /// Its line, with the end.
    var line: String { json.compactText + "\n" }
}
