/// What the timer for upgrades does: the member `auto_upgrade` of `settings.json`.
package enum UpgradeMode: String, Sendable, CaseIterable {
    /// There is no timer.
    case off
    /// Looks for a newer release and says so, but installs nothing.
    case notify
    /// Installs a newer release.
    case on

    /// The name of the member.
    package static let key = "auto_upgrade"

    /// What a stored document says; `off` where it says nothing.
    ///
    /// Throws `settings-invalid`.
    package init(stored: JSONObject) throws(GatewayError) {
        guard let value = stored[UpgradeMode.key], !value.isNull else {
            self = .off
            return
        }
        guard let mode = value.string.flatMap(UpgradeMode.init(rawValue:)) else {
            throw GatewayError(
                "settings-invalid",
                "'\(UpgradeMode.key)' in settings.json is \(value.compactText), expected \"on\", \"notify\" or \"off\""
            )
        }
        self = mode
    }

    /// A stored document with this mode; every other member stays as it is.
    package func recorded(in stored: JSONObject) -> JSONObject {
        var document = stored
        document[UpgradeMode.key] = self == .off ? nil : .string(rawValue)
        return document
    }
}
