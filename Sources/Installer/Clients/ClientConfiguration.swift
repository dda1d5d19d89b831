import Appliance

/// Where a client finds the gateway, and how it proves that it may.
struct Endpoint: Sendable, Equatable {
    /// `http://127.0.0.1:3333/mcp`.
    var url: String
    var tokenFile: String
    /// `nil`: not to be shown.
    var token: String?
    /// The manager's path, for clients on stdio.
    var manager: String
    /// The home when it is not the default one: a client on stdio must pass it on.
    var home: String?

    /// The token, or the word that stands for it.
    var shownToken: String { token ?? "<redacted>" }

    /// The token as a shell gets it: read from its file unless it is to be shown.
    var tokenInShell: String { token ?? "$(cat \(Endpoint.shellWord(tokenFile)))" }

    /// What a client on stdio has to set.
    var environment: [(name: String, value: String)] { home.map { [("LLM_GATEWAY_HOME", $0)] } ?? [] }

    /// The entry of an `mcpServers` object for stdio.
    var stdioEntry: JSON {
        var entry: JSON = ["command": .string(manager), "args": ["stdio"]]
        if !environment.isEmpty {
            entry["env"] = .object(JSONObject(environment.map { (name: $0.name, value: .string($0.value)) }))
        }
        return entry
    }

    /// A word that a shell takes as it is.
    static func shellWord(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                    || "-_./:=@%+,".utf8.contains($0)
            }
        return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }
}

/// Something to type or to paste.
struct ClientSnippet: Sendable, Equatable {
    enum Kind: String, Sendable {
        case command
        case json
        case toml
    }

    /// `over HTTP`, `over stdio`.
    var title: String
    var kind: Kind
    /// The file it belongs into, where it is no command.
    var file: String?
    var text: String

    var json: JSON {
        [
            "title": .string(title), "kind": .string(kind.rawValue), "file": .optional(file),
            "text": .string(text),
        ]
    }

    /// As it stands below its title.
    var indented: String {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }
        return ((file.map { ["  # \($0)"] } ?? []) + lines).joined(separator: "\n")
    }
}

/// One MCP client: how it is connected to the gateway.
struct ClientConfiguration: Sendable {
    var id: String
    var title: String
    var snippets: @Sendable (Endpoint) -> [ClientSnippet]

    func json(_ endpoint: Endpoint) -> JSON {
        ["title": .string(title), "snippets": .array(snippets(endpoint).map(\.json))]
    }

    /// Every client that we know, in the order of the output.
    static let all: [ClientConfiguration] = [claude, codex, gemini, vibe, cursor, generic]

    /// `-e NAME=value ` for each variable that stdio needs, as the add commands of the CLIs want it.
    static func variables(_ flag: String, _ endpoint: Endpoint) -> String {
        endpoint.environment.map { "\(flag) \(Endpoint.shellWord("\($0.name)=\($0.value)")) " }.joined()
    }
}
