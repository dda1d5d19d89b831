package import Appliance

/// The id of a JSON-RPC request, echoed exactly as it came (JSON-RPC 2.0 section 4; MCP forbids `null`).
package enum RequestID: Sendable, Hashable {
    case int(Int64)
    case string(String)

    /// The id in a value; `nil` for anything that is neither a string nor an integer.
    package init?(_ value: JSON?) {
        switch value {
        case .int(let number): self = .int(number)
        case .string(let text): self = .string(text)
        default: return nil
        }
    }

    /// The id as it is on the wire.
    package var json: JSON {
        switch self {
        case .int(let number): .int(number)
        case .string(let text): .string(text)
        }
    }
}

/// A request that waits for an answer.
struct RequestMessage: Sendable {
    let id: RequestID
    let method: String
    /// As received: absent, an object, or something that no method accepts.
    let params: JSON?

    /// The members of `params`; none when absent or of another type.
    var members: JSONObject { params?.object ?? JSONObject() }
    /// `params._meta`, when it is an object.
    var meta: JSONObject? { members["_meta"]?.object }
    /// Whether the message claims the per-request metadata of the modern era: the key counts, not its value.
    var isModern: Bool { EnvelopeKey.claimsModernEra(params) }
}

/// One JSON-RPC message, told apart by its members.
enum Message: Sendable {
    case request(RequestMessage)
    case notification(method: String, params: JSON?)
    /// An answer to a request of ours.
    case response
    /// An array: batching was removed in 2025-06-18.
    case batch
    /// Not JSON-RPC 2.0; the id when one could be read.
    case invalid(RequestID?, reason: String)

    /// Sorts a parsed value.
    init(_ value: JSON) {
        switch value {
        case .array: self = .batch
        case .object(let object): self = Message.classify(object)
        default: self = .invalid(nil, reason: "a message must be an object, got \(value.typeName)")
        }
    }

    private static func classify(_ object: JSONObject) -> Message {
        let id = object["id"]
        let known = RequestID(id)
        guard object["jsonrpc"]?.string == "2.0" else {
            return .invalid(known, reason: "'jsonrpc' must be \"2.0\"")
        }
        guard let method = object["method"] else {
            guard object["result"] != nil || object["error"] != nil else {
                return .invalid(known, reason: "a message needs 'method', 'result' or 'error'")
            }
            return .response
        }
        guard let method = method.string else {
            return .invalid(known, reason: "'method' must be a string, got \(method.typeName)")
        }
        guard let id else { return .notification(method: method, params: object["params"]) }
        guard let known else {
            return .invalid(nil, reason: "'id' must be a string or an integer, got \(id.typeName)")
        }
        return .request(RequestMessage(id: known, method: method, params: object["params"]))
    }
}
