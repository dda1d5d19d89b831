import Appliance
import Platform

extension Verb {
    static let printClientConfig = Verb(
        "print-client-config",
        .connect,
        "print what connects an MCP client to this gateway",
        details: """
            Nothing is written into any client's configuration. The token is shown as
            <redacted>; the commands read it from its file.
            """,
        operand: ("CLIENT", "claude, codex, gemini, vibe, cursor or generic; all when left out"),
        offers: .words(ClientConfiguration.all.map(\.id)),
        flags: [Flag("show-token", "put the token itself into the snippets")],
        isQuestion: true
    ) { call throws(GatewayError) in
        let clients = ClientConfiguration.all
        if let name = call.arguments.operand, !clients.contains(where: { $0.id == name }) {
            let nearest = Suggestion.nearest(to: name, among: clients.map(\.id))
            throw GatewayError(
                "invalid-value",
                "unknown client '\(name)'",
                help: (nearest.map { "did you mean '\($0)'? " } ?? "")
                    + "the known ones are \(clients.map(\.id).joined(separator: ", "))"
            )
        }
        let layout = try call.layout()
        let files = call.machine.files
        let showsToken = call.arguments.has("show-token")
        var settings = try Settings(environment: call.machine.environment)
        // A question makes no home; its token is made by the first command that needs one.
        let hasHome = files.exists(layout.home)
        if hasHome { settings = try await SetupReport.prepare(call).settings }
        guard hasHome || !showsToken else {
            throw GatewayError(
                "no-token",
                "'\(layout.home)' does not exist, so there is no token to show",
                help: "run '\(Product.name) setup' first"
            )
        }
        let token = try files.authToken(of: layout)
        return ClientReport(
            endpoint: Endpoint(
                url: settings.localURL,
                tokenFile: layout.authToken,
                token: showsToken ? token : nil,
                manager: files.exists(layout.currentManager)
                    ? layout.currentManager : call.machine.executable,
                home: layout.isDefaultHome ? nil : layout.home
            ),
            settings: settings,
            clients: clients.filter { call.arguments.operand == nil || $0.id == call.arguments.operand },
            hasHome: hasHome
        )
    }
}

/// How clients are connected.
struct ClientReport: Report {
    var endpoint: Endpoint
    var settings: Settings
    var clients: [ClientConfiguration]
    /// Whether the home is there, and with it a token.
    var hasHome = true

    /// The contract's keys, then `clients`.
    ///
    /// OAuth is not offered yet, so its addresses are null and `enabled` says so.
    var json: JSON {
        let isPublic = settings.publicURL?.hasPrefix("https://") == true
        let url = isPublic ? settings.publicURL ?? settings.localURL : settings.localURL
        return [
            "ok": true, "transport": "streamable_http", "url": .string(url),
            "local_url": .string(settings.localURL),
            "web_clients_supported": false,
            "oauth": [
                "enabled": false, "authorization_url": nil, "token_url": nil, "registration_url": nil,
                "protected_resource_url": nil, "client_secret": nil,
            ],
            "chatgpt": ["url": .optional(isPublic ? settings.publicURL : nil), "authentication": "OAuth"],
            "headers": ["Authorization": .string("Bearer \(endpoint.shownToken)")],
            "token_path": .string(endpoint.tokenFile),
            "notes": .strings(notes),
            "clients": .object(
                JSONObject(clients.map { (name: $0.id, value: $0.json(endpoint)) })
            ),
        ]
    }

    private var notes: [String] {
        [
            hasHome
                ? "The token is in '\(endpoint.tokenFile)'; whoever has it can run your provider CLIs."
                : "There is no token in '\(endpoint.tokenFile)' yet: '\(Product.name) setup' makes it.",
            "A client on stdio needs neither token nor service: its command is '\(endpoint.manager) stdio'.",
        ]
    }

    var text: String {
        var parts: [String] = []
        for client in clients {
            for snippet in client.snippets(endpoint) {
                parts.append("\(client.title), \(snippet.title):\n" + snippet.indented)
            }
        }
        return (parts + [notes.joined(separator: "\n")]).joined(separator: "\n\n")
    }
}
