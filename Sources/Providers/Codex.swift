import Appliance

/// Codex: contract and argument vector, measured on codex-cli 0.163.0.
///
/// Always `--json`, because text output hides session and usage, and always with an explicit sandbox: codex remembers a
/// directory that it once could write to, and would take that as the default. The prompt travels on standard input (`-`).
///
/// The user's plugins stay on although looking for them costs requests to github.com: a run under the gateway behaves
/// as a run in the shell does; `disable: ["plugins"]` turns them off.
enum Codex {
    static let sandboxModes = ["read-only", "workspace-write", "danger-full-access"]

    /// Flags of `exec`, `exec resume` and `exec fork`.
    private static let shared: [CLIContract.Flag] = [
        .one("--model", "-m"),
        .flag("--dangerously-bypass-approvals-and-sandbox"),
        .flag("--dangerously-bypass-hook-trust"),
        .flag("--json"),
        .flag("--skip-git-repo-check"),
        .one("--output-schema"),
        .one("-c", "--config", as: .configurationOverride),
        .one("--enable"),
        .one("--disable"),
        .flag("--strict-config"),
        .flag("--ephemeral"),
        .one("-i", "--image"),
        .flag("--ignore-user-config"),
        .flag("--ignore-rules"),
        .one("--output-last-message", "-o"),
    ]

    static let contract = CLIContract(
        provider: .codex,
        commands: [
            CLIContract.Command(
                path: ["exec"],
                flags: shared + [
                    .one("--sandbox", "-s", of: sandboxModes),
                    .one("--profile", "-p"),
                    .one("--add-dir"),
                    .one("--cd", "-C"),
                    .flag("--oss"),
                    .one("--local-provider", of: ["lmstudio", "ollama"]),
                    .one("--color", of: ["always", "never", "auto"]),
                ],
                positionals: 1
            ),
            CLIContract.Command(
                path: ["exec", "resume"],
                flags: shared + [.flag("--last"), .flag("--all")],
                positionals: 2
            ),
            CLIContract.Command(path: ["exec", "fork"], flags: shared, positionals: 2),
        ],
        environment: [],
        acknowledged: [
            "--approve-for-me", "--cyber-access-program", "--thread-source", "--version", "--worktree",
        ],
        checkedVersion: "0.163.0",
        promptRoute: .standardInput,
        idleTimeout: 600_000,
        streams: true,
        transientFailures: [
            "econnreset", "etimedout", "econnrefused", "epipe", "stream disconnected", "high demand",
            "unexpected status 429", "unexpected status 5",
        ],
        transientExits: [124],
        transientStatuses: [],
        tellsTools: true
    )

    static func plan(_ plan: inout PlanBuilder) throws(GatewayError) {
        plan.outputFormat = try plan.arguments.choice("outputFormat", of: ["text", "json"]) ?? "text"
        let prompt = try plan.prompt()
        plan.standardInput = Array(prompt.text.utf8)
        plan.warnAboutCacheMarks(of: prompt)
        switch plan.session {
        case .new: plan.add("exec")
        case .resume: plan.add("exec", "resume")
        case .latest: plan.add("exec", "resume", "--last")
        case .fork: plan.add("exec", "fork")
        }
        plan.model("--model")
        try addSandbox(&plan)
        plan.add("--json", "--skip-git-repo-check")
        try addDirectories(&plan)
        try addSchema(&plan)
        try addConfiguration(&plan)
        try addImages(&plan)
        try plan.toggle("--ephemeral", "ephemeral")
        try plan.toggle("--ignore-user-config", "ignoreUserConfig")
        try plan.toggle("--ignore-rules", "ignoreRules")
        try plan.toggle("--dangerously-bypass-hook-trust", "dangerouslyBypassHookTrust")
        try plan.toggle("--strict-config", "strictConfig")
        try plan.each("--enable", "enable")
        try plan.each("--disable", "disable")
        try plan.option("--output-last-message", "outputLastMessage", path: .writeFile)
        try warnAboutIgnored(&plan)
        switch plan.session {
        case .resume(let id), .fork(let id?): plan.add(id)
        case .fork(nil):
            throw .invalidInput("codex forks a conversation only by its id: pass 'sessionId'")
        case .new(let id?):
            throw .invalidInput("codex chooses the ids of new conversations itself, '\(id)' cannot be used")
        case .new(nil), .latest: break
        }
        plan.add("-")
    }

    private static func isNew(_ plan: PlanBuilder) -> Bool { !plan.session.continuesConversation }

    private static func addSandbox(_ plan: inout PlanBuilder) throws(GatewayError) {
        let bypasses = try plan.arguments.bool("dangerouslyBypassApprovalsAndSandbox")
        let isFullAuto = try plan.arguments.bool("fullAuto")
        let isManaged = try plan.isManaged
        if bypasses, !isManaged || plan.allowsManagedBypass(asked: true) {
            plan.add("--dangerously-bypass-approvals-and-sandbox")
            return
        }
        if bypasses {
            plan.warn(
                "bypass_not_allowed",
                "dangerouslyBypassApprovalsAndSandbox was not passed on: the operator does not allow it"
            )
        }
        let chosen = try plan.arguments.choice("sandboxMode", of: sandboxModes)
        if isFullAuto {
            plan.warn("deprecated_parameter", "fullAuto is deprecated; use sandboxMode 'workspace-write'")
        }
        let mode = chosen ?? (isFullAuto || isManaged ? "workspace-write" : "read-only")
        if isNew(plan) {
            plan.add("--sandbox", mode)
        } else {
            // resume and fork have no sandbox flag; the value is TOML.
            plan.add("-c", "sandbox_mode=\"\(mode)\"")
        }
    }

    /// What only a new conversation takes; said, not dropped silently.
    private static func addDirectories(_ plan: inout PlanBuilder) throws(GatewayError) {
        try plan.takeWorkingDirectory()
        if isNew(plan) {
            try plan.each("--add-dir", "addDir", paths: .directory)
            try plan.option("--profile", "profile")
            try plan.toggle("--oss", "oss")
            try plan.option("--local-provider", "localProvider", of: ["lmstudio", "ollama"])
            try plan.option("--color", "color", of: ["always", "never", "auto"])
            return
        }
        for name in ["addDir", "profile", "oss", "localProvider", "color"] where plan.arguments.has(name) {
            let value = plan.arguments.values[name] ?? .null
            if value == .bool(false) || value == .array([]) { continue }
            plan.warn(
                "ignored_on_resume",
                "'\(name)' was ignored: codex takes it only for a new conversation"
            )
        }
    }

    /// Attached to the flag: `exec` takes as many images as there are words, the `-` of the prompt among them.
    private static func addImages(_ plan: inout PlanBuilder) throws(GatewayError) {
        for path in try plan.arguments.strings("images") where !path.isEmpty {
            guard !path.contains(",") else {
                throw .invalidInput(
                    "images: '\(path)' contains a comma, at which codex would take it for two files",
                    help: "give the image another name, or link to it"
                )
            }
            plan.add("--image=\(path)")
            plan.declare("images", path, .readFile, mustExist: true)
        }
    }

    private static func addSchema(_ plan: inout PlanBuilder) throws(GatewayError) {
        guard let schema = plan.arguments.values["outputSchema"], !schema.isNull else { return }
        if let text = schema.string, !text.drop(while: \.isWhitespace).hasPrefix("{") {
            plan.add("--output-schema", value: text)
            plan.declare("outputSchema", text, .readFile, mustExist: true)
            return
        }
        let document: JSON
        if let text = schema.string {
            guard let parsed = try? JSON.parse(text) else {
                throw .invalidInput("'outputSchema' looks like JSON and is none")
            }
            document = parsed
        } else {
            document = schema
        }
        guard document.object != nil else {
            throw .invalidInput("'outputSchema' must be a JSON object or the path of a file with one")
        }
        plan.add("--output-schema", file: "output-schema.json", contents: document.compact)
    }

    private static func addConfiguration(_ plan: inout PlanBuilder) throws(GatewayError) {
        if let instructions = try plan.arguments.string("requestInstructions") {
            // A JSON string without line breaks is a TOML basic string.
            plan.add("-c", "developer_instructions=\(JSON.string(instructions).compactText)")
        }
        guard let overrides = plan.arguments.values["configOverrides"], !overrides.isNull else { return }
        guard let map = overrides.object else { throw .invalidInput("'configOverrides' must be an object") }
        for (key, value) in map.members {
            let text = value.string ?? value.compactText
            guard !key.isEmpty, key.utf8.allSatisfy(CLIContract.Pattern.isKeyByte) else {
                throw .invalidInput(
                    "configOverrides key '\(key)' may only have letters, digits, dots and underscores"
                )
            }
            guard !text.contains(where: \.isNewline), !text.utf8.contains(0) else {
                throw .invalidInput("the value of configOverrides '\(key)' contains a line break")
            }
            plan.add("-c", "\(key)=\(text)")
        }
    }

    private static func warnAboutIgnored(_ plan: inout PlanBuilder) throws(GatewayError) {
        if try plan.arguments.string("askForApproval") != nil {
            plan.warn("ignored_parameter", "askForApproval was ignored: 'codex exec' never asks")
        }
        if try plan.arguments.bool("search") {
            plan.warn(
                "ignored_parameter",
                "search was ignored: 'codex exec' has no such flag; enable web search in config.toml"
            )
        }
        if try plan.arguments.bool("useLegacyFullAutoFlag") {
            plan.warn("ignored_parameter", "useLegacyFullAutoFlag was ignored: codex has no --full-auto flag")
        }
    }
}
