import Appliance
import Platform

/// Whether a folder is one that this program may treat as its own.
///
/// A home is made private, swept after an interrupted command, and emptied by `uninstall --purge`. A folder that
/// `LLM_GATEWAY_HOME` names by mistake, `/tmp` or a project, must meet none of that.
enum HomeClaim {
    /// Throws `foreign-home` for a folder that holds other things, and `not-a-directory` for what is no folder.
    static func check(_ layout: Layout, files: Files) throws(GatewayError) {
        let home = layout.home
        guard let status = try files.target(home) else {
            guard !files.exists(home) else {
                throw GatewayError(
                    "not-a-directory",
                    "'\(home)' is a link that leads nowhere",
                    help: "make the folder it leads to, or remove the link"
                )
            }
            return
        }
        guard status.kind == .directory else {
            throw GatewayError(
                "not-a-directory",
                "'\(home)' is not a directory",
                help: "move it away, or choose another place with LLM_GATEWAY_HOME"
            )
        }
        // Nobody else uses the name of the standard place.
        guard !layout.isDefaultHome else { return }
        let names = try files.list(home)
        guard !names.contains(where: marks.contains), let stranger = names.first(where: { !isKnown($0) })
        else { return }
        throw GatewayError(
            "foreign-home",
            "LLM_GATEWAY_HOME is '\(home)', a folder that holds other things, such as '\(stranger)'",
            help: "choose an empty folder, or one that does not exist yet"
        )
    }

    /// What is in every home that was set up or installed into, and hardly anywhere else.
    private static let marks: Set = ["receipt.json", "auth-token"]

    /// What may be in a home that only a gateway or its user has touched so far.
    private static func isKnown(_ name: String) -> Bool {
        let known =
            UninstallPlan.data + [
                ".lock", "supervisor.json", "client-sessions.jsonl", "auto-upgrade.json", "current",
                "versions",
                "staging", "cache",
                "log", "lost+found",
            ]
        return known.contains { name == $0 || name.hasPrefix("\($0).") || name.hasPrefix("\($0)-") }
    }

    // MARK: names that only this program gives

    /// A download in `cache`: its digest, with `.part` while it is incomplete, and `.part.json` for the note about that,
    /// which may be staged.
    static func isDownload(_ name: String) -> Bool {
        let name = Files.staged(name)?.name ?? name
        let ending = [".part.json", ".part"].first { name.hasSuffix($0) } ?? ""
        return isHex(name.dropLast(ending.count), digits: 64)
    }

    /// A directory in `staging`.
    static func isStaging(_ name: String) -> Bool { isHex(name[...], digits: 16) }

    /// A file in `log`: `gateway.log`, `gateway.log.1` and so on.
    static func isLog(_ name: String) -> Bool {
        guard name.hasPrefix("gateway.log") else { return false }
        let rest = name.dropFirst("gateway.log".count)
        return rest.isEmpty || (rest.first == "." && Int(rest.dropFirst()) != nil)
    }

    private static func isHex(_ text: Substring, digits: Int) -> Bool {
        text.utf8.count == digits
            && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
