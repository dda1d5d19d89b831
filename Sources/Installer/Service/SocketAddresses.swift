import Appliance
import Platform

/// Where the unit of the socket listens: by what the manager has opened, and by its files.
///
/// The manager closes an active socket whose files, once it has read them, do not name its address any more. The gateway that runs keeps
/// it; the next one would be without it, or elsewhere.
extension SystemdService {
    /// Makes the manager read its files again, unless that would close the socket.
    func reloadKeepingSocket(_ bus: ServiceBus) throws(GatewayError) {
        let state = try state(bus)
        if isUnread(state.socket), !hasLostSocket(state) { return }
        try bus.reload()
    }

    /// Whether the files of an active socket do not name its address any more, which the manager has not read: a restart was
    /// killed, or somebody has changed them.
    func isUnread(_ socket: ServiceBus.Unit) -> Bool {
        guard socket.activeState == "active", let open = openAddress(socket) else { return false }
        // Those that the user has added are not served: they may go.
        return !namedAddresses(socket).contains { SystemdService.names($0, open) }
    }

    /// Whether a restart is to open the socket anew: it is not where its files say, or they have changed since it was opened.
    func isStale(_ state: State) -> Bool {
        let files = machine.files
        return isUnread(state.socket) || hasLostSocket(state)
            || dropInsOnDisk(state.socket).contains { file in
                guard let changed = ((try? files.target(file)) ?? nil)?.modified,
                    let since = state.socket.activeSince
                else { return false }
                return changed > since
            }
    }

    /// The addresses that the files name on disk, in the manager's words and order; with `first` in place of the unit file's.
    private func namedAddresses(_ socket: ServiceBus.Unit, first: [String]? = nil) -> [String] {
        var named = first ?? socketFileAddresses()
        for address in dropInsOnDisk(socket).flatMap(addresses) {
            if address.isEmpty { named = [] } else { named.append(address) }
        }
        return named
    }

    /// Whether the manager has closed a socket that it calls active: by its files, which it has read since, it would be elsewhere.
    func hasLostSocket(_ state: State) -> Bool {
        guard state.socket.activeState == "active" else { return false }
        // Its file is gone, or makes no sense.
        if state.socket.listens.isEmpty { return true }
        guard let open = openAddress(state.socket) else { return false }
        let files = machine.files
        guard let pid = state.service.mainPID else {
            return !PortOwner.listeners(files: files).contains { $0.isAt(open) }
        }
        // What cannot be seen is not said.
        guard let manager = ProcessTable.entry(pid)?.parent,
            let served = PortOwner.listeners(of: pid, files: files).first
        else { return false }
        let held = PortOwner.marks(of: manager, files: files)
        guard held.isEmpty else { return !held.contains(served.mark) }
        // One that may do more than we, as since systemd 254, does not let us see what it holds (proc(5)): one that was closed and
        // opened again at the same address is not told from one that never was.
        guard let host = served.host else { return false }
        var address = Settings.standard
        (address.host, address.port) = (host, served.port)
        return !state.socket.listens.contains { SystemdService.names($0, address) }
    }

    /// Where the socket listens that the manager has, in settings that are the standard ones otherwise.
    ///
    /// That is the first of its addresses, the one of its file unless the user has another say in it; `nil` where it is none of IP.
    func openAddress(_ socket: ServiceBus.Unit) -> Settings? {
        socket.listens.first.flatMap(SystemdService.address)
    }

    /// Where the unit file of the socket says that it listens.
    func socketFileAddress() -> Settings? { socketFileAddresses().first.flatMap(SystemdService.address) }

    private func socketFileAddresses() -> [String] { addresses(in: Layout.join(layout.userUnits, socket)) }

    /// An address in the manager's words, `nil` for what is none of IP or names no host.
    private static func address(_ text: String) -> Settings? {
        let settings = Settings.standard.listening(at: text)
        guard PortOwner.address(of: settings.host) != nil, text.hasSuffix(":\(settings.port)") else {
            return nil
        }
        return settings
    }

    /// Whether a `ListenStream=` names an address; a port alone is that of all addresses.
    private static func names(_ text: String, _ open: Settings) -> Bool {
        if let port = Int(text) {
            return port == open.port && PortOwner.address(of: open.host)?.allSatisfy { $0 == 0 } == true
        }
        return address(text)?.isSameAddress(open) ?? false
    }

    /// The user's own settings of the socket, read by the manager or not, in the order in which they count (systemd.unit(5)).
    private func dropInsOnDisk(_ unit: ServiceBus.Unit) -> [String] {
        let files = machine.files
        let folder = Layout.join(layout.userUnits, "\(socket).d")
        let new = ((try? files.list(folder)) ?? []).filter { $0.hasSuffix(".conf") }
        return Set(unit.dropIns + new.map { Layout.join(folder, $0) }).filter(files.exists)
            .sorted { (Files.name(of: $0), $0) < (Files.name(of: $1), $1) }
    }

    /// What a `ListenStream=` names; `nil` for what is none of IP, or nonsense.
    ///
    /// A port alone is that of all addresses.
    private static func place(_ text: String) -> Settings? {
        let place = Int(text) == nil ? address(text) : address("[::]:\(text)")
        return place.flatMap { (1...65_535).contains($0.port) ? $0 : nil }
    }

    /// Throws `port-in-use`, `unit-invalid`, or why else the manager could not open what a restart has it open; nothing is changed.
    ///
    /// By the files on disk, and by settings that the one of the unit is to have: to have the manager read them could close the
    /// socket that is open.
    func refuseUnopenable(_ state: State, inItsFile settings: Settings? = nil) throws(GatewayError) {
        let files = machine.files
        let named = namedAddresses(state.socket, first: settings.map { [$0.listenAddress] })
        guard let first = named.first, SystemdService.place(first) != nil else {
            throw GatewayError(
                "unit-invalid",
                named.isEmpty
                    ? "the socket of the gateway would listen nowhere"
                    : "the socket of the gateway would listen at '\(named[0])' first, which is no address of TCP",
                help: "put one such as 127.0.0.1:3333 first in your own settings of it, in '\(socket).d'"
            )
        }
        var own = state.service.mainPID.map { PortOwner.listeners(of: $0, files: files) } ?? []
        if !hasLostSocket(state) {
            // The manager has them as well, and after a gateway that ends just now alone; it may have others of the user's.
            let open = state.socket.listens.compactMap(SystemdService.place)
            own += PortOwner.listeners(files: files).filter { listener in open.contains(where: listener.isAt)
            }
        }
        let dropIns = dropInsOnDisk(state.socket)
        let isFree = dropIns.contains { ((try? files.readText($0)) ?? "").contains("FreeBind") }
        for place in named.compactMap(SystemdService.place) {
            // What is open is opened again.
            if own.contains(where: { $0.isAt(place) }) { continue }
            do throws(GatewayError) {
                try GatewayService.checkAddress(place, besides: own, files: files)
            } catch  where error.code != "port-in-use" && !dropIns.isEmpty {
                // The manager may have more rights than a command.
                guard !isFree, error.code != "permission-denied" else { continue }
                throw error
            }
        }
    }

    /// Throws `port-in-use` where the user's own settings of the socket have our address as well: the manager opens none of
    /// them then.
    func refuseSecondListener(_ settings: Settings, _ state: State) throws(GatewayError) {
        // Also those that the manager has not read yet: to have it read them now could close the socket that is to stay.
        let all = dropInsOnDisk(state.socket)
        let splitsFamilies = all.contains {
            ((try? machine.files.readText($0)) ?? "").contains("BindIPv6Only")
        }
        func isOurs(_ text: String) -> Bool {
            guard let place = SystemdService.place(text), place.port == settings.port else { return false }
            if splitsFamilies { return place.isSameAddress(settings) }
            guard let address = PortOwner.address(of: place.host) else { return false }
            return PortOwner.conflicts(address, settings.host)
        }
        guard !all.contains(where: { addresses(in: $0).contains("") }),
            let file = all.first(where: { addresses(in: $0).contains(where: isOurs) })
        else { return }
        throw GatewayError(
            "port-in-use",
            "\(settings.listenAddress) is listened on by your own settings of the socket already, in '\(file)'",
            help: "take it out there, or choose another port: \(Product.name) setup --port NUMBER"
        )
    }

    /// The addresses that a file with settings of a socket names, in the manager's words; an empty one takes away those before it
    /// (systemd.socket(5)).
    func addresses(in file: String) -> [String] {
        let text = (try? machine.files.readText(file)) ?? ""
        let words = text.split(whereSeparator: \.isNewline).map { $0.filter { $0 != " " && $0 != "\t" } }
        return words.filter { $0.hasPrefix("ListenStream=") }.map {
            String($0.dropFirst("ListenStream=".count))
        }
    }

    /// Whether the user's own settings of a socket take our address away, as an empty one does (systemd.socket(5)).
    func hasOwnAddress(_ socket: ServiceBus.Unit) -> Bool {
        socket.dropIns.contains { addresses(in: $0).contains("") }
    }

    /// Whether an active socket listens somewhere else than it is to.
    func listensElsewhere(_ state: State, _ settings: Settings) -> Bool {
        // Where the user has a say in it, it is where they want it.
        guard !hasOwnAddress(state.socket) else { return false }
        guard let pid = state.service.mainPID else {
            return openAddress(state.socket).map { !$0.isSameAddress(settings) } ?? false
        }
        return settings.listened(by: pid, files: machine.files).listenAddress != settings.listenAddress
    }
}
