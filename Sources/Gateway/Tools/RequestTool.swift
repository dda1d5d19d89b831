import Appliance
import Jobs
import MCP
import Platform
import Providers

/// One provider's request tool: a validated call becomes a plan, then a job, then an answer.
///
/// 1. Conversation, model, place and plan: pure decisions. When one of them refuses, nothing has been started.
/// 2. Find the CLI on the search path.
/// 3. Record the request and hand the job to its runner, in one step, and wait while its output is reported as progress.
/// 4. Read the output; record answer, usage and conversation; answer. At the deadline, answer with the job's handle: what is
///    left of this happens when the job ends.
struct RequestTool: Sendable {
    let provider: Provider
    let services: Services

    var tool: Tool {
        tool(
            provider.requestTool,
            title: RequestTool.title(provider),
            description: ToolSchema.description(of: provider)
        ) { call in await answer(call) }
    }

    /// A tool that takes a request, whatever it answers with.
    func tool(
        _ name: String,
        title: String,
        description: String,
        _ handler: @escaping @Sendable (ToolCall) async -> ToolResult
    ) -> Tool {
        let limits = ToolSchema.Limits(
            maximumPromptCharacters: services.configuration.limits.maxPromptCharacters
        )
        return Tool(
            name: name,
            title: title,
            description: description,
            inputSchema: ToolSchema.request(for: provider, limits: limits),
            annotations: ToolAnnotations(
                readOnly: false,
                destructive: true,
                idempotent: false,
                openWorld: true
            ),
            rewording: { violation in
                guard violation.path == "/prompt" else { return nil }
                if violation.message.hasPrefix("expected at least") { return "Prompt cannot be empty" }
                guard violation.message.hasPrefix("expected at most") else { return nil }
                let limit = limits.maximumPromptCharacters
                return "Prompt too long (max \(limit == 100_000 ? "100k" : String(limit)) chars)"
            },
            handler: .asynchronous(handler)
        )
    }

    static func title(_ provider: Provider) -> String {
        switch provider {
        case .claude: "Claude Code request"
        case .codex: "Codex request"
        case .gemini: "Gemini request"
        case .grok: "Grok request"
        case .mistral: "Mistral Vibe request"
        }
    }

    /// The id that the caller chose; an empty one is none, as it is for the other parameters.
    static func correlation(_ arguments: JSONObject) -> String? {
        arguments["correlationId"]?.string.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The id that the caller chose, or a new one.
    func correlation(_ call: ToolCall) -> String {
        RequestTool.correlation(call.arguments) ?? services.newID()
    }

    private func answer(_ call: ToolCall) async -> ToolResult {
        let correlation = correlation(call)
        do throws(GatewayError) {
            return await run(try prepare(call, correlation), call)
        } catch {
            return Answer.refusal(provider, error, correlation)
        }
    }

    // MARK: deciding

    /// Everything that is decided before anything starts.
    struct Prepared {
        let correlation: String
        let plan: RequestPlan
        let place: Workspaces.Place
        let executable: String
        /// Where the CLI finds its own helpers.
        let searchPath: String
        let conversation: Conversation
        /// How much of it is kept once it is over.
        let recording: Configuration.Persistence.Recording
        /// What the same request of the same owner has in common.
        let key: String
        /// `nil` when the caller wants a run of its own.
        let sharing: Sharing?
    }

    func prepare(_ call: ToolCall, _ correlation: String) throws(GatewayError) -> Prepared {
        var arguments = RequestArguments(.object(call.arguments))
        let conversation = try services.conversations.choose(
            provider,
            arguments,
            call.principal,
            call.transport
        )
        let place = try services.workspaces.place(
            Workspaces.Request(
                provider: provider.rawValue,
                workspace: try arguments.string("workspace"),
                sessionWorkspace: conversation.workspace,
                workingDirectory: try arguments.string("workingDir"),
                addedDirectories: try arguments.strings(RequestTool.directoriesParameter(provider)),
                transport: call.transport
            )
        )
        arguments = rewritten(arguments, place)
        let models = services.models.current()
        let model = models.resolve(try arguments.string("model"), for: provider)
        var options = RequestOptions()
        options.maximumPromptCharacters = services.configuration.limits.maxPromptCharacters
        options.model = model
        options.modelStanding = models.standing(of: model, for: provider)
        options.served = ["workspace", "correlationId", "idleTimeoutMs", "forceRefresh", "record"]
        let plan = try RequestPlan(provider, arguments, session: conversation.choice, options: options)
        for use in plan.paths where use.kind == .readFile || use.kind == .writeFile {
            try services.workspaces.confine(
                use.path,
                of: use.parameter,
                isWritten: use.kind == .writeFile,
                to: place
            )
        }
        try plan.checkPaths(from: place.directory, files: services.machine.files)
        let search = services.search()
        return Prepared(
            correlation: correlation,
            plan: plan,
            place: place,
            executable: try search.require(provider, files: services.machine.files),
            searchPath: search.path,
            conversation: conversation,
            recording: try recording(arguments),
            key: try key(of: plan, arguments, options, place, call.principal),
            sharing: try arguments.bool("forceRefresh") ? nil : sharing(plan)
        )
    }

    /// What the configuration allows, or less where the caller wants less.
    private func recording(
        _ arguments: RequestArguments
    ) throws(GatewayError) -> Configuration.Persistence.Recording {
        let allowed = services.configuration.persistence.recording
        guard let wanted = try arguments.string("record").flatMap(type(of: allowed).init(rawValue:)) else {
            return allowed
        }
        return min(allowed, wanted)
    }

    /// The parameter that opens further directories to the CLI.
    private static func directoriesParameter(_ provider: Provider) -> String {
        provider == .gemini ? "includeDirs" : "addDir"
    }

    /// The arguments with directories as they were resolved, so that the CLI cannot read them differently.
    private func rewritten(_ arguments: RequestArguments, _ place: Workspaces.Place) -> RequestArguments {
        var values = arguments.values
        let directories = RequestTool.directoriesParameter(provider)
        if values[directories] != nil { values[directories] = .strings(place.addedDirectories) }
        if values["workingDir"] != nil { values["workingDir"] = .string(place.directory) }
        return RequestArguments(.object(values))
    }

    // MARK: running

    /// A run that was handed over.
    struct Begun {
        let handle: JobHandle
        let correlation: String
        /// The conversation, as far as it is known before the run ends.
        let sessionID: String?
        /// Whether another request has started it.
        var isShared = false
        /// The job as it was at that moment; `nil` where it has to be looked for.
        let snapshot: JobSnapshot?
        let warnings: [RequestWarning]
    }

    /// A request that is written down, with what became of it.
    struct Taken {
        /// The id of its record: its answer and its record are found by the same.
        let correlation: String
        let warnings: [RequestWarning]
        let begun: Result<Begun, GatewayError>
    }

    private func run(_ prepared: Prepared, _ call: ToolCall) async -> ToolResult {
        let taken = await take(prepared, call, isAwaited: true)
        do throws(GatewayError) {
            let begun = try taken.begun.get()
            // The runner goes on without us; whoever waits here shall not hold up a gateway that stops.
            call.cancellation.yieldToShutdown()
            guard let outcome = await wait(for: begun.handle, call) else {
                return try await abandoned(begun, call)
            }
            if prepared.recording != .full { await services.jobs.forgetKept(begun.handle.id) }
            guard let result = try await result(of: begun, outcome) else {
                throw GatewayError(
                    "internal-error",
                    "the output of the job '\(begun.handle.id)' was not read"
                )
            }
            return try await Answer(
                provider: provider,
                correlation: begun.correlation,
                model: result.model ?? prepared.plan.model,
                warnings: begun.warnings + result.warnings
            ).toolResult(result, outcome)
        } catch {
            return Answer.refusal(provider, error, taken.correlation, taken.warnings)
        }
    }

    /// Hands a run over, or finds the one that answers the same request, and writes the request down; its result is kept for
    /// whoever awaits it.
    func take(_ prepared: Prepared, _ call: ToolCall, isAwaited: Bool) async -> Taken {
        var (request, reading) = jobRequest(prepared, call)
        request.isAwaited = isAwaited
        if isAwaited { request.retryTime = services.syncDeadline }
        let flight = flight(prepared, call, job: request.id)
        if isAwaited { services.completion.expect(request.id) }
        let reception = await services.jobs.receive(
            request,
            sharing: prepared.sharing,
            noting: services.recorder.entry(flight)
        )
        do throws(GatewayError) {
            let submission = try reception.submission.get()
            if submission.leader != nil { _ = services.completion.take(request.id) }
            let correlation = reception.record ?? prepared.correlation
            let warnings = RequestTool.warnings(asked: prepared.correlation, recorded: correlation)
            let sharing = submission.leader.map { [shared(submission.handle.id, $0)] } ?? []
            let begun = Begun(
                handle: submission.handle,
                correlation: correlation,
                sessionID: prepared.conversation.id ?? (sharing.isEmpty ? reading.chosenSessionID : nil),
                isShared: !sharing.isEmpty,
                snapshot: submission.snapshot,
                warnings: prepared.plan.warnings + warnings + sharing
            )
            return Taken(correlation: correlation, warnings: warnings, begun: .success(begun))
        } catch {
            _ = services.completion.take(request.id)
            let correlation: String
            if let record = reception.record {
                correlation = record
            } else {
                correlation = await services.recorder.start(flight)
            }
            var end = FlightEnd(succeeded: false, response: "", durationMilliseconds: 0)
            end.errorMessage = error.description
            end.recording = request.recording
            await services.recorder.complete(correlation, end, job: request.id)
            return Taken(
                correlation: correlation,
                warnings: RequestTool.warnings(asked: prepared.correlation, recorded: correlation),
                begun: .failure(error)
            )
        }
    }

    /// What is known of a request when it starts.
    private func flight(_ prepared: Prepared, _ call: ToolCall, job: String) -> FlightStart {
        var flight = FlightStart(
            correlationID: prepared.correlation,
            provider: provider.rawValue,
            model: prepared.plan.model ?? "default",
            prompt: prepared.plan.prompt
        )
        flight.sessionID = prepared.conversation.id
        flight.owner = call.principal.id
        flight.jobID = job
        flight.recording = prepared.recording
        let limit = services.configuration.limits.maxPromptCharacters
        if call.arguments["promptParts"] != nil,
            let prompt = try? Prompt(from: RequestArguments(.object(call.arguments)), limit: limit)
        {
            flight.note(prompt, of: provider)
        }
        return flight
    }

    /// Says under which id a run is recorded when it is not the one that the caller chose.
    static func warnings(asked: String, recorded: String) -> [RequestWarning] {
        guard asked != recorded else { return [] }
        let warning = RequestWarning(
            "correlation_id_taken",
            "an earlier request has the correlationId '\(asked)', so this run is recorded as '\(recorded)'; llm_request_result finds it by that",
            details: JSONObject([("requested", .string(asked)), ("correlationId", .string(recorded))])
        )
        return [warning]
    }

    private func jobRequest(_ prepared: Prepared, _ call: ToolCall) -> (JobRequest, ReadingContext) {
        let id = services.newID()
        let filled = prepared.plan.prepared(
            in: services.jobs.directory(of: id).path,
            newSessionID: services.machine.random.uuid()
        )
        var request = JobRequest(
            id: id,
            provider: provider.rawValue,
            executable: prepared.executable,
            arguments: filled.arguments,
            environment: ChildEnvironment.make(
                inherited: services.inherited,
                path: prepared.searchPath,
                added: filled.environment
            ),
            correlationID: prepared.correlation
        )
        request.workingDirectory = prepared.place.directory
        request.standardInput = filled.standardInput
        request.files = filled.files.map { JobRequest.File($0.name, $0.contents) }
        request.directories = filled.directories
        request.limits.idle = .milliseconds(prepared.plan.idleTimeout)
        request.limits.output = services.configuration.limits.maxJobOutputBytes
        request.owner = call.principal.id
        let client = call.connection ?? call.clientInfo?["name"]?.string ?? ""
        request.client = "\(call.principal.id) \(client)"
        // What is not kept cannot be found by another request.
        if prepared.recording == .full { request.requestKey = prepared.key }
        request.outputFormat = filled.reading.outputFormat
        request.collected = filled.reading.collected
        request.recording = prepared.recording
        request.context =
            Completion.Context(
                reading: filled.reading,
                owner: call.principal.id,
                workspace: prepared.place.workspace,
                keepsConversation: keepsConversation(prepared, call),
                isNamed: prepared.conversation.isNamed
            ).json
        return (request, filled.reading)
    }

    /// Whether the conversation is kept for later; of one that is not to be recorded, only if it is known already.
    private func keepsConversation(_ prepared: Prepared, _ call: ToolCall) -> Bool {
        let conversation = prepared.conversation
        guard conversation.isKept, prepared.recording == .none else { return conversation.isKept }
        return conversation.id.map { services.sessions.session($0, caller: call.principal.id) != nil }
            ?? false
    }

    /// Waits for the end, reporting the output as it comes; `nil` when the deadline came or the call was cancelled first.
    private func wait(for handle: JobHandle, _ call: ToolCall) async -> JobOutcome? {
        let deadline = services.syncDeadline
        guard call.progress.isWanted else { return await handle.outcome(within: deadline) }
        return await withTaskGroup(of: Void.self) { group in
            group.addTask {
                guard let output = try? handle.output() else { return }
                var bytes = 0
                while let piece = await output.next() {
                    bytes += piece.count
                    call.progress.report(Double(bytes), "\(provider.executable) has written \(bytes) bytes")
                }
            }
            let outcome = await handle.outcome(within: deadline)
            group.cancelAll()
            return outcome
        }
    }

    /// What a call leaves behind that did not wait to the end.
    ///
    /// At the deadline and when the gateway stops, the run goes on and its answer is collected later. A client that cancelled
    /// wants the run ended, unless another one waits for it.
    private func abandoned(_ begun: Begun, _ call: ToolCall) async throws(GatewayError) -> ToolResult {
        if !begun.isShared { _ = services.completion.take(begun.handle.id) }
        switch call.cancellation.reason {
        case nil: return Deferral(provider, begun, .deadline, services).toolResult
        case .shutdown: return Deferral(provider, begun, .shutdown, services).toolResult
        case .client, .disconnected: break
        }
        if begun.isShared { await leaveShared(begun) }
        let isEnded = await services.jobs.leave(begun.handle.id, correlationID: begun.correlation)
        throw GatewayError(
            "canceled",
            isEnded
                ? "the call was canceled, and the run was ended"
                : "the call was canceled; its run is over, or goes on for another caller"
        )
    }
}
