import Appliance
import Glibc
import Platform

extension Installation {
    /// Finishes or undoes what an interrupted command left, and says so.
    ///
    /// - An operation that had switched `current` had verified everything and is finished: only the health of a running
    ///   service is still open. One that had not is undone.
    /// - An uninstall that had not come to the version in use is undone, and the service does again what it did; any other
    ///   is finished, without the user's data.
    func recover(_ receipt: inout Receipt) async throws(GatewayError) -> [String] {
        var notices: [String] = []
        if let operation = receipt.operation {
            let current = InstalledVersions.current(layout, files: files)
            if operation.verb == Receipt.Operation.uninstall {
                notices += try await recoverUninstall(operation, current, &receipt)
            } else if let installing = operation.installing, current == installing.directory {
                notices.append(try await finish(operation.verb, installing, &receipt))
            } else {
                try undo(&receipt)
                notices.append(undone(operation, receipt))
                notices += await endHalfRestart(&receipt, wasReplaced: operation.replaces)
            }
        }
        // Somebody else switched it off: whoever switches it on again is not us.
        if receipt.enabledLinger, !service.lingers { receipt.enabledLinger = false }
        try forgetDiscarded(&receipt)
        for leftover in try leftovers() { try files.removeTree(leftover) }
        return notices
    }

    /// As `recover`, for commands that do not write the receipt themselves.
    func recoverInterrupted(_ receipt: inout Receipt) async throws(GatewayError) -> [String] {
        let before = receipt
        let notices = try await recover(&receipt)
        if receipt != before { try receipt.write(layout, files: files) }
        return notices
    }

    private func undone(_ operation: Receipt.Operation, _ receipt: Receipt) -> String {
        let stays = receipt.active.map { "; version \($0.version) stays in use" } ?? ""
        return operation.staging == nil
            ? "an interrupted \(operation.verb) had changed nothing yet\(stays)"
            : "undid what an interrupted \(operation.verb) had left\(stays)"
    }

    private func finish(
        _ verb: String,
        _ installing: Receipt.Installed,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> String {
        do throws(GatewayError) {
            _ = try await restartIfChanged(&receipt)
        } catch {
            throw await switchBack(from: installing, &receipt, because: error)
        }
        _ = try commit(installing, &receipt)
        return "finished an interrupted \(verb) of version \(installing.version)"
    }

    /// A service that was being restarted when the command ended may run on what is undone now.
    private func endHalfRestart(_ receipt: inout Receipt, wasReplaced: Bool) async -> [String] {
        guard receipt.startedWith == nil, InstalledVersions.current(layout, files: files) != nil else {
            return []
        }
        do throws(GatewayError) {
            guard try await restartIfChanged(&receipt, wasReplaced: wasReplaced, checks: true) else {
                return []
            }
            try receipt.write(layout, files: files)
            return ["restarted the gateway on the version in use"]
        } catch {
            return ["the gateway could not be restarted on the version in use: \(error)"]
        }
    }

    /// Removes what is left of discarded versions, so that their names can be used again.
    private func forgetDiscarded(_ receipt: inout Receipt) throws(GatewayError) {
        guard !receipt.discarded.isEmpty else { return }
        try removeDiscarded(receipt)
        // The receipt may forget them only once a power cut cannot bring them back.
        if files.exists(layout.versions) { try files.syncDirectory(layout.versions) }
        receipt.discarded = []
    }

    private func recoverUninstall(
        _ operation: Receipt.Operation,
        _ current: String?,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String] {
        if let current, let installed = receipt.installed.first(where: { $0.directory == current }),
            files.isExecutable(layout.currentGateway)
        {
            _ = try ensureCommandLink(&receipt)
            // The journal stays until the service is as it was: killed in between, the next command does it again.
            let notices = await reinstate(operation.service, &receipt)
            receipt.operation = nil
            try receipt.write(layout, files: files)
            return [
                "an interrupted uninstall had not come to version \(installed.version), which stays installed; "
                    + "to remove it run '\(Product.name) uninstall'"
            ] + notices
        }
        let removal = Removal(layout: layout, files: files)
        let plan = try removal.plan(receipt, purge: false)
        try removal.perform(plan.removals.filter { !Removal.frame(layout).contains($0.path) })
        receipt = receipt.afterRemoval { files.exists($0) }
        var notices = [
            "finished an interrupted uninstall"
                + (operation.purges
                    ? "; what is left of your data is still there (uninstall --purge removes it)" : "")
        ]
        if receipt.enabledLinger {
            do throws(GatewayError) {
                try await service.setLingering(false)
                receipt.enabledLinger = false
            } catch {
                notices.append("lingering stays on: \(error); \(error.help ?? "")")
            }
        }
        try receipt.write(layout, files: files)
        do throws(GatewayError) { try await service.reloadUnits() } catch {}
        return notices
    }

    /// Lets the service do again what it did before an uninstall that is undone; says so, and what could not be done.
    private func reinstate(_ standing: ServiceStanding?, _ receipt: inout Receipt) async -> [String] {
        guard let standing else {
            return ["if the gateway is to run, start it with '\(Product.name) start'"]
        }
        var notices: [String] = []
        if receipt.enabledLinger, standing.lingers, !service.lingers {
            do throws(GatewayError) {
                try await service.setLingering(true)
                notices.append("switched lingering on again")
            } catch {
                notices.append("lingering stays off: \(error); \(error.help ?? "")")
            }
        }
        guard !standing.isIdle else { return notices }
        do throws(GatewayError) {
            notices += try await service.reinstate(standing, &receipt)
        } catch {
            notices.append(
                "the gateway could not be put back into service: \(error); "
                    + (standing.startsWithSession(layout)
                        ? "'\(Product.name) setup --enable' starts it, now and with every session"
                        : "'\(Product.name) start' starts it")
            )
        }
        return notices
    }
}
