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
        let home = try await SetupReport.prepare(call)
        let token = try call.machine.files.authToken(of: home.layout)
        let manager =
            call.machine.files.exists(home.layout.currentManager)
            ? home.layout.currentManager : call.machine.executable
        return ClientReport(
            endpoint: Endpoint(
                url: home.settings.localURL,
                tokenFile: home.layout.authToken,
                token: call.arguments.has("show-token") ? token : nil,
                manager: manager,
                home: home.layout.isDefaultHome ? nil : home.layout.home
            ),
            settings: home.settings,
            clients: clients.filter { call.arguments.operand == nil || $0.id == call.arguments.operand }
        )
    }
}

/// How clients are connected.
struct ClientReport: Report {
    var endpoint: Endpoint
    var settings: Settings
    var clients: [ClientConfiguration]

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
            "The token is in '\(endpoint.tokenFile)'; whoever has it can run your provider CLIs.",
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
