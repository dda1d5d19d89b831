import Appliance

extension ClientConfiguration {
    /// Codex: `codex mcp add`, kept in `~/.codex/config.toml`; it reads the token from a variable at every start.
    static let codex = ClientConfiguration(id: "codex", title: "Codex") { endpoint in
        [
            ClientSnippet(
                title: "over HTTP",
                kind: .command,
                text: "export LLM_GATEWAY_AUTH_TOKEN=\"\(endpoint.tokenInShell)\"\n"
                    + "codex mcp add \(Product.name) --url \(endpoint.url)"
                    + " --bearer-token-env-var LLM_GATEWAY_AUTH_TOKEN"
            ),
            ClientSnippet(
                title: "over stdio",
                kind: .command,
                text: "codex mcp add \(Product.name) \(variables("--env", endpoint))-- "
                    + "\(Endpoint.shellWord(endpoint.manager)) stdio"
            ),
        ]
    }
}
