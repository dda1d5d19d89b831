import Appliance
import Glibc
import Platform

/// The processes that serve a home, known by the folder that each of them holds open.
///
/// A record may be lost, the home may be moved or removed and another one be in its place: the folder that a gateway has
/// opened at its start is the one that it serves.
struct HomeProcesses {
    /// What a process has to do with a home.
    enum Relation: Equatable {
        /// It serves it.
        case here
        /// It serves a folder that was removed since: nobody's any more.
        case removed
        /// It serves another one.
        case elsewhere
        /// It holds no folder, as one that is just being started, or that an earlier version started.
        case unknown
    }

    var layout: Layout
    var files: Files
    private let identity: Files.Identity?

    init(_ layout: Layout, files: Files) {
        self.layout = layout
        self.files = files
        identity = ((try? files.target(layout.home)) ?? nil)?.identity
    }

    /// What a process that a record of this home names has to do with it.
    func relation(_ process: ProcessIdentity) -> Relation {
        relation(HeldFolders(of: process.pid, files: files))
    }

    private func relation(_ folders: HeldFolders) -> Relation {
        if let identity, folders.identities.contains(identity) { return .here }
        guard !folders.holdsHome else { return .elsewhere }
        return folders.removed.isEmpty ? .unknown : .removed
    }

    /// Whether a process is a gateway of this home that a supervisor or a unit of ours has started.
    func isServedBy(_ pid: Int32) -> Bool {
        relation(HeldFolders(of: pid, files: files)) == .here && role(ofGateway: pid) != nil
    }

    /// A process that serves this home.
    struct Serving {
        enum Role { case supervisor, supervisedGateway, gatewayOfUnit }

        var process: ProcessIdentity
        var parent: Int32
        var role: Role
        /// Whether the folder that it serves was removed since and had this home's name.
        var isOfRemovedHome = false
    }

    /// Every supervisor and every gateway that one of them, or systemd, has started for this home: also for one that was
    /// removed and had its name.
    ///
    /// Not a gateway on stdio, which is its client's, nor one that somebody started by hand.
    func serving() -> [Serving] {
        // By which a removed folder is known as this home: after a move to another file system also the former one.
        var names: Set = [layout.home]
        if case .moved(let home)? = (try? Receipt.known(layout, files: files))?.flaw { names.insert(home) }
        names.formUnion(names.map(files.resolved))
        // The processes of a container are its own, also where it has this home.
        let world = files.destination(ofLink: "/proc/self/ns/pid")
        var found: [Serving] = []
        for name in (try? files.list("/proc")) ?? [] {
            // First: the words of a process that hangs may not be readable before it goes on.
            guard let pid = Int32(name), pid != getpid(), isOurProgram(pid) else { continue }
            let words = ProcessTable.arguments(pid)
            let isSupervisor = words.count == 2 && words[1] == Supervisor.verb
            guard isSupervisor || words.last == "--transport=http", let entry = ProcessTable.entry(pid),
                entry.state != "Z",
                files.destination(ofLink: "/proc/\(pid)/ns/pid") == world
            else { continue }
            let folders = HeldFolders(of: pid, files: files)
            let relation = relation(folders)
            guard relation == .here || (relation == .removed && !folders.removed.isDisjoint(with: names)),
                let role = isSupervisor ? .supervisor : role(ofGateway: pid),
                // The number may have been given to another process while it was looked at.
                ProcessTable.isRunning(entry.identity)
            else { continue }
            found.append(
                Serving(
                    process: entry.identity,
                    parent: entry.parent,
                    role: role,
                    isOfRemovedHome: relation == .removed
                )
            )
        }
        return found
    }

    private func isOurProgram(_ pid: Int32) -> Bool {
        guard let program = ProcessTable.executable(pid) else { return false }
        let name = Files.name(of: program)
        return name.hasPrefix(Product.name) || name.hasPrefix(Files.name(of: layout.currentGateway))
    }

    /// Who has started a gateway, by what it was handed: `nil` when neither a supervisor nor a unit of ours did.
    private func role(ofGateway pid: Int32) -> Serving.Role? {
        let environment = ProcessTable.environment(pid)
        // One for each socket: the user may have added some (sd_listen_fds(3)).
        let names = (environment["LISTEN_FDNAMES"] ?? "").split(separator: ":")
        guard let socket = environment["NOTIFY_SOCKET"], names.contains("http") || isInUnit(pid) else {
            return nil
        }
        return socket.hasPrefix("@\(Product.name)/") ? .supervisedGateway : .gatewayOfUnit
    }

    /// Whether a process belongs to our unit, as one does also that was handed no socket (cgroups(7), `/proc/PID/cgroup`).
    private func isInUnit(_ pid: Int32) -> Bool {
        let groups = ((try? files.readText("/proc/\(pid)/cgroup")) ?? "").split(separator: "\n")
        return groups.contains { $0.hasSuffix("/\(layout.unitName).service") }
    }
}

extension SupervisorRecord {
    /// What a supervisor is known by whose record was lost.
    init?(of serving: [HomeProcesses.Serving]) {
        guard let supervisor = serving.first(where: { $0.role == .supervisor }) else { return nil }
        let environment = ProcessTable.environment(supervisor.process.pid)
        guard let layout = try? Layout(environment: environment),
            let settings = try? Settings(stored: JSONObject(), environment: environment)
        else { return nil }
        self.init(
            home: layout.home,
            supervisor: supervisor.process,
            address: settings.listenAddress,
            startedAt: ProcessTable.startedAt(supervisor.process)
        )
        gateway = serving.first { $0.parent == supervisor.process.pid }?.process
        readyAt = gateway.map(ProcessTable.startedAt)
        path = settings.path
        replacements = nil
    }
}
