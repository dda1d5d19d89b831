import Appliance
import Platform

extension Verb {
    static let setup = Verb(
        "setup",
        .install,
        "make the home, the token and the settings; record what your shell knows",
        details: """
            Safe to repeat: what is in order stays as it is. Address, port and path are kept
            in settings.json, so that every shell sees the same; LLM_GATEWAY_HTTP_HOST,
            LLM_GATEWAY_HTTP_PORT and LLM_GATEWAY_HTTP_PATH are recorded as well. Where your
            shell finds the provider CLIs is recorded in the file 'environment', which the
            service reads. Shell profiles are never edited. With --linger the gateway starts
            at boot and stays after you log out; 'uninstall' and --no-linger switch that off
            again, but only where this command switched it on.

            Where the Node gateway is in the home, it takes its place once a bundle is
            installed: same address, same token, same records. What is left of the old
            program is moved into the folder 'reference', and nothing is deleted.
            """,
        flags: [
            Flag("dry-run", "only say what would be done"),
            Flag("enable", "start the gateway now and with every session, as a systemd user service"),
            Flag("linger", "start it at boot as well, without a login (implies --enable)"),
            Flag("no-linger", "do not, or no longer, run without a login"),
            Flag("import-keys", "copy provider keys of this shell into the file 'environment'"),
            Flag("host", value: "ADDRESS", "listen on this address (standard: 127.0.0.1)"),
            Flag("port", value: "NUMBER", "listen on this port (standard: 3333)"),
            Flag("path", value: "PATH", "serve MCP at this path (standard: /mcp)"),
            Flag("now", "replace a Node gateway even while it runs jobs, which end with it"),
            Flag("remove-reference", "remove what is kept of a Node gateway"),
        ]
    ) { call throws(GatewayError) in try await SetupReport.make(call) }
}

/// What `setup` did and found.
struct SetupReport: Report {
    var home: HomeReport
    /// Whether a gateway is installed.
    var isInstalled: Bool
    /// What installs one here.
    var installCommand: String
    /// After `--enable`, and after taking the place of a running Node gateway.
    var status: ServiceStatus?
    /// Whether a gateway runs that this command has neither started nor replaced.
    var isRunning = false
    /// Whether it would be started with something else now.
    var isOutdated = false
    /// What became of a Node gateway in the home; `nil` where there is none.
    var takeover: Takeover.Outcome?
    /// Whether it is only said what would be done.
    var isDry = false

    static func make(_ call: Invocation) async throws(GatewayError) -> SetupReport {
        let arguments = call.arguments
        if arguments.has("linger"), arguments.has("no-linger") {
            throw GatewayError(
                "usage",
                "'--linger' and '--no-linger' exclude each other",
                help: "give one of them"
            )
        }
        var options = HomePreparation.Options(recordsShell: true, importsKeys: arguments.has("import-keys"))
        if let host = arguments["host"] { options.host = try Settings.host(host, from: "'--host'") }
        if let port = arguments["port"] {
            options.port = try Settings.port(port, from: "'--port'")
            guard options.port != 0 else {
                throw GatewayError("invalid-value", "'--port' is '0', expected a port number from 1 to 65535")
            }
        }
        if let path = arguments["path"] { options.path = try Settings.path(path, from: "'--path'") }
        let found = try ReferenceHome.find(try call.layout(), files: call.machine.files)
        if let process = found?.process { try call.takeover().adoptAddress(of: process, &options) }
        if arguments.has("dry-run") { return try rehearse(call, options, found) }
        var home = try await prepare(call, options)
        let isInstalled = call.machine.files.isExecutable(home.layout.currentGateway)
        if isInstalled { home.notices += try await linkCommand(call) }
        var report = SetupReport(
            home: home,
            isInstalled: isInstalled,
            installCommand: ReleaseSource.installCommand(call.machine.environment)
        )
        if found != nil { try await report.takeOver(call) }
        let service = try call.service()
        let starts = arguments.has("enable") || arguments.has("linger")
        // Before lingering is switched on for nothing.
        if starts { try service.checkStartable() }
        try await linger(arguments, service, &report)
        if starts {
            report.status = try await service.start(GatewayService.StartOptions(enable: true))
        } else if isInstalled {
            let isOutdated = (try? service.isOutdated()) ?? false
            if let status = try? await service.status() {
                report.isRunning = status.running || status.isComingUp
                report.isOutdated = isOutdated || status.isMovedByRestart
            }
        }
        return report
    }

    /// Switches lingering on or off as asked for; `--enable` alone does without it where it cannot be had.
    private static func linger(
        _ arguments: Arguments,
        _ service: GatewayService,
        _ report: inout SetupReport
    ) async throws(GatewayError) {
        let lingering = Lingering(machine: service.machine)
        if arguments.has("no-linger") {
            if try await lingering.disable(service) {
                report.home.changes.append("switched lingering off: the gateway ends when you log out")
            } else if lingering.isOn {
                report.home.notices.append(
                    "lingering stays on, because this program did not switch it on; to switch it off: "
                        + Lingering.command(false)
                )
            }
            return
        }
        guard arguments.has("linger") || arguments.has("enable") else { return }
        do throws(GatewayError) {
            if try await lingering.enable(service) {
                report.home.changes.append(
                    "switched lingering on: the gateway runs from boot, without a login"
                )
            }
        } catch  where !arguments.has("linger") {
            // Without systemd the start says what is missing.
            guard error.code != "no-user-manager" else { return }
            report.home.notices.append(
                "the gateway will stop when you log out, because lingering is off; to keep it running: "
                    + Lingering.command(true)
            )
        }
    }

    /// Prepares the home of a call under the lock, and finishes or undoes what an interrupted command left.
    ///
    /// A gateway that a restore had stopped is started again afterwards, unless the caller has more to put right before.
    static func prepare(
        _ call: Invocation,
        _ options: HomePreparation.Options = HomePreparation.Options(),
        isRepair: Bool = false
    ) async throws(GatewayError) -> HomeReport {
        var report = try await prepareLocked(call, options, isRepair)
        if !isRepair { report.notices += try await call.startPending() }
        return report
    }

    private static func prepareLocked(
        _ call: Invocation,
        _ options: HomePreparation.Options,
        _ isRepair: Bool
    ) async throws(GatewayError) -> HomeReport {
        let layout = try call.layout()
        let (lock, madeHome) = try await MutationLock.take(
            layout,
            verb: call.arguments.verb?.name ?? "setup",
            machine: call.machine,
            // What was there when the command began and has gone meanwhile, an uninstall has removed.
            makesHome: call.arguments.verb?.name == "setup" || !call.machine.files.exists(layout.home),
            say: call.note
        )
        defer { withExtendedLifetime(lock) {} }
        let files = call.machine.files
        var (receipt, notice) = try Receipt.recovered(layout, files: files, now: call.machine.clock.now())
        // The files of a backup first: a token that was made now would be in the way of the backup's.
        let recovered = try RestoreJournal.recover(layout, files: files)
        if madeHome { receipt.note(Receipt.Created(path: layout.home, kind: .directory)) }
        // By its receipt a home is known for one, whatever else is put into it.
        if !files.exists(layout.receipt) { try receipt.write(layout, files: files) }
        var report = try HomePreparation(machine: call.machine, layout: layout).run(options)
        if let recovered { report.changes.insert(recovered, at: 0) }
        // The lock's file made it a moment ago.
        if madeHome { report.changes.insert("made the folder '\(layout.home)'", at: 0) }
        report.notices += notice.map { [$0] } ?? []
        // Only now: what is to be finished may need settings that can be read.
        if !isRepair { report.notices += try await call.installation().recoverInterrupted(&receipt) }
        return report
    }

    private static func linkCommand(_ call: Invocation) async throws(GatewayError) -> [String] {
        let installation = try call.installation()
        return try await call.service().changingReceipt("setup") { (receipt) throws(GatewayError) in
            try installation.ensureCommandLink(&receipt)
        }
    }

    private var next: String {
        if !isInstalled { return installCommand }
        if status != nil || (isRunning && !isOutdated) { return "\(Product.name) doctor" }
        return "\(Product.name) \(isRunning ? "restart" : "start")"
    }

    var json: JSON {
        var json: JSON = [
            "ok": true, "app_dir": .string(home.layout.home), "next": .string("Run \(next)."),
            "url": .string(home.settings.localURL), "token_path": .string(home.layout.authToken),
            "settings_path": .string(home.layout.settings),
            "environment_path": .string(home.layout.environmentFile),
            "providers": .object(
                JSONObject(home.providers.map { (name: $0.command, value: .optional($0.path)) })
            ),
            "missing_variables": .strings(home.missingVariables),
            "changed": .bool(!isDry && !home.changes.isEmpty), "changes": .strings(home.changes),
            "notices": .strings(home.notices),
        ]
        if let takeover { json["reference"] = takeover.json }
        if isDry { json["dry_run"] = true }
        if let status { json["status"] = status.json["status"] }
        return json
    }

    var text: String {
        var lines = home.changes
        if isDry, !lines.isEmpty { lines.insert("would have done this:", at: 0) }
        if lines.isEmpty { lines.append("'\(home.layout.home)' is in order") }
        lines.append("provider CLIs that runs will find:")
        lines.append(
            Columns.text(home.providers.map { [$0.command, $0.path ?? "not found on your PATH"] }, indent: 2)
        )
        if !home.missingVariables.isEmpty {
            lines.append(
                "only this shell has \(home.missingVariables.joined(separator: ", ")); to give the service a copy: "
                    + "\(Product.name) setup --import-keys"
            )
        }
        lines += home.notices.map { "note: \($0)" }
        if let status { lines.append(status.text) }
        lines.append("next: \(next)")
        return lines.joined(separator: "\n")
    }
}
