import Appliance

/// Mistral Vibe: contract and argument vector, measured on vibe 3.0.2.
///
/// Always `--output streaming`, because `json` repeats the whole history on a resume, and always `--output-dir`, the
/// only place that names usage, cost and outcome. The prompt travels on standard input (`-p` without argument).
enum Mistral {
    /// What runs without a mode of the caller, as the contract has it.
    static let defaultAgent = "auto-approve"
    static let exportFile = "output/export.json"

    static let contract = CLIContract(
        provider: .mistral,
        commands: [
            CLIContract.Command(
                path: [],
                flags: [
                    .optional("-p", "--prompt"),
                    .one("--prompt-file"),
                    .one("--output", of: ["text", "json", "streaming"]),
                    .one("--output-dir"),
                    .one("--agent"),
                    .one("--enabled-tools"),
                    .one("--disabled-tools"),
                    .optional("--resume"),
                    .flag("--continue", "-c"),
                    .flag("--trust"),
                    .one("--max-turns", as: .positiveInteger),
                    .one("--max-price", as: .decimal),
                    .one("--max-tokens", as: .positiveInteger),
                    .one("--workdir"),
                    .one("--add-dir"),
                ],
                positionals: 0
            )
        ],
        environment: [CLIContract.EnvironmentKey(name: "VIBE_ACTIVE_MODEL", pattern: .modelName)],
        acknowledged: [
            "--auto-approve", "--check-upgrade", "--setup", "--smart-approve", "--time-limit", "--version",
            "--worktree",
        ],
        checkedVersion: "3.0.2",
        promptRoute: .standardInput,
        idleTimeout: 3_600_000,
        streams: false,
        transientFailures: ["econnreset", "etimedout", "econnrefused", "epipe"],
        transientExits: [124],
        transientStatuses: [],
        tellsTools: true
    )

    static func plan(_ plan: inout PlanBuilder) throws(GatewayError) {
        let formats = ["text", "plain", "json", "streaming", "stream-json"]
        plan.outputFormat = try plan.arguments.choice("outputFormat", of: formats) ?? "text"
        let prompt = try plan.prompt()
        plan.standardInput = Array(prompt.text.utf8)
        plan.warnAboutCacheMarks(of: prompt)
        plan.add("-p", "--output", "streaming")
        plan.planned += [.text("--output-dir"), .jobPath("output")]
        plan.directories = ["output"]
        plan.collected = [exportFile]
        try addAgent(&plan)
        try plan.each("--enabled-tools", "allowedTools")
        try plan.each("--disabled-tools", "disallowedTools")
        try plan.toggle("--trust", "trust")
        try plan.option("--max-turns", "maxTurns", in: 1...10_000)
        if let price = try plan.arguments.number("maxPrice", in: 1e-6...10_000) {
            plan.add("--max-price", Decimals.text(price))
        }
        try plan.option("--max-tokens", "maxTokens", in: 1...100_000_000)
        try plan.each("--add-dir", "addDir", paths: .directory)
        try plan.takeWorkingDirectory()
        switch plan.session {
        case .new(nil): break
        case .new(let id?):
            throw .invalidInput("vibe chooses the ids of new conversations itself, '\(id)' cannot be used")
        case .resume(let id): plan.add("--resume", value: id)
        case .latest: plan.add("--continue")
        case .fork: throw .unsupported("vibe has no way to copy a conversation")
        }
        try setModel(&plan)
    }

    private static func addAgent(_ plan: inout PlanBuilder) throws(GatewayError) {
        let mode = try plan.arguments.string("permissionMode")
        if try plan.isManaged {
            let asked = mode == "auto-approve"
            plan.add("--agent", plan.allowsManagedBypass(asked: asked) ? "auto-approve" : "accept-edits")
        } else {
            plan.add("--agent", value: mode ?? defaultAgent)
        }
    }

    /// vibe has no model flag, and runs its default for a name that it does not know, so the name is checked first.
    private static func setModel(_ plan: inout PlanBuilder) throws(GatewayError) {
        guard let model = plan.options.model else { return }
        guard CLIContract.Pattern.modelName.matches(model) else {
            throw .invalidInput("model '\(model)' contains white space or control characters")
        }
        switch plan.options.modelStanding {
        case .unknown(let known):
            throw GatewayError(
                "unknown-model",
                "vibe knows no model '\(model)' and would silently run its default; it knows \(known.joined(separator: ", "))",
                help: "use one of these, or add a [[models]] entry with this alias to vibe's config.toml"
            )
        case .known, .unverified: break
        }
        plan.environment["VIBE_ACTIVE_MODEL"] = model
    }
}
