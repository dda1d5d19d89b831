import Appliance
import Glibc
import Platform

/// Lingering: the user's service manager runs from boot and stays after the last logout.
///
/// 1. What somebody else switched on is theirs: nothing is asked for, and nothing is noted.
/// 2. That we are about to switch it on is noted in the receipt first, so that `uninstall` undoes it whatever happens
///    in between; a refusal takes the note back.
/// 3. logind is asked over the machine's bus. It lets root do it, and where polkit runs by its standard rules everybody
///    for themselves.
/// 4. logind starts the user's manager then, and the gateway can be started under it at once, also from `su`.
struct Lingering {
    var machine: Machine

    /// Where logind keeps who lingers, one file for each user.
    var isOn: Bool { machine.files.exists("/var/lib/systemd/linger/\(ServiceBus.userName())") }

    /// What makes it so when we may not.
    static func command(_ on: Bool) -> String {
        "sudo loginctl \(on ? "enable" : "disable")-linger \(ServiceBus.userName())"
    }

    /// Switches it on where it is off; `true` when it was off.
    ///
    /// Throws `no-user-manager`, `linger-refused`, `system-bus-unreachable` or `libsystemd-missing`, with the command that
    /// helps.
    func enable(_ service: GatewayService) async throws(GatewayError) -> Bool {
        guard ServiceBus.machineHasSystemd(files: machine.files) else {
            throw GatewayError(
                "no-user-manager",
                "the gateway cannot start at boot: there is no service manager to do it",
                help: "run '\(Product.name) start' in a start-up script of yours"
            )
        }
        if isOn {
            // Somebody may have switched it on a moment ago.
            do throws(GatewayError) { try await waitForManager() } catch {}
            return false
        }
        try await note(true, service)
        do throws(GatewayError) {
            try await switchTo(true)
        } catch {
            try await note(false, service)
            throw error
        }
        // A command in between may have found it off, and taken the note for an old one.
        try await note(true, service)
        try await waitForManager()
        return true
    }

    /// Switches it off where the receipt says that we switched it on; `true` when it did.
    func disable(_ service: GatewayService) async throws(GatewayError) -> Bool {
        let layout = try machine.layout()
        guard try Receipt.read(layout, files: machine.files).enabledLinger else { return false }
        try await set(false)
        try await note(false, service)
        return true
    }

    /// Switches it on or off, where it is not so yet; nothing is noted.
    func set(_ on: Bool) async throws(GatewayError) { if isOn != on { try await switchTo(on) } }

    private func note(_ on: Bool, _ service: GatewayService) async throws(GatewayError) {
        try await service.changingReceipt("setup") { (receipt) throws(GatewayError) in
            receipt.enabledLinger = on
        }
    }

    private func switchTo(_ on: Bool) async throws(GatewayError) {
        let environment = machine.environment
        do throws(GatewayError) {
            try await BlockingThread.run("logind") { () throws(GatewayError) in
                try ServiceBus.connectSystem(environment: environment).setLinger(on)
            }
        } catch {
            throw GatewayError(error.code, error.message, help: "run: \(Lingering.command(on))")
        }
    }

    /// logind starts the user's manager by itself, and takes its time for it when the one before is about to end.
    ///
    /// Whether it came up in time, whoever needs it is about to find out.
    private func waitForManager() async throws(GatewayError) {
        let environment = machine.environment
        _ = try await BlockingThread.run("logind") { () throws(GatewayError) in
            try ServiceBus.connectSystem(environment: environment)
                .waitUntilActive("user@\(getuid()).service", within: .seconds(20))
        }
    }
}
