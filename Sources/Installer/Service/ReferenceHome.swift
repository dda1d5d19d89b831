import Appliance
import Platform

/// What the Node gateway, in whose home this program moves, has here: its program, its processes, and what was kept of it.
///
/// The user's data is no part of it: token, settings, configuration and records are read where they are.
struct ReferenceHome: Sendable, Equatable {
    /// A process that runs this home's Node gateway.
    struct Process: Sendable, Equatable {
        var identity: ProcessIdentity
        var arguments: [String]
        /// The variables it was started with.
        var environment: [String: String]

        /// `process 4711`.
        var wording: String { "process \(identity.pid)" }
    }

    /// What `gateway.pid` is worth.
    enum Recorded: Sendable, Equatable {
        /// There is no such file, or no number in it.
        case nothing
        /// Nobody has that number now.
        case gone
        /// It is the gateway.
        case gateway(Process)
        /// Somebody else has the number: with its command line and why it is not the gateway.
        case stranger(pid: Int32, command: String?, reason: String)
    }

    /// The names of its program in the home, sorted.
    var items: [String] = []
    /// The version that its package says.
    var version: String?
    var recorded = Recorded.nothing
    /// Other processes that run the program of this home, such as one that a client started on stdio.
    var others: [Process] = []
    /// The process of its tunnel.
    var tunnel: Int32?
    /// What is kept of it in the folder `reference`.
    var kept: [String] = []
    /// Whether a takeover was begun and has not come to its end.
    var isInterrupted = false

    /// Files by name; folders count by what is in them.
    private static let fileNames = [
        "gateway.pid", "tunnel.pid", "tunnel.json", "gateway.log", "gateway.err.log", "tunnel.log",
        "gateway-bundle.tmp", "replace-bootstrapper.cmd",
    ]
    private static let folderNames = [
        "gateway", "gateway.previous", "runtime", "runtime.previous", "gateway-install.tmp",
    ]

    /// Looks at a home; `nil` when nothing of a Node gateway is there.
    static func find(_ layout: Layout, files: Files) throws(GatewayError) -> ReferenceHome? {
        // What is no folder at all is said by whoever needs one.
        guard try files.target(layout.home)?.kind == .directory else { return nil }
        var found = ReferenceHome()
        for name in try files.list(layout.home)
        where try isPart(name, at: Layout.join(layout.home, name), files) {
            found.items.append(name)
        }
        found.kept = try kept(layout, files)
        found.isInterrupted = files.exists(layout.takeover)
        guard !found.items.isEmpty || !found.kept.isEmpty || found.isInterrupted else { return nil }
        if found.items.isEmpty { return found }
        found.version = version(layout, files)
        found.recorded = try recorded(layout, files)
        let all = ProcessTable.all().map(\.identity)
        var known: Set<ProcessIdentity> = []
        if case .gateway(let process) = found.recorded {
            // What it starts is itself for a moment, until it has a program of its own.
            known = Set(ProcessTable.descendants(of: process.identity.pid).map(\.identity))
            known.insert(process.identity)
        }
        found.others = all.filter { !known.contains($0) }.compactMap { process($0, layout, files) }
        found.tunnel = try tunnel(layout, files)
        return found
    }

    /// The names in `reference` that a takeover gave; anything else there is the user's.
    ///
    /// None in a link to a folder.
    static func kept(_ layout: Layout, _ files: Files) throws(GatewayError) -> [String] {
        guard try files.status(layout.reference)?.kind == .directory else { return [] }
        return try files.list(layout.reference).filter { name in
            // A second one of the same name has a number.
            let parts = name.split(separator: ".", omittingEmptySubsequences: false)
            let isNumbered = parts.count > 1 && Int(parts[parts.count - 1]) != nil
            let plain = isNumbered ? parts.dropLast().joined(separator: ".") : name
            return (fileNames + folderNames).contains(plain)
        }
    }

    private static func isPart(_ name: String, at path: String, _ files: Files) throws(GatewayError) -> Bool {
        guard let kind = try files.status(path)?.kind else { return false }
        if fileNames.contains(name) { return kind == .file }
        guard kind == .directory else { return false }
        let marks: [String]
        switch name {
        case "gateway", "gateway.previous": marks = ["dist/index.js", "package.json"]
        case "runtime", "runtime.previous": marks = [".llm-cli-gateway-runtime"]
        case "gateway-install.tmp": return true
        default: return false
        }
        if marks.contains(where: { files.exists(Layout.join(path, $0)) }) { return true }
        // It makes them empty, and an interrupted exchange leaves them so.
        return try files.list(path).isEmpty
    }

    private static func version(_ layout: Layout, _ files: Files) -> String? {
        let path = Layout.join(layout.home, "gateway/package.json")
        guard let bytes = try? files.readIfPresent(path, limit: 1 << 20), let json = try? JSON.parse(bytes)
        else { return nil }
        return json["version"]?.string
    }

    // MARK: processes

    private static func recorded(_ layout: Layout, _ files: Files) throws(GatewayError) -> Recorded {
        let path = Layout.join(layout.home, "gateway.pid")
        guard let pid = try number(path, files), let written = try files.status(path)?.modified else {
            return .nothing
        }
        guard let entry = ProcessTable.entry(pid), entry.state != "Z", entry.state != "X" else {
            return .gone
        }
        let command = PortOwner.shortened(ProcessTable.commandLine(pid))
        guard let process = process(entry.identity, layout, files) else {
            return .stranger(pid: pid, command: command, reason: "it does not run the gateway of this home")
        }
        // The file was written after the start; a clock that was set in between is allowed a minute.
        let started = ProcessTable.startedAt(entry.identity)
        if started.milliseconds > written.milliseconds + 60_000 {
            return .stranger(
                pid: pid,
                command: command,
                reason: "it was started at \(started.iso8601), after 'gateway.pid' was written"
            )
        }
        return .gateway(process)
    }

    /// The number in a pid file.
    private static func number(_ path: String, _ files: Files) throws(GatewayError) -> Int32? {
        guard let bytes = try files.readIfPresent(path, limit: 64) else { return nil }
        return Int32(String(decoding: bytes, as: UTF8.self).trimmed).flatMap { $0 > 1 ? $0 : nil }
    }

    /// The process of an identity, when it runs the Node gateway of this home and nothing else.
    private static func process(
        _ identity: ProcessIdentity,
        _ layout: Layout,
        _ files: Files
    ) -> Process? {
        let pid = identity.pid
        let arguments = ProcessTable.arguments(pid)
        let script = Layout.join(layout.home, "gateway/dist/index.js")
        guard
            isGateway(
                executable: ProcessTable.executable(pid),
                arguments: arguments,
                scripts: [script, files.realPath(script) ?? script]
            )
        else { return nil }
        let process = Process(
            identity: identity,
            arguments: arguments,
            environment: ProcessTable.environment(pid)
        )
        // The number did not change hands while this was read.
        return ProcessTable.entry(pid)?.identity == identity ? process : nil
    }

    /// Whether a process is Node with the gateway's script as its program: pure.
    static func isGateway(executable: String?, arguments: [String], scripts: [String]) -> Bool {
        guard let executable, ["node", "nodejs"].contains(Files.name(of: executable)),
            let script = arguments.dropFirst().first(where: { !$0.hasPrefix("-") })
        else { return false }
        return scripts.contains(script)
    }

    private static func tunnel(_ layout: Layout, _ files: Files) throws(GatewayError) -> Int32? {
        guard let pid = try number(Layout.join(layout.home, "tunnel.pid"), files),
            ProcessTable.executable(pid).map(Files.name(of:)) == "cloudflared",
            ProcessTable.arguments(pid).contains("tunnel")
        else { return nil }
        return pid
    }

    // MARK: what it means

    /// The gateway's process, when `gateway.pid` names it.
    var process: Process? {
        if case .gateway(let process) = recorded { return process }
        return nil
    }

    /// Its name for people: `the Node gateway 2.11.1`.
    var title: String { "the Node gateway" + (version.map { " \($0)" } ?? "") }

    /// What can be moved away now: not what a process still runs from.
    var movable: [String] {
        items.filter { name in
            if tunnel != nil, name.hasPrefix("tunnel.") { return false }
            return others.isEmpty || !(name.hasPrefix("gateway") || name.hasPrefix("runtime"))
                || name.hasSuffix(".pid") || name.hasSuffix(".log") || name.hasSuffix(".tmp")
        }
    }

    /// What the reader should know of its processes, one sentence each.
    var notices: [String] {
        var notices: [String] = []
        if case .stranger(let pid, let command, let reason) = recorded {
            let shown = command.map { " (\($0))" } ?? ""
            notices.append("'gateway.pid' names process \(pid)\(shown), which is left alone: \(reason)")
        }
        for process in others {
            notices.append(
                "\(process.wording) still runs the Node gateway of this home, and is left alone: "
                    + "'gateway.pid' does not name it; end its client, then run '\(Product.name) setup' again"
            )
        }
        if let tunnel {
            notices.append(
                "the tunnel of the Node gateway (process \(tunnel)) goes on, and leads to this gateway now; "
                    + "to close it: kill \(tunnel)"
            )
        }
        return notices
    }

    /// What `status` and `doctor` say of it, with what to do; `nil` when there is nothing to do or to know.
    func standing(_ layout: Layout) -> (sentence: String, help: String)? {
        let setup = "'\(Product.name) setup'"
        if isInterrupted {
            return ("taking the place of \(title) was interrupted", "run \(setup): it goes on from there")
        }
        if !items.isEmpty {
            let process = process.map { ", which runs as \($0.wording)" } ?? ""
            return (
                "\(title) is in this home\(process)",
                "run \(setup): it takes its place and loses nothing; \(setup.dropLast()) --dry-run' says how"
            )
        }
        guard !kept.isEmpty else { return nil }
        return (
            "the program of the Node gateway, whose place this one took, is kept in '\(layout.reference)'",
            "when you no longer need it: \(setup.dropFirst().dropLast()) --remove-reference"
        )
    }
}
