import Appliance
import Platform

/// The unit files of the service, and where the one of its socket says that it listens.
extension GatewayService {
    /// The unit files as they should be, those of automatic upgrades included.
    var units: [UnitFiles.Unit] { gatewayUnits.all + UpgradeUnits.all(layout) }

    private var gatewayUnits: UnitFiles {
        let log = UnitInstallation.journalIsReadable() ? nil : layout.gatewayLog
        return UnitFiles(layout: layout, settings: socketSettings ?? settings, log: log)
    }

    /// The same service, the unit of whose socket stays as it is while a gateway runs, or one is started by a connection.
    ///
    /// systemd closes an active socket as soon as its file names another address, and the next gateway would be without it. Who
    /// is starting one opens another socket.
    func leavingSocket(isStarting: Bool = false) async -> GatewayService {
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files),
            let state = try? await systemd.state(), state.socket.activeState == "active",
            !systemd.hasOwnAddress(state.socket)
        else { return self }
        var service = self
        if let pid = state.service.mainPID {
            service.socketSettings = settings.listened(by: pid, files: machine.files)
        } else if !isStarting {
            service.socketSettings = systemd.socketAddress()
        }
        return service
    }

    func writeUnits(_ options: StartOptions) async throws(GatewayError) -> UnitInstallation.Outcome {
        if !UnitInstallation.journalIsReadable() { try machine.files.makeDirectory(layout.logs) }
        let units = gatewayUnits
        return try await changingReceipt("start") { (receipt) throws(GatewayError) in
            // An uninstall may have been waited for.
            try checkWanted(options)
            let installation = UnitInstallation(layout: layout, files: machine.files)
            return try installation.write(units.all, receipt: &receipt)
        }
    }
}
