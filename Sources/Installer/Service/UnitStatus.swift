import Appliance
import Platform

/// What the service manager says of the gateway's unit, for `status`.
extension GatewayService {
    /// What is known of the unit's socket.
    struct SocketView {
        /// Where the manager has it open; `nil` where it is closed.
        var address: Settings?
        /// Whether the user has a say in where it listens.
        var isOverridden = false
    }

    /// `place` is the layout by whose name the unit goes: this one, or that of where this home was before.
    func describeUnit(
        of place: Layout,
        _ status: inout ServiceStatus
    ) async throws(GatewayError) -> SocketView {
        let systemd = SystemdService(machine: machine, layout: place, say: say)
        let state: SystemdService.State
        do throws(GatewayError) {
            state = try await systemd.state()
        } catch {
            status.notices.append(error.description + (error.help.map { "; \($0)" } ?? ""))
            return SocketView()
        }
        let service = state.service
        let isLost = systemd.hasLostSocket(state)
        var socket = SocketView(isOverridden: systemd.hasOwnAddress(state.socket))
        if state.socket.activeState == "active", !isLost || service.mainPID != nil {
            socket.address = systemd.openAddress(state.socket).map {
                settings.listening(at: $0.listenAddress)
            }
        }
        status.supervisor = .systemd
        status.unit = "\(place.unitName).service"
        status.state = "\(service.activeState) (\(service.subState))"
        status.running = service.activeState == "active" || service.activeState == "reloading"
        status.pid = service.mainPID
        status.since = status.running ? service.activeSince : nil
        status.restarts = service.restarts
        status.enabled = service.fileState == "enabled"
        status.startsAtBoot = status.enabled == true && Lingering(machine: machine).isOn
        if place.home == layout.home, servesAnotherHome(service) {
            status.running = false
            status.pid = nil
            status.notices.append(
                "its unit runs the gateway of a home that was moved away from '\(layout.home)'"
            )
        }
        if place.home == layout.home, servesRemovedHome(service) {
            status.notices.append(servesReplacedFolder)
        }
        if !UnitInstallation.journalIsReadable() { status.logPath = layout.gatewayLog }
        noteUnread(state, of: systemd, &status)
        if place.home != layout.home {
            status.notices.append(
                "it runs by the unit of '\(place.home)', where this home was before; '\(Product.name) restart' moves it here"
            )
        } else if service.isAtWork, !machine.files.exists(unitPath) {
            status.notices.append(
                "its unit file '\(unitPath)' is gone; '\(Product.name) start' writes it again"
            )
        }
        let dropIns = service.dropIns + state.socket.dropIns
        if !dropIns.isEmpty {
            status.notices.append("your own settings apply: \(dropIns.joined(separator: ", "))")
        }
        if service.activeState == "failed", service.result != "success" {
            status.notices.append("the last run ended with '\(service.result)'")
        } else if state.socket.activeState == "failed" {
            status.notices.append(
                "systemd could not open its socket; '\(Product.name) start' tries that again"
            )
        }
        guard service.mainPID == nil, state.socket.subState == "listening", !isLost,
            systemd.unreadable(state) == nil
        else { return socket }
        status.notices.append("the socket is open: the next connection starts the gateway")
        status.awaitsConnection = true
        if let address = socket.address, !socket.isOverridden, !address.isSameAddress(settings) {
            noteAddress(address.listenAddress, &status)
        }
        return socket
    }
}
