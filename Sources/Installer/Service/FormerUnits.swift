import Appliance
import Platform

/// Units of a home that was moved: they go by the name of the place where it was.
extension GatewayService {
    /// Throws `foreign-unit` when the unit of this home's name starts the gateway of another one, as in a copied home directory.
    func refuseForeignUnit() throws(GatewayError) {
        let path = Layout.join(layout.userUnits, "\(layout.unitName).service")
        guard let text = try machine.files.readIfPresent(path, limit: 1 << 20),
            let other = UnitFiles.home(in: String(decoding: text, as: UTF8.self)), other != layout.home,
            (try? Receipt.known(layout, files: machine.files))?.receipt.entry(path)?.wrote(SHA256.hex(text))
                != true
        else { return }
        if let real = machine.files.realPath(other), real == machine.files.realPath(layout.home) { return }
        throw GatewayError(
            "foreign-unit",
            "'\(path)' starts the gateway of '\(other)', not that of '\(layout.home)'",
            help: "move that file away, then run the command again"
        )
    }

    /// Whether the unit of this home's name runs a gateway whose folder was removed since, so that it serves nothing that is
    /// left.
    ///
    /// Throws `foreign-unit` when it runs one whose home was moved away: that one's commands end it, not a start.
    func unitServesRemovedHome() async throws(GatewayError) -> Bool {
        guard let service = try? await systemd.state().service else { return false }
        guard !servesAnotherHome(service) else {
            throw GatewayError(
                "foreign-unit",
                "'\(layout.unitName).service' runs the gateway of a home that was moved away from '\(layout.home)'",
                help: "run '\(Product.name) stop', here or where that home is now, then this command again"
            )
        }
        return servesRemovedHome(service)
    }

    /// Whether a service runs the gateway of a folder that was removed since.
    func servesRemovedHome(_ service: ServiceBus.Unit) -> Bool { relation(service) == .removed }

    /// Whether a service runs the gateway of another home that is there.
    func servesAnotherHome(_ service: ServiceBus.Unit) -> Bool { relation(service) == .elsewhere }

    private func relation(_ service: ServiceBus.Unit) -> HomeProcesses.Relation {
        guard let process = service.mainPID.flatMap(ProcessTable.identity) else { return .unknown }
        return HomeProcesses(layout, files: machine.files).relation(process)
    }

    func isServedWithoutHome() -> Bool { !HomeProcesses(layout, files: machine.files).serving().isEmpty }

    /// The layout of where this home was before, when a unit of that place serves it or waits for a connection.
    func formerPlaceAtWork() async -> Layout? {
        guard let path = formerUnits.map(\.path).first(where: { $0.hasSuffix(".service") }),
            ServiceBus.machineHasSystemd(files: machine.files),
            let home = unitOwner.home(ofUnit: path),
            let place = try? Layout(environment: ["HOME": layout.userHome, "LLM_GATEWAY_HOME": home]),
            Files.name(of: path) == "\(place.unitName).service",
            let state = try? await SystemdService(machine: machine, layout: place, say: say).state(),
            state.service.isAtWork || state.socket.activeState == "active"
        else { return nil }
        return place
    }

    private var unitOwner: PlaceOwner { PlaceOwner(layout: layout, files: machine.files) }

    /// Stops what the units of the former place still run.
    func stopFormerUnits() async throws(GatewayError) {
        let names = stoppable(formerUnits.map(\.name))
        guard !names.isEmpty, ServiceBus.machineHasSystemd(files: machine.files) else { return }
        try await systemd.halt(names)
    }

    /// Stops the units of the former place and takes them out of the session's start.
    ///
    /// Their files stay, for a caller that holds the lock and removes what the receipt names.
    func disableFormerUnits() async throws(GatewayError) {
        let names = stoppable(formerUnits.map(\.name))
        guard !names.isEmpty, ServiceBus.machineHasSystemd(files: machine.files) else { return }
        try await systemd.retire(names)
    }

    /// Takes the units of the former place out of the session's start and removes them; says so.
    ///
    /// What started with the session goes on to do so, by the units of this place.
    func retireFormerUnits() async throws(GatewayError) -> [String] {
        // The service last: it is known by it whose they are.
        let former = formerUnits.sorted { !$0.name.hasSuffix(".service") && $1.name.hasSuffix(".service") }
        guard !former.isEmpty, ServiceBus.machineHasSystemd(files: machine.files) else { return [] }
        let startedWithSession = try await systemd.enabled(former.map(\.name))
        try await systemd.retire(stoppable(former.map(\.name)))
        let files = machine.files
        var notices: [String] = []
        if startedWithSession.contains(where: { $0.hasSuffix(".service") || $0.hasSuffix(".socket") }) {
            try await systemd.enable()
            notices.append(
                "the gateway starts with your session from here, as it did from the place where this home was before"
            )
        }
        for unit in former {
            guard let bytes = try files.readIfPresent(unit.path, limit: 1 << 20) else { continue }
            let digest = SHA256.hex(bytes)
            guard try files.status(unit.path)?.kind == .file, unit.entry.wrote(digest) else { continue }
            try files.removeFile(unit.path)
            notices.append("removed '\(unit.path)', which belonged to the place where this home was before")
        }
        if !notices.isEmpty {
            try await systemd.reload()
            try await changingReceipt("start") { (receipt) throws(GatewayError) in
                for unit in former where !files.exists(unit.path) { receipt.forget(unit.path) }
            }
        }
        return notices
    }

    /// Units that the receipt names, that are not this home's by their name, and whose home is not there any more.
    var formerUnits: [(name: String, path: String, entry: Receipt.Created)] {
        guard let receipt = (try? Receipt.known(layout, files: machine.files))?.receipt else { return [] }
        let own = units.map { Layout.join(layout.userUnits, $0.name) }
        return receipt.created.filter { $0.kind == .unit && !own.contains($0.path) }.compactMap { entry in
            let name = Files.name(of: entry.path)
            let kinds = [".service", ".socket", ".slice", ".timer"]
            guard kinds.contains(where: name.hasSuffix), Files.parent(of: entry.path) == layout.userUnits,
                unitOwner.isAbandoned(entry.path)
            else { return nil }
            return (name, entry.path, entry)
        }
    }

    /// All but slices: in those jobs run, which would end, and they go by themselves.
    private func stoppable(_ names: [String]) -> [String] { names.filter { !$0.hasSuffix(".slice") } }
}
