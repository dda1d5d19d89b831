import Appliance
import CShims
import Glibc
import Jobs
import MCP
import Platform
import Providers

/// One gateway from its assembly to its end.
///
/// 1. Read settings, environment file and configuration; refuse to start only on what could lose or misplace jobs.
/// 2. Adopt what an earlier gateway left running, and from now on what others leave when they end.
/// 3. Serve one client on stdio, or all clients of this machine over HTTP.
/// 4. Asked to stop: leave what connects now to the next gateway, answer everything that was accepted, close in order.
///    Calls that wait for a job get its handle; running jobs stay with their runners.
struct GatewayProcess: Sendable {
    private let machine: Machine
    private let layout: Layout
    private let settings: Settings
    private let log: Log
    private let notification: ServiceNotification
    private let sockets: [ServiceNotification.InheritedSocket]
    private let services: Services

    init(environment: [String: String], sockets: [ServiceNotification.InheritedSocket]) throws(GatewayError) {
        shim_raise_descriptor_limit()
        notification = ServiceNotification(environment: environment)
        var machine = try Machine.real()
        machine.environment = environment
        for name in ServiceNotification.variables { machine.environment[name] = nil }
        layout = try machine.layout()
        log = Log.standardError(
            environment: environment,
            clock: machine.clock,
            file: LogFile(standardErrorAt: layout.gatewayLog, files: machine.files)
        )
        try machine.files.makeDirectory(layout.home, mode: 0o700)
        // Moved or removed while this gateway runs, the home must not be made again, and one that is there instead is another's.
        machine.files = try HeldFolder(layout.home).guarding(machine.files)
        // Half of one home and half of another would be served, and written to.
        if machine.files.exists(layout.restoration) {
            throw GatewayError(
                "restore-interrupted",
                "a restore was interrupted, and the home may be made of two",
                help: "run 'llm-cli-gateway repair': it finishes the restore, or gives it up"
            )
        }
        if let bytes = try machine.files.readIfPresent(layout.environmentFile, limit: 1 << 20) {
            let file = EnvironmentFile(bytes: bytes)
            machine.environment = file.completing(machine.environment)
        }
        let stored = try machine.files.readIfPresent(layout.settings, limit: 1 << 20)
        settings = try Settings(
            stored: try stored.map { (bytes) throws(GatewayError) in try Settings.document(of: bytes) }
                ?? JSONObject(),
            environment: machine.environment
        )
        let (configuration, findings) = Configuration.load(
            try machine.files.readIfPresent(layout.configuration, limit: 1 << 20),
            environment: machine.environment,
            layout: layout
        )
        for finding in findings {
            if finding.stopsStartup { throw finding.error }
            switch finding.severity {
            case .warning:
                if let help = finding.help {
                    log.warning(finding.message, ["help": help])
                } else {
                    log.warning(finding.message)
                }
            case .error: log.error(finding.error)
            }
        }
        self.machine = machine
        self.sockets = sockets
        services = try Services(machine: machine, layout: layout, configuration: configuration, log: log)
    }

    /// Serves until the stop is asked for, or the client on stdio has left.
    func serve(_ transport: GatewayArguments.Transport, until stop: StopSignal) async throws(GatewayError) {
        await services.open()
        let others = Task { await services.jobs.adoptWhenOthersEnd() }
        let news = Task { await services.jobs.hearOthers() }
        let upkeep = Task { await services.upkeep.run() }
        defer {
            others.cancel()
            news.cancel()
            upkeep.cancel()
        }
        switch transport {
        case .stdio: try await serveStandardInput(until: stop)
        case .http: try await serveHTTP(until: stop)
        }
        await services.close()
    }

    private func server() throws(GatewayError) -> Server {
        Server(
            information: Implementation(
                name: Product.name,
                version: Product.version,
                title: "LLM CLI Gateway",
                description:
                    "Runs Claude Code, Codex, Gemini, Grok and Mistral Vibe on this machine and keeps every answer."
            ),
            instructions: Instructions.text(
                asyncJobs: services.asyncJobsEnabled,
                deadline: services.syncDeadline
            ),
            tools: try ToolRegistry(services.tools())
        )
    }

    // MARK: stdio

    private func serveStandardInput(until stop: StopSignal) async throws(GatewayError) {
        let transport = StdioTransport(
            server: try server(),
            input: STDIN_FILENO,
            output: try ProtocolOutput.claimingStandardOutput()
        )
        log.info("serving one client on standard input", ["version": Product.version])
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await stop.wait()
                transport.stop()
            }
            await transport.run()
            group.cancelAll()
        }
    }

    // MARK: HTTP

    private func serveHTTP(until stop: StopSignal) async throws(GatewayError) {
        let access = try Access(machine: machine, layout: layout)
        if access.token == nil, !access.isDisabled {
            log.warning("no token is configured, so every request is refused; run 'llm-cli-gateway setup'")
        }
        if machine.environment["LLM_GATEWAY_NO_AUTH_PATHS"].map({ !$0.trimmed.isEmpty }) ?? false {
            log.warning("LLM_GATEWAY_NO_AUTH_PATHS is ignored: nothing is served without the token here")
        }
        var limits = MCPEndpoint.Limits()
        limits.sessions = services.configuration.http.maxSessions
        limits.sessionIdle = .milliseconds(services.configuration.http.sessionIdleMilliseconds)
        let endpoint = MCPEndpoint(
            server: try server(),
            tokens: SessionTokens(key: access.sessionKey(layout), random: machine.random),
            memory: SessionMemory(path: layout.clientSessions, files: machine.files) { log.error($0) },
            limits: limits,
            clock: machine.clock
        )
        let front = Front(
            path: settings.path,
            endpoint: endpoint,
            policy: OriginPolicy(settings),
            access: access
        )
        let http = try HTTPServer.start(try options(), routes: front.routes)
        log.info(
            "listening",
            ["address": http.listener.name, "path": settings.path, "version": Product.version]
        )
        notification.ready("listening on \(http.listener.name)")
        await withTaskGroup(of: Void.self) { group in
            if let interval = notification.watchdogInterval {
                group.addTask { await reassure(every: interval / 2, http) }
            }
            await stop.wait()
            group.cancelAll()
        }
        notification.stopping("answering what waits")
        log.info(
            "stopping",
            ["calls": String(endpoint.callCount), "connections": String(http.connectionCount)]
        )
        await drain(http, endpoint)
        log.info("stopped")
    }

    /// Answers what was accepted; what takes its time is cancelled after a while, and cut after another.
    private func drain(_ http: HTTPServer, _ endpoint: MCPEndpoint) async {
        let patience = Duration.seconds(5)
        endpoint.retire()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                guard (try? await machine.clock.sleep(patience)) != nil else { return }
                _ = await endpoint.finish(within: patience)
            }
            await http.stop(within: patience * 2)
            group.cancelAll()
        }
        _ = await endpoint.finish(within: .seconds(1))
    }

    /// Tells the service manager that the service lives, for as long as it does.
    ///
    /// That this task runs proves the threads of the tasks and the timers; the threads of the jobs and of the server have
    /// to answer as well. Otherwise nothing is told, and the manager puts an end to it.
    private func reassure(every interval: Duration, _ http: HTTPServer) async {
        while (try? await machine.clock.sleep(interval)) != nil {
            _ = await services.jobs.counts
            if http.isResponsive(within: interval) {
                notification.watchdog()
            } else {
                log.error("the HTTP server's thread is stuck")
            }
        }
    }

    private func options() throws(GatewayError) -> HTTPServer.Options {
        var options = HTTPServer.Options()
        options.host = settings.host
        options.port = settings.port
        options.inheritedSocket = sockets.first?.descriptor
        options.library = HTTPServer.bundledLibrary(executable: machine.executable)
        if let text = machine.environment["LLM_GATEWAY_MAX_HTTP_BODY_BYTES"], !text.isEmpty {
            guard let limit = Int(text), (1024...(1 << 30)).contains(limit) else {
                throw GatewayError(
                    "invalid-value",
                    "LLM_GATEWAY_MAX_HTTP_BODY_BYTES is '\(text)', expected bytes from 1024 to \(1 << 30)"
                )
            }
            options.bodyLimit = limit
        }
        return options
    }
}
