package import Appliance

/// The resources of a server: lists and contents, for whoever asks.
package struct ResourceRegistry: Sendable {
    /// Entries of `resources/list`: `{uri, name, title?, description?, mimeType?}`.
    package let list: @Sendable (Principal) async throws -> [JSON]
    /// Entries of `resources/templates/list`: `{uriTemplate, name, …}`.
    package let templates: [JSON]
    /// The contents of a resource, `{uri, mimeType?, text}` or `{…, blob}` each; `nil` when there is none of that name
    /// that the principal may see.
    package let read: @Sendable (String, Principal) async throws -> [JSON]?

    /// A source of resources.
    package init(
        list: @escaping @Sendable (Principal) async throws -> [JSON],
        templates: [JSON] = [],
        read: @escaping @Sendable (String, Principal) async throws -> [JSON]?
    ) {
        self.list = list
        self.templates = templates
        self.read = read
    }

    /// The work for one of the three methods; `frame` gives a result's members the form of the era.
    func plan(
        _ request: RequestMessage,
        _ context: RequestContext,
        frame: @escaping @Sendable (JSONObject) -> [UInt8]
    ) -> Plan {
        let id = request.id
        let uri = request.members["uri"]?.string
        if request.method == "resources/read", uri == nil {
            return .reply(.failure(id, .invalidParams("'uri' is required and must be a string")))
        }
        if request.method != "resources/read", request.members["cursor"] != nil {
            return .reply(.failure(id, .invalidParams("'cursor' is not one of this list")))
        }
        if request.method == "resources/templates/list" {
            let members = JSONObject([(name: "resourceTemplates", value: .array(templates))])
            return .reply(.result(id, frame(members)))
        }
        return .work(
            Work(id: id, progressToken: nil) { _, cancellation in
                let reply: Reply
                do {
                    let members = try await self.members(uri: uri, context)
                    reply = .result(id, frame(members))
                } catch let error as ProtocolError {
                    reply = .failure(id, error)
                } catch {
                    reply = .failure(id, .internalError(GatewayError.wording(of: error)))
                }
                if case .client = cancellation.reason { return nil }
                return reply
            }
        )
    }

    private func members(uri: String?, _ context: RequestContext) async throws -> JSONObject {
        guard let uri else {
            let entries = try await list(context.caller.principal)
            return JSONObject([(name: "resources", value: .array(entries))])
        }
        guard let contents = try await read(uri, context.caller.principal) else {
            // -32002 was the legacy era's own code and must not be used in the modern one.
            throw ProtocolError(
                code: context.version.era == .modern ? -32602 : -32002,
                message: "Resource not found: '\(uri)'",
                data: ["uri": .string(uri)]
            )
        }
        return JSONObject([(name: "contents", value: .array(contents))])
    }
}
