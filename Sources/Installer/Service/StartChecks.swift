import Appliance
import Platform

/// What a start needs to be there.
extension GatewayService {
    /// Another process has the port.
    static func portInUse(_ settings: Settings, _ owner: PortOwner) -> GatewayError {
        GatewayError(
            "port-in-use",
            "port \(settings.port) of \(settings.host) is taken by \(owner.wording), which is not this gateway",
            help: "stop that process, or choose another port: \(Product.name) setup --port NUMBER"
        )
    }

    /// Throws `port-in-use`, or why else nobody could listen there, but for `own` sockets, which would make room: before
    /// anything that works is ended.
    static func checkAddress(
        _ settings: Settings,
        besides own: [PortOwner.Listener],
        files: Files
    ) throws(GatewayError) {
        if let owner = PortOwner.find(settings, besides: own, files: files) {
            throw portInUse(settings, owner)
        }
        // Where they are in the way of a trial themselves, nothing else is to be learnt.
        guard PortOwner.find(settings, files: files) == nil else { return }
        do throws(GatewayError) {
            try HTTPListener.tryOpening(host: settings.host, port: settings.port)
        } catch {
            throw GatewayError(
                error.code == "address-in-use" ? "port-in-use" : error.code,
                error.message,
                help: "choose another address: \(Product.name) setup --host ADDRESS --port NUMBER"
            )
        }
    }

    /// Throws `gateway-missing`, or `invalid-value` for a port that nobody could find.
    func checkStartable() throws(GatewayError) {
        guard settings.port > 0 else {
            throw GatewayError(
                "invalid-value",
                "port 0 means any free port, where no client would find the gateway",
                help: "choose a port: \(Product.name) setup --port NUMBER"
            )
        }
        if let target = InstalledVersions.strayed(layout, files: machine.files) {
            throw GatewayError(
                "gateway-missing",
                "'\(layout.current)' leads to '\(target)', which is no version of this home",
                help: "run: \(Product.name) repair"
            )
        }
        guard machine.files.isExecutable(layout.currentGateway) else {
            if let active = (try? Receipt.known(layout, files: machine.files))?.receipt.active {
                throw GatewayError(
                    "gateway-missing",
                    "version \(active.version) is installed, but '\(layout.currentGateway)' is missing or no program",
                    help: GatewayService.advice(forMissing: layout, files: machine.files)
                )
            }
            throw GatewayError(
                "gateway-missing",
                "no gateway is installed: '\(layout.currentGateway)' does not exist",
                help: "run '\(ReleaseSource.installCommand(machine.environment))'"
            )
        }
    }

    /// What to do about a link to the version in use that leads to none.
    static func advice(forMissing layout: Layout, files: Files) -> String {
        let kind = ((try? files.status(layout.current)) ?? nil)?.kind
        return (kind == nil || kind == .link ? "" : "move '\(layout.current)' away, then ")
            + "run: \(Product.name) repair"
    }

    /// The Node gateway of this home has the port, and would go on without being asked.
    func refuseBesideReference() throws(GatewayError) {
        guard let found = try ReferenceHome.find(layout, files: machine.files), let process = found.process
        else { return }
        throw GatewayError(
            "reference-running",
            "\(found.title) runs in this home as \(process.wording)",
            help: "'\(Product.name) setup' takes its place, with its address and its token"
        )
    }
}
