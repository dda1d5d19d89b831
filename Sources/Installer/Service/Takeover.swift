import Appliance
import Glibc
import Jobs
import Platform

/// Takes the place of the Node gateway in its own home, so that its clients go on with the same address and token.
///
/// 1. Its address and the variables that a service would not have are recorded while its process can still be asked.
/// 2. The journal says what is being done; whoever finds it goes on.
/// 3. The process is ended: the one that `gateway.pid` names and that proves to be it. Runs of its own are waited for.
/// 4. Rows of runs that ended with it are closed; this program's gateway starts in its place if it ran.
/// 5. What is left of the program goes into the folder `reference`, one rename at a time. Nothing is deleted.
///
/// Token, settings, configuration and records stay where they are. Repeating it goes on where it was interrupted.
struct Takeover: Sendable {
    /// What was done.
    struct Outcome: Sendable, Equatable {
        enum State: String, Sendable {
            /// Nothing was changed, because no gateway is installed that could take its place.
            case waiting
            case takenOver = "taken-over"
            /// Taken over earlier, and kept.
            case kept
            case removed
        }

        var state: State
        var version: String?
        /// The process that was ended, or runs still when waiting.
        var pid: Int32?
        /// The names that were moved, or would be.
        var moved: [String] = []
        var changes: [String] = []
        var notices: [String] = []
        /// Whether this program's gateway has to start in the place of the one that ran.
        var mustStart = false

        var json: JSON {
            [
                "state": .string(state.rawValue), "version": .optional(version),
                "pid": .optional(pid.map(Int.init)), "moved": .strings(moved),
            ]
        }
    }

    var machine: Machine
    var layout: Layout
    /// Gets a sentence about what is waited for.
    var say: @Sendable (String) -> Void = { _ in }
    /// How long runs of the Node gateway are waited for.
    var patience = Duration.seconds(15)

    private var files: Files { machine.files }

    /// Variables of a Node gateway that this one understands as well, and that no file keeps.
    static func isWorthKeeping(_ name: String) -> Bool {
        let kept = ["SYNC_DEADLINE_MS", "SESSION_TTL"]
        let told = [
            "LLM_GATEWAY_TRANSPORT", "LLM_GATEWAY_HTTP_HOST", "LLM_GATEWAY_HTTP_PORT",
            "LLM_GATEWAY_HTTP_PATH", "LLM_GATEWAY_AUTH_TOKEN", "LLM_GATEWAY_HOME",
        ]
        if told.contains(name) { return false }
        return name.hasPrefix("LLM_GATEWAY_") || kept.contains(name)
            || HomePreparation.shellVariables.contains(name)
    }

    /// The address that its process listens on, for what nobody has decided otherwise.
    func adoptAddress(
        of process: ReferenceHome.Process,
        _ options: inout HomePreparation.Options
    ) throws(GatewayError) {
        let stored = (try? files.storedSettings(of: layout)) ?? JSONObject()
        func value(_ variable: String, _ key: String) -> String? {
            guard stored[key] == nil, (machine.environment[variable] ?? "").isEmpty,
                let value = process.environment[variable]?.trimmed, !value.isEmpty
            else { return nil }
            return value
        }
        if options.host == nil, let host = value("LLM_GATEWAY_HTTP_HOST", "http_host") {
            options.host = try Settings.host(host, from: "LLM_GATEWAY_HTTP_HOST of the Node gateway")
        }
        if options.port == nil, let port = value("LLM_GATEWAY_HTTP_PORT", "http_port") {
            options.port = try Settings.port(port, from: "LLM_GATEWAY_HTTP_PORT of the Node gateway")
        }
        if options.path == nil, let path = value("LLM_GATEWAY_HTTP_PATH", "http_path") {
            options.path = try Settings.path(path, from: "LLM_GATEWAY_HTTP_PATH of the Node gateway")
        }
    }

    /// The names that `keepVariables` would write.
    func lostVariables(of process: ReferenceHome.Process) throws(GatewayError) -> [String] {
        let known = try files.environmentFile(of: layout).values
        return process.environment.filter { !$0.value.isEmpty && known[$0.key] == nil }.keys
            .filter(Takeover.isWorthKeeping).sorted()
    }

    /// Copies what would be lost with its process into the `environment` file; says so.
    private func keepVariables(of process: ReferenceHome.Process) throws(GatewayError) -> [String] {
        let lost = try lostVariables(of: process)
        guard !lost.isEmpty else { return [] }
        var file = try files.environmentFile(of: layout)
        for name in lost { try file.set(name, to: process.environment[name] ?? "") }
        try files.writeUsersFile(file.bytes, to: layout.environmentFile)
        return [
            "copied \(lost.joined(separator: ", ")) from the Node gateway's process into '\(layout.environmentFile)'"
        ]
    }

    /// Ends its process; the caller holds the lock.
    ///
    /// Throws `reference-busy` while it has runs under way, unless they are to end with it, and `stop-failed`.
    func end(_ found: ReferenceHome, endingRuns: Bool) async throws(GatewayError) -> Outcome {
        var outcome = Outcome(state: .takenOver, version: found.version, notices: found.notices)
        var journal = try Journal.read(layout, files: files) ?? Journal()
        if let process = found.process {
            journal.runs += try await awaitRuns(of: process, found, endingRuns)
            outcome.changes += try keepVariables(of: process)
            journal.mustStart = true
            try journal.write(layout, files: files)
            outcome.pid = process.identity.pid
            guard await machine.processes.end(process.identity, grace: .seconds(10)) else {
                throw GatewayError("stop-failed", "\(found.title) (\(process.wording)) did not end")
            }
            outcome.changes.append("ended \(found.title) (\(process.wording))")
        }
        // What it could not end itself, because it was killed, would run on with nobody to hear it.
        for run in journal.runs { await machine.processes.end(run) }
        outcome.mustStart = journal.mustStart
        if found.others.isEmpty { try await closeRows(&outcome) }
        return outcome
    }

    /// What an interrupted takeover has to know of the one before: pids with start times, so that nobody else is meant.
    private struct Journal {
        /// Whether the Node gateway ran, so that this one has to.
        var mustStart = false
        /// Runs that are to end with it.
        var runs: [ProcessIdentity] = []

        static func read(_ layout: Layout, files: Files) throws(GatewayError) -> Journal? {
            guard let bytes = try files.readIfPresent(layout.takeover, limit: 1 << 20),
                let json = try? JSON.parse(bytes)
            else { return nil }
            return Journal(
                mustStart: json["mustStart"]?.bool ?? false,
                runs: (json["runs"]?.array ?? []).compactMap { ProcessIdentity(json: $0) }
            )
        }

        func write(_ layout: Layout, files: Files) throws(GatewayError) {
            let json: JSON = ["mustStart": .bool(mustStart), "runs": .array(runs.map(\.json))]
            try files.write(Array((json.prettyText + "\n").utf8), to: layout.takeover)
        }
    }

    /// Waits for what the gateway has started: probes end by themselves, runs take longer.
    private func awaitRuns(
        of process: ReferenceHome.Process,
        _ found: ReferenceHome,
        _ endingRuns: Bool
    ) async throws(GatewayError) -> [ProcessIdentity] {
        func running() -> [ProcessIdentity] {
            ProcessTable.descendants(of: process.identity.pid).map(\.identity).filter(ProcessTable.isRunning)
        }
        var runs = running()
        guard !endingRuns, !runs.isEmpty else { return runs }
        say("waiting for what \(found.title) is running")
        let clock = machine.clock
        let deadline = clock.uptime() &+ patience.nanoseconds
        while let run = runs.first, clock.uptime() < deadline {
            let left = Duration.nanoseconds(Int64(clamping: deadline - clock.uptime()))
            guard await machine.processes.waitForEnd(of: run, within: left) else { break }
            runs = running()
        }
        guard runs.isEmpty else {
            throw GatewayError(
                "reference-busy",
                "\(found.title) (\(process.wording)) is running a provider CLI, which would end with it",
                help: "wait for it and run the command again, or end it as well: \(Product.name) setup --now"
            )
        }
        return []
    }

    /// Runs of the Node gateway have no folder in `jobs`, and nobody will ever close their rows.
    private func closeRows(_ outcome: inout Outcome) async throws(GatewayError) {
        guard files.exists(layout.database) else { return }
        let store = Store(path: layout.database, clock: machine.clock, files: files)
        let kept = Set(try files.list(layout.jobs))
        do throws(GatewayError) {
            let count = try await store.closeAbandoned(
                keeping: kept,
                error: "the gateway that ran the job was replaced"
            )
            if count > 0 { outcome.changes.append("closed the records of \(count) jobs that had not ended") }
        } catch {
            // Records that cannot be opened are a finding of the doctor's, not a reason to leave the old gateway half gone.
            outcome.notices.append("'\(layout.database)' could not be looked at: \(error)")
        }
        await store.close()
    }

    /// Moves its program aside and ends the journal; the caller holds the lock.
    func putAside(_ found: ReferenceHome, _ outcome: inout Outcome) throws(GatewayError) {
        let names = found.movable
        if !names.isEmpty { try files.makeDirectory(layout.reference) }
        for name in names {
            try files.rename(Layout.join(layout.home, name), to: freePlace(name))
            outcome.moved.append(name)
        }
        if !names.isEmpty {
            outcome.changes.append(
                "moved what is left of its program (\(names.joined(separator: ", "))) into '\(layout.reference)'"
            )
        }
        try files.removeFile(layout.takeover)
    }

    /// Where a name goes that may have been taken over before.
    private func freePlace(_ name: String) -> String {
        var path = Layout.join(layout.reference, name)
        var number = 2
        while files.exists(path) {
            path = Layout.join(layout.reference, "\(name).\(number)")
            number += 1
        }
        return path
    }

    /// Removes what is kept of it; the caller holds the lock.
    func removeKept(_ outcome: inout Outcome) throws(GatewayError) {
        let kept = try ReferenceHome.kept(layout, files)
        guard !kept.isEmpty else { return }
        for name in kept { try files.removeTree(Layout.join(layout.reference, name)) }
        try files.removeEmptyDirectory(layout.reference)
        outcome.state = .removed
        outcome.changes.append(
            files.exists(layout.reference)
                ? "removed the program of the Node gateway from '\(layout.reference)'; what else is there is not its, and stays"
                : "removed '\(layout.reference)' with the program of the Node gateway"
        )
    }
}
