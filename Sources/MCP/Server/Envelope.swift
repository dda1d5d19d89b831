import Appliance

/// The per-request metadata of the modern era, checked (step 1 of the ladder).
struct Envelope: Sendable {
    /// As the client wrote it; whether we speak it is a later step.
    let version: String
    let clientCapabilities: JSONObject
    let clientInfo: JSON?
    let meta: JSONObject

    private static let logLevels: Set<String> = [
        "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency",
    ]

    /// Reads `params._meta`.
    ///
    /// Throws -32602 naming every key that is missing or of the wrong type.
    init(_ request: RequestMessage) throws(ProtocolError) {
        guard let meta = request.meta else {
            throw .invalidParams(
                "'params._meta' with '\(EnvelopeKey.protocolVersion)' and '\(EnvelopeKey.clientCapabilities)' is required"
            )
        }
        var problems: [String] = []
        let version = meta[EnvelopeKey.protocolVersion]
        if version?.string == nil { problems.append("'\(EnvelopeKey.protocolVersion)' must be a string") }
        let capabilities = meta[EnvelopeKey.clientCapabilities]
        if capabilities?.object == nil {
            problems.append("'\(EnvelopeKey.clientCapabilities)' must be an object")
        }
        if let level = meta[EnvelopeKey.logLevel], !Envelope.logLevels.contains(level.string ?? "") {
            problems.append("'\(EnvelopeKey.logLevel)' must be a log level")
        }
        guard problems.isEmpty, let version = version?.string, let capabilities = capabilities?.object else {
            throw .invalidParams("invalid 'params._meta': \(problems.joined(separator: "; "))")
        }
        self.version = version
        clientCapabilities = capabilities
        clientInfo = meta[EnvelopeKey.clientInfo]
        self.meta = meta
    }
}
