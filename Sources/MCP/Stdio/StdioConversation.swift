import Appliance

/// What one stdio process has agreed on, and what each message means because of it.
///
/// Pure: messages in, steps out.
///
/// Modern requests carry all they need, so they are served before, between and after the handshake of the legacy era,
/// and neither era sees anything of the other.
struct StdioConversation: Sendable {
    enum Step: Sendable {
        case modern(RequestMessage)
        /// Agreed: answer the handshake.
        case initialize(RequestMessage, LegacySession)
        case legacy(RequestMessage, LegacySession)
        case cancel(CancelledNotice)
        case refused(Reply)
        /// Nothing to say.
        case ignored
    }

    /// Set by the first handshake, replaced by a later one.
    private(set) var session: LegacySession?

    /// What to do about a message.
    mutating func receive(_ message: Message) -> Step {
        switch message {
        case .batch: return .refused(.failure(nil, .invalidRequest("batches are not supported")))
        case .invalid(let id, let reason): return .refused(.failure(id, .invalidRequest(reason)))
        case .response: return .ignored
        case .notification(let method, let params):
            return CancelledNotice(method, params).map { .cancel($0) } ?? .ignored
        case .request(let request):
            if request.isModern { return .modern(request) }
            if request.method == "initialize" { return handshake(request) }
            // A ping may come before the handshake (lifecycle, initialization); so may a modern client's question with
            // half an envelope, which must not be told "unsupported version".
            if let session = session ?? (request.method == "ping" ? .beforeHandshake : nil) {
                return .legacy(request, session)
            }
            let error = ProtocolError.invalidRequest("First request must be initialize")
            return .refused(.failure(request.id, error))
        }
    }

    private mutating func handshake(_ request: RequestMessage) -> Step {
        do throws(ProtocolError) {
            let agreed = try LegacySession(agreeingOn: request)
            session = agreed
            return .initialize(request, agreed)
        } catch {
            return .refused(.failure(request.id, error))
        }
    }
}

extension LegacySession {
    fileprivate static let beforeHandshake = LegacySession(version: .newestLegacy)
}
