import Appliance

/// A plan under construction; each provider's file adds to it.
struct PlanBuilder {
    let provider: Provider
    let arguments: RequestArguments
    let session: SessionChoice
    let options: RequestOptions
    var planned: [RequestPlan.PlannedArgument] = []
    var environment: [String: String] = [:]
    var standardInput: [UInt8] = []
    var files: [RequestPlan.GeneratedFile] = []
    var directories: [String] = []
    var workingDirectory: String?
    var warnings: [RequestWarning] = []
    var paths: [RequestPlan.PathUse] = []
    var outputFormat = "text"
    var collected: [String] = []
    /// What is recorded as the request's prompt.
    var promptText = ""
    /// Set by a provider whose idle time depends on the request.
    var idleDefault: Int?

    init(
        provider: Provider,
        arguments: RequestArguments,
        session: SessionChoice,
        options: RequestOptions
    ) {
        self.provider = provider
        self.arguments = arguments
        self.session = session
        self.options = options
    }

    // MARK: arguments

    /// Adds words as they are.
    mutating func add(_ words: String...) { planned += words.map { .text($0) } }

    /// Adds a flag and its value; a value with a leading `-` is attached, so that it cannot be read as a flag.
    mutating func add(_ flag: String, value: String) {
        if ContractCheck.looksLikeFlag(value), flag.hasPrefix("--") {
            add("\(flag)=\(value)")
        } else {
            add(flag, value)
        }
    }

    /// Adds a flag and the path of a file that the job writes.
    mutating func add(_ flag: String, file name: String, contents: [UInt8]) {
        planned += [.text(flag), .jobPath(name)]
        files.append(RequestPlan.GeneratedFile(name: name, contents: contents))
    }

    /// Adds a flag for a text parameter.
    mutating func option(_ flag: String, _ parameter: String) throws(GatewayError) {
        if let value = try arguments.string(parameter) { add(flag, value: value) }
    }

    /// Adds a flag for a parameter with fixed words.
    mutating func option(_ flag: String, _ parameter: String, of words: [String]) throws(GatewayError) {
        if let value = try arguments.choice(parameter, of: words) { add(flag, value: value) }
    }

    /// Adds a flag for an integer parameter.
    mutating func option(_ flag: String, _ parameter: String, in range: ClosedRange<Int>) throws(GatewayError)
    {
        if let value = try arguments.int(parameter, in: range) { add(flag, String(value)) }
    }

    /// Adds a flag for a switch that is on.
    mutating func toggle(_ flag: String, _ parameter: String) throws(GatewayError) {
        if try arguments.bool(parameter) { add(flag) }
    }

    /// Adds a flag once for every element.
    mutating func each(_ flag: String, _ parameter: String) throws(GatewayError) {
        for value in try arguments.strings(parameter) where !value.isEmpty { add(flag, value: value) }
    }

    /// Adds a flag once for every path and declares the paths.
    mutating func each(
        _ flag: String,
        _ parameter: String,
        paths kind: RequestPlan.PathUse.Kind,
        mustExist: Bool = false
    ) throws(GatewayError) {
        for path in try arguments.strings(parameter) where !path.isEmpty {
            add(flag, value: path)
            declare(parameter, path, kind, mustExist: mustExist)
        }
    }

    /// Adds a flag for a path parameter and declares the path.
    mutating func option(
        _ flag: String,
        _ parameter: String,
        path kind: RequestPlan.PathUse.Kind
    ) throws(GatewayError) {
        guard let path = try arguments.string(parameter) else { return }
        add(flag, value: path)
        declare(parameter, path, kind)
    }

    /// Declares a path of the caller.
    mutating func declare(
        _ parameter: String,
        _ path: String,
        _ kind: RequestPlan.PathUse.Kind,
        mustExist: Bool = false
    ) {
        paths.append(
            RequestPlan.PathUse(parameter: parameter, path: path, kind: kind, mustExist: mustExist)
        )
    }

    /// Adds `--model` when a model was resolved.
    mutating func model(_ flag: String) {
        if let model = options.model { add(flag, value: model) }
    }

    /// Records a warning.
    mutating func warn(_ code: String, _ message: String) { warnings.append(RequestWarning(code, message)) }

    // MARK: common parameters

    /// The prompt within the limit, and what is recorded of it.
    mutating func prompt() throws(GatewayError) -> Prompt {
        let prompt = try Prompt(from: arguments, limit: options.maximumPromptCharacters)
        promptText = prompt.text
        return prompt
    }

    /// Says that cache marks have no effect with this provider.
    mutating func warnAboutCacheMarks(of prompt: Prompt) {
        guard prompt.hasCacheMark else { return }
        let reason = "\(provider.executable) takes no cache marks"
        warnings.append(
            RequestWarning(
                "cache_control_noop",
                "promptParts.cacheControl has no effect: \(reason)",
                details: JSONObject([("reason", .string(reason))])
            )
        )
    }

    /// Takes `workingDir` as the child's directory.
    mutating func takeWorkingDirectory() throws(GatewayError) {
        guard let path = try arguments.string("workingDir") else { return }
        workingDirectory = path
        declare("workingDir", path, .workingDirectory, mustExist: true)
    }

    /// Whether the approval gate decides about permissions.
    var isManaged: Bool {
        get throws(GatewayError) {
            try arguments.choice("approvalStrategy", of: ["legacy", "mcp_managed"]) == "mcp_managed"
        }
    }

    /// Whether a managed request may run without permission checks: it asked for it, and the operator allows it.
    func allowsManagedBypass(asked: Bool) -> Bool { asked && options.approval?.allowsBypass == true }

    /// Refuses parameters that somebody else must serve and nobody does.
    func refuseUnservedParameters() throws(GatewayError) {
        if try isManaged, options.approval == nil {
            throw .unsupported(
                "approvalStrategy 'mcp_managed' is not available here: no approval gate has decided about this request",
                help: "use approvalStrategy 'legacy' with the provider's own permission parameters"
            )
        }
        let switches = ["worktree", "workspace", "optimizePrompt", "optimizeResponse", "compressResponse"]
        for name in switches where arguments.has(name) && !options.served.contains(name) {
            let value = arguments.values[name] ?? .null
            if value == .bool(false) || value == .string("") { continue }
            throw .unsupported(
                "'\(name)' is not available here, and is not dropped silently",
                help: "leave '\(name)' out of the request"
            )
        }
        if try arguments.string("transport") == "acp" {
            throw .unsupported("transport 'acp' is not available: \(provider.executable) runs as a command")
        }
        if provider != .claude, provider != .gemini, try !arguments.strings("mcpServers").isEmpty,
            !options.served.contains("mcpServers")
        {
            throw .unsupported(
                "'mcpServers' cannot be passed to \(provider.executable) for one request",
                help: "configure the servers in \(provider.executable) itself and leave 'mcpServers' out"
            )
        }
    }

    /// The plan.
    func finished() throws(GatewayError) -> RequestPlan {
        let idle = try arguments.int("idleTimeoutMs", in: 30_000...3_600_000)
        return RequestPlan(self, idleTimeout: idle ?? idleDefault ?? provider.contract.idleTimeout)
    }
}
