package import Appliance

/// A conversation with a provider that the gateway remembers.
package struct SessionRecord: Sendable, Equatable {
    /// The provider's own id of the conversation, a UUID of the gateway's, or `gw-` and a UUID where the provider's is
    /// not known.
    package let id: String
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`, `grok-api`.
    package let provider: String
    /// ISO 8601; empty where the file does not say.
    package let created: String
    /// ISO 8601; what cannot be read counts as expired.
    package var lastUsed: String
    /// A caller's words; empty where nobody gave any.
    package var description: String
    /// What else is kept with the session: worktree, workspace, running totals of its accounting.
    package var metadata: JSONObject
    /// The principal that may see it; `nil`, in files of the reference, means the local one.
    package let owner: String?
    /// Members that another program wrote and this one does not know.
    private var foreign: JSONObject

    init(
        id: String,
        provider: String,
        created: String,
        description: String,
        metadata: JSONObject,
        owner: String
    ) {
        self.id = id
        self.provider = provider
        self.created = created
        lastUsed = created
        self.description = description
        self.metadata = metadata
        self.owner = owner
        foreign = JSONObject()
    }

    init?(id: String, json: JSON) {
        guard let object = json.object, let provider = object["cli"]?.string else { return nil }
        self.id = id
        self.provider = provider
        created = object["createdAt"]?.string ?? ""
        lastUsed = object["lastUsedAt"]?.string ?? ""
        description = object["description"]?.string ?? ""
        metadata = object["metadata"]?.object ?? JSONObject()
        owner = object["ownerPrincipal"]?.string
        let known = ["id", "cli", "createdAt", "lastUsedAt", "description", "metadata", "ownerPrincipal"]
        foreign = JSONObject(object.members.filter { !known.contains($0.name) })
    }

    /// The member of `sessions` in the file.
    package var json: JSON {
        var json: JSON = [
            "id": .string(id), "cli": .string(provider), "createdAt": .string(created),
            "lastUsedAt": .string(lastUsed), "description": .string(description),
        ]
        if !metadata.isEmpty { json["metadata"] = .object(metadata) }
        if let owner { json["ownerPrincipal"] = .string(owner) }
        for member in foreign.members { json[member.name] = member.value }
        return json
    }
}

/// What `sessions.json` holds.
struct SessionDocument: Sendable {
    /// In the order of the file, with the instant of last use; `nil` where it cannot be read.
    var sessions: [(record: SessionRecord, lastUsed: Timestamp?)] = []
    /// Provider to session id, as the reference has it: one for all principals.
    private var active: JSONObject = JSONObject()
    /// Principal to provider to session id: what each one but the local has chosen for itself.
    private var activeByOwner: JSONObject = JSONObject()
    /// Members and sessions that cannot be understood; they are kept.
    private var foreign: JSONObject = JSONObject()
    private var foreignSessions: JSONObject = JSONObject()

    /// The providers that the file always names.
    static let providers = ["claude", "codex", "gemini", "grok", "mistral", "grok-api"]

    init() {}

    /// Throws `sessions-corrupt` when the bytes are no JSON object.
    init(_ bytes: [UInt8], path: String) throws(GatewayError) {
        let reason: String
        do throws(JSONSyntaxError) {
            let json = try JSON.parse(bytes)
            if let object = json.object {
                self.init(object)
                return
            }
            reason = "it holds no object"
        } catch {
            reason = error.description
        }
        throw GatewayError("sessions-corrupt", "'\(path)' cannot be read: \(reason)")
    }

    init(_ object: JSONObject) {
        for member in object["sessions"]?.object?.members ?? [] {
            if let record = SessionRecord(id: member.name, json: member.value) {
                append(record)
            } else {
                foreignSessions.members.append(member)
            }
        }
        active = object["activeSession"]?.object ?? JSONObject()
        activeByOwner = object["activeSessionByOwner"]?.object ?? JSONObject()
        let known = ["sessions", "activeSession", "activeSessionByOwner"]
        foreign = JSONObject(object.members.filter { !known.contains($0.name) })
    }

    mutating func append(_ record: SessionRecord) {
        sessions.append((record, Timestamp(iso8601: record.lastUsed)))
    }

    func index(of id: String) -> Int? { sessions.firstIndex { $0.record.id == id } }

    // MARK: active sessions

    /// The active session of a provider, as a principal has it; whether it may see that one is for the caller to ask.
    func activeID(_ provider: String, of owner: String) -> String? {
        if let own = activeByOwner[owner]?[provider] { return own.string }
        return active[provider]?.string
    }

    /// Makes a session the active one of its provider for a principal, or none for `nil`; what others have chosen stays.
    mutating func activate(_ id: String?, of provider: String, for owner: String) {
        let shared = active[provider]?.string.flatMap { index(of: $0) }.map { sessions[$0].record }
        let isOwn = shared.map { Ownership.admits($0.owner, owner) } ?? true
        if owner == Ownership.local {
            guard id != nil || isOwn else { return }
            // Whose it was keeps it.
            if !isOwn, let shared, let other = shared.owner, activeByOwner[other]?[provider] == nil {
                choose(shared.id, of: provider, for: other)
            }
            active[provider] = .optional(id)
        } else {
            choose(id, of: provider, for: owner)
            // Where the reference looks for it.
            if isOwn { active[provider] = .optional(id) }
        }
    }

    private mutating func choose(_ id: String?, of provider: String, for owner: String) {
        var own = activeByOwner[owner] ?? [:]
        own[provider] = .optional(id)
        activeByOwner[owner] = own
    }

    /// Removes sessions, and what points to them.
    mutating func remove(where isGone: (SessionRecord, Timestamp?) -> Bool) -> [SessionRecord] {
        let gone = sessions.filter { isGone($0.record, $0.lastUsed) }.map(\.record)
        guard !gone.isEmpty else { return [] }
        let ids = Set(gone.map(\.id))
        sessions.removeAll { ids.contains($0.record.id) }
        for member in active.members where member.value.string.map(ids.contains) ?? false {
            active[member.name] = .null
        }
        for owner in activeByOwner.members {
            let left = (owner.value.object?.members ?? []).filter {
                !($0.value.string.map(ids.contains) ?? false)
            }
            activeByOwner[owner.name] = left.isEmpty ? nil : .object(JSONObject(left))
        }
        return gone
    }

    /// The file's text.
    var text: String { json.prettyText + "\n" }

    /// What the file holds.
    var json: JSON {
        var active = active
        for provider in SessionDocument.providers where active[provider] == nil { active[provider] = .null }
        var sessions = JSONObject(self.sessions.map { (name: $0.record.id, value: $0.record.json) })
        sessions.members += foreignSessions.members
        var document: JSON = ["sessions": .object(sessions), "activeSession": .object(active)]
        if !activeByOwner.isEmpty { document["activeSessionByOwner"] = .object(activeByOwner) }
        for member in foreign.members { document[member.name] = member.value }
        return document
    }
}
