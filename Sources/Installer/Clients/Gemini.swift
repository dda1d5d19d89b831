import Appliance

extension ClientConfiguration {
    /// Gemini: an entry in its settings file; HTTP servers have `httpUrl` there.
    static let gemini = ClientConfiguration(id: "gemini", title: "Gemini") { endpoint in
        let http: JSON = [
            "httpUrl": .string(endpoint.url),
            "headers": ["Authorization": .string("Bearer \(endpoint.shownToken)")],
        ]
        return [
            ClientSnippet(
                title: "over HTTP",
                kind: .json,
                file: "~/.gemini/settings.json",
                text: JSON.object(
                    JSONObject([("mcpServers", .object(JSONObject([(Product.name, http)])))])
                ).prettyText
            ),
            ClientSnippet(
                title: "over stdio",
                kind: .json,
                file: "~/.gemini/settings.json",
                text: JSON.object(
                    JSONObject([("mcpServers", .object(JSONObject([(Product.name, endpoint.stdioEntry)])))])
                ).prettyText
            ),
        ]
    }
}
