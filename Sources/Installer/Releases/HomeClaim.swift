import Appliance
import Jobs
import Platform

/// Whether a folder is one that this program may treat as its own.
///
/// A home is made private, swept after an interrupted command, and emptied by `uninstall --purge`. A folder that
/// `LLM_GATEWAY_HOME` names by mistake, `/tmp` or a project, must meet none of that. Names prove nothing: a project may have
/// an `auth-token` and a `receipt.json` of its own.
enum HomeClaim {
    /// Throws `foreign-home` for a folder that holds other things, and `not-a-directory` for what is no folder.
    static func check(_ layout: Layout, files: Files) throws(GatewayError) {
        let home = layout.home
        guard let status = try files.target(home) else {
            // A folder that is there by now is another command's, which made it a moment ago.
            guard try files.status(home)?.kind != .link else {
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
        guard let stranger = try files.list(home).first(where: { !isKnown($0) }), !isProven(layout, files)
        else { return }
        throw GatewayError(
            "foreign-home",
            "LLM_GATEWAY_HOME is '\(home)', a folder that holds other things, such as '\(stranger)'",
            help: "choose an empty folder, or one that does not exist yet"
        )
    }

    /// Throws `foreign-home` unless the data in a folder can only be a gateway's; for what deletes them.
    static func checkData(_ layout: Layout, files: Files) throws(GatewayError) {
        guard !layout.isDefaultHome,
            let name = try files.list(layout.home).first(where: UninstallPlan.isData),
            !isProven(layout, files)
        else { return }
        throw GatewayError(
            "foreign-home",
            "LLM_GATEWAY_HOME is '\(layout.home)', and nothing in it shows that '\(name)' there is a gateway's",
            help: "if it is, remove the folder yourself; without --purge your data stays"
        )
    }

    /// Whether something in a folder can hardly be anything but this program's: its receipt, an unpacked version, records by
    /// their tables, a token of its form beside settings, or the runtime of the Node product.
    private static func isProven(_ layout: Layout, _ files: Files) -> Bool {
        hasReceipt(layout, files) || hasToken(layout, files)
            || (try? InstalledVersions.found(layout, files: files))?.isEmpty == false
            || DatabaseFile.holdsRecords(layout.database, files: files)
            || files.exists(Layout.join(layout.home, "runtime/.llm-cli-gateway-runtime"))
    }

    private static func hasReceipt(_ layout: Layout, _ files: Files) -> Bool {
        guard let bytes = regular(layout.receipt, limit: 8 << 20, files) else { return false }
        do throws(GatewayError) {
            _ = try Receipt(bytes)
        } catch {
            guard error.code == "receipt-too-new" else { return false }
        }
        let json = try? JSON.parse(bytes)
        return json?["created"]?.array != nil && json?["installed"]?.array != nil
    }

    private static func hasToken(_ layout: Layout, _ files: Files) -> Bool {
        guard let bytes = regular(layout.authToken, limit: 1 << 10, files),
            isHex(Substring(String(decoding: bytes, as: UTF8.self).trimmed), digits: 64)
        else { return false }
        if let settings = regular(layout.settings, limit: 1 << 20, files) {
            return (try? Settings.document(of: settings)) != nil
        }
        guard let text = regular(layout.environmentFile, limit: 1 << 20, files) else { return false }
        return EnvironmentFile(bytes: text).values["PATH"] != nil
    }

    /// What a file holds; `nil` for what is no file, or cannot be read.
    private static func regular(_ path: String, limit: Int, _ files: Files) -> [UInt8]? {
        guard (try? files.target(path))??.kind == .file else { return nil }
        return try? files.read(path, limit: limit)
    }

    /// What may be in a home that only a gateway or its user has touched so far.
    private static func isKnown(_ name: String) -> Bool {
        let known =
            UninstallPlan.data + [
                ".lock", "restore.json", "start-pending", "supervisor.json", "client-sessions.jsonl",
                "auto-upgrade.json", "current",
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

    /// A file in `log`: `gateway.log`, `gateway.log.1` and so on, and `gateway.log.new` of a rotation that was killed.
    static func isLog(_ name: String) -> Bool {
        guard name.hasPrefix("gateway.log") else { return false }
        let rest = name.dropFirst("gateway.log".count)
        return rest.isEmpty || rest == ".new" || (rest.first == "." && Int(rest.dropFirst()) != nil)
    }

    private static func isHex(_ text: Substring, digits: Int) -> Bool {
        text.utf8.count == digits
            && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
