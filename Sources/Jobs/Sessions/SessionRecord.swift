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
    struct Entry: Sendable {
        var record: SessionRecord { didSet { text = nil } }
        /// The instant of last use; `nil` where it cannot be read.
        var lastUsed: Timestamp?
        /// How it stands in the file; `nil` when it was not written since it was read or changed.
        fileprivate var text: [UInt8]?
    }

    /// In the order of the file.
    var sessions: [Entry] = []
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
        sessions.append(Entry(record: record, lastUsed: Timestamp(iso8601: record.lastUsed)))
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

    /// Whether the file is another one than that of an earlier state.
    func differs(from earlier: SessionDocument) -> Bool {
        guard sessions.count == earlier.sessions.count, state == earlier.state else { return true }
        return zip(sessions, earlier.sessions).contains { now, before in
            now.record.id != before.record.id || now.text == nil && now.record != before.record
        }
    }

    /// The bytes of the file, `json` as pretty text.
    ///
    /// What was written before is not made again: one run changes one session of thousands.
    mutating func write() -> [UInt8] {
        var members: [[UInt8]] = []
        members.reserveCapacity(sessions.count + foreignSessions.count)
        for index in sessions.indices {
            let text = sessions[index].text ?? SessionDocument.text(of: sessions[index].record)
            sessions[index].text = text
            members.append(text)
        }
        members += foreignSessions.members.map { SessionDocument.text(of: $0.name, $0.value) }
        var out = Array("{\n  \"sessions\": {".utf8)
        out.reserveCapacity(members.reduce(4096) { $0 + $1.count + 1 })
        for (number, member) in members.enumerated() {
            if number > 0 { out.append(UInt8(ascii: ",")) }
            out += member
        }
        out += Array((members.isEmpty ? "}," : "\n  },").utf8)
        // Its own brace is that of the file.
        var rest: [UInt8] = []
        state.writePretty(into: &rest, indent: 0)
        out += rest.dropFirst()
        out.append(UInt8(ascii: "\n"))
        return out
    }

    private static func text(of record: SessionRecord) -> [UInt8] { text(of: record.id, record.json) }

    /// A member of `sessions`, on a line of its own.
    private static func text(of name: String, _ value: JSON) -> [UInt8] {
        var out = Array("\n    ".utf8)
        JSON.string(name).write(into: &out)
        out += Array(": ".utf8)
        value.writePretty(into: &out, indent: 2)
        return out
    }

    /// What the file holds.
    var json: JSON {
        var sessions = JSONObject(self.sessions.map { (name: $0.record.id, value: $0.record.json) })
        sessions.members += foreignSessions.members
        return .object(
            JSONObject([(name: "sessions", value: .object(sessions))] + (state.object?.members ?? []))
        )
    }

    /// What it holds beside the sessions.
    var state: JSON {
        var active = active
        for provider in SessionDocument.providers where active[provider] == nil { active[provider] = .null }
        var document: JSON = ["activeSession": .object(active)]
        if !activeByOwner.isEmpty { document["activeSessionByOwner"] = .object(activeByOwner) }
        for member in foreign.members { document[member.name] = member.value }
        return document
    }
}
