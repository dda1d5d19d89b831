package import Appliance
import CSystemd
import Glibc

/// A connection to the user's service manager, as `systemctl --user` has it, without starting `systemctl`.
///
/// Blocks: belongs to one thread, never to the cooperative pool.
package final class ServiceBus {
    /// How the manager sees one of its units.
    package struct Unit: Sendable, Equatable {
        /// In systemd's words: active, activating, reloading, deactivating, inactive or failed.
        package var activeState = "inactive"
        /// In systemd's words: running, listening, dead, auto-restart and more.
        package var subState = "dead"
        /// In systemd's words: loaded, not-found, bad-setting, masked and more.
        package var loadState = "not-found"
        /// In systemd's words: enabled, disabled and more; empty when there is no file.
        package var fileState = ""
        /// In systemd's words: success, exit-code, signal, watchdog, start-limit-hit and more.
        package var result = "success"
        /// Of a service; `nil` when it has none.
        package var mainPID: Int32?
        /// Of a service: how often it was started again by itself.
        package var restarts = 0
        /// When it last became active.
        package var activeSince: Timestamp?
        /// The unit file.
        package var file = ""
        /// Drop-in files that the user put beside it.
        package var dropIns: [String] = []
        /// Whether the file has changed since the manager read it.
        package var needsReload = false
        /// Of a socket: the addresses that the manager listens on while it is active, as `ListenStream=` names them, whatever its
        /// file says by now.
        package var listens: [String] = []

        /// One that the manager does not know.
        package init() {}

        /// Whether something of it runs or listens, or is about to.
        package var isAtWork: Bool {
            ["active", "activating", "reloading", "deactivating", "refreshing"].contains(activeState)
        }
    }

    let bus: OpaquePointer
    private var watchesJobs: Bool

    private init(bus: OpaquePointer, isDaemon: Bool) {
        self.bus = bus
        watchesJobs = !isDaemon
    }

    deinit { shim_bus_close(bus) }

    /// Whether this machine was started by systemd at all, as sd_booted(3) asks.
    package static func machineHasSystemd(files: Files = Files()) -> Bool {
        files.exists("/run/systemd/system")
    }

    /// Connects to the manager of the user who runs this process.
    ///
    /// Tries `XDG_RUNTIME_DIR`, then `/run/user/UID`, which `su` and some ssh set-ups do not name. Throws
    /// `user-manager-unreachable` with what to do, or `libsystemd-missing`.
    package static func connect(
        environment: [String: String],
        files: Files = Files(),
        timeout: Duration = .seconds(25)
    ) throws(GatewayError) -> ServiceBus {
        guard shim_bus_load() == 0 else {
            throw GatewayError(
                "libsystemd-missing",
                "the library libsystemd.so.0 is not installed, so the user's service manager cannot be asked",
                help: "install it (Debian: apt-get install libsystemd0), or use 'start --detached'"
            )
        }
        let own = "/run/user/\(getuid())"
        var folders: [String] = []
        var attempts: [String] = []
        if let given = environment["XDG_RUNTIME_DIR"], given.hasPrefix("/") {
            // `su` and `sudo -E` leave the variable of somebody else, whose manager root could even command.
            let owner = ((try? files.target(given)) ?? nil)?.owner
            if let owner, owner != getuid() {
                attempts.append("XDG_RUNTIME_DIR is '\(given)', which belongs to user \(owner)")
            } else {
                folders.append(given)
            }
        }
        if !folders.contains(own) { folders.append(own) }
        for folder in folders {
            for (name, isDaemon) in [("systemd/private", false), ("bus", true)] {
                let path = Layout.join(folder, name)
                guard files.exists(path) else { continue }
                var bus: OpaquePointer?
                let number = shim_bus_open(
                    "unix:path=\(escaped(path))",
                    isDaemon,
                    timeout.nanoseconds / 1000,
                    &bus
                )
                if number == 0, let bus {
                    let connection = ServiceBus(bus: bus, isDaemon: isDaemon)
                    // The connection is made in the background: only an answer proves it.
                    var probe = [
                        Property(
                            "/org/freedesktop/systemd1",
                            "org.freedesktop.systemd1.Manager",
                            "NJobs",
                            .number
                        )
                    ]
                    let answer = connection.read(&probe)
                    if answer >= 0 { return connection }
                    attempts.append("'\(path)': \(reason(answer))")
                } else {
                    attempts.append("'\(path)': \(reason(number))")
                }
            }
        }
        let found =
            attempts.isEmpty
            ? "there is no socket of it in \(folders.map { "'\($0)'" }.joined(separator: " or "))"
            : attempts.joined(separator: ", ")
        let user = userName()
        throw GatewayError(
            "user-manager-unreachable",
            "the service manager of user '\(user)' cannot be reached: \(found)",
            help: "run 'sudo loginctl enable-linger \(user)' once, or use a real login "
                + "('sudo machinectl shell \(user)@' instead of su); "
                + "'start --detached' runs the gateway without systemd"
        )
    }

    /// Connects to the message bus of the machine, on which logind and the system's own manager are.
    ///
    /// Throws `system-bus-unreachable` or `libsystemd-missing`.
    package static func connectSystem(
        environment: [String: String],
        timeout: Duration = .seconds(10)
    ) throws(GatewayError) -> ServiceBus {
        guard shim_bus_load() == 0 else {
            throw GatewayError(
                "libsystemd-missing",
                "the library libsystemd.so.0 is not installed, so logind cannot be asked"
            )
        }
        let given = environment["DBUS_SYSTEM_BUS_ADDRESS"] ?? ""
        let address = given.isEmpty ? "unix:path=/run/dbus/system_bus_socket" : given
        var bus: OpaquePointer?
        let number = shim_bus_open(address, true, timeout.nanoseconds / 1000, &bus)
        guard number == 0, let bus else {
            throw GatewayError(
                "system-bus-unreachable",
                "the message bus of the machine cannot be reached at '\(address)': \(reason(number))"
            )
        }
        return ServiceBus(bus: bus, isDaemon: true)
    }

    /// The name of the user who runs this process.
    package static func userName() -> String {
        guard let entry = getpwuid(getuid()) else { return "\(getuid())" }
        return String(cString: entry.pointee.pw_name)
    }

    // MARK: asking

    /// The state of a unit, known or not.
    package func unit(_ name: String) throws(GatewayError) -> Unit { try units([name])[0] }

    /// The states of units in the order of their names, all asked for at once: on a machine at work each answer that is
    /// waited for by itself costs a turn.
    package func units(_ names: [String]) throws(GatewayError) -> [Unit] {
        var wanted: [Property] = []
        for name in names {
            var buffer = [CChar](repeating: 0, count: 4096)
            guard shim_bus_unit_path(name, &buffer, buffer.count) >= 0 else {
                throw GatewayError("internal-error", "'\(name)' is no name of a unit")
            }
            wanted += Property.all(of: name, at: ServiceBus.text(buffer))
        }
        try ServiceBus.check(read(&wanted), "read the state of '\(names.joined(separator: "', '"))'")
        return names.map { name in Unit(wanted.filter { $0.unit == name }) }
    }

    /// Whether a unit starts with the session, by what is on disk now: in systemd's words, `enabled`, `disabled` and more, or
    /// `nil` for one without a file.
    ///
    /// The property of a unit says what was there when the manager read its file.
    package func fileState(_ name: String) -> String? { try? call("GetUnitFileState", name) }

    /// Asks for properties and puts the answers into them; an error number negated when one cannot be had.
    private func read(_ properties: inout [Property]) -> Int32 {
        var texts = [CChar](repeating: 0, count: properties.reduce(0) { $0 + $1.kind.room })
        let paths = properties.map(\.path)
        return texts.withUnsafeMutableBufferPointer { texts in
            CStrings.with(paths) { paths in
                var list: [shim_bus_property] = []
                var used = 0
                for (index, property) in properties.enumerated() {
                    guard let path = paths[index], let start = texts.baseAddress else { return -EINVAL }
                    let room = property.kind.room
                    let item = shim_bus_property(
                        path: UnsafePointer(path),
                        interface: property.interface.pointer,
                        name: property.name.pointer,
                        type: property.kind.rawValue,
                        result: 0,
                        number: 0,
                        text: room > 0 ? start + used : nil,
                        size: room
                    )
                    used += item.size
                    list.append(item)
                }
                let number = shim_bus_read(bus, &list, list.count)
                guard number >= 0 else { return number }
                for (index, item) in list.enumerated() {
                    guard item.result >= 0 else { return item.result }
                    properties[index].number = item.number
                    if let text = item.text {
                        properties[index].text = ServiceBus.text(
                            UnsafeRawBufferPointer(start: text, count: item.size)
                        )
                    }
                }
                return 0
            }
        }
    }

    /// The folders in which the manager looks for unit files, the first one counting most.
    package func unitFolders() throws(GatewayError) -> [String] {
        var wanted = [
            Property(
                "/org/freedesktop/systemd1",
                "org.freedesktop.systemd1.Manager",
                "UnitPath",
                .lines
            )
        ]
        try ServiceBus.check(read(&wanted), "ask for the folders of unit files")
        return wanted[0].text.split(separator: "\n").map(String.init)
    }

    /// Whether processes run in a unit, or in what belongs to it, whatever the unit's state.
    package func hasProcesses(_ unit: String) throws(GatewayError) -> Bool {
        let number = shim_bus_has_processes(bus, unit)
        try ServiceBus.check(number, "look for the processes of '\(unit)'")
        return number > 0
    }

    // MARK: telling

    /// Makes the manager read its unit files again.
    package func reload() throws(GatewayError) { _ = try call("Reload") }

    /// Forgets failures, so that a start limit does not stand in the way.
    package func resetFailed(_ unit: String) throws(GatewayError) {
        do throws(GatewayError) {
            _ = try call("ResetFailedUnit", unit)
        } catch {
            // A unit that is not loaded has nothing to forget.
            guard error.cause?.hasPrefix("org.freedesktop.systemd1.NoSuchUnit") == true else { throw error }
        }
    }

    /// Makes units start with the session, or no longer.
    package func setEnabled(_ enabled: Bool, _ units: [String]) throws(GatewayError) {
        var failure = shim_bus_failure()
        let number = CStrings.with(units) { shim_bus_set_enabled(bus, enabled, $0, &failure) }
        guard number >= 0 else {
            throw ServiceBus.refusal("\(enabled ? "enable" : "disable") the units", number, failure)
        }
    }

    /// What is asked of a unit.
    package enum Action: String, Sendable {
        /// Does nothing to a unit that runs.
        case start = "StartUnit"
        /// Waits until its processes are gone.
        case stop = "StopUnit"
        /// Also starts one that does not run.
        case restart = "RestartUnit"
    }

    /// Starts, stops or restarts a unit and waits until that is done; a service of type notify is ready then.
    ///
    /// Gives systemd's word for the outcome: `done`, `failed`, `dependency`, `timeout`, `canceled`, `skipped`. Throws
    /// `timed-out` when no outcome came within the limit.
    package func perform(
        _ action: Action,
        _ unit: String,
        within limit: Duration
    ) throws(GatewayError) -> String {
        try watchJobs()
        let deadline = WallClock.system.uptime() &+ limit.nanoseconds
        let job = try call(action.rawValue, unit, "replace")
        while let ended = try nextJob(before: deadline, "wait for the service manager") {
            if ended.path == job { return ended.result }
        }
        throw GatewayError(
            "timed-out",
            "'\(unit)' was not \(action.past) within \(limit.components.seconds) s",
            help: "'\(Product.name) logs' shows what it is doing"
        )
    }

    /// Waits until a unit is active, however it came to be started; `false` when the time is up.
    package func waitUntilActive(_ unit: String, within limit: Duration) throws(GatewayError) -> Bool {
        try watchJobs()
        let deadline = WallClock.system.uptime() &+ limit.nanoseconds
        while try self.unit(unit).activeState != "active" {
            // Any job that ends may be the one that made it active.
            guard try nextJob(before: deadline, "wait for '\(unit)'") != nil else { return false }
        }
        return true
    }

    /// Waits for a message of the manager; `nil` when the time is up.
    ///
    /// Its path is empty where it was not about the end of a job.
    private func nextJob(
        before deadline: UInt64,
        _ what: String
    ) throws(GatewayError) -> (path: String, result: String)? {
        let now = WallClock.system.uptime()
        guard now < deadline else { return nil }
        var path = [CChar](repeating: 0, count: 1024)
        var result = [CChar](repeating: 0, count: 256)
        let limit = (deadline - now) / 1000
        try ServiceBus.check(
            shim_bus_next_job(bus, limit, &path, path.count, &result, result.count),
            what
        )
        return (ServiceBus.text(path), ServiceBus.text(result))
    }

    /// Lets the service manager of this process's user run from boot, without a login, or no longer.
    ///
    /// On the machine's bus. Throws `linger-refused` with logind's reason.
    package func setLinger(_ on: Bool) throws(GatewayError) {
        var failure = shim_bus_failure()
        let number = shim_bus_set_linger(bus, getuid(), on, &failure)
        guard number < 0 else { return }
        let message = withUnsafeBytes(of: failure.message) { ServiceBus.text($0) }
        throw GatewayError(
            "linger-refused",
            "logind did not switch lingering \(on ? "on" : "off") for user '\(ServiceBus.userName())': "
                + (message.isEmpty ? ServiceBus.reason(number) : message)
        )
    }

    // MARK: below

    func watchJobs() throws(GatewayError) {
        guard !watchesJobs else { return }
        _ = try call("Subscribe")
        try ServiceBus.check(shim_bus_watch_jobs(bus), "watch the jobs of the service manager")
        watchesJobs = true
    }

    private func call(
        _ member: String,
        _ first: String? = nil,
        _ second: String? = nil
    ) throws(GatewayError) -> String {
        var failure = shim_bus_failure()
        var reply = [CChar](repeating: 0, count: 1024)
        let number = shim_bus_call(bus, member, first, second, &reply, reply.count, &failure)
        guard number >= 0 else {
            throw ServiceBus.refusal(first.map { "\(member) '\($0)'" } ?? member, number, failure)
        }
        return ServiceBus.text(reply)
    }

    static func refusal(
        _ what: String,
        _ number: Int32,
        _ failure: shim_bus_failure
    ) -> GatewayError {
        let name = withUnsafeBytes(of: failure.name) { text($0) }
        let message = withUnsafeBytes(of: failure.message) { text($0) }
        var error = GatewayError(
            "service-manager",
            "the service manager refused: \(what): \(message.isEmpty ? reason(number) : message)"
        )
        error.cause = name.isEmpty ? nil : name
        return error
    }

    static func check(_ number: Int32, _ what: String) throws(GatewayError) {
        guard number >= 0 else {
            throw GatewayError("service-manager", "cannot \(what): \(reason(number))")
        }
    }

    private static func reason(_ number: Int32) -> String { String(cString: strerror(-number)).lowercased() }

    private static func text(_ buffer: [CChar]) -> String { buffer.withUnsafeBytes { text($0) } }

    static func text(_ bytes: UnsafeRawBufferPointer) -> String {
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// A path inside a D-Bus address, where only some bytes stand for themselves.
    private static func escaped(_ path: String) -> String {
        path.utf8.reduce(into: "") { text, byte in
            let isPlain =
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || "-_/.".utf8.contains(byte)
            text += isPlain ? String(UnicodeScalar(byte)) : "%" + Hex.encode([byte])
        }
    }
}

extension ServiceBus {
    /// A property of an object on the bus, and its value once it was read.
    fileprivate struct Property {
        /// The D-Bus types of what is asked for.
        enum Kind: CChar {
            case text = 0x73
            case lines = 0x61
            case pairs = 0x70
            case number = 0x75
            case wide = 0x74
            case truth = 0x62

            /// Bytes for the text of it.
            var room: Int {
                switch self {
                case .text: 4096
                case .lines, .pairs: 64 << 10
                case .number, .wide, .truth: 0
                }
            }
        }

        var path: String
        var interface: StaticString
        var name: StaticString
        var kind: Kind
        /// The unit it belongs to.
        var unit = ""
        var number: UInt64 = 0
        var text = ""

        init(_ path: String, _ interface: StaticString, _ name: StaticString, _ kind: Kind) {
            self.path = path
            self.interface = interface
            self.name = name
            self.kind = kind
        }

        /// What is asked of a unit.
        ///
        /// Its activity last: what happens to it while the rest is answered is in that.
        static func all(of unit: String, at path: String) -> [Property] {
            let common: StaticString = "org.freedesktop.systemd1.Unit"
            let service: StaticString = "org.freedesktop.systemd1.Service"
            var all: [Property] = []
            if unit.hasSuffix(".service") {
                all = [
                    Property(path, service, "MainPID", .number),
                    Property(path, service, "NRestarts", .number),
                    Property(path, service, "Result", .text),
                ]
            }
            if unit.hasSuffix(".socket") {
                all = [Property(path, "org.freedesktop.systemd1.Socket", "Listen", .pairs)]
            }
            all += [
                Property(path, common, "LoadState", .text), Property(path, common, "UnitFileState", .text),
                Property(path, common, "FragmentPath", .text), Property(path, common, "DropInPaths", .lines),
                Property(path, common, "NeedDaemonReload", .truth),
                Property(path, common, "ActiveEnterTimestamp", .wide),
                Property(path, common, "SubState", .text), Property(path, common, "ActiveState", .text),
            ]
            for index in all.indices { all[index].unit = unit }
            return all
        }
    }
}

extension ServiceBus.Unit {
    /// From the properties that were read of it; of one that is not loaded and does nothing, nothing else is worth knowing.
    fileprivate init(_ properties: [ServiceBus.Property]) {
        func property(_ name: StaticString) -> ServiceBus.Property? {
            properties.first { $0.name.description == name.description }
        }
        func text(_ name: StaticString) -> String { property(name)?.text ?? "" }
        func number(_ name: StaticString) -> UInt64 { property(name)?.number ?? 0 }
        self.init()
        loadState = text("LoadState")
        activeState = text("ActiveState")
        // One whose file is gone may run on.
        guard loadState == "loaded" || isAtWork else { return }
        subState = text("SubState")
        fileState = text("UnitFileState")
        file = text("FragmentPath")
        dropIns = text("DropInPaths").split(separator: "\n").map(String.init)
        needsReload = number("NeedDaemonReload") != 0
        if case let since = number("ActiveEnterTimestamp"), since > 0 {
            activeSince = Timestamp(milliseconds: Int64(since / 1000))
        }
        listens = text("Listen").split(separator: "\n").filter { $0.hasPrefix("Stream ") }
            .map { String($0.dropFirst("Stream ".count)) }
        guard property("MainPID") != nil else { return }
        if case let pid = number("MainPID"), pid > 0 { mainPID = Int32(clamping: pid) }
        restarts = Int(clamping: number("NRestarts"))
        result = text("Result")
    }
}

extension StaticString {
    /// Where its letters are: as long as the program runs.
    fileprivate var pointer: UnsafePointer<CChar> {
        UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self)
    }
}

extension ServiceBus.Action {
    /// `started`, for sentences.
    package var past: String {
        switch self {
        case .start: "started"
        case .stop: "stopped"
        case .restart: "restarted"
        }
    }
}
