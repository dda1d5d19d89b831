import Appliance
import Platform

/// What a rollback did, or would do.
struct RollbackReport: Sendable, Equatable {
    /// The version in use before.
    var from: String?
    /// The version in use now, or that would be.
    var installed: Receipt.Installed
    /// Where it is, absolute.
    var directory: String
    /// Whether another version is in use now; false when it was the one that was asked for.
    var changed = false
    /// Whether a running service was restarted.
    var restarted = false
    /// Whether it was only asked what would be done.
    var isDry = false
    /// The versions that are kept, the one in use first.
    var kept: [String]
    /// Sentences about what was finished, undone or left alone.
    var notices: [String] = []
}

extension Installation {
    /// Goes back to the version before, or to another one that is kept: a switch, a restart, and a wait for health.
    ///
    /// When it does not become healthy, the version that was in use is so again. Throws `busy`, `no-earlier-version`,
    /// `in-the-way`, `version-not-kept`, `version-damaged`, `smoke-test-failed`, and `unhealthy-version` after switching forward again.
    func rollback(to wanted: String?) async throws(GatewayError) -> RollbackReport {
        // A home that is not there keeps no version, and is not made to say so.
        if !files.exists(layout.home) { _ = try rollbackTarget(Receipt(), wanted) }
        return try await locked("rollback") { (receipt, notices) async throws(GatewayError) in
            let target = try rollbackTarget(receipt, wanted)
            let from = receipt.active?.version
            guard InstalledVersions.current(layout, files: files) != target.directory else {
                try receipt.write(layout, files: files)
                return report(target, from: from, receipt, notices)
            }
            try checkSwitchable()
            try await service.checkReplaceable()
            try await checkIntact(target)
            receipt.operation = Receipt.Operation(
                verb: "rollback",
                installing: target,
                previous: InstalledVersions.current(layout, files: files),
                startedAt: machine.clock.now()
            )
            receipt.note(Receipt.Created(path: layout.current, kind: .link))
            try receipt.write(layout, files: files)
            let isRestarted = try await activate(target, &receipt)
            let more = try commit(target, &receipt)
            var report = report(target, from: from, receipt, notices + more)
            report.changed = true
            report.restarted = isRestarted
            return report
        }
    }

    /// What `rollback` would do; changes nothing and takes no lock.
    func rollbackPlan(to wanted: String?) async throws(GatewayError) -> RollbackReport {
        let receipt = try Receipt.known(layout, files: files).receipt
        let target = try rollbackTarget(receipt, wanted)
        try checkSwitchable()
        try await checkIntact(target)
        var report = report(target, from: receipt.active?.version, receipt, [])
        report.isDry = true
        report.changed = InstalledVersions.current(layout, files: files) != target.directory
        report.restarted = report.changed ? await service.isRunning() : false
        if let operation = receipt.operation {
            report.notices.append(
                MutationLock.holder(layout, files: files)
                    .map { "\($0) \(MutationLock.underWay), and would be waited for" }
                    ?? "the interrupted \(operation.verb) would be finished or undone first"
            )
        }
        return report
    }

    private func report(
        _ target: Receipt.Installed,
        from: String?,
        _ receipt: Receipt,
        _ notices: [String]
    ) -> RollbackReport {
        RollbackReport(
            from: from,
            installed: target,
            directory: layout.version(target.directory),
            kept: receipt.installed.map(\.version),
            notices: notices
        )
    }

    /// The kept version of a name, else the one before the one in use.
    private func rollbackTarget(
        _ receipt: Receipt,
        _ wanted: String?
    ) throws(GatewayError) -> Receipt.Installed {
        guard let active = receipt.active else {
            throw GatewayError(
                "no-earlier-version",
                "no version is installed, so there is none to go back to",
                help: "run '\(ReleaseSource.installCommand(machine.environment))'"
            )
        }
        guard let wanted else {
            if let previous = receipt.previous { return previous }
            throw GatewayError(
                "no-earlier-version",
                "only version \(active.version) is kept, so there is none to go back to",
                help:
                    "every upgrade keeps the version before; an older one is installed with 'install-bundle'"
            )
        }
        let name = wanted.hasPrefix("v") ? String(wanted.dropFirst()) : wanted
        let found =
            receipt.installed.first { $0.directory == name } ?? receipt.installed.first { $0.version == name }
        if let found { return found }
        let kept = receipt.installed.map { $0.version + ($0 == active ? " (in use)" : "") }
        throw GatewayError(
            "version-not-kept",
            "version '\(wanted)' is not kept; kept: \(kept.joined(separator: ", "))",
            help: "another version is installed with 'install-bundle'"
        )
    }

    /// Compares a version with its manifest and starts its programs, before anything depends on it.
    private func checkIntact(_ target: Receipt.Installed) async throws(GatewayError) {
        let layout = layout, files = files
        let findings = try await BlockingThread.run("verify") { () throws(GatewayError) in
            try InstalledVersions.verify(target, layout, files: files).filter { $0.problem != .extra }
        }
        if let first = findings.first {
            throw GatewayError(
                "version-damaged",
                "version \(target.version) is damaged: \(first.sentence)"
                    + (findings.count > 1 ? ", and \(findings.count - 1) more" : ""),
                help: "run: \(Product.name) repair"
            )
        }
        try await SmokeTest(
            directory: layout.version(target.directory),
            version: target.version,
            processes: machine.processes
        ).run()
    }
}
