import Appliance
import Platform

/// Lingering: the user's service manager runs from boot and stays after the last logout.
///
/// Asked of `loginctl`, best effort: without it the service still runs while the user is logged in. That we switched it
/// on is noted in the receipt, so that `uninstall` undoes only what we did.
struct Lingering {
    var machine: Machine

    private var folders: [String] {
        EnvironmentFile.folders(machine.environment["PATH"]) + ["/usr/bin", "/bin"]
    }

    /// Where logind keeps who lingers, one file for each user.
    var isOn: Bool { machine.files.exists("/var/lib/systemd/linger/\(ServiceBus.userName())") }

    /// Switches it on where it is off; the notices say what could not be had.
    func enable(_ service: GatewayService) async throws(GatewayError) -> [String] {
        guard ServiceBus.machineHasSystemd(files: machine.files), !isOn else { return [] }
        let user = ServiceBus.userName()
        let refusal =
            "the gateway will stop when you log out, because lingering is off; to keep it running: "
            + "sudo loginctl enable-linger \(user)"
        guard try await loginctl("enable-linger"), isOn else { return [refusal] }
        try await service.changingReceipt("setup") { (receipt) throws(GatewayError) in
            receipt.enabledLinger = true
        }
        return []
    }

    /// Switches it off again.
    func disable() async throws(GatewayError) -> Bool { try await loginctl("disable-linger") }

    private func loginctl(_ verb: String) async throws(GatewayError) -> Bool {
        guard let program = Processes.find("loginctl", in: folders, files: machine.files) else {
            return false
        }
        let command = Command(program, ["--no-ask-password", verb], environment: machine.environment)
        return try await machine.processes.run(command, limits: ProcessLimits(wall: .seconds(10))).succeeded
    }
}
