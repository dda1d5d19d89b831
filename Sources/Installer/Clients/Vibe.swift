import Appliance

extension ClientConfiguration {
    /// Mistral Vibe: `vibe mcp add`; it reads the token from a variable at every start.
    static let vibe = ClientConfiguration(id: "vibe", title: "Mistral Vibe") { endpoint in
        [
            ClientSnippet(
                title: "over HTTP",
                kind: .command,
                text: "export LLM_GATEWAY_AUTH_TOKEN=\"\(endpoint.tokenInShell)\"\n"
                    + "vibe mcp add \(Product.name) --url \(endpoint.url) --api-key-env LLM_GATEWAY_AUTH_TOKEN"
            ),
            ClientSnippet(
                title: "over stdio",
                kind: .command,
                text: "vibe mcp add \(Product.name) --transport stdio --command "
                    + "\(Endpoint.shellWord(endpoint.manager)) --arg stdio"
                    + endpoint.environment.map { " --env \(Endpoint.shellWord("\($0.name)=\($0.value)"))" }
                    .joined()
            ),
        ]
    }
}
