package import Appliance
package import Platform

/// Removes records from everywhere a home keeps them, beside a gateway that runs or without one.
///
/// 1. The spool: what was kept aside for callers, and runs that are over and that no gateway has collected yet.
/// 2. The database: jobs, requests and their metadata, in short steps.
/// 3. Session records and approval decisions.
/// 4. The database's free space and its log, so that the bytes are in none of its files.
///
/// What runs is left alone and counted.
package struct Forgetting: Sendable {
    /// What was removed, or would be.
    package struct Outcome: Sendable, Equatable {
        /// Requests with their metadata.
        package var requests = 0
        /// Finished jobs with their output.
        package var jobs = 0
        /// Session records.
        package var sessions = 0
        /// Lines of `approvals.jsonl`.
        package var approvals = 0
        /// Folders of runs that were over.
        package var folders = 0
        /// Runs under way that were left alone, with their requests.
        package var running = 0
        /// Whether the database's files hold nothing of what was removed by whatever program; `nil` when it was not tried.
        package var isScrubbed: Bool?

        /// Whether there was anything to remove.
        package var isNothing: Bool { requests + jobs + sessions + approvals + folders == 0 }
    }

    private let layout: Layout
    private let machine: Machine
    private let store: Store?
    private let sessions: SessionStore

    /// For a home with its configuration; `report` gets what is wrong with the session file.
    ///
    /// Throws `libpq-missing` and `dsn-malformed` where a server is asked for.
    package init(
        layout: Layout,
        persistence: Configuration.Persistence,
        machine: Machine,
        report: @escaping @Sendable (GatewayError) -> Void
    ) throws(GatewayError) {
        self.layout = layout
        self.machine = machine
        if persistence.backend == .postgres {
            store = try Store(persistence, layout: layout, clock: machine.clock)
        } else {
            // Records may be there from a time with another backend; a database that is missing is not made.
            let path = persistence.databaseFile(layout) ?? layout.database
            let isThere = machine.files.exists(path)
            store = isThere ? Store(path: path, clock: machine.clock, files: machine.files) : nil
        }
        sessions = SessionStore(layout: layout, machine: machine, store: store, report: report)
    }

    /// Removes what a selection holds; with `isRehearsal` it only counts.
    ///
    /// Throws what the database and the file system throw.
    package func run(_ selection: RecordSelection, isRehearsal: Bool) async throws(GatewayError) -> Outcome {
        do throws(GatewayError) {
            let outcome = try await forget(selection, isRehearsal)
            await store?.close()
            return outcome
        } catch {
            await store?.close()
            throw error
        }
    }

    private func forget(
        _ selection: RecordSelection,
        _ isRehearsal: Bool
    ) async throws(GatewayError) -> Outcome {
        var outcome = Outcome()
        var running = Set<String>()
        let abandoned = try spool(selection, isRehearsal, &outcome, &running)
        if let store {
            let counted = try await store.count(selection)
            running.formUnion(counted.running.subtracting(abandoned))
            if isRehearsal {
                (outcome.jobs, outcome.requests) = (counted.jobs, counted.requests)
            } else {
                let rows = try await store.remove(selection)
                let rest = try await store.remove(jobs: abandoned)
                (outcome.jobs, outcome.requests) = (rows.jobs + rest.jobs, rows.requests + rest.requests)
            }
        }
        outcome.running = running.count
        outcome.sessions = try await forgetSessions(selection, isRehearsal)
        outcome.approvals = try forgetApprovals(selection, isRehearsal)
        if !isRehearsal {
            outcome.isScrubbed = try await store?.scrub(
                isInUse: InstanceRegistry.isAnyAlive(in: layout.jobs, files: machine.files)
            )
        }
        return outcome
    }

    // MARK: the spool

    /// Removes folders of runs that are over; returns the ids of those whose rows say that they run.
    private func spool(
        _ selection: RecordSelection,
        _ isRehearsal: Bool,
        _ outcome: inout Outcome,
        _ running: inout Set<String>
    ) throws(GatewayError) -> [String] {
        guard machine.files.exists(layout.jobs) else { return [] }
        let registry = InstanceRegistry(directory: layout.jobs, machine: machine)
        // Nobody adopts a job while it is decided whether it is over.
        let guardLock = try registry.guardChanges()
        defer { withExtendedLifetime(guardLock) {} }
        var abandoned: [String] = []
        for name in try machine.files.list(layout.jobs) {
            let directory = JobDirectory(Layout.join(layout.jobs, name))
            let isKept = name.hasPrefix(JobScheduler.keptPrefix)
            guard isKept || !name.hasPrefix("."),
                let spec = try? JobSpec(directory, files: machine.files), selection.holds(spec)
            else { continue }
            let isOver = isKept ? true : try isOver(directory, registry)
            guard isOver else {
                running.insert(spec.id)
                continue
            }
            outcome.folders += 1
            if !isKept { abandoned.append(spec.id) }
            if isRehearsal { continue }
            let staged = registry.staging(spec.id)
            try machine.files.rename(directory.path, to: staged, durable: false)
            try machine.files.removeTree(staged)
        }
        return abandoned
    }

    /// Whether a job is over and no gateway is about to collect it.
    private func isOver(
        _ directory: JobDirectory,
        _ registry: InstanceRegistry
    ) throws(GatewayError) -> Bool {
        guard try directory.isOver(machine.files), let gateway = try directory.gateway(machine.files)
        else { return false }
        return !registry.isAlive(gateway)
    }

    // MARK: files

    private func forgetSessions(
        _ selection: RecordSelection,
        _ isRehearsal: Bool
    ) async throws(GatewayError) -> Int {
        await sessions.refresh()
        let found = sessions.count { selection.holds($0, $1) }
        if found == 0 || isRehearsal { return found }
        return try await sessions.remove { selection.holds($0, $1) }.count
    }

    private func forgetApprovals(
        _ selection: RecordSelection,
        _ isRehearsal: Bool
    ) throws(GatewayError) -> Int {
        guard let bytes = try machine.files.readIfPresent(layout.approvals) else { return 0 }
        var kept: [UInt8] = []
        var gone = 0
        for line in bytes.split(separator: 0x0A) {
            // Lines that nobody can read are somebody else's.
            if let approval = try? JSON.parse(Array(line)), selection.holds(approval: approval) {
                gone += 1
            } else {
                kept += line + [0x0A]
            }
        }
        if gone > 0, !isRehearsal { try machine.files.writeUsersFile(kept, to: layout.approvals) }
        return gone
    }
}
