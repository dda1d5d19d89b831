package import Appliance

/// A JSON-RPC error.
///
/// A tool throws it only where the protocol asks for one; everything else a tool wants to say is a result
/// with `isError`.
package struct ProtocolError: Error, Sendable, Equatable {
    /// The number (specification 2026-07-28, error codes).
    package let code: Int
    /// One sentence.
    package let message: String
    /// What a program can use.
    package let data: JSON?

    /// Any error.
    package init(code: Int, message: String, data: JSON? = nil) {
        self.code = code
        self.message = message
        self.data = data
    }

    /// -32700: not JSON.
    static func parse(_ error: JSONSyntaxError) -> ProtocolError {
        ProtocolError(code: -32700, message: "Parse error: \(error)")
    }

    /// -32600: JSON, but not a message that can be served.
    static func invalidRequest(_ message: String) -> ProtocolError {
        ProtocolError(code: -32600, message: message)
    }

    /// -32601: no such method in the era of the request.
    static func unknownMethod(_ method: String) -> ProtocolError {
        ProtocolError(code: -32601, message: "Method not found: '\(method)'")
    }

    /// -32602: the parameters do not fit the method.
    package static func invalidParams(_ message: String, data: JSON? = nil) -> ProtocolError {
        ProtocolError(code: -32602, message: message, data: data)
    }

    /// -32603: a failure of the server itself.
    package static func internalError(_ message: String) -> ProtocolError {
        ProtocolError(code: -32603, message: message)
    }

    /// -32020: the routing headers and the body disagree.
    static func headerMismatch(_ message: String) -> ProtocolError {
        ProtocolError(code: -32020, message: "Header mismatch: \(message)")
    }

    /// -32021: the request needs capabilities that its client did not declare, in the shape of `ClientCapabilities`.
    package static func missingCapability(_ required: JSON) -> ProtocolError {
        ProtocolError(
            code: -32021,
            message: "Missing required client capability",
            data: ["requiredCapabilities": required]
        )
    }

    /// -32022: a revision that can't be served per request.
    static func unsupportedVersion(_ requested: String) -> ProtocolError {
        ProtocolError(
            code: -32022,
            message: "Unsupported protocol version '\(requested)'",
            data: ["supported": .strings(ProtocolVersion.modern), "requested": .string(requested)]
        )
    }

    /// The `error` member.
    var json: JSON {
        var body: JSON = ["code": .integer(code), "message": .string(message)]
        if let data { body["data"] = data }
        return body
    }
}
