import Appliance
import Glibc
import Platform

extension Installation {
    /// Finishes or undoes what an interrupted command left, and says so.
    ///
    /// An operation that had switched `current` had verified everything and is finished: only the health of a running
    /// service is still open. Any other is undone.
    func recover(_ receipt: inout Receipt) async throws(GatewayError) -> [String] {
        var notices: [String] = []
        if let operation = receipt.operation {
            let current = InstalledVersions.current(layout, files: files)
            if let installing = operation.installing, current == installing.directory {
                notices.append(try await finish(operation.verb, installing, &receipt))
            } else {
                try undo(&receipt)
                notices.append("undid what an interrupted \(operation.verb) had left")
            }
        }
        try removeLeftovers()
        return notices
    }

    private func finish(
        _ verb: String,
        _ installing: Receipt.Installed,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> String {
        if await service.isRunning() {
            do throws(GatewayError) {
                try await service.restart()
                try await service.waitUntilHealthy(within: healthLimit)
            } catch {
                throw await switchBack(from: installing, &receipt, because: error, wasRunning: true)
            }
        }
        _ = try commit(installing, &receipt)
        return "finished an interrupted \(verb) of version \(installing.version)"
    }

    /// What no journal names and no running command can own, because this one has the lock.
    private func removeLeftovers() throws(GatewayError) {
        for path in try leftovers() { try files.removeTree(path) }
    }

    /// Staging directories, partial downloads that nobody will go on with, and staged names of an interrupted write.
    func leftovers() throws(GatewayError) -> [String] {
        var found = try files.list(layout.staging).filter(HomeClaim.isStaging).map {
            Layout.join(layout.staging, $0)
        }
        found += try PartialDownload.leftovers(in: layout.cache, files: files, now: machine.clock.now())
        let names = [Files.name(of: layout.receipt), Files.name(of: layout.current)]
        found += try files.list(layout.home)
            .filter { name in names.contains { name.hasPrefix($0 + ".tmp.") } }
            .map { Layout.join(layout.home, $0) }
        return found
    }
}
