import Platform

/// What happens to a call while its answer is awaited.
enum CallEvent: Sendable {
    /// A serialized notification of this call.
    case notification([UInt8])
    /// Time has passed without anything to say.
    case silence
    /// The answer; `nil` when the client cancelled and expects none.
    case finished(Reply?)
}

/// Server-sent events (WHATWG HTML section 9.2), as Streamable HTTP uses them.
enum EventStream {
    /// Proxies must neither keep nor hold back the stream.
    static let fields: HTTPFields = [
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    ]

    /// Keeps proxies and clients from giving the connection up; no client shows it.
    static let keepAlive = Array(": still working\n\n".utf8)

    /// One message.
    ///
    /// Serialized JSON has no line breaks, so one `data` line holds it.
    static func event(_ message: [UInt8]) -> [UInt8] {
        Array("event: message\ndata: ".utf8) + message + Array("\n\n".utf8)
    }

    /// The bytes for an event of a call.
    static func bytes(for event: CallEvent) -> [UInt8] {
        switch event {
        case .notification(let message): self.event(message)
        case .silence: keepAlive
        case .finished(let reply): reply.map { self.event($0.bytes) } ?? []
        }
    }
}
