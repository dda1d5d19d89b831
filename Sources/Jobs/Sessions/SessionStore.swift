package import Appliance
package import Platform

/// The sessions of `sessions.json`, shared by every gateway of the home; or those of a server's database, shared by the gateways
/// of all its machines.
///
/// Reading is a stat(2) and, when another gateway has written, one reading of the file. Writing is done on a thread of its
/// own, once for all changes that wait for it: take the lock of the file beside it, read, change, replace. A file that cannot be understood is kept aside
/// as `sessions.json.corrupt-<instant>`, never overwritten. Every session is visible to its owner only.
package final class SessionStore: Sendable {
    private struct Cache {
        /// The file as it was read: a replaced one has another inode or another time.
        var status: Files.Status?
        var document = SessionDocument()
        /// Of a server's sessions, the number of the last change that is in `document`.
        var revision: Int?
        /// Said once, not at every call.
        var lastFailure: GatewayError?
    }

    private let path: String
    private let lifetime: Duration
    private let machine: Machine
    /// A server's database; `nil` where the sessions are in the file.
    private let store: Store?
    private let report: @Sendable (GatewayError) -> Void
    private let cache = GuardedValue(Cache())
    private let writer = SessionWriter()

    /// The store of a home.
    ///
    /// `LLM_GATEWAY_SESSIONS_FILE` names another file, `SESSION_TTL` the seconds that an unused session is kept
    /// (30 days). `report` gets what is wrong with the file. Where `store` is on a server, the sessions are there.
    package init(
        layout: Layout,
        machine: Machine,
        store: Store? = nil,
        report: @escaping @Sendable (GatewayError) -> Void
    ) {
        self.store = store?.server == nil ? nil : store
        let named = machine.environment["LLM_GATEWAY_SESSIONS_FILE"] ?? ""
        path = named.isEmpty ? layout.sessions : named
        let seconds = machine.environment["SESSION_TTL"].flatMap { Int($0) } ?? 0
        lifetime = .seconds(seconds > 0 ? seconds : 2_592_000)
        self.machine = machine
        self.report = report
    }

    // MARK: reading

    /// Takes in what gateways of other machines have changed; a file is looked at by every reading.
    package func refresh() async {
        guard let store else { return }
        do throws(GatewayError) {
            let known = cache.withLock { $0.revision }
            if let (document, revision) = try await store.sessions(unless: known) { take(document, revision) }
            cache.withLock { $0.lastFailure = nil }
        } catch {
            let isNews = cache.withLock { cache in
                defer { cache.lastFailure = error }
                return cache.lastFailure?.code != error.code
            }
            if isNews { report(error) }
        }
    }

    private func take(_ document: SessionDocument, _ revision: Int) {
        cache.withLock { cache in
            // Two that asked at once may be answered in the other order.
            guard revision >= cache.revision ?? 0 else { return }
            cache.document = document
            cache.revision = revision
        }
    }

    /// The caller's sessions, of one provider or of all, in the order of their creation.
    package func list(caller: String, provider: String? = nil) -> [SessionRecord] {
        let oldest = oldest()
        return reading { document in
            document.sessions.compactMap { entry in
                guard provider == nil || entry.record.provider == provider,
                    Ownership.admits(entry.record.owner, caller), let used = entry.lastUsed, used >= oldest
                else { return nil }
                return entry.record
            }
        }
    }

    /// One of the caller's sessions.
    package func session(_ id: String, caller: String) -> SessionRecord? {
        let oldest = oldest()
        return reading { document in
            guard let index = document.index(of: id), let used = document.sessions[index].lastUsed,
                used >= oldest,
                Ownership.admits(document.sessions[index].record.owner, caller)
            else { return nil }
            return document.sessions[index].record
        }
    }

    /// Which provider an id belongs to and whether the caller may use it; `nil` for an unknown id.
    ///
    /// For the contract's wording of a refused resume; nothing else of a foreign session is told.
    package func standing(of id: String, caller: String) -> (provider: String, isAccessible: Bool)? {
        let oldest = oldest()
        return reading { document in
            guard let index = document.index(of: id), let used = document.sessions[index].lastUsed,
                used >= oldest
            else { return nil }
            let record = document.sessions[index].record
            return (record.provider, Ownership.admits(record.owner, caller))
        }
    }

    /// The caller's active session of a provider.
    package func active(_ provider: String, caller: String) -> SessionRecord? {
        reading { $0.activeID(provider, of: caller) }.flatMap { session($0, caller: caller) }
    }

    // MARK: changing

    /// When a new session becomes the active one of its provider.
    package enum Activation: Sendable {
        /// In the place of the active one, if there is one.
        case always
        /// The active one stays, or there goes on being none.
        case never
        /// When there is no active one yet, as the contract says.
        case whenFirst
    }

    /// Remembers a session; an id that is known already is refused with `session-exists`.
    ///
    /// Without an id it gets a new UUID.
    @discardableResult
    package func create(
        _ provider: String,
        id: String? = nil,
        description: String? = nil,
        metadata: JSONObject = JSONObject(),
        caller: String,
        activation: Activation = .whenFirst
    ) async throws(GatewayError) -> SessionRecord {
        let id = id ?? machine.random.uuid()
        let record = SessionRecord(
            id: id,
            provider: provider,
            created: machine.clock.now().iso8601,
            description: description ?? SessionStore.description(of: provider),
            metadata: metadata,
            owner: caller
        )
        return try await changing { document throws(GatewayError) in
            guard document.index(of: id) == nil else {
                throw GatewayError("session-exists", "there is a session '\(id)' already")
            }
            document.append(record)
            let isFirst = !SessionStore.hasActive(provider, caller, document)
            if activation == .always || (activation == .whenFirst && isFirst) {
                document.activate(id, of: provider, for: caller)
            }
            return record
        }
    }

    /// Changes one of the caller's sessions and marks it as used now; `nil` when there is none.
    @discardableResult
    package func update(
        _ id: String,
        caller: String,
        _ change: @escaping @Sendable (inout SessionRecord) -> Void = { _ in }
    ) async throws(GatewayError) -> SessionRecord? {
        let now = machine.clock.now()
        return try await changing { document throws(GatewayError) in
            guard let index = document.index(of: id),
                Ownership.admits(document.sessions[index].record.owner, caller)
            else { return nil }
            change(&document.sessions[index].record)
            document.sessions[index].record.lastUsed = now.iso8601
            document.sessions[index].lastUsed = now
            return document.sessions[index].record
        }
    }

    /// Makes one of the caller's sessions the active one of its provider, or none for `nil`.
    ///
    /// `false` when the session is not the caller's or not of that provider.
    package func setActive(
        _ id: String?,
        of provider: String,
        caller: String
    ) async throws(GatewayError) -> Bool {
        try await changing { document throws(GatewayError) in
            if let id {
                guard let index = document.index(of: id),
                    document.sessions[index].record.provider == provider,
                    Ownership.admits(document.sessions[index].record.owner, caller)
                else { return false }
            }
            document.activate(id, of: provider, for: caller)
            return true
        }
    }

    /// Forgets one of the caller's sessions; `nil` when there is none.
    package func delete(_ id: String, caller: String) async throws(GatewayError) -> SessionRecord? {
        try await changing { document throws(GatewayError) in
            document.remove { record, _ in record.id == id && Ownership.admits(record.owner, caller) }.first
        }
    }

    /// Forgets the caller's sessions, of one provider or of all.
    package func clear(caller: String, provider: String? = nil) async throws(GatewayError) -> [SessionRecord]
    {
        try await changing { document throws(GatewayError) in
            document.remove { record, _ in
                Ownership.admits(record.owner, caller) && (provider == nil || record.provider == provider)
            }
        }
    }

    // MARK: for the owner of the home

    /// How many sessions, whoever they belong to, are such ones.
    package func count(where isMeant: (SessionRecord, Timestamp?) -> Bool) -> Int {
        reading { document in document.sessions.count { isMeant($0.record, $0.lastUsed) } }
    }

    /// Forgets sessions, whoever they belong to.
    package func remove(
        where isMeant: @escaping @Sendable (SessionRecord, Timestamp?) -> Bool
    ) async throws(GatewayError) -> [SessionRecord] {
        try await changing { document throws(GatewayError) in document.remove(where: isMeant) }
    }

    // MARK: below

    /// Whether a session of the caller's own is its active one.
    private static func hasActive(_ provider: String, _ caller: String, _ document: SessionDocument) -> Bool {
        guard let id = document.activeID(provider, of: caller), let index = document.index(of: id) else {
            return false
        }
        return Ownership.admits(document.sessions[index].record.owner, caller)
    }

    private static func description(of provider: String) -> String {
        let names = ["grok-api": "Grok API", "gemini": "Gemini", "mistral": "Mistral"]
        let name = names[provider] ?? provider.prefix(1).uppercased() + provider.dropFirst()
        return "\(name) Session"
    }

    private func oldest() -> Timestamp {
        machine.clock.now().advanced(byMilliseconds: -Int64(lifetime.milliseconds))
    }

    private func reading<Value>(_ body: (SessionDocument) -> Value) -> Value {
        cache.withLock { cache in
            refresh(&cache)
            return body(cache.document)
        }
    }

    private func refresh(_ cache: inout Cache) {
        guard store == nil else { return }
        let status = (try? machine.files.target(path)) ?? nil
        guard status != cache.status else { return }
        do throws(GatewayError) {
            cache.document = try load() ?? SessionDocument()
            cache.lastFailure = nil
        } catch {
            // What cannot be read now may be read later; until then there are no sessions, and the file is left alone.
            cache.document = SessionDocument()
            if cache.lastFailure != error { report(error) }
            cache.lastFailure = error
        }
        cache.status = status
    }

    /// `nil` when there is no file.
    private func load() throws(GatewayError) -> SessionDocument? {
        guard let bytes = try machine.files.readIfPresent(path) else { return nil }
        return try SessionDocument(bytes, path: path)
    }

    private func changing<Value: Sendable>(
        _ change: @escaping @Sendable (inout SessionDocument) throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        guard let store else { return try await writer.change(change) { self.write($0) } }
        let known = cache.withLock { cache in cache.revision.map { (cache.document, $0) } }
        let result = try await store.changeSessions(from: known) { document throws(GatewayError) in
            self.evict(&document)
            return try change(&document)
        }
        take(result.document, result.revision)
        return result.value
    }

    /// Makes several changes in one writing of the file.
    private func write(_ changes: [any SessionChange]) {
        do throws(GatewayError) {
            try machine.files.makeDirectory(Files.parent(of: path))
            let lock = try FileLock.wait(path + ".lock", within: .seconds(30))
            defer { withExtendedLifetime(lock) {} }
            var document = try current()
            evict(&document)
            let before = document
            for change in changes { change.apply(to: &document) }
            // Eviction alone is no reason to write.
            if document.differs(from: before) {
                let bytes = document.write()
                try machine.files.writeUsersFile(bytes, to: path)
                remember(document, size: bytes.count)
            }
            for change in changes { change.succeed() }
        } catch {
            for change in changes { change.fail(error) }
        }
    }

    /// Only with the lock held: what was read or written last, if the file is still that one.
    private func current() throws(GatewayError) -> SessionDocument {
        let status = try machine.files.target(path)
        let known = cache.withLock { cache in
            cache.status == status && cache.lastFailure == nil && status != nil ? cache.document : nil
        }
        if let known { return known }
        return try loadOrSetAside()
    }

    /// Spares the next reading what was just written.
    private func remember(_ document: SessionDocument, size: Int) {
        guard let status = (try? machine.files.target(path)) ?? nil, status.size == Int64(size) else {
            return
        }
        cache.withLock { cache in
            cache.document = document
            cache.status = status
            cache.lastFailure = nil
        }
    }

    private func evict(_ document: inout SessionDocument) {
        let oldest = oldest()
        _ = document.remove { _, used in used.map { $0 < oldest } ?? true }
    }

    /// Only with the lock held: a damaged file is moved, so that the next writing does not replace it.
    private func loadOrSetAside() throws(GatewayError) -> SessionDocument {
        do throws(GatewayError) {
            return try load() ?? SessionDocument()
        } catch {
            guard error.code == "sessions-corrupt" else { throw error }
            let instant = machine.clock.now().iso8601.filter { $0 != ":" }
            let aside = "\(path).corrupt-\(instant)"
            if try machine.files.status(path)?.kind == .link {
                // A link stays, and what it leads to is replaced by the writing that follows.
                try machine.files.write(try machine.files.read(path), to: aside)
            } else {
                try machine.files.rename(path, to: aside)
            }
            report(
                GatewayError(
                    error.code,
                    "\(error.message); it was kept as '\(aside)' and a new one was begun",
                    help: "repair that file and put it back, or remove it"
                )
            )
            return SessionDocument()
        }
    }
}
