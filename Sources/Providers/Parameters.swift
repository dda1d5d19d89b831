import Appliance

extension Claude {
    /// What `claude_request` takes beside the shared parameters.
    static let parameters: [Parameter] = [
        .choice(
            "outputFormat",
            ["text", "json", "stream-json"],
            "Form of the reply: the text, or claude's own result object (json).",
            preset: "stream-json"
        ),
        .toggle("continueSession", "Continue the most recent conversation of the directory.", preset: false),
        .toggle("forkSession", "Continue a copy of the conversation, and leave the original as it is."),
        .list("allowedTools", "Tools that run without asking, such as Read or Bash(git log *)."),
        .list("disallowedTools", "Tools that are taken away."),
        .list("tools", "The only built-in tools to offer; an empty list offers none."),
        .choice("permissionMode", permissionModes, "What happens to tool calls that nobody allowed."),
        .toggle("dangerouslySkipPermissions", "Deprecated: permissionMode bypassPermissions.", preset: false),
        .text("agent", "Agent to run as."),
        Parameter(
            "agents",
            [
                "type": "object",
                "description": "Agents for this run, by name.",
                "additionalProperties": [
                    "type": "object",
                    "properties": [
                        "description": ["type": "string"], "prompt": ["type": "string"],
                        "tools": ["type": "array", "items": ["type": "string"]], "model": ["type": "string"],
                    ],
                ],
            ]
        ),
        .text(
            "systemPrompt",
            "Replaces the system prompt; not together with appendSystemPrompt.",
            minimum: 1
        ),
        .text("appendSystemPrompt", "Added to the system prompt.", minimum: 1),
        .text("systemPromptFile", "File with a system prompt.", minimum: 1),
        .text("appendSystemPromptFile", "File with an addition to the system prompt.", minimum: 1),
        .text(
            "requestInstructions",
            "Instructions for this request, added to the system prompt.",
            length: 0...16_384
        ),
        Parameter(
            "maxBudgetUsd",
            ["type": "number", "exclusiveMinimum": 0, "description": "US dollars after which the run stops."]
        ),
        Parameter(
            "maxTurns",
            ["type": "integer", "exclusiveMinimum": 0, "description": "Turns after which the run stops."]
        ),
        .choice("effort", efforts, "How much thought to spend."),
        .text("fallbackModel", "Models to use when the chosen one is busy, separated by commas.", minimum: 1),
        .any("jsonSchema", ["string", "object"], "JSON Schema that the reply must follow."),
        .list("addDir", "More directories that it may read."),
        .toggle("noSessionPersistence", "Keep no conversation on disk; it cannot be continued."),
        .toggle(
            "excludeDynamicSystemPromptSections",
            "Move what changes from run to run out of the system prompt, for better caching."
        ),
        .text("settingSources", "Settings to load: user, project, local.", minimum: 1),
        .text("settings", "Settings file, or settings as JSON.", minimum: 1),
        .toggle(
            "strictMcpConfig",
            "Offer only the servers of mcpServers; false adds Claude's own.",
            preset: true
        ),
        .toggle("bare", "Minimal mode: no hooks, plugins, memory or CLAUDE.md."),
        .toggle("safeMode", "Start without any customisation."),
        .any("debug", ["boolean", "string"], "Debug output, or its categories."),
        .text("debugFile", "File for debug output.", minimum: 1),
        .toggle("includeHookEvents", "Include hook events in the stream."),
        .text("name", "Display name of the conversation.", minimum: 1),
        .list("pluginDir", "Plugins for this run: directories or .zip files."),
        .list("pluginUrl", "Plugins for this run: addresses of .zip files."),
        .toggle("replayUserMessages", "Repeat the prompt in the stream."),
    ]
}

extension Codex {
    /// What `codex_request` takes beside the shared parameters.
    static let parameters: [Parameter] = [
        .choice(
            "outputFormat",
            ["text", "json"],
            "Form of the reply: its text, or codex's JSON lines.",
            preset: "text"
        ),
        .choice("sandboxMode", sandboxModes, "What commands may touch; read-only unless said."),
        .toggle("fullAuto", "Deprecated: sandboxMode workspace-write.", preset: false),
        .choice(
            "askForApproval",
            ["untrusted", "on-request", "never"],
            "Accepted and ignored with a warning: headless codex never asks."
        ),
        .toggle("useLegacyFullAutoFlag", "Accepted and ignored with a warning.", preset: false),
        .toggle("dangerouslyBypassApprovalsAndSandbox", "Run without any sandbox.", preset: false),
        .toggle("dangerouslyBypassHookTrust", "Run hooks that nobody has trusted yet."),
        .any(
            "outputSchema",
            ["string", "object"],
            "JSON Schema that the reply must follow, or the path of one."
        ),
        .toggle("search", "Accepted and ignored with a warning."),
        .text("profile", "Configuration profile; new conversations only."),
        Parameter(
            "configOverrides",
            [
                "type": "object",
                "description": "Values of codex's config.toml for this run, by dotted key.",
                "propertyNames": ["pattern": "^[a-zA-Z0-9._]+$"],
            ]
        ),
        .toggle("ephemeral", "Keep no conversation on disk; it cannot be continued."),
        .list("images", "Images to look at; the files must exist."),
        .toggle("ignoreUserConfig", "Do not read codex's config.toml."),
        .toggle("ignoreRules", "Do not read .rules files."),
        .list("addDir", "More directories that it may write; new conversations only."),
        .toggle("oss", "Use a local open-source provider; new conversations only."),
        .choice("localProvider", ["lmstudio", "ollama"], "The local provider; new conversations only."),
        .toggle("strictConfig", "Refuse a config.toml with unknown keys."),
        .choice("color", ["always", "never", "auto"], "Colours in the output; new conversations only."),
        .text("outputLastMessage", "File to write the last message to.", minimum: 1),
        .list("enable", "Features to turn on."),
        .list("disable", "Features to turn off; plugins keeps codex from looking for them on github.com."),
        .text("requestInstructions", "Instructions for this request, beside the prompt.", length: 0...16_384),
    ]
}

extension Gemini {
    /// What `gemini_request` takes beside the shared parameters.
    static let parameters: [Parameter] = [
        .choice("outputFormat", ["text", "json", "stream-json"], "Only text is available.", preset: "text"),
        .choice(
            "approvalMode",
            ["default", "auto_edit", "yolo", "plan"],
            "Only default and yolo are available."
        ),
        .toggle("yolo", "Act without asking."),
        .toggle("sandbox", "Run commands in agy's sandbox."),
        .list("includeDirs", "More directories to work with."),
        .list("allowedTools", "Not available with agy."),
        .list("policyFiles", "Not available with agy."),
        .list("adminPolicyFiles", "Not available with agy."),
        .list("attachments", "Not available with agy: name files in the prompt."),
        .toggle("skipTrust", "Not available with agy.", preset: false),
        .text("project", "Project to work in; not together with newProject.", minimum: 1),
        .toggle("newProject", "Work in a new project."),
        .text("printTimeout", "agy's own time limit, such as 90s or 10m; its default is short.", minimum: 1),
    ]
}

extension Grok {
    /// What `grok_request` takes beside the shared parameters.
    static let parameters: [Parameter] = [
        .choice("outputFormat", formats, "Form of the reply; without it the text."),
        .toggle("alwaysApprove", "Act without asking.", preset: false),
        .choice("permissionMode", permissionModes, "What happens to tool calls that nobody allowed."),
        .choice("effort", efforts, "How much thought to spend."),
        .text("reasoningEffort", "The model's own reasoning setting."),
        .list("allowedTools", "The only tools to offer."),
        .list("disallowedTools", "Tools that are taken away."),
        .integer("maxTurns", "Turns after which the run stops.", in: 1...10_000),
        .text("sandbox", "Sandbox profile.", minimum: 1),
        .text("rules", "Rules for this run.", minimum: 1),
        .text("systemPromptOverride", "Replaces the system prompt.", minimum: 1),
        .list("allow", "Permission rules that allow."),
        .list("deny", "Permission rules that deny."),
        .choice("compactionMode", compactionModes, "How a long conversation is shortened."),
        .choice("compactionDetail", compactionDetails, "How much of it is kept."),
        .text("agent", "Agent to run as.", minimum: 1),
        .any("agents", ["string", "object"], "Agents for this run, by name, or as JSON."),
        .integer("bestOfN", "Candidates to choose the best of.", in: 1...10_000),
        .toggle("check", "Check the work at the end."),
        .toggle("disableWebSearch", "No web search."),
        .toggle("todoGate", "Do not stop before the list of tasks is done."),
        .toggle("verbatim", "Send the prompt exactly as it is."),
        .text("promptFile", "File with the prompt, in place of prompt.", minimum: 1),
        .any(
            "promptJson",
            ["string", "array", "object"],
            "The prompt as content blocks, in place of prompt."
        ),
        .text("single", "The prompt, in place of prompt.", minimum: 1),
        .toggle("experimentalMemory", "Use memory across conversations."),
        .toggle("noAltScreen", "No full-screen terminal."),
        .toggle("noMemory", "No memory."),
        .toggle("noPlan", "No plan mode."),
        .toggle("noSubagents", "No subagents."),
        .toggle("oauth", "Log in through the browser."),
        .toggle("restoreCode", "Restore the files of the conversation."),
        .text("leaderSocket", "Socket of a running grok.", minimum: 1),
        .any(
            "nativeWorktree",
            ["boolean", "string"],
            "Run in a worktree that grok makes, or the name of one."
        ),
        .text("worktreeRef", "Commit that grok's worktree starts from.", minimum: 1),
        .any("jsonSchema", ["string", "object"], "JSON Schema that the reply must follow."),
        .toggle("forkSession", "Continue a copy of the conversation, and leave the original as it is."),
        .choice("transport", ["cli", "acp"], "How grok is run; only cli is available.", preset: "cli"),
    ]
}

extension Mistral {
    /// What `mistral_request` takes beside the shared parameters.
    static let parameters: [Parameter] = [
        .choice(
            "outputFormat",
            ["text", "plain", "json", "streaming", "stream-json"],
            "Form of the reply: its text, this run's entries as one array (json), or as lines."
        ),
        .text(
            "permissionMode",
            "Agent: ask, accept-edits, smart-approve, auto-approve, or one of your own; auto-approve without it."
        ),
        .list("allowedTools", "The only tools that may run."),
        .list("disallowedTools", "Tools that may not run."),
        .toggle("trust", "Trust the directory for this run.", preset: false),
        .integer("maxTurns", "Turns after which the run stops.", in: 1...10_000),
        Parameter(
            "maxPrice",
            [
                "type": "number", "minimum": 0.000001, "maximum": 10_000,
                "description": "US dollars after which the run stops.",
            ]
        ),
        .integer("maxTokens", "Tokens after which the run stops.", in: 1...100_000_000),
        .list("addDir", "More directories to work with."),
        .choice("transport", ["cli", "acp"], "How vibe is run; only cli is available.", preset: "cli"),
    ]
}
