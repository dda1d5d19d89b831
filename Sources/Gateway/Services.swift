import Appliance
import Jobs
import MCP
import Platform
import Providers

/// What the tools work with: assembled once, handed to each of them.
struct Services: Sendable {
    let machine: Machine
    let layout: Layout
    let configuration: Configuration
    let log: Log
    let store: Store?
    let recorder: FlightRecorder
    let completion: Completion
    let sessions: SessionStore
    let jobs: JobScheduler
    let conversations: Conversations
    let models: ModelCache
    let workspaces: Workspaces
    private let probes = SharedProbes()
    private let searches: SearchCache
    /// What every child inherits.
    let inherited: [String: String]

    /// Assembles everything; nothing is opened or started yet.
    init(machine: Machine, layout: Layout, configuration: Configuration, log: Log) throws(GatewayError) {
        self.machine = machine
        self.layout = layout
        self.configuration = configuration
        self.log = log
        let executable = machine.executable
        searches = SearchCache(
            environment: machine.environment,
            userHome: layout.userHome,
            // Where this program is, which stays so while it runs.
            gatewayFolder: Files.parent(of: executable),
            files: machine.files,
            clock: machine.clock
        )
        inherited = ChildEnvironment.inherited(machine.environment)
        store = try Store(
            configuration.persistence,
            layout: layout,
            clock: machine.clock,
            files: machine.files
        )
        recorder = FlightRecorder(store, environment: machine.environment) { log.error($0) }
        let sessions = SessionStore(layout: layout, machine: machine, store: store) { log.error($0) }
        self.sessions = sessions
        conversations = Conversations(sessions: sessions, machine: machine, layout: layout)
        let completion = Completion(recorder: recorder, conversations: conversations, log: log)
        self.completion = completion
        jobs = JobScheduler(
            layout: layout,
            store: store,
            limits: configuration.limits,
            budget: configuration.budget,
            machine: machine,
            // Not by its path: an upgrade removes a version that a gateway of long life still runs.
            runnerExecutable: "/proc/self/exe",
            runnerName: executable,
            scopes: Self.scopes(machine, log),
            report: { log.error($0) },
            judge: { Completion.judge($0, newSessionID: machine.random.uuid()) },
            onEnd: { outcome in
                await sessions.refresh()
                return await completion.finish(outcome)
            }
        )
        models = ModelCache(machine: machine, userHome: layout.userHome)
        workspaces = Workspaces(
            configuration: configuration.workspaces,
            layout: layout,
            ownDirectory: machine.files.realPath(".") ?? "/",
            files: machine.files
        )
    }

    /// The scopes of this user; a machine that systemd has not started has none, which is not worth a word.
    private static func scopes(_ machine: Machine, _ log: Log) -> UserScopes? {
        guard ServiceBus.machineHasSystemd(files: machine.files) else { return nil }
        return UserScopes(
            environment: machine.environment,
            files: machine.files,
            clock: machine.clock,
            reactor: machine.reactor
        ) { error in
            log.info("jobs run without a scope of their own for now", ["reason": error.message])
        }
    }

    /// Opens the store and takes over the jobs of gateways that are gone; a store that cannot be opened is a finding, and
    /// the gateway serves without records.
    func open() async {
        do throws(GatewayError) {
            try await store?.open()
        } catch {
            log.error(error)
        }
        let report = await jobs.adopt()
        let found = [report.live, report.finished, report.queued, report.missed, report.lost].joined()
        if !found.isEmpty {
            log.info(
                "took over the jobs of an earlier gateway",
                [
                    "running": String(report.live.count), "finished": String(report.finished.count),
                    "queued": String(report.queued.count), "lost": String(report.lost.count),
                    "too late": String(report.missed.count),
                ]
            )
        }
    }

    /// What the store and the spool need from time to time.
    var upkeep: Upkeep { Upkeep(store, jobs: jobs, clock: machine.clock) { log.error($0) } }

    /// Closes the store; jobs that run go on with their runners.
    func close() async { await store?.close() }

    /// Whether runs can be started, watched and collected as jobs: what decides which tools there are, whether a call that waits
    /// may get a handle, and what clients are told of all this.
    var asyncJobsEnabled: Bool { store != nil && configuration.persistence.asyncJobsEnabled }

    /// How long a call waits for its run before it gets the run's handle; `nil`: however long that takes.
    var syncDeadline: Duration? {
        let milliseconds = configuration.limits.syncDeadlineMilliseconds
        return asyncJobsEnabled && milliseconds > 0 ? .milliseconds(milliseconds) : nil
    }

    /// Every tool, in the order in which clients see them.
    func tools() -> [Tool] {
        let requests = Provider.allCases.map { RequestTool(provider: $0, services: self) }
        let jobs = asyncJobsEnabled ? requests.map(\.asyncTool) + JobTools(services: self).tools : []
        let all =
            requests.map(\.tool) + jobs + RecordTools(services: self).tools
            + SessionTools(services: self).tools + ModelTools(services: self).tools
        // What gateways of other machines have made of the conversations.
        guard store?.server != nil else { return all }
        return all.map { tool in tool.preceded { [sessions] in await sessions.refresh() } }
    }

    /// A new id of a job or of the record of a request.
    func newID() -> String { machine.random.orderedUUID(at: machine.clock.now()) }

    /// Where the provider CLIs are looked for; as it is for each run, because a CLI may have been installed meanwhile.
    func search() -> ProviderSearch { searches.current() }

    /// Version and login of CLIs, side by side, in the order asked for.
    func probe(_ providers: [Provider]) async -> [VersionProbe.Report] {
        let search = search()
        let environment = ChildEnvironment.make(inherited: inherited, path: search.path, added: [:])
        return await withTaskGroup(of: VersionProbe.Report.self) { group in
            for provider in providers {
                group.addTask {
                    await probes.report(on: provider) {
                        await VersionProbe(provider).run(
                            search,
                            environment: environment,
                            processes: machine.processes,
                            files: machine.files
                        )
                    }
                }
            }
            var reports: [Provider: VersionProbe.Report] = [:]
            for await report in group { reports[report.provider] = report }
            return providers.compactMap { reports[$0] }
        }
    }
}
