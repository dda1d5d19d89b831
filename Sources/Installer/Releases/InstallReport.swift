import Appliance
import Platform

/// What an installation did.
struct InstallReport: Sendable, Equatable {
    /// The verb.
    var verb: String
    var installed: Receipt.Installed
    /// Where it is, absolute.
    var directory: String
    /// The bundle's place, without secrets.
    var bundle: String
    var origin: BundleRequest.Origin
    /// The version that was in use before and is kept.
    var previousVersion: String?
    /// Whether anything was installed; false when the bundle was in use and intact.
    var changed: Bool
    /// Whether a running service was restarted.
    var restarted: Bool
    /// The installed manager.
    var command: String
    /// Among which releases it is the newest, when that is why nothing was done: `of the channel 'stable'`.
    var newestOf: String?
    /// Sentences about what was finished, undone or left alone.
    var notices: [String]

    /// The contract's members for this verb, then ours.
    var json: JSON {
        var json: JSON = ["ok": true]
        if verb == "upgrade" {
            json["action"] = .string(verb)
            json["bootstrapper_version"] = .string(Product.version)
            json["bootstrapper_update"] = [
                "current_version": .string(Product.version),
                "latest_version": .string(installed.version),
                "updated": .bool(changed && installed.version != Product.version),
            ]
            json["previously_running"] = .bool(restarted)
        }
        json["gateway_dir"] = .string(directory)
        json["sha256"] = .string(installed.sha256)
        json["bundle"] = .string(bundle)
        json["bundle_source"] = .string(origin.rawValue)
        json["bundle_version"] = .string(installed.version)
        json["previous_version"] = .optional(previousVersion)
        json["trust"] = .string(installed.trust.rawValue)
        json["signer"] = installed.signer?.json ?? .null
        json["changed"] = .bool(changed)
        json["restarted"] = .bool(restarted)
        json["command"] = .string(command)
        json["notices"] = .strings(notices)
        return json
    }
}

extension Installation {
    func report(
        _ request: BundleRequest,
        _ installed: Receipt.Installed,
        _ options: Options,
        previous: Receipt.Installed?,
        notices: [String],
        changed: Bool = false,
        restarted: Bool = false
    ) -> InstallReport {
        InstallReport(
            verb: options.verb,
            installed: installed,
            directory: layout.version(installed.directory),
            bundle: request.shown,
            origin: request.origin,
            previousVersion: previous?.version,
            changed: changed,
            restarted: restarted,
            command: layout.currentManager,
            notices: notices
        )
    }
}
