import Appliance
import MCP
import Platform
import Providers

/// What is known of the models, and of the installed CLIs.
struct ModelTools: Sendable {
    let services: Services

    var tools: [Tool] { [listModels, versions] }

    private static let providerParameter: JSON = [
        "anyOf": [
            ["type": "string", "enum": .strings([""] + Provider.allCases.map(\.rawValue))], ["type": "null"],
        ],
        "description": "One provider; all when absent.",
    ]

    private static let schema: JSON = [
        "type": "object", "properties": ["cli": providerParameter], "additionalProperties": false,
    ]

    private static func provider(_ call: ToolCall) -> Provider? {
        call.arguments["cli"]?.string.flatMap(Provider.init(rawValue:))
    }

    private var listModels: Tool {
        Tool(
            name: "list_models",
            title: "Provider models",
            description:
                "List the models, defaults and aliases that the configuration of each provider CLI names, with their source.",
            inputSchema: ModelTools.schema,
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in
                let listing = services.models.current().listing(ModelTools.provider(call))
                return .text(listing.prettyText, structuredContent: listing)
            }
        )
    }

    private var versions: Tool {
        Tool(
            name: "cli_versions",
            title: "Provider CLI versions",
            description:
                "Show which provider CLIs are installed, their versions and whether they are logged in. Starts each CLI for a moment.",
            inputSchema: ModelTools.schema,
            annotations: .readOnlyLookup,
            handler: .asynchronous { call in
                let providers = ModelTools.provider(call).map { [$0] } ?? Provider.allCases
                let reports = await services.probe(providers)
                let result: JSON = ["versions": .array(reports.map(\.json))]
                return .text(result.prettyText, structuredContent: result)
            }
        )
    }
}

extension ToolAnnotations {
    /// A look-up that changes nothing and asks nobody outside.
    static let readOnlyLookup = ToolAnnotations(
        readOnly: true,
        destructive: false,
        idempotent: true,
        openWorld: false
    )
}
