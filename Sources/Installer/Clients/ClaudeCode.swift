import Appliance

extension ClientConfiguration {
    /// Claude Code: `claude mcp add`, kept in `~/.claude.json`.
    static let claude = ClientConfiguration(id: "claude", title: "Claude Code") { endpoint in
        [
            ClientSnippet(
                title: "over HTTP",
                kind: .command,
                text: "claude mcp add --transport http \(Product.name) \(endpoint.url)"
                    + " --header \"Authorization: Bearer \(endpoint.tokenInShell)\""
            ),
            ClientSnippet(
                title: "over stdio",
                kind: .command,
                text: "claude mcp add \(Product.name) \(variables("-e", endpoint))-- "
                    + "\(Endpoint.shellWord(endpoint.manager)) stdio"
            ),
        ]
    }
}
