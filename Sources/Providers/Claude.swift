import Appliance

/// Claude Code: contract and argument vector, measured on 2.1.329.
///
/// Whatever format the caller asks for, the CLI runs with `stream-json`: only then do output bytes say that it still
/// works, and only then are session, usage and `is_error` known; the reply is put into the caller's format on reading.
/// The prompt travels on standard input (`-p` without argument).
enum Claude {
    static let permissionModes = [
        "default", "acceptEdits", "auto", "bypassPermissions", "manual", "dontAsk", "plan",
    ]
    static let efforts = ["low", "medium", "high", "xhigh", "max"]

    static let contract = CLIContract(
        provider: .claude,
        commands: [
            CLIContract.Command(
                path: [],
                flags: [
                    .flag("-p", "--print"),
                    .one("--model"),
                    .one("--input-format", of: ["text", "stream-json"]),
                    .one("--output-format", of: ["text", "json", "stream-json"]),
                    .flag("--include-partial-messages"),
                    .flag("--verbose"),
                    .variadic("--allowed-tools", "--allowedTools"),
                    .variadic("--disallowed-tools", "--disallowedTools"),
                    .one("--permission-mode", of: permissionModes.filter { $0 != "default" }),
                    .variadic("--mcp-config"),
                    .flag("--strict-mcp-config"),
                    .one("--agent"),
                    .one("--agents"),
                    .flag("--fork-session"),
                    .one("--system-prompt"),
                    .one("--system-prompt-file", hidden: true),
                    .one("--append-system-prompt"),
                    .one("--append-system-prompt-file", hidden: true),
                    .one("--max-budget-usd", as: .decimal),
                    .one("--max-turns", as: .positiveInteger, hidden: true),
                    .one("--effort", of: efforts),
                    .flag("--exclude-dynamic-system-prompt-sections"),
                    .one("--fallback-model"),
                    .one("--json-schema"),
                    .variadic("--add-dir"),
                    .flag("--continue", "-c"),
                    .one("--resume", "-r"),
                    .one("--session-id", as: .uuid),
                    .flag("--no-session-persistence"),
                    .one("--setting-sources"),
                    .one("--settings"),
                    .variadic("--tools"),
                    .flag("--bare"),
                    .flag("--safe-mode"),
                    .optional("--debug", "-d"),
                    .one("--debug-file"),
                    .flag("--include-hook-events"),
                    .one("--name", "-n"),
                    .one("--plugin-dir"),
                    .one("--plugin-url"),
                    .flag("--replay-user-messages"),
                ],
                positionals: 0
            )
        ],
        environment: [],
        acknowledged: [
            "--allow-dangerously-skip-permissions", "--autocompact", "--ax-screen-reader", "--background",
            "--betas", "--bg", "--brief", "--chrome", "--cloud", "--dangerously-skip-permissions",
            "--desktop",
            "--disable-slash-commands", "--environment", "--file", "--forward-subagent-text", "--from-pr",
            "--ide", "--no-chrome", "--permission-prompts", "--prompt-suggestions",
            "--remote-control", "--remote-control-session-name-prefix", "--restricted",
            "--system-prompt-snapshot", "--teleport", "--tmux", "--version", "--worktree",
        ],
        checkedVersion: "2.1.329",
        promptRoute: .standardInput,
        idleTimeout: 600_000,
        streams: true,
        transientFailures: ["econnreset", "etimedout", "econnrefused", "epipe", "connection_failed"],
        transientExits: [124],
        transientStatuses: [408, 429, 500, 502, 503, 504, 529],
        tellsTools: true
    )

    static func plan(_ plan: inout PlanBuilder) throws(GatewayError) {
        plan.outputFormat =
            try plan.arguments.choice("outputFormat", of: ["text", "json", "stream-json"]) ?? "stream-json"
        let prompt = try plan.prompt()
        plan.add("-p")
        try feed(prompt, &plan)
        plan.add("--output-format", "stream-json", "--include-partial-messages", "--verbose")
        plan.model("--model")
        try addTools(&plan)
        try addPermissions(&plan)
        try addServers(&plan)
        try addAgents(&plan)
        try addSystemPrompts(&plan)
        try addLimits(&plan)
        try addSurroundings(&plan)
        try addSession(&plan)
        try plan.takeWorkingDirectory()
    }

    /// The prompt as plain text, or as one message with blocks where a cache mark or an echo was asked for.
    ///
    /// At most one mark is passed on: the CLI adds three of its own and does not count, and the API allows four.
    private static func feed(_ prompt: Prompt, _ plan: inout PlanBuilder) throws(GatewayError) {
        let isEchoed = try plan.arguments.bool("replayUserMessages")
        guard prompt.hasCacheMark || isEchoed else {
            plan.standardInput = Array(prompt.text.utf8)
            return
        }
        if prompt.hasCacheMark {
            guard plan.outputFormat == "stream-json" else {
                throw .invalidInput("promptParts.cacheControl needs outputFormat 'stream-json'")
            }
            guard try !plan.arguments.bool("optimizePrompt") else {
                throw .invalidInput(
                    "promptParts.cacheControl and optimizePrompt exclude each other: an optimised prefix is no stable prefix"
                )
            }
        }
        plan.add("--input-format", "stream-json")
        if isEchoed { plan.add("--replay-user-messages") }
        let marked = prompt.blocks.lastIndex(where: \.isCacheMarked)
        if prompt.blocks.count(where: \.isCacheMarked) > 1, let marked {
            plan.warn(
                "cache_control_merged",
                "only the mark on '\(prompt.blocks[marked].name)' was passed on; it covers the parts before it"
            )
        }
        let blocks = prompt.blocks.enumerated().map { index, block -> JSON in
            var json: JSON = ["type": "text", "text": .string((index == 0 ? "" : "\n\n") + block.text)]
            if index == marked { json["cache_control"] = ["type": "ephemeral"] }
            return json
        }
        let message: JSON = ["type": "user", "message": ["role": "user", "content": .array(blocks)]]
        plan.standardInput = message.compact + [0x0A]
    }

    private static func addTools(_ plan: inout PlanBuilder) throws(GatewayError) {
        for (flag, parameter) in [
            ("--allowed-tools", "allowedTools"), ("--disallowed-tools", "disallowedTools"),
        ] {
            let words = try plan.arguments.words(parameter)
            if !words.isEmpty { plan.planned += ([flag] + words).map { .text($0) } }
        }
        if plan.arguments.has("tools") {
            let words = try plan.arguments.words("tools")
            // An empty word means: no tools at all; an empty list can mean nothing else.
            plan.planned += (["--tools"] + (words.isEmpty ? [""] : words)).map { .text($0) }
        }
    }

    private static func addPermissions(_ plan: inout PlanBuilder) throws(GatewayError) {
        let mode = try plan.arguments.choice("permissionMode", of: permissionModes)
        let skips = try plan.arguments.bool("dangerouslySkipPermissions")
        if try plan.isManaged {
            let asked = skips || mode == "bypassPermissions"
            plan.add(
                "--permission-mode",
                plan.allowsManagedBypass(asked: asked) ? "bypassPermissions" : "acceptEdits"
            )
            return
        }
        if let mode, skips {
            plan.warn(
                "permission_mode_wins",
                "permissionMode '\(mode)' was used; dangerouslySkipPermissions is deprecated and was ignored"
            )
        }
        if let mode {
            if mode != "default" { plan.add("--permission-mode", mode) }
        } else if skips {
            plan.add("--permission-mode", "bypassPermissions")
        }
    }

    /// Claude sees only the servers that the request names, unless the caller says otherwise.
    private static func addServers(_ plan: inout PlanBuilder) throws(GatewayError) {
        let servers = try plan.arguments.strings("mcpServers")
        let isStrict =
            plan.arguments.has("strictMcpConfig") ? try plan.arguments.bool("strictMcpConfig") : true
        if !servers.isEmpty {
            if let document = plan.options.mcpConfiguration {
                plan.add("--mcp-config", file: "mcp.json", contents: document.compact)
            } else {
                try leaveOut(servers, isStrict, &plan)
            }
        }
        if isStrict { plan.add("--strict-mcp-config") }
    }

    /// Nothing resolves the names of servers here: that ends a strict request, and a lenient one goes without them.
    private static func leaveOut(
        _ servers: [String],
        _ isStrict: Bool,
        _ plan: inout PlanBuilder
    ) throws(GatewayError) {
        let names = servers.joined(separator: ", ")
        guard !isStrict else {
            throw .unsupported(
                "strictMcpConfig=true but requested servers are unavailable: \(names)",
                help:
                    "leave 'mcpServers' out, or set strictMcpConfig to false to run with Claude's own servers only"
            )
        }
        plan.warnings.append(
            RequestWarning(
                "mcp_servers_missing",
                "requested servers are unavailable, and Claude runs with its own only: \(names)",
                details: JSONObject([("requested", .strings(servers)), ("missing", .strings(servers))])
            )
        )
    }

    private static func addAgents(_ plan: inout PlanBuilder) throws(GatewayError) {
        try plan.option("--agent", "agent")
        guard let agents = plan.arguments.values["agents"], !agents.isNull else { return }
        plan.add("--agents", value: try checked(agents: agents).compactText)
    }

    /// Checks a map of agent definitions: name → {description, prompt, tools?, model?}.
    static func checked(agents: JSON) throws(GatewayError) -> JSON {
        guard let map = agents.object else { throw .invalidInput("'agents' must be an object") }
        for (name, definition) in map.members {
            func wrong(_ path: String, _ reason: String) -> GatewayError {
                .invalidInput(
                    "Invalid agent definition for \"\(name)\"\(path.isEmpty ? "" : "." + path): \(reason)"
                )
            }
            guard let members = definition.object else { throw wrong("", "must be an object") }
            for required in ["description", "prompt"] {
                guard let text = members[required]?.string, !text.isEmpty else {
                    throw wrong(required, "must be a non-empty string")
                }
            }
            if let tools = members["tools"], tools.array?.allSatisfy({ $0.string != nil }) != true {
                throw wrong("tools", "must be an array of strings")
            }
            if let model = members["model"], model.string == nil { throw wrong("model", "must be a string") }
        }
        return agents
    }

    /// System prompts go as files once they are too long for an argument.
    private static func addSystemPrompts(_ plan: inout PlanBuilder) throws(GatewayError) {
        let replacement = try plan.arguments.string("systemPrompt")
        let addition = try plan.arguments.string("appendSystemPrompt")
        if replacement != nil, addition != nil {
            throw .invalidInput(
                "systemPrompt and appendSystemPrompt are mutually exclusive; use one or the other (not both)."
            )
        }
        for (text, file) in [
            ("systemPrompt", "systemPromptFile"), ("appendSystemPrompt", "appendSystemPromptFile"),
        ] where plan.arguments.has(text) && plan.arguments.has(file) {
            throw .invalidInput("'\(text)' and '\(file)' exclude each other")
        }
        let instructions = try plan.arguments.string("requestInstructions")
        if let replacement { addText("--system-prompt", replacement, &plan) }
        try plan.option("--system-prompt-file", "systemPromptFile", path: .readFile)
        if instructions != nil, plan.arguments.has("appendSystemPromptFile") {
            throw .invalidInput("'requestInstructions' and 'appendSystemPromptFile' exclude each other")
        }
        let appended = [addition, instructions].compactMap(\.self).joined(separator: "\n\n")
        if !appended.isEmpty { addText("--append-system-prompt", appended, &plan) }
        try plan.option("--append-system-prompt-file", "appendSystemPromptFile", path: .readFile)
        try plan.toggle("--exclude-dynamic-system-prompt-sections", "excludeDynamicSystemPromptSections")
    }

    private static func addText(_ flag: String, _ text: String, _ plan: inout PlanBuilder) {
        if text.utf8.count < 64 << 10 {
            plan.add(flag, value: text)
        } else {
            plan.add("\(flag)-file", file: "\(flag.dropFirst(2)).txt", contents: Array(text.utf8))
        }
    }

    private static func addLimits(_ plan: inout PlanBuilder) throws(GatewayError) {
        if let budget = try plan.arguments.number("maxBudgetUsd", in: 0...1_000_000) {
            guard budget > 0 else { throw .invalidInput("'maxBudgetUsd' must be greater than 0") }
            plan.add("--max-budget-usd", Decimals.text(budget))
        }
        try plan.option("--max-turns", "maxTurns", in: 1...1_000_000)
        try plan.option("--effort", "effort", of: efforts)
        try plan.option("--fallback-model", "fallbackModel")
        guard let schema = plan.arguments.values["jsonSchema"], !schema.isNull else { return }
        let text = schema.string ?? schema.compactText
        guard let parsed = try? JSON.parse(text), parsed.object != nil else {
            throw .invalidInput("'jsonSchema' must be a JSON object, or the text of one")
        }
        plan.add("--json-schema", value: text)
    }

    private static func addSurroundings(_ plan: inout PlanBuilder) throws(GatewayError) {
        try plan.each("--add-dir", "addDir", paths: .directory)
        try plan.toggle("--no-session-persistence", "noSessionPersistence")
        try plan.option("--setting-sources", "settingSources")
        if let settings = try plan.arguments.string("settings") {
            plan.add("--settings", value: settings)
            if !settings.hasPrefix("{") {
                plan.declare("settings", settings, .readFile)
            } else if (try? JSON.parse(settings))?.object == nil {
                // Claude takes what is no JSON for a path, and this one would be confined to nothing.
                throw .invalidInput("'settings' looks like JSON and is none")
            }
        }
        try plan.toggle("--bare", "bare")
        try plan.toggle("--safe-mode", "safeMode")
        if let debug = plan.arguments.values["debug"], !debug.isNull {
            if let filter = debug.string, !filter.isEmpty {
                plan.add("--debug=\(filter)")
            } else if debug.bool == true {
                plan.add("--debug")
            }
        }
        try plan.option("--debug-file", "debugFile", path: .writeFile)
        try plan.toggle("--include-hook-events", "includeHookEvents")
        try plan.option("--name", "name")
        try plan.each("--plugin-dir", "pluginDir", paths: .readFile)
        try plan.each("--plugin-url", "pluginUrl")
    }

    /// A new conversation gets an id of ours, so that even a run that is killed can be resumed.
    private static func addSession(_ plan: inout PlanBuilder) throws(GatewayError) {
        let isKept = try !plan.arguments.bool("noSessionPersistence")
        switch plan.session {
        case .new(let id?):
            guard CLIContract.Pattern.uuid.matches(id) else {
                throw .invalidInput(
                    "session id '\(id.prefix(64))' is not a UUID, and claude starts conversations with no other ids"
                )
            }
            plan.add("--session-id", id)
        case .new(nil): if isKept { plan.planned += [.text("--session-id"), .newSessionID] }
        case .resume(let id): plan.add("--resume", value: id)
        case .latest: plan.add("--continue")
        case .fork(let id):
            if let id { plan.add("--resume", value: id) } else { plan.add("--continue") }
            plan.add("--fork-session")
            if isKept { plan.planned += [.text("--session-id"), .newSessionID] }
        }
    }
}

/// Numbers as the CLIs read them: no exponent, no superfluous zeros.
enum Decimals {
    /// The decimal form with at most nine digits after the point.
    static func text(_ value: Double) -> String {
        let scaled = (value * 1_000_000_000).rounded()
        guard scaled.magnitude < 9e18 else { return String(Int64(value)) }
        let digits = Int64(scaled)
        let whole = digits / 1_000_000_000
        var fraction = String(digits % 1_000_000_000)
        fraction = String(repeating: "0", count: 9 - fraction.count) + fraction
        while fraction.hasSuffix("0") { fraction.removeLast() }
        return fraction.isEmpty ? String(whole) : "\(whole).\(fraction)"
    }
}
