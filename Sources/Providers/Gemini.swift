import Appliance

/// Antigravity's `agy`: contract and argument vector, from documentation.
///
/// `agy` takes its prompt only as an argument. `--print` and the prompt come last and side by side, which means the
/// same whether a version reads the prompt as the flag's value or as a word of its own; and a prompt that starts with
/// `-` gets a space in front, so that no version can read it as a flag.
enum Gemini {
    static let contract = CLIContract(
        provider: .gemini,
        commands: [
            CLIContract.Command(
                path: [],
                flags: [
                    .flag("--print", "-p", "--prompt"),
                    .one("--model"),
                    .one("--add-dir"),
                    .flag("--sandbox"),
                    .flag("--dangerously-skip-permissions"),
                    .one("--conversation"),
                    .flag("--continue", "-c"),
                    .one("--project"),
                    .flag("--new-project"),
                    .one("--print-timeout", as: .duration),
                ],
                positionals: 1
            )
        ],
        environment: [],
        acknowledged: ["--prompt-interactive", "-i", "--log-file", "--version"],
        checkedVersion: nil,
        promptRoute: .argument,
        idleTimeout: 3_600_000,
        streams: false,
        transientFailures: ["econnreset", "etimedout", "econnrefused", "epipe"],
        transientExits: [124],
        transientStatuses: [],
        tellsTools: false
    )

    static func plan(_ plan: inout PlanBuilder) throws(GatewayError) {
        plan.outputFormat =
            try plan.arguments.choice("outputFormat", of: ["text", "json", "stream-json"]) ?? "text"
        try refuseUnsupported(plan)
        let prompt = try plan.prompt()
        plan.warnAboutCacheMarks(of: prompt)
        plan.model("--model")
        try plan.each("--add-dir", "includeDirs", paths: .directory)
        try plan.toggle("--sandbox", "sandbox")
        let isYolo = try plan.arguments.bool("yolo")
        let mode = try plan.arguments.string("approvalMode")
        let asksBypass = isYolo || mode == "yolo"
        let isManaged = try plan.isManaged
        if asksBypass, !isManaged || plan.allowsManagedBypass(asked: true) {
            plan.add("--dangerously-skip-permissions")
        } else if asksBypass {
            plan.warn("bypass_not_allowed", "yolo was not passed on: the operator does not allow it")
        }
        try addProject(&plan)
        switch plan.session {
        case .new(nil): break
        case .new(let id?):
            throw .invalidInput("agy chooses the ids of new conversations itself, '\(id)' cannot be used")
        case .resume(let id): plan.add("--conversation", value: id)
        case .latest: plan.add("--continue")
        case .fork: throw unsupported("forkSession", "it has no way to copy a conversation")
        }
        try plan.takeWorkingDirectory()
        let text = prompt.text.utf8.first == 0x2D ? " \(prompt.text)" : prompt.text
        plan.add("--print", text)
    }

    private static func addProject(_ plan: inout PlanBuilder) throws(GatewayError) {
        if plan.arguments.has("project"), try plan.arguments.bool("newProject") {
            throw .invalidInput("'project' and 'newProject' exclude each other")
        }
        try plan.option("--project", "project")
        try plan.toggle("--new-project", "newProject")
        if let time = try plan.arguments.string("printTimeout") {
            guard CLIContract.Pattern.duration.matches(time) else {
                throw .invalidInput("'printTimeout' must be a duration such as 90s or 10m, found '\(time)'")
            }
            plan.add("--print-timeout", time)
        }
    }

    private static func refuseUnsupported(_ plan: PlanBuilder) throws(GatewayError) {
        let arguments = plan.arguments
        let mode = try arguments.choice("approvalMode", of: ["default", "auto_edit", "yolo", "plan"])
        if let mode, mode == "auto_edit" || mode == "plan" {
            throw unsupported("approvalMode", "there is no mode '\(mode)'; use 'default' or 'yolo'")
        }
        let lists = [
            ("allowedTools", "it has no flag for tools"),
            ("mcpServers", "it uses the servers of its own configuration"),
            ("policyFiles", "it has no policy files"),
            ("adminPolicyFiles", "it has no policy files"),
            ("attachments", "name the files in the prompt and their folder in includeDirs"),
        ]
        for (name, reason) in lists where try !arguments.strings(name).isEmpty {
            throw unsupported(name, reason)
        }
        if plan.outputFormat != "text" {
            throw unsupported("outputFormat", "it prints text only, '\(plan.outputFormat)' is not available")
        }
        if try arguments.bool("skipTrust") { throw unsupported("skipTrust", "it has no such flag") }
    }

    private static func unsupported(_ field: String, _ reason: String) -> GatewayError {
        .unsupported("\(field) is not supported by Antigravity CLI (agy): \(reason)")
    }
}
