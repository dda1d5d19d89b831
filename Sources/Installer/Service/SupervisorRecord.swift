import Appliance
import Platform

/// `supervisor.json`: who supervises the gateway where there is no systemd, and what it last knew.
///
/// Processes are named by pid and start time, so that a stale record never points at a stranger.
struct SupervisorRecord: Sendable, Equatable {
    /// The home that it supervises; `nil` in what an earlier version wrote.
    var home: String?
    var supervisor: ProcessIdentity
    /// `nil` between two attempts.
    var gateway: ProcessIdentity?
    /// Where it listens, as `Settings.listenAddress` writes it.
    var address: String
    var startedAt: Timestamp
    /// When the gateway last became ready.
    var readyAt: Timestamp?
    var restarts = 0
    /// How often it was asked to replace the gateway, so that who asks knows what came afterwards; `nil` from a supervisor that
    /// an earlier version started, which does not count.
    var replacements: Int? = 0
    /// How the gateway ended that should have been ready by now, and was started since the last replacement was asked for; `nil`
    /// once one is ready.
    var failure: String?
    /// Where it serves MCP; `nil` in what an earlier version wrote.
    var path: String?
    /// Since when it stands for a gateway that is to be there and is not: one that is ended for another, which has not come.
    var vacantSince: Timestamp?

    /// The form in the file.
    var json: JSON {
        [
            "home": .optional(home), "supervisor": supervisor.json, "gateway": gateway?.json ?? .null,
            "address": .string(address),
            "startedAt": .string(startedAt.iso8601), "readyAt": .optional(readyAt?.iso8601),
            "restarts": .integer(restarts), "replacements": .optional(replacements),
            "failure": .optional(failure), "path": .optional(path),
            "vacantSince": .optional(vacantSince?.iso8601),
        ]
    }

    /// Reads the record of a home; `nil` when there is none, it cannot be understood, or it came with a copy of another
    /// home.
    static func read(_ layout: Layout, files: Files) throws(GatewayError) -> SupervisorRecord? {
        guard let status = try files.target(layout.supervisor), status.kind == .file, status.size <= limit,
            let bytes = try files.readIfPresent(layout.supervisor, limit: limit),
            let json = try? JSON.parse(String(decoding: bytes, as: UTF8.self)),
            let supervisor = ProcessIdentity(json: json["supervisor"]),
            let address = json["address"]?.string,
            let startedAt = json["startedAt"]?.string.flatMap({ Timestamp(iso8601: $0) }),
            case let home = json["home"]?.string, case let gateway = ProcessIdentity(json: json["gateway"]),
            isOf(home, [supervisor, gateway].compactMap { $0 }, layout, files)
        else { return nil }
        var record = SupervisorRecord(
            home: home,
            supervisor: supervisor,
            address: address,
            startedAt: startedAt
        )
        record.gateway = gateway
        record.readyAt = json["readyAt"]?.string.flatMap { Timestamp(iso8601: $0) }
        record.restarts = json["restarts"]?.int ?? 0
        record.replacements = json["replacements"]?.int
        record.failure = json["failure"]?.string
        record.path = json["path"]?.string
        record.vacantSince = json["vacantSince"]?.string.flatMap { Timestamp(iso8601: $0) }
        return record
    }

    /// Whether a record that names `home` is this home's: also one that was moved since, or has another in its place now.
    ///
    /// What its processes hold decides, then what they run; the name counts where neither says anything.
    private static func isOf(
        _ home: String?,
        _ processes: [ProcessIdentity],
        _ layout: Layout,
        _ files: Files
    ) -> Bool {
        let running = processes.filter(ProcessTable.isRunning)
        let relations = running.map(HomeProcesses(layout, files: files).relation)
        if let known = relations.first(where: { $0 != .unknown }) { return known != .elsewhere }
        guard let home, home != layout.home else { return true }
        guard let here = files.realPath(layout.home) else { return false }
        return running.contains { ProcessTable.executable($0.pid)?.hasPrefix(here + "/") ?? false }
            || files.realPath(home) == here
    }

    /// Settings with the address of the record in place of theirs.
    func listening(_ settings: Settings) -> Settings {
        var settings = settings.listening(at: address)
        settings.path = path ?? settings.path
        return settings
    }

    /// Writes the record; it means nothing after a power cut, so it is not synced.
    ///
    /// On a full disk it goes over the one before, which has room for it: whoever reads that would take the gateway for a
    /// stranger.
    func write(_ layout: Layout, files: Files) throws(GatewayError) {
        try SupervisorRecord.checkPlace(layout, files: files)
        var text = Array(json.prettyText.utf8)
        text += Array(repeating: 0x20, count: max(0, SupervisorRecord.size - text.count - 1)) + [0x0A]
        do throws(GatewayError) {
            try files.write(text, to: layout.supervisor, durable: false)
        } catch  where error.code == "disk-full" {
            guard files.exists(layout.supervisor) else { throw error }
            try files.overwrite(text, in: layout.supervisor)
        }
    }

    /// Throws `in-the-way` when a folder has the name of the file.
    static func checkPlace(_ layout: Layout, files: Files) throws(GatewayError) {
        guard try files.status(layout.supervisor)?.kind == .directory else { return }
        throw GatewayError(
            "in-the-way",
            "'\(layout.supervisor)' is a folder, where the record of the supervising process belongs",
            help: "move it away, then run the command again"
        )
    }

    /// Bytes of the file, blanks at its end included.
    private static let size = 2048
    /// A file of more bytes is no record.
    private static let limit = 64 << 10
}
