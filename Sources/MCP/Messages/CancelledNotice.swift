import Appliance

/// `notifications/cancelled`: the client no longer wants the answer to one of its requests.
struct CancelledNotice: Sendable, Equatable {
    let id: RequestID
    /// The client's words, for the log.
    let reason: String?

    /// Reads a notification; `nil` for another method, or without an id that a request could have.
    init?(_ method: String, _ params: JSON?) {
        guard method == "notifications/cancelled", let id = RequestID(params?.object?["requestId"]) else {
            return nil
        }
        self.id = id
        reason = params?.object?["reason"]?.string
    }
}

/// Bounds of what is read from a client.
enum MessageLimit {
    /// Nesting of arrays and objects: messages are shallow, and deep ones cost stack.
    static let depth = 64
}
