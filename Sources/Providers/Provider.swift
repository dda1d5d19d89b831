/// One of the coding CLIs that the gateway runs; the raw value is its id in tools, tables and files.
package enum Provider: String, Sendable, CaseIterable, Hashable {
    /// Claude Code, of Anthropic.
    case claude
    /// Codex, of OpenAI.
    case codex
    /// Antigravity, of Google; the contract kept the name of the CLI before it.
    case gemini
    /// Grok, of xAI.
    case grok
    /// Vibe, of Mistral.
    case mistral

    /// The name of the program on the search path.
    package var executable: String {
        switch self {
        case .claude: "claude"
        case .codex: "codex"
        case .gemini: "agy"
        case .grok: "grok"
        case .mistral: "vibe"
        }
    }

    /// What a person calls it.
    package var displayName: String {
        switch self {
        case .claude: "Claude Code"
        case .codex: "Codex"
        case .gemini: "Gemini (Antigravity)"
        case .grok: "Grok"
        case .mistral: "Mistral Vibe"
        }
    }

    /// The company behind it, as the tool descriptions name it.
    package var vendor: String {
        switch self {
        case .claude: "Anthropic"
        case .codex: "OpenAI"
        case .gemini: "Google"
        case .grok: "xAI"
        case .mistral: "Mistral AI"
        }
    }

    /// One sentence: how to install the CLI.
    package var installGuidance: String {
        switch self {
        case .claude:
            "install Claude Code with 'curl -fsSL https://claude.ai/install.sh | bash' or 'npm install -g @anthropic-ai/claude-code'"
        case .codex: "install Codex with 'npm install -g @openai/codex' or 'brew install codex'"
        case .gemini:
            "install the Antigravity CLI as https://antigravity.google/docs/cli-getting-started describes"
        case .grok: "install Grok Build with 'curl -fsSL https://x.ai/cli/install.sh | bash'"
        case .mistral: "install Mistral Vibe with 'uv tool install mistral-vibe' (Python 3.12 or newer)"
        }
    }

    /// One sentence: how to log the CLI in, on a terminal or with a key in the `environment` file.
    package var loginGuidance: String {
        switch self {
        case .claude: "run 'claude auth login', or set ANTHROPIC_API_KEY"
        case .codex: "run 'codex login', or set CODEX_API_KEY"
        case .gemini: "run 'agy' once on a terminal and sign in with your Google account"
        case .grok: "run 'grok login', or set XAI_API_KEY"
        case .mistral: "run 'vibe --setup', or set MISTRAL_API_KEY"
        }
    }

    /// The name of the synchronous tool: `claude_request`.
    package var requestTool: String { "\(rawValue)_request" }

    /// The name of the asynchronous tool: `claude_request_async`.
    package var asyncRequestTool: String { "\(rawValue)_request_async" }

    /// What the CLI understands.
    package var contract: CLIContract {
        switch self {
        case .claude: Claude.contract
        case .codex: Codex.contract
        case .gemini: Gemini.contract
        case .grok: Grok.contract
        case .mistral: Mistral.contract
        }
    }

    /// The provider whose program has this name.
    package init?(executable: String) {
        guard let provider = Provider.allCases.first(where: { $0.executable == executable }) else {
            return nil
        }
        self = provider
    }
}
