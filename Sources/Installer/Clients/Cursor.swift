import Appliance

extension ClientConfiguration {
    /// Cursor: an entry in its `mcp.json`.
    static let cursor = ClientConfiguration(id: "cursor", title: "Cursor") { endpoint in
        serverEntries(endpoint, file: "~/.cursor/mcp.json")
    }

    /// Any other client that reads an `mcpServers` object.
    static let generic = ClientConfiguration(id: "generic", title: "Any other client") { endpoint in
        serverEntries(endpoint, file: nil)
    }

    private static func serverEntries(_ endpoint: Endpoint, file: String?) -> [ClientSnippet] {
        let http: JSON = [
            "url": .string(endpoint.url),
            "headers": ["Authorization": .string("Bearer \(endpoint.shownToken)")],
        ]
        return [("over HTTP", http), ("over stdio", endpoint.stdioEntry)].map { title, entry in
            ClientSnippet(
                title: title,
                kind: .json,
                file: file,
                text: JSON.object(
                    JSONObject([("mcpServers", .object(JSONObject([(Product.name, entry)])))])
                ).prettyText
            )
        }
    }
}
