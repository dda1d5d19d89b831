package import Appliance

/// One block of a tool's answer.
package enum Content: Sendable, Hashable {
    case text(String)
    /// Base 64 data.
    case image(data: String, mimeType: String)
    /// Base 64 data.
    case audio(data: String, mimeType: String)
    /// An embedded resource with its contents: `{uri, mimeType?, text}` or `{uri, mimeType?, blob}`.
    case resource(JSONObject)

    /// The block as it is on the wire.
    package var json: JSON {
        switch self {
        case .text(let text): ["type": "text", "text": .string(text)]
        case .image(let data, let type): ["type": "image", "data": .string(data), "mimeType": .string(type)]
        case .audio(let data, let type): ["type": "audio", "data": .string(data), "mimeType": .string(type)]
        case .resource(let resource): ["type": "resource", "resource": .object(resource)]
        }
    }
}

/// A tool's answer, the same for every era; the server gives it the form that the client understands.
package struct ToolResult: Sendable, Hashable {
    /// The answer for models and people.
    package var content: [Content]
    /// The answer for programs.
    ///
    /// Legacy clients get it only when it is an object.
    package var structuredContent: JSON?
    /// Whether the text tells of a failure that the model should see.
    package var isError: Bool
    /// Extra `_meta` members.
    package var meta: JSONObject
    /// Members beside `content`, for clients that look for them there; none of the protocol's own names.
    package var beside = JSONObject()

    /// An answer.
    package init(
        _ content: [Content],
        structuredContent: JSON? = nil,
        isError: Bool = false,
        meta: JSONObject = JSONObject()
    ) {
        self.content = content
        self.structuredContent = structuredContent
        self.isError = isError
        self.meta = meta
    }

    /// An answer of one text.
    package static func text(_ text: String, structuredContent: JSON? = nil) -> ToolResult {
        ToolResult([.text(text)], structuredContent: structuredContent)
    }

    /// A failure that the model should see.
    package static func failure(_ text: String, structuredContent: JSON? = nil) -> ToolResult {
        ToolResult([.text(text)], structuredContent: structuredContent, isError: true)
    }

    /// The failure that an error of ours means: sentence, then what to do.
    package static func failure(_ error: GatewayError) -> ToolResult {
        failure(error.help.map { "\(error.description)\n\($0)" } ?? error.description)
    }

    /// The serialized result for an era; `serverInfo` is serialized JSON.
    func serialized(for era: Era, serverInfo: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(256)
        out.append(
            contentsOf: era == .modern
                ? #"{"resultType":"complete","content":"#.utf8 : #"{"content":"#.utf8
        )
        JSON.array(content.map(\.json)).write(into: &out)
        if let structuredContent, era == .modern || structuredContent.object != nil {
            out.append(contentsOf: #","structuredContent":"#.utf8)
            structuredContent.write(into: &out)
        }
        if isError { out.append(contentsOf: #","isError":true"#.utf8) }
        for (name, value) in beside.members {
            out.append(UInt8(ascii: ","))
            JSON.string(name).write(into: &out)
            out.append(UInt8(ascii: ":"))
            value.write(into: &out)
        }
        if era == .modern {
            out.append(contentsOf: #","_meta":{""#.utf8)
            out.append(contentsOf: EnvelopeKey.serverInfo.utf8)
            out.append(contentsOf: #"":"#.utf8)
            out.append(contentsOf: serverInfo)
            for (name, value) in meta.members {
                out.append(UInt8(ascii: ","))
                JSON.string(name).write(into: &out)
                out.append(UInt8(ascii: ":"))
                value.write(into: &out)
            }
            out.append(UInt8(ascii: "}"))
        } else if !meta.isEmpty {
            out.append(contentsOf: #","_meta":"#.utf8)
            JSON.object(meta).write(into: &out)
        }
        out.append(UInt8(ascii: "}"))
        return out
    }
}
