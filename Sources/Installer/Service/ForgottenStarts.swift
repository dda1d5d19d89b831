import Appliance
import Platform

/// What would start a gateway again that the user has stopped: notes of what stopped it before, for the command that goes on.
extension GatewayService {
    /// Lets no restore and no uninstall that was interrupted start the gateway again: `stop` is the last word.
    ///
    /// The lock is only taken where there is such a note; one that is at work is waited for. What starts with the session
    /// still does. Throws `busy`.
    func forgetStarts() async throws(GatewayError) {
        guard hasStartsToForget else { return }
        let (lock, madeHome) = try await MutationLock.take(layout, verb: "stop", machine: machine, say: say)
        defer { withExtendedLifetime(lock) {} }
        let files = machine.files
        guard !madeHome else {
            // It was an uninstall that was waited for, and there is nothing to stop any more.
            try files.removeFile(layout.lock)
            try files.removeEmptyDirectory(layout.home)
            return
        }
        if var journal = interruptedRestore, journal.wasRunning {
            journal.wasRunning = false
            try journal.write(layout, files: files)
        }
        if var receipt = interruptedUninstall {
            // The timer of automatic upgrades goes on: it is not the gateway.
            receipt.operation?.service?.active.removeAll(where: own.contains)
            receipt.operation?.service?.isDetached = false
            try receipt.write(layout, files: files)
        }
        // Last: until the journals are written it would be made anew.
        try files.removeFile(layout.pendingStart)
    }

    private var hasStartsToForget: Bool {
        machine.files.exists(layout.pendingStart) || interruptedRestore?.wasRunning == true
            || interruptedUninstall != nil
    }

    /// A journal that cannot be read starts nothing.
    private var interruptedRestore: RestoreJournal? { try? RestoreJournal.read(layout, files: machine.files) }

    /// The receipt, where its operation would start the gateway.
    private var interruptedUninstall: Receipt? {
        guard let receipt = try? Receipt.read(layout, files: machine.files),
            let service = receipt.operation?.service,
            service.isDetached || service.active.contains(where: own.contains)
        else { return nil }
        return receipt
    }

    private var own: [String] { ["\(layout.unitName).service", "\(layout.unitName).socket"] }
}
