import Appliance
import Platform

/// An argument that the client repeats in a header `Mcp-Param-NAME`, so that a proxy can route by it
/// (specification 2026-07-28, Streamable HTTP, `x-mcp-header`).
struct HeaderParameter: Sendable, Equatable {
    /// The header, with its prefix.
    let header: String
    /// The property names from the root of the arguments.
    let path: [String]

    /// The annotated properties of an input schema.
    ///
    /// Throws `invalid-tool` where an annotation breaks the rules: token, unique, scalar and not a decimal.
    static func all(in schema: JSON, of tool: String) throws(GatewayError) -> [HeaderParameter] {
        var found: [HeaderParameter] = []
        try collect(schema, path: [], tool: tool, into: &found)
        var seen: Set<String> = []
        for parameter in found where !seen.insert(parameter.header.lowercased()).inserted {
            throw GatewayError(
                "invalid-tool",
                "the tool '\(tool)' uses the header '\(parameter.header)' twice"
            )
        }
        return found
    }

    private static func collect(
        _ schema: JSON,
        path: [String],
        tool: String,
        into found: inout [HeaderParameter]
    ) throws(GatewayError) {
        if let annotation = schema["x-mcp-header"] {
            guard let name = annotation.string, !path.isEmpty, isToken(name),
                ["string", "integer", "boolean"].contains(schema["type"]?.string)
            else {
                throw GatewayError(
                    "invalid-tool",
                    "the tool '\(tool)' has an 'x-mcp-header' at '/\(path.joined(separator: "/"))' that is not a"
                        + " header name on a string, integer or boolean property"
                )
            }
            found.append(HeaderParameter(header: "Mcp-Param-\(name)", path: path))
        }
        for (name, property) in schema["properties"]?.object?.members ?? [] {
            try collect(property, path: path + [name], tool: tool, into: &found)
        }
    }

    /// RFC 9110 section 5.6.2.
    private static func isToken(_ text: String) -> Bool {
        let marks = Array("!#$%&'*+-.^_`|~".utf8)
        return !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: marks.contains(byte)
                }
            }
    }

    /// Compares the header with the argument: equal, or both absent.
    func mismatch(fields: HTTPFields, arguments: JSON?) -> ProtocolError? {
        var value = arguments
        for name in path { value = value?[name] }
        if value?.isNull == true { value = nil }
        switch RoutingHeader.read(header, in: fields) {
        case .absent:
            return value == nil ? nil : .headerMismatch("the header '\(header)' is missing")
        case .malformed(let reason):
            return .headerMismatch(reason)
        case .value(let text):
            guard let value else {
                return .headerMismatch("the header '\(header)' has no counterpart in the arguments")
            }
            let isEqual =
                switch value {
                case .string(let expected): expected == text
                case .bool(let expected): text == (expected ? "true" : "false")
                case .int, .double: Double(text).map { $0 == value.number } ?? false
                default: false
                }
            return isEqual ? nil : .headerMismatch("the header '\(header)' differs from the argument")
        }
    }
}

/// The headers that repeat parts of the body for proxies.
enum RoutingHeader: Equatable {
    case absent
    case value(String)
    case malformed(String)

    /// Reads one header: once only, white space trimmed, base 64 decoded where it is marked so.
    static func read(_ name: String, in fields: HTTPFields, mayBeEncoded: Bool = true) -> RoutingHeader {
        let values = fields.values(name)
        guard let raw = values.first else { return .absent }
        guard values.count == 1 else { return .malformed("the header '\(name)' is repeated") }
        let text = trimmed(raw)
        guard text.utf8.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x09 }) else {
            return .malformed("the header '\(name)' is not plain ASCII")
        }
        let opening = "=?base64?", closing = "?="
        guard mayBeEncoded, text.hasPrefix(opening), text.hasSuffix(closing),
            text.utf8.count >= opening.utf8.count + closing.utf8.count
        else { return .value(text) }
        let encoded = String(text.dropFirst(opening.count).dropLast(closing.count))
        guard let bytes = Base64.decode(encoded), let decoded = String(validating: bytes, as: UTF8.self)
        else {
            return .malformed("the header '\(name)' is not base 64 of UTF-8")
        }
        return .value(decoded)
    }

    /// Without optional white space (RFC 9110 section 5.6.3).
    static func trimmed(_ text: String) -> String {
        let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
        guard let first = text.utf8.first, let last = text.utf8.last, isSpace(first) || isSpace(last) else {
            return text
        }
        let bytes = text.utf8.drop(while: isSpace)
        return String(
            decoding: bytes.prefix(
                (bytes.lastIndex { !isSpace($0) }.map {
                    bytes.distance(from: bytes.startIndex, to: $0) + 1
                }) ?? 0
            ),
            as: UTF8.self
        )
    }

    /// Step 2 of the modern ladder: version, method and name in the headers equal those in the body.
    static func mismatch(_ request: RequestMessage, version: String, fields: HTTPFields) -> ProtocolError? {
        if let error = compare("MCP-Protocol-Version", version, fields, mayBeEncoded: false) { return error }
        if let error = compare("Mcp-Method", request.method, fields, mayBeEncoded: false) { return error }
        let subject: String
        switch request.method {
        case "tools/call", "prompts/get": subject = "name"
        case "resources/read": subject = "uri"
        case "tasks/get", "tasks/update", "tasks/cancel": subject = "taskId"
        default: return nil
        }
        guard let expected = request.members[subject]?.string else {
            // The parameters themselves are wrong, which a later step says better; but a header can't match nothing.
            return read("Mcp-Name", in: fields) == .absent
                ? nil : .headerMismatch("the header 'Mcp-Name' has no '\(subject)' in the body")
        }
        return compare("Mcp-Name", expected, fields, mayBeEncoded: true)
    }

    private static func compare(
        _ name: String,
        _ expected: String,
        _ fields: HTTPFields,
        mayBeEncoded: Bool
    ) -> ProtocolError? {
        switch read(name, in: fields, mayBeEncoded: mayBeEncoded) {
        case .absent: .headerMismatch("the header '\(name)' is missing")
        case .malformed(let reason): .headerMismatch(reason)
        case .value(expected): nil
        case .value(let value):
            .headerMismatch("the header '\(name)' is '\(value)', the body says '\(expected)'")
        }
    }
}
