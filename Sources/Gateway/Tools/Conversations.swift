import Appliance
import Jobs
import MCP
import Platform
import Providers

/// Which conversation a request belongs to.
struct Conversation: Sendable {
    var choice: SessionChoice
    /// The id that is continued or chosen; `nil` for a new one of the CLI's choice, and for the latest one.
    var id: String?
    /// The workspace that it began in.
    var workspace: String?
    /// Whether it can be continued later, so that it is worth keeping.
    var isKept: Bool
    /// Whether the caller named it, so that it may become the active one.
    var isNamed: Bool
}

/// The conversations that were held through the gateway, and what each had used after its last run.
struct Conversations: Sendable {
    let sessions: SessionStore
    let machine: Machine
    let layout: Layout

    private static let totalKey = "runningTotal"
    private static let stepsKey = "runningTotalSteps"
    /// How many steps a conversation remembers: more runs of one conversation than this do not end between a crash and the
    /// next start of a gateway.
    private static let stepLimit = 8
    private static let workspaceKey = "workspaceAlias"

    // MARK: before a run

    /// Decides which conversation a call belongs to.
    ///
    /// An id of somebody else or of another provider is refused, and over HTTP whatever a CLI could take for one. For claude, a call that says nothing about sessions
    /// continues the caller's active one (contract, section 2.1), and an id that claude does not know yet begins a
    /// conversation of that id.
    func choose(
        _ provider: Provider,
        _ arguments: RequestArguments,
        _ principal: Principal,
        _ transport: Transport
    ) throws(GatewayError) -> Conversation {
        var choice = try SessionChoice.requested(by: arguments, of: provider)
        if transport == .http, isSharedWithOthers(principal) {
            choice = try ownLatest(choice, provider, try arguments.string("workspace"), principal)
        }
        let named = try arguments.string("sessionId")
        var id: String?
        switch choice {
        case .resume(let asked), .fork(let asked?):
            if transport == .http { try refuseOtherNames(asked, provider, principal) }
            if let standing = sessions.standing(of: asked, caller: principal.id) {
                guard standing.isAccessible else {
                    throw GatewayError("session-refused", "Session \(asked) is not accessible")
                }
                guard standing.provider == provider.rawValue else {
                    throw GatewayError(
                        "session-refused",
                        "Session \(asked) belongs to provider '\(standing.provider)', not '\(provider.rawValue)'"
                    )
                }
            }
            id = asked
        case .new, .latest, .fork(nil): break
        }
        let startsNew = try arguments.bool("createNewSession")
        let saysNothing = named == nil && !startsNew
        if provider == .claude, case .new = choice, saysNothing {
            id = sessions.active(provider.rawValue, caller: principal.id)?.id
            if let id { choice = .resume(id) }
        }
        if provider == .claude, case .resume(let asked) = choice, isNewToClaude(asked) {
            choice = .new(id: asked)
        }
        let record = id.flatMap { sessions.session($0, caller: principal.id) }
        let leavesNoTrace = [try arguments.bool("noSessionPersistence"), try arguments.bool("ephemeral")]
        return Conversation(
            choice: choice,
            id: id,
            workspace: record?.metadata[Conversations.workspaceKey]?.string,
            isKept: !leavesNoTrace.contains(true),
            isNamed: named != nil
        )
    }

    /// Refuses an id that is not written as the CLI itself writes ids: whose conversation it leads to is known by the
    /// whole id only.
    ///
    /// claude takes a conversation's name and vibe the beginning of an id for one (measured). What agy and grok take could
    /// not be measured; with them an id that the caller got from an answer is good in any form.
    private func refuseOtherNames(
        _ id: String,
        _ provider: Provider,
        _ principal: Principal
    ) throws(GatewayError) {
        if CLIContract.Pattern.uuid.matches(id), id == id.lowercased() { return }
        if provider == .gemini || provider == .grok, sessions.session(id, caller: principal.id) != nil {
            return
        }
        throw GatewayError(
            "session-refused",
            "Session \(id.prefix(64)) is not accessible: over HTTP a conversation goes by its whole id, a lower-case UUID",
            help: "pass the sessionId of an earlier answer; session_list shows yours"
        )
    }

    /// Whether the CLIs behind a caller serve callers of other names as well.
    private func isSharedWithOthers(_ principal: Principal) -> Bool {
        let header = machine.environment["LLM_GATEWAY_TRUSTED_PRINCIPAL_HEADER"] ?? ""
        return principal.kind == .oauth || principal.kind == .bearer && !header.isEmpty
    }

    /// The caller's own latest conversation in place of the latest one that the CLI knows, which may be another caller's.
    private func ownLatest(
        _ choice: SessionChoice,
        _ provider: Provider,
        _ workspace: String?,
        _ principal: Principal
    ) throws(GatewayError) -> SessionChoice {
        let isFork: Bool
        switch choice {
        case .latest: isFork = false
        case .fork(nil): isFork = true
        default: return choice
        }
        let own = sessions.list(caller: principal.id, provider: provider.rawValue).filter { record in
            workspace == nil || record.metadata[Conversations.workspaceKey]?.string == workspace
        }
        // Of two that were used in the same millisecond, the one that began later.
        guard let last = own.reversed().max(by: { $0.lastUsed < $1.lastUsed }) else {
            throw GatewayError(
                "session-refused",
                "no conversation of yours with \(provider.executable) is known here",
                help: "begin one, and pass the sessionId of its answer to continue it"
            )
        }
        return isFork ? .fork(last.id) : .resume(last.id)
    }

    /// Whether claude keeps no transcript under an id that it could begin a conversation with.
    private func isNewToClaude(_ id: String) -> Bool {
        guard CLIContract.Pattern.uuid.matches(id) else { return false }
        let folder = machine.environment["CLAUDE_CONFIG_DIR"] ?? Layout.join(layout.userHome, ".claude")
        let projects = Layout.join(folder, "projects")
        let names = (try? machine.files.list(projects)) ?? []
        return !names.contains { machine.files.exists(Layout.join(projects, "\($0)/\(id).jsonl")) }
    }

    // MARK: after a run

    /// What a conversation had used before a run that was accepted then; `nil` where that is not known.
    ///
    /// A run that ended in between was going on beside it: which of the two counted the other's part in, nobody knows.
    func total(of id: String, owner: String, before submitted: Timestamp) -> RunningTotal? {
        guard !hasMovedOn(id, owner: owner, since: submitted) else { return nil }
        return total(of: id, owner: owner)
    }

    /// What a conversation has used up to now; `nil` where that is not known.
    func total(of id: String, owner: String) -> RunningTotal? {
        sessions.session(id, caller: owner)?.metadata[Conversations.totalKey].flatMap(
            RunningTotal.init(json:)
        )
    }

    /// Whether a run of a conversation has ended since then.
    func hasMovedOn(_ id: String, owner: String, since instant: Timestamp) -> Bool {
        guard let record = sessions.session(id, caller: owner) else { return false }
        return Conversations.steps(record.metadata).contains { $0.ended.map { $0 > instant } ?? false }
    }

    /// The instant that a step ends with.
    func now() -> Timestamp { machine.clock.now() }

    /// A run that moved a conversation's running total on.
    struct Step: Sendable, Equatable {
        let job: String
        /// What the conversation had used before the run; `nil` where that was not known.
        let base: RunningTotal?
        /// When the run had ended; `nil` in what an earlier version wrote.
        let ended: Timestamp?

        init(job: String, base: RunningTotal?, ended: Timestamp?) {
            self.job = job
            self.base = base
            self.ended = ended
        }

        init?(json: JSON) {
            guard let job = json["job"]?.string else { return nil }
            self.init(
                job: job,
                base: json["base"].flatMap(RunningTotal.init(json:)),
                ended: json["endedAt"]?.string.flatMap(Timestamp.init(iso8601:))
            )
        }

        var json: JSON {
            [
                "job": .string(job), "base": base?.json ?? .null, "endedAt": .optional(ended?.iso8601),
            ]
        }
    }

    /// The step by which a job has moved a conversation's total on already; `nil` where it has not, or long ago.
    func step(of job: String, in id: String, owner: String) -> Step? {
        guard let record = sessions.session(id, caller: owner) else { return nil }
        return Conversations.steps(record.metadata).first { $0.job == job }
    }

    private static func steps(_ metadata: JSONObject) -> [Step] {
        (metadata[stepsKey]?.array ?? []).compactMap(Step.init(json:))
    }

    /// Keeps a conversation after a run of it.
    ///
    /// The new total, which is none for `nil`, and the step that led to it are one writing, so that no crash falls
    /// between them. A step that is there already is not made again: the total may have moved on since.
    func keep(
        _ id: String,
        _ context: Completion.Context,
        total: RunningTotal?,
        after step: Step
    ) async throws(GatewayError) {
        let change: @Sendable (inout JSONObject) -> Void = { metadata in
            Conversations.move(&metadata, to: total, by: step)
            if let workspace = context.workspace { metadata[Conversations.workspaceKey] = .string(workspace) }
        }
        if try await sessions.update(id, caller: context.owner, { change(&$0.metadata) }) != nil { return }
        var metadata = JSONObject()
        change(&metadata)
        try await sessions.create(
            context.reading.provider.rawValue,
            id: id,
            metadata: metadata,
            caller: context.owner,
            activation: context.isNamed ? .whenFirst : .never
        )
    }

    /// Forgets what a conversation had used, after a run of it that used more and does not say how much.
    ///
    /// A run of the latest one that never said which one that was may have been a run of any of them.
    func loseTotal(
        of id: String?,
        _ context: Completion.Context,
        after step: Step
    ) async throws(GatewayError) {
        var concerned: [String] = []
        if let id {
            concerned = [id]
        } else if case .latest = context.reading.session {
            concerned = sessions.list(caller: context.owner, provider: context.reading.provider.rawValue)
                .map(\.id)
        }
        for id in concerned where total(of: id, owner: context.owner) != nil {
            try await sessions.update(id, caller: context.owner) { record in
                Conversations.move(&record.metadata, to: nil, by: step)
            }
        }
    }

    private static func move(_ metadata: inout JSONObject, to total: RunningTotal?, by step: Step) {
        let steps = Conversations.steps(metadata)
        guard total != nil || metadata[totalKey] != nil, !steps.contains(where: { $0.job == step.job })
        else { return }
        metadata[totalKey] = total?.json
        metadata[stepsKey] = .array((steps + [step]).suffix(stepLimit).map(\.json))
    }
}
