import Appliance
import Doctor
import Platform

extension Verb {
    static let doctor = Verb(
        "doctor",
        .look,
        "examine the gateway and what it needs, and say what to do next",
        details: """
            Changes nothing. The JSON form follows setup/status.schema.json. The exit code
            is 1 when an error was found, 0 when all is well or there are only warnings.
            """,
        isQuestion: true
    ) { call throws(GatewayError) in
        let layout = try call.layout()
        let machine = call.machine
        // Settings that cannot be read are a finding of the doctor's, not an end to the examination.
        let settings =
            (try? machine.files.settings(of: layout, environment: machine.environment)) ?? .standard
        let service = GatewayService(machine: machine, layout: layout, settings: settings)
        let doctor = Doctor(
            machine: machine,
            layout: layout,
            source: .manager,
            service: { await service.facts() },
            install: {
                var facts = await InstalledVersions.facts(layout, files: machine.files)
                facts.installCommand = ReleaseSource.installCommand(machine.environment)
                facts.findings += ReferenceHome.findings(layout, files: machine.files)
                if machine.files.exists(layout.restoration) {
                    facts.findings.append(RestoreJournal.finding(layout, files: machine.files))
                }
                return facts
            }
        )
        return Examination(report: await doctor.examine())
    }
}

/// What the doctor found, as the command says it.
private struct Examination: Report {
    var report: DoctorReport

    var json: JSON { report.json }
    var exitCode: ExitCode { report.exitCode }

    var text: String {
        let rows = report.rows.map { row in
            let mark =
                switch row.mark {
                case .good: "ok"
                case .info: "info"
                case .warning: "warning"
                case .error: "error"
                }
            return [mark, row.subject, row.text]
        }
        return Columns.text(rows) + "\n\nnext:\n"
            + report.nextActions.map { "  \($0)" }.joined(separator: "\n")
    }
}

extension GatewayService {
    /// The service as the doctor wants to know it.
    fileprivate func facts() async -> ServiceFacts {
        let status: ServiceStatus
        do throws(GatewayError) {
            status = try await self.status()
        } catch {
            return ServiceFacts(manager: .none, findings: [Finding(error, .warning, title: "service")])
        }
        let hasSystemd = ServiceBus.machineHasSystemd(files: machine.files)
        var facts = ServiceFacts(
            manager: status.supervisor.manager,
            unit: status.unit,
            isRunning: status.running,
            isHealthy: status.healthy,
            pid: status.pid.map(Int.init),
            since: status.since,
            restarts: status.restarts,
            isEnabled: status.enabled,
            lingers: hasSystemd ? Lingering(machine: machine).isOn : nil
        )
        facts.upgrades = await upgradeFacts(&facts.findings)
        if let owner = status.portOwner {
            facts.portOwner = ServiceFacts.PortOwner(pid: owner.pid.map(Int.init), command: owner.command)
        }
        if hasSystemd, status.supervisor == .none {
            do throws(GatewayError) {
                _ = try await SystemdService(machine: machine, layout: layout).state()
                facts.manager = .systemd
            } catch {
                facts.manager = .unreachable
                facts.findings.append(Finding(error, .warning, title: "service manager"))
            }
        } else {
            // The Node gateway in the home and a restore have findings of their own.
            let own = ["the Node gateway", RestoreJournal.cut, MutationLock.underWay]
            facts.findings += status.notices.filter { notice in !own.contains { notice.contains($0) } }.map {
                Finding("service-notice", .info, "service", $0)
            }
        }
        return facts
    }
}

extension GatewayService {
    /// Upgrades by a timer; settings that cannot be read are reported by whoever reads all of them.
    private func upgradeFacts(_ findings: inout [Finding]) async -> UpgradeFacts {
        do throws(GatewayError) {
            let mode = try UpgradeTimer.mode(layout, files: machine.files)
            guard mode != .off else { return UpgradeFacts() }
            let last = try UpgradeRecord.read(layout, files: machine.files)
            return UpgradeFacts(
                mode: mode,
                origin: try UpgradeTimer.source(layout, files: machine.files)?.facts,
                isScheduled: await UpgradeTimer(service: self).isScheduled(),
                last: last.map { record in
                    UpgradeFacts.Last(
                        at: record.at,
                        outcome: record.outcome.rawValue,
                        version: record.version,
                        failures: record.failures,
                        error: record.error
                    )
                }
            )
        } catch {
            if error.code == "settings-invalid" {
                findings.append(Finding(error, .warning, title: "upgrades"))
            }
            return UpgradeFacts()
        }
    }
}

extension ServiceStatus.Supervisor {
    fileprivate var manager: ServiceFacts.Manager {
        switch self {
        case .systemd: .systemd
        case .detached: .supervisor
        case .none: .none
        }
    }
}

extension InstalledVersions {
    /// What is installed, every file compared with its manifest, on a thread of its own.
    fileprivate static func facts(_ layout: Layout, files: Files) async -> InstallFacts {
        do throws(GatewayError) {
            return try await BlockingThread.run("doctor") { () throws(GatewayError) in
                let receipt = try Receipt.read(layout, files: files)
                guard let active = receipt.active else { return InstallFacts() }
                let altered = try verify(active, layout, files: files)
                var facts = InstallFacts(
                    version: active.version,
                    previousVersion: receipt.previous?.version,
                    trust: active.trust.rawValue,
                    signer: active.signer.map {
                        InstallFacts.Signer(identity: $0.identity, issuer: $0.issuer, logIndex: $0.logIndex)
                    },
                    filesAreIntact: altered.isEmpty,
                    installedAt: active.installedAt
                )
                if !altered.isEmpty {
                    facts.findings.append(
                        Finding(
                            "installed-files-altered",
                            .error,
                            "installed files",
                            altered.map(\.sentence).joined(separator: "; "),
                            help: "run: \(Product.name) repair"
                        )
                    )
                }
                if let operation = receipt.operation {
                    facts.findings.append(finding(operation, layout, files))
                }
                if altered.isEmpty, strayed(layout, files: files) == nil,
                    !files.isExecutable(layout.currentGateway)
                {
                    facts.findings.append(
                        Finding(
                            "current-missing",
                            .error,
                            "version in use",
                            "'\(layout.current)' does not lead to version \(active.version)",
                            help: GatewayService.advice(forMissing: layout, files: files)
                        )
                    )
                }
                if let target = strayed(layout, files: files) {
                    facts.findings.append(
                        Finding(
                            "current-strayed",
                            .error,
                            "version in use",
                            "'\(layout.current)' leads to '\(target)', which is no version of this home",
                            help: "run: \(Product.name) repair"
                        )
                    )
                }
                return facts
            }
        } catch {
            return InstallFacts(findings: [Finding(error, title: "installation")])
        }
    }

    /// An operation in the journal is under way as long as somebody has the lock.
    private static func finding(_ operation: Receipt.Operation, _ layout: Layout, _ files: Files) -> Finding {
        if let holder = MutationLock.holder(layout, files: files) {
            return .underWay("operation-under-way", holder)
        }
        return Finding(
            "operation-interrupted",
            .warning,
            "interrupted command",
            "'\(operation.verb)' did not come to its end",
            help: "run: \(Product.name) repair"
        )
    }
}

extension Finding {
    /// A command that has the lock right now.
    fileprivate static func underWay(_ code: String, _ holder: String) -> Finding {
        Finding(code, .info, "command at work", "\(holder) \(MutationLock.underWay)")
    }
}

extension RestoreJournal {
    /// A restore that is under way, or was interrupted, as a finding.
    fileprivate static func finding(_ layout: Layout, files: Files) -> Finding {
        if let holder = MutationLock.holder(layout, files: files) {
            return .underWay("restore-under-way", holder)
        }
        let standing = standing(layout, files: files)
        return Finding(
            "restore-interrupted",
            .error,
            "interrupted restore",
            standing.sentence,
            help: standing.help
        )
    }
}

extension ReferenceHome {
    /// The Node gateway in a home as a finding.
    fileprivate static func findings(_ layout: Layout, files: Files) -> [Finding] {
        do throws(GatewayError) {
            guard let found = try find(layout, files: files), let standing = found.standing(layout) else {
                return []
            }
            let isKept = found.items.isEmpty && !found.isInterrupted
            return [
                Finding(
                    isKept ? "reference-kept" : "reference-found",
                    isKept ? .info : .warning,
                    "Node gateway",
                    standing.sentence,
                    help: standing.help
                )
            ] + found.notices.map { Finding("reference-process", .info, "Node gateway", $0) }
        } catch {
            return [Finding(error, .warning, title: "Node gateway")]
        }
    }
}
