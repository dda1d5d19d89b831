package import Appliance
package import Platform

/// What one request runs: arguments, environment, input and limits.
///
/// Pure: nothing is read, written or started. File names and new session ids are placeholders until `prepared(in:newSessionID:)`, so that two equal requests have
/// equal `dedupMaterial`.
package struct RequestPlan: Sendable {
    /// Whose contract the arguments were checked against.
    package let provider: Provider
    /// The arguments after the program name.
    package let arguments: [PlannedArgument]
    /// Variables added to the child's environment.
    package let environment: [String: String]
    /// The child's standard input; empty means `/dev/null`.
    package let standardInput: [UInt8]
    /// Files that the job writes into its own directory, mode 0600, before it starts the CLI.
    package let files: [GeneratedFile]
    /// Directories that the job makes inside its own directory.
    package let directories: [String]
    /// Where the request wants to run, as the caller wrote it; `nil` leaves it to the gateway.
    ///
    /// It becomes the child's working directory for every CLI, and not a flag, because codex takes none on a resume.
    package let workingDirectory: String?
    /// The prompt as it is recorded; of a file that the CLI reads itself, its name: `promptFile: notes.txt`.
    package let prompt: String
    /// Milliseconds without output after which the run is ended.
    package let idleTimeout: Int
    /// What the caller should know.
    package let warnings: [RequestWarning]
    /// The model that was asked for after aliases; `nil` leaves it to the CLI.
    package let model: String?
    /// Which conversation it begins or continues.
    package let session: SessionChoice
    /// Every path of the caller, so that the gateway can confine it.
    package let paths: [PathUse]
    /// What is needed to read the output, also after a restart.
    package let reading: ReadingContext

    /// One argument, or what it will be.
    package enum PlannedArgument: Sendable, Equatable {
        /// As it is.
        case text(String)
        /// The absolute path of something in the job's directory.
        case jobPath(String)
        /// A new UUID.
        case newSessionID
    }

    /// A file in the job's directory.
    package struct GeneratedFile: Sendable, Equatable {
        /// Relative to the job's directory in a plan, absolute in a `Prepared`.
        package let name: String
        /// The file's bytes.
        package let contents: [UInt8]
    }

    /// A path of the caller.
    package struct PathUse: Sendable, Equatable {
        /// What is done with a path.
        package enum Kind: String, Sendable { case workingDirectory, directory, readFile, writeFile }
        /// The parameter that named it.
        package let parameter: String
        /// As the caller wrote it: absolute, or relative to the working directory.
        package let path: String
        /// Decides which of the workspace's rules apply to it.
        package let kind: Kind
        /// Whether the contract demands that it exists before anything is started.
        package let mustExist: Bool
    }

    /// A plan whose placeholders are filled in.
    package struct Prepared: Sendable, Equatable {
        /// The arguments after the program name, complete.
        package let arguments: [String]
        /// Variables added to the child's environment.
        package let environment: [String: String]
        /// Empty means `/dev/null`.
        package let standardInput: [UInt8]
        /// Absolute paths and contents.
        package let files: [GeneratedFile]
        /// Absolute paths.
        package let directories: [String]
        /// With the id of the new conversation where the CLI takes one.
        package let reading: ReadingContext
    }

    /// What dedup hashes, before generated values are filled in.
    package var dedupMaterial: JSON {
        let environment = self.environment.sorted { $0.key < $1.key }
        return [
            "cli": .string(provider.rawValue),
            "args": .strings(
                arguments.map { argument in
                    switch argument {
                    case .text(let text): text
                    case .jobPath(let name): "<job>/\(name)"
                    case .newSessionID: "<new-session>"
                    }
                }
            ),
            "env": .array(environment.map { .strings([$0.key, $0.value]) }),
            "stdin": .string(SHA256.hex(standardInput)),
            "files": .array(files.map { .strings([$0.name, SHA256.hex($0.contents)]) }),
            "cwd": .optional(workingDirectory),
            "format": .string(reading.outputFormat),
        ]
    }

    /// Fills in the job's directory (absolute) and, where the CLI takes one, the id of a new conversation.
    package func prepared(in directory: String, newSessionID: String) -> Prepared {
        var reading = reading
        let rendered = arguments.map { argument in
            switch argument {
            case .text(let text): return text
            case .jobPath(let name): return Layout.join(directory, name)
            case .newSessionID:
                reading.chosenSessionID = newSessionID
                return newSessionID
            }
        }
        return Prepared(
            arguments: rendered,
            environment: environment,
            standardInput: standardInput,
            files: files.map {
                GeneratedFile(name: Layout.join(directory, $0.name), contents: $0.contents)
            },
            directories: directories.map { Layout.join(directory, $0) },
            reading: reading
        )
    }

    /// Checks that what must exist does; relative paths count from `base`.
    ///
    /// Throws `invalid-input`: "images: path does not exist: a.png".
    package func checkPaths(from base: String, files: Files) throws(GatewayError) {
        for use in paths where use.mustExist {
            let path = use.path.hasPrefix("/") ? use.path : Layout.join(base, use.path)
            guard try files.target(path) != nil else {
                throw .invalidInput("\(use.parameter): path does not exist: \(use.path)")
            }
        }
    }

    /// Plans a request.
    ///
    /// Throws `invalid-input`, `input-too-large`, `unsupported-parameter` or `contract-violation`; `ErrorCategory(code:)`
    /// says how a tool reports them.
    package init(
        _ provider: Provider,
        _ arguments: RequestArguments,
        session: SessionChoice,
        options: RequestOptions = RequestOptions()
    ) throws(GatewayError) {
        var builder = PlanBuilder(
            provider: provider,
            arguments: arguments,
            session: session,
            options: options
        )
        try builder.refuseUnservedParameters()
        switch provider {
        case .claude: try Claude.plan(&builder)
        case .codex: try Codex.plan(&builder)
        case .gemini: try Gemini.plan(&builder)
        case .grok: try Grok.plan(&builder)
        case .mistral: try Mistral.plan(&builder)
        }
        self = try builder.finished()
        let sample = prepared(in: "/job", newSessionID: "00000000-0000-4000-8000-000000000000")
        try ContractCheck.check(sample.arguments, environment: environment, against: provider.contract)
    }

    init(_ builder: PlanBuilder, idleTimeout: Int) {
        provider = builder.provider
        arguments = builder.planned
        environment = builder.environment
        standardInput = builder.standardInput
        files = builder.files
        directories = builder.directories
        workingDirectory = builder.workingDirectory
        prompt = builder.promptText
        self.idleTimeout = idleTimeout
        warnings = builder.warnings
        model = builder.options.model
        session = builder.session
        paths = builder.paths
        reading = ReadingContext(
            provider: builder.provider,
            outputFormat: builder.outputFormat,
            session: builder.session,
            requestedModel: builder.options.model,
            collected: builder.collected
        )
    }
}

/// What the gateway decides around a request.
package struct RequestOptions: Sendable {
    /// Characters; the contract's limit unless the configuration raises it.
    package var maximumPromptCharacters = 100_000
    /// The model after aliases and defaults (`ModelRegistry.resolve`); `nil` leaves it to the CLI.
    package var model: String?
    /// What is known about that model; vibe falls back silently, so an unknown one is refused.
    package var modelStanding: ModelStanding = .unverified
    /// Parameters that the gateway itself serves around the run (`worktree`, `workspace`, `optimizePrompt`, …); set to
    /// something else than their default and not listed here, they are refused.
    package var served: Set<String> = []
    /// The outcome of the approval gate for `approvalStrategy: mcp_managed`.
    package var approval: ApprovalGrant?
    /// The `{"mcpServers":{…}}` document for the requested servers, claude only.
    package var mcpConfiguration: JSON?

    /// The contract's limits, no choice of model, nothing served around the run.
    package init() {}
}

/// What a passed approval gate allows.
package struct ApprovalGrant: Sendable, Equatable {
    /// Whether the operator allows a run without permission checks (`LLM_GATEWAY_APPROVAL_ALLOW_BYPASS`).
    package let allowsBypass: Bool

    /// What the gate decided.
    package init(allowsBypass: Bool) { self.allowsBypass = allowsBypass }
}

/// What the registry knows about a model.
package enum ModelStanding: Sendable, Equatable {
    /// The CLI's configuration names it.
    case known
    /// The CLI's configuration was read and does not name it; these are the names that it has.
    case unknown([String])
    /// Nobody can say.
    case unverified
}

/// Something the caller should know about a request that runs nevertheless.
package struct RequestWarning: Sendable, Equatable {
    /// Stable snake_case identifier, as the contract's own are.
    package let code: String
    /// One sentence for the caller.
    package let message: String
    /// More members of the JSON form.
    package let details: JSONObject

    /// A warning; `details` become members beside code and message and must not repeat those names.
    package init(_ code: String, _ message: String, details: JSONObject = JSONObject()) {
        self.code = code
        self.message = message
        self.details = details
    }

    /// `{"code","message",…}`.
    package var json: JSON {
        .object(
            JSONObject([("code", .string(code)), ("message", .string(message))] + details.members)
        )
    }
}

/// What is needed to read a run's output; stored with the job, so that a restarted gateway can read it too.
package struct ReadingContext: Sendable, Equatable {
    /// Whose output it is.
    package var provider: Provider
    /// The format that the caller asked for, or the tool's default.
    package var outputFormat: String
    /// What was asked for: a resumed conversation's totals have to be told apart, a new one's do not.
    package var session: SessionChoice
    /// The model as asked for after aliases; `nil` left it to the CLI.
    package var requestedModel: String?
    /// The id that the gateway chose for a new conversation.
    package var chosenSessionID: String?
    /// Files of the job's directory that belong to the output, by relative name: `output/export.json`.
    package var collected: [String] = []

    /// The form in which a job keeps it.
    package var json: JSON {
        var session: JSON =
            switch self.session {
            case .new: ["kind": "new"]
            case .resume: ["kind": "resume"]
            case .latest: ["kind": "latest"]
            case .fork: ["kind": "fork"]
            }
        switch self.session {
        case .new(let id?), .resume(let id), .fork(let id?): session["id"] = .string(id)
        default: break
        }
        return [
            "provider": .string(provider.rawValue), "outputFormat": .string(outputFormat), "session": session,
            "requestedModel": .optional(requestedModel), "chosenSessionId": .optional(chosenSessionID),
            "collected": .strings(collected),
        ]
    }

    /// What a plan knows; what is left out was not asked for.
    package init(
        provider: Provider,
        outputFormat: String,
        session: SessionChoice,
        requestedModel: String? = nil,
        chosenSessionID: String? = nil,
        collected: [String] = []
    ) {
        self.provider = provider
        self.outputFormat = outputFormat
        self.session = session
        self.requestedModel = requestedModel
        self.chosenSessionID = chosenSessionID
        self.collected = collected
    }

    /// Reads the stored form; `nil` when it is something else.
    package init?(json: JSON) {
        guard let provider = json["provider"]?.string.flatMap(Provider.init(rawValue:)),
            let outputFormat = json["outputFormat"]?.string, let kind = json["session"]?["kind"]?.string
        else { return nil }
        let id = json["session"]?["id"]?.string
        switch (kind, id) {
        case ("new", _): session = .new(id: id)
        case ("resume", let id?): session = .resume(id)
        case ("latest", _): session = .latest
        case ("fork", _): session = .fork(id)
        default: return nil
        }
        self.provider = provider
        self.outputFormat = outputFormat
        requestedModel = json["requestedModel"]?.string
        chosenSessionID = json["chosenSessionId"]?.string
        collected = (json["collected"]?.array ?? []).compactMap(\.string)
    }
}
