import Appliance

/// What the handshake of the legacy era agreed on; never looked at for a modern request.
struct LegacySession: Sendable, Hashable {
    let version: ProtocolVersion
    let clientInfo: JSON?
    let clientCapabilities: JSONObject

    /// A session after its handshake.
    init(version: ProtocolVersion, clientInfo: JSON? = nil, clientCapabilities: JSONObject = JSONObject()) {
        self.version = version
        self.clientInfo = clientInfo
        self.clientCapabilities = clientCapabilities
    }

    /// Agrees on what an `initialize` request asks for: its revision when we speak it that way, else our newest of the
    /// legacy era, even when the client named a modern one.
    ///
    /// Throws -32602 without a version to agree on.
    init(agreeingOn request: RequestMessage) throws(ProtocolError) {
        guard let wanted = request.members["protocolVersion"]?.string else {
            throw .invalidParams("'protocolVersion' is required and must be a string")
        }
        let version = ProtocolVersion(rawValue: wanted).flatMap { $0.era == .legacy ? $0 : nil }
        self.init(
            version: version ?? .newestLegacy,
            clientInfo: request.members["clientInfo"]?.object.map { .object($0) },
            clientCapabilities: request.members["capabilities"]?.object ?? JSONObject()
        )
    }
}

/// What a server says of itself.
package struct Implementation: Sendable, Hashable {
    /// For programs.
    package let name: String
    /// The version of the server, not of the protocol.
    package let version: String
    /// For people.
    package let title: String?
    /// One sentence; clients before 2025-11-25 do not get it.
    package let description: String?

    /// A server's identity.
    package init(name: String, version: String, title: String? = nil, description: String? = nil) {
        self.name = name
        self.version = version
        self.title = title
        self.description = description
    }

    /// The object for clients of a revision.
    func json(for version: ProtocolVersion) -> JSON {
        var json: JSON = ["name": .string(name)]
        if let title { json["title"] = .string(title) }
        json["version"] = .string(self.version)
        if let description, version >= .november2025 { json["description"] = .string(description) }
        return json
    }
}
