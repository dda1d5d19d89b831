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
    func retireFormerUnits() async throws(GatewayError) -> [String] {
        // The service last: it is known by it whose they are.
        let former = formerUnits.sorted { !$0.name.hasSuffix(".service") && $1.name.hasSuffix(".service") }
        guard !former.isEmpty, ServiceBus.machineHasSystemd(files: machine.files) else { return [] }
        try await systemd.retire(stoppable(former.map(\.name)))
        let files = machine.files
        var notices: [String] = []
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
    private var formerUnits: [(name: String, path: String, entry: Receipt.Created)] {
        guard let receipt = (try? Receipt.known(layout, files: machine.files))?.receipt else { return [] }
        let own = units.map { Layout.join(layout.userUnits, $0.name) }
        return receipt.created.filter { $0.kind == .unit && !own.contains($0.path) }.compactMap { entry in
            let name = Files.name(of: entry.path)
            let kinds = [".service", ".socket", ".slice", ".timer"]
            guard let kind = kinds.first(where: name.hasSuffix), isAbandoned(name.dropLast(kind.count)),
                Files.parent(of: entry.path) == layout.userUnits
            else { return nil }
            return (name, entry.path, entry)
        }
    }

    /// All but slices: in those jobs run, which would end, and they go by themselves.
    private func stoppable(_ names: [String]) -> [String] { names.filter { !$0.hasSuffix(".slice") } }

    /// Whether the service of this name would start a gateway where no home is: one that was made there since is another's.
    private func isAbandoned(_ name: Substring) -> Bool {
        let path = Layout.join(layout.userUnits, "\(name).service")
        guard let text = (try? machine.files.readIfPresent(path, limit: 1 << 20)) ?? nil,
            let home = UnitFiles.home(in: String(decoding: text, as: UTF8.self))
        else { return false }
        return !machine.files.exists(home)
    }
}
