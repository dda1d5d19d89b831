import Appliance
import Platform

/// Where a posted message belongs: the decision table for telling the eras apart over HTTP, as a pure function.
///
/// The body decides before the headers do. Sessions are looked up by whoever carries the route out.
enum HTTPRoute: Sendable {
    /// A request with its own envelope; a session id beside it means nothing.
    case modern(RequestMessage)
    case initialize(RequestMessage)
    case legacy(RequestMessage)
    case legacyNotification(method: String, params: JSON?)
    /// An answer to a request of a session.
    case legacyResponse
    /// Accepted and dropped: what a modern client would say by notification, it says by closing its stream.
    case dropped
    case refused(Reply)

    /// Sorts a message; `header` is the value of `MCP-Protocol-Version`.
    static func of(_ message: Message, header: String?) -> HTTPRoute {
        let isModernHeader = header.map { !ProtocolVersion.legacyHeaderValues.contains($0) } ?? false
        switch message {
        case .batch:
            return .refused(.failure(nil, .invalidRequest("batches are not supported"), status: 400))
        case .invalid(let id, let reason):
            return .refused(.failure(id, .invalidRequest(reason), status: 400))
        case .response:
            guard isModernHeader else { return .legacyResponse }
            return .refused(
                .failure(nil, .invalidRequest("no answer is expected from a client"), status: 400)
            )
        case .notification(let method, let params):
            guard isModernHeader || EnvelopeKey.claimsModernEra(params) else {
                return .legacyNotification(method: method, params: params)
            }
            let body = params?.object?["_meta"]?.object?[EnvelopeKey.protocolVersion]?.string
            let version = isModernHeader ? header : body
            guard let version, ProtocolVersion.modern.contains(version) else {
                return .refused(.failure(nil, .unsupportedVersion(version ?? ""), status: 400))
            }
            return .dropped
        case .request(let request):
            if request.isModern { return .modern(request) }
            if isModernHeader {
                let missing = ProtocolError.invalidParams(
                    "'params._meta' must have '\(EnvelopeKey.protocolVersion)' and"
                        + " '\(EnvelopeKey.clientCapabilities)' with MCP-Protocol-Version '\(header ?? "")'"
                )
                return .refused(.failure(request.id, missing, status: 400))
            }
            return request.method == "initialize" ? .initialize(request) : .legacy(request)
        }
    }
}
