/// What a request to a provider can and cannot do, in the words of `provider-tool-capabilities.v2`.
package struct Capabilities: Sendable {
    /// The tools that run the provider.
    package let tools: [String]
    /// The names of the features that a request reaches.
    package let features: [String]
    /// Parameters that are refused, or accepted without effect, because the CLI or this version cannot serve them.
    package let unsupportedInputs: [String]

    /// The capabilities of one provider.
    package init(_ provider: Provider) {
        tools = [provider.requestTool, provider.asyncRequestTool]
        features = Capabilities.shared + Capabilities.own(provider)
        unsupportedInputs = Capabilities.refused(provider) + Capabilities.unserved
    }

    private static let shared = [
        "gatewayRequestTools", "modelDefaultsAndAliases", "sessionContinuity", "approvalAndSandboxControls",
        "workspaceAndWorktreeControls", "providerNativeTools", "nativeSkills", "unsupportedOrDegradedInputs",
    ]

    private static func own(_ provider: Provider) -> [String] {
        switch provider {
        case .claude:
            [
                "toolAllowDenyControls", "structuredOutput", "subagentsOrAgents", "costAndLoopControls",
                "promptControl",
            ]
        case .codex: ["structuredOutput", "multimodalInputs", "promptControl"]
        case .gemini: []
        case .grok:
            [
                "toolAllowDenyControls", "structuredOutput", "subagentsOrAgents", "webSearchControl",
                "memoryControl", "memoryControls", "promptControl", "compactionControls",
                "costAndLoopControls",
            ]
        case .mistral:
            ["toolAllowDenyControls", "enabledToolAllowlist", "costAndLoopControls", "trustControl"]
        }
    }

    private static func refused(_ provider: Provider) -> [String] {
        switch provider {
        case .claude: []
        case .codex: ["askForApproval", "useLegacyFullAutoFlag", "search"]
        case .gemini:
            [
                "allowedTools", "policyFiles", "adminPolicyFiles", "attachments", "skipTrust",
                "outputFormat:json", "outputFormat:stream-json", "approvalMode:auto_edit",
                "approvalMode:plan",
            ]
        case .grok, .mistral: ["transport:acp"]
        }
    }

    /// What waits for a part of the gateway that this version does not have.
    private static let unserved = [
        "approvalStrategy:mcp_managed", "mcpServers", "worktree", "optimizePrompt", "optimizeResponse",
        "compressResponse",
    ]
}
