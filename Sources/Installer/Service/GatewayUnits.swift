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
    /// is starting one opens another socket. One that is closed already is not to be left.
    func leavingSocket(isStarting: Bool = false) async -> GatewayService {
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files),
            let state = try? await systemd.state(), state.socket.activeState == "active",
            !systemd.hasOwnAddress(state.socket), !systemd.hasLostSocket(state)
        else { return self }
        if let pid = state.service.mainPID {
            return keeping(settings.listened(by: pid, files: machine.files))
        }
        return isStarting ? self : keeping(systemd.openAddress(state.socket))
    }

    /// Says to whom a gateway does not listen although its socket does: to those who come by addresses that the user has added.
    func unserved(by pid: Int32, at address: Settings) -> [String] {
        let others = PortOwner.listeners(of: pid, files: machine.files).dropFirst().compactMap(\.name)
        if others.isEmpty { return [] }
        return [
            "the gateway answers only at \(address.listenAddress); your own settings of its socket also name "
                + others.joined(separator: ", ")
        ]
    }

    /// The unit of a socket that is open elsewhere than its file says, with the address that it has: to be written before the
    /// manager reads it.
    func unreadSocket() async -> [UnitFiles.Unit] {
        guard mayHaveUnit, ServiceBus.machineHasSystemd(files: machine.files),
            let state = try? await systemd.state(), systemd.isUnread(state.socket),
            !systemd.hasOwnAddress(state.socket)
        else { return [] }
        return [keeping(systemd.openAddress(state.socket)).gatewayUnits.socket]
    }

    /// The same service, the unit of whose socket says an address; its own way to write that stays.
    private func keeping(_ address: Settings?) -> GatewayService {
        guard let address, !address.isSameAddress(settings) else { return self }
        var service = self
        service.socketSettings = address
        return service
    }

    static let lostSocketNotice =
        "systemd has closed the socket of the gateway, and the next one could listen elsewhere; "
        + "'\(Product.name) restart' opens it again"

    /// Says what systemd has not read yet, and what applies it: to have it read is to close a socket that is open elsewhere.
    func noteUnread(
        _ state: SystemdService.State,
        of systemd: SystemdService,
        _ status: inout ServiceStatus
    ) {
        if let error = systemd.unreadable(state) {
            status.notices.append(error.message + (error.help.map { "; \($0)" } ?? ""))
        } else if systemd.hasLostSocket(state) {
            status.notices.append(GatewayService.lostSocketNotice)
        } else if systemd.isUnread(state.socket), let open = systemd.openAddress(state.socket) {
            status.notices.append(
                "the files of its socket have changed since systemd opened it at \(open.listenAddress); "
                    + "'\(Product.name) restart' applies them"
            )
        } else if state.service.needsReload || state.socket.needsReload {
            status.notices.append(
                "a unit file has changed since systemd read it; 'systemctl --user daemon-reload' applies it"
            )
        }
    }

    /// Whether the unit file of the socket is to say what the settings do: the user may have edited it.
    var isSocketOurs: Bool {
        guard let receipt = try? Receipt.known(layout, files: machine.files).receipt else { return true }
        let installation = UnitInstallation(layout: layout, files: machine.files)
        return (try? installation.leaves(gatewayUnits.socket, receipt)) != true
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
