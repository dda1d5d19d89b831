import Appliance
import Glibc
import Platform

extension Installation {
    /// Finishes or undoes what an interrupted command left, and says so.
    ///
    /// - An operation that had switched `current` had verified everything and is finished: only the health of a running
    ///   service is still open. One that had not is undone.
    /// - An uninstall that had not come to the version in use is undone; any other is finished, without the user's data.
    func recover(_ receipt: inout Receipt) async throws(GatewayError) -> [String] {
        var notices: [String] = []
        if let operation = receipt.operation {
            let current = InstalledVersions.current(layout, files: files)
            if operation.verb == Receipt.Operation.uninstall {
                notices.append(try recoverUninstall(current, &receipt))
            } else if let installing = operation.installing, current == installing.directory {
                notices.append(try await finish(operation.verb, installing, &receipt))
            } else {
                try undo(&receipt)
                notices.append(undone(operation, receipt))
                notices += await endHalfRestart(&receipt)
            }
        }
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
    private func endHalfRestart(_ receipt: inout Receipt) async -> [String] {
        guard receipt.startedWith == nil, InstalledVersions.current(layout, files: files) != nil else {
            return []
        }
        do throws(GatewayError) {
            guard try await restartIfChanged(&receipt) else { return [] }
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
        _ current: String?,
        _ receipt: inout Receipt
    ) throws(GatewayError) -> String {
        let purge = receipt.operation?.purges ?? false
        if let current, let installed = receipt.installed.first(where: { $0.directory == current }),
            files.isExecutable(layout.currentGateway)
        {
            receipt.operation = nil
            _ = try ensureCommandLink(&receipt)
            try receipt.write(layout, files: files)
            return
                "an interrupted uninstall had not come to version \(installed.version), which stays installed; "
                + "to use it run '\(Product.name) start', to remove it '\(Product.name) uninstall'"
        }
        let removal = Removal(layout: layout, files: files)
        let plan = try removal.plan(receipt, purge: false)
        try removal.perform(plan.removals.filter { !Removal.frame(layout).contains($0.path) })
        receipt = receipt.afterRemoval { files.exists($0) }
        try receipt.write(layout, files: files)
        return "finished an interrupted uninstall"
            + (purge ? "; what is left of your data is still there (uninstall --purge removes it)" : "")
    }
}
