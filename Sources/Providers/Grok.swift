import Appliance

/// Grok Build: contract and argument vector, from documentation.
///
/// The prompt travels in a file of the job (`--prompt-file`): headless grok does not read standard input. Without a
/// chosen format the CLI is asked for `json`, which names the session and the usage, and the reply is its text.
enum Grok {
    static let permissionModes = ["default", "acceptEdits", "auto", "dontAsk", "bypassPermissions", "plan"]
    static let formats = ["plain", "json", "streaming-json", "streaming-messages-json"]
    static let efforts = ["low", "medium", "high", "xhigh", "max"]
    static let compactionModes = ["summary", "transcript", "segments"]
    static let compactionDetails = ["none", "minimal", "balanced", "verbose"]

    static let contract = CLIContract(
        provider: .grok,
        commands: [
            CLIContract.Command(
                path: [],
                flags: [
                    .one("--single", "-p"),
                    .one("--prompt-file"),
                    .one("--prompt-json"),
                    .one("--model", "-m"),
                    .one("--output-format", of: formats),
                    .flag("--always-approve"),
                    .one("--permission-mode", of: permissionModes),
                    .one("--effort", of: efforts),
                    .one("--reasoning-effort"),
                    .one("--tools"),
                    .one("--disallowed-tools"),
                    .optional("--resume", "-r"),
                    .flag("--continue", "-c"),
                    .flag("--fork-session"),
                    .one("--max-turns", as: .positiveInteger),
                    .one("--cwd"),
                    .one("--sandbox"),
                    .one("--rules"),
                    .one("--system-prompt-override"),
                    .one("--allow"),
                    .one("--deny"),
                    .one("--agent"),
                    .one("--agents"),
                    .one("--best-of-n", as: .positiveInteger),
                    .flag("--check"),
                    .flag("--disable-web-search"),
                    .flag("--experimental-memory"),
                    .flag("--no-alt-screen"),
                    .flag("--no-memory"),
                    .flag("--no-plan"),
                    .flag("--no-subagents"),
                    .flag("--oauth"),
                    .flag("--restore-code"),
                    .one("--leader-socket"),
                    .flag("--todo-gate", hidden: true),
                    .flag("--verbatim"),
                    .optional("--worktree", "-w"),
                    .one("--worktree-ref", hidden: true),
                    .one("--json-schema"),
                    .one("--compaction-mode", of: compactionModes, hidden: true),
                    .one("--compaction-detail", of: compactionDetails, hidden: true),
                ],
                positionals: 0
            )
        ],
        environment: [],
        acknowledged: ["--debug", "--debug-file", "--session-id", "--no-auto-update", "--yolo", "--version"],
        checkedVersion: nil,
        promptRoute: .file,
        idleTimeout: 3_600_000,
        streams: false,
        transientFailures: ["econnreset", "etimedout", "econnrefused", "epipe"],
        transientExits: [124],
        transientStatuses: [],
        tellsTools: false
    )

    static func plan(_ plan: inout PlanBuilder) throws(GatewayError) {
        let asked = try plan.arguments.choice("outputFormat", of: formats)
        plan.outputFormat = asked ?? "text"
        if asked?.hasPrefix("streaming") == true { plan.idleDefault = 600_000 }
        plan.model("--model")
        plan.add("--output-format", asked ?? "json")
        try addPermissions(&plan)
        try addTuning(&plan)
        try addAgents(&plan)
        try addPrompt(&plan)
        try addSwitches(&plan)
        switch plan.session {
        case .new(nil): break
        case .new(let id?):
            throw .invalidInput("grok chooses the ids of new conversations itself, '\(id)' cannot be used")
        case .resume(let id): plan.add("--resume", value: id)
        case .latest: plan.add("--continue")
        case .fork(let id):
            if let id { plan.add("--resume", value: id) } else { plan.add("--continue") }
            plan.add("--fork-session")
        }
        try plan.takeWorkingDirectory()
    }

    private static func addPermissions(_ plan: inout PlanBuilder) throws(GatewayError) {
        let mode = try plan.arguments.choice("permissionMode", of: permissionModes)
        let approves = try plan.arguments.bool("alwaysApprove")
        if try plan.isManaged {
            if plan.allowsManagedBypass(asked: approves || mode == "bypassPermissions") {
                plan.add("--always-approve")
            } else {
                plan.add("--permission-mode", "acceptEdits")
            }
        } else if approves {
            if let mode {
                plan.warn(
                    "always_approve_wins",
                    "alwaysApprove was used; permissionMode '\(mode)' was ignored"
                )
            }
            plan.add("--always-approve")
        } else if let mode {
            plan.add("--permission-mode", mode)
        }
    }

    private static func addTuning(_ plan: inout PlanBuilder) throws(GatewayError) {
        try plan.option("--effort", "effort", of: efforts)
        try plan.option("--reasoning-effort", "reasoningEffort")
        for (flag, parameter) in [("--tools", "allowedTools"), ("--disallowed-tools", "disallowedTools")] {
            let words = try plan.arguments.words(parameter)
            if !words.isEmpty { plan.add(flag, value: words.joined(separator: ",")) }
        }
        try plan.option("--max-turns", "maxTurns", in: 1...10_000)
        try plan.option("--sandbox", "sandbox")
        try plan.option("--rules", "rules")
        try plan.option("--system-prompt-override", "systemPromptOverride")
        try plan.each("--allow", "allow")
        try plan.each("--deny", "deny")
        try plan.option("--compaction-mode", "compactionMode", of: compactionModes)
        try plan.option("--compaction-detail", "compactionDetail", of: compactionDetails)
        try plan.option("--agent", "agent")
        try plan.option("--best-of-n", "bestOfN", in: 1...10_000)
        try plan.toggle("--check", "check")
        try plan.toggle("--disable-web-search", "disableWebSearch")
        try plan.toggle("--todo-gate", "todoGate")
        try plan.toggle("--verbatim", "verbatim")
        if let schema = plan.arguments.values["jsonSchema"], !schema.isNull {
            plan.add("--json-schema", value: schema.string ?? schema.compactText)
        }
    }

    private static func addAgents(_ plan: inout PlanBuilder) throws(GatewayError) {
        guard let agents = plan.arguments.values["agents"], !agents.isNull else { return }
        if let text = agents.string {
            guard text.contains(where: { !$0.isWhitespace }) else {
                throw .invalidInput("'agents' must not be blank")
            }
            plan.add("--agents", value: text)
        } else {
            plan.add("--agents", value: try Claude.checked(agents: agents).compactText)
        }
    }

    /// Exactly one source of the prompt: grok would take one of several, and nobody would know which.
    private static func addPrompt(_ plan: inout PlanBuilder) throws(GatewayError) {
        let others = ["promptFile", "promptJson", "single"].filter { plan.arguments.has($0) }
        let own = ["prompt", "promptParts"].filter { plan.arguments.has($0) }
        guard others.count + min(own.count, 1) <= 1 else {
            throw .invalidInput(
                "grok takes one prompt, found \((own + others).map { "'\($0)'" }.joined(separator: " and "))"
            )
        }
        switch others.first {
        case "promptFile":
            try plan.option("--prompt-file", "promptFile", path: .readFile)
            plan.promptText = "promptFile: \(try plan.arguments.string("promptFile") ?? "")"
        case "promptJson":
            let json = plan.arguments.values["promptJson"] ?? .null
            let text = json.string ?? json.compactText
            guard text.contains(where: { !$0.isWhitespace }) else {
                throw .invalidInput("'promptJson' must not be blank")
            }
            plan.add("--prompt-json", value: text)
            plan.promptText = text
        case .some:
            let text = try plan.arguments.string("single") ?? ""
            let prompt = try Prompt(text: text, limit: plan.options.maximumPromptCharacters)
            plan.promptText = prompt.text
            write(prompt, &plan)
        case nil: write(try plan.prompt(), &plan)
        }
    }

    private static func write(_ prompt: Prompt, _ plan: inout PlanBuilder) {
        plan.warnAboutCacheMarks(of: prompt)
        plan.add("--prompt-file", file: "prompt.txt", contents: Array(prompt.text.utf8))
    }

    private static func addSwitches(_ plan: inout PlanBuilder) throws(GatewayError) {
        for (flag, parameter) in [
            ("--experimental-memory", "experimentalMemory"), ("--no-alt-screen", "noAltScreen"),
            ("--no-memory", "noMemory"), ("--no-plan", "noPlan"), ("--no-subagents", "noSubagents"),
            ("--oauth", "oauth"), ("--restore-code", "restoreCode"),
        ] {
            try plan.toggle(flag, parameter)
        }
        try plan.option("--leader-socket", "leaderSocket", path: .readFile)
        if let tree = plan.arguments.values["nativeWorktree"], !tree.isNull {
            if let name = tree.string {
                guard !name.isEmpty else { throw .invalidInput("'nativeWorktree' must not be empty") }
                plan.add("--worktree", value: name)
            } else if tree.bool == true {
                plan.add("--worktree")
            }
        }
        try plan.option("--worktree-ref", "worktreeRef")
    }
}
