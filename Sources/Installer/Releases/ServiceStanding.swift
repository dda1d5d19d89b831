import Appliance

/// What a service does and is to do: noted before an uninstall ends it, so that undoing the uninstall puts it back.
struct ServiceStanding: Sendable, Equatable {
    /// Names of units that start with the session.
    var enabled: [String] = []
    /// Names of units that are active.
    var active: [String] = []
    /// Whether the gateway runs under a supervising process of ours.
    var isDetached = false
    /// Whether the user's service manager runs without a login.
    var lingers = false

    /// Whether there is nothing to put back.
    var isIdle: Bool { enabled.isEmpty && active.isEmpty && !isDetached }

    /// Whether the gateway itself, and not only the timer of automatic upgrades, starts with the session.
    func startsWithSession(_ layout: Layout) -> Bool {
        enabled.contains("\(layout.unitName).service") || enabled.contains("\(layout.unitName).socket")
    }

    /// The form in the receipt.
    var json: JSON {
        [
            "enabled": .strings(enabled), "active": .strings(active), "detached": .bool(isDetached),
            "lingers": .bool(lingers),
        ]
    }

    /// A service that does nothing.
    init() {}

    /// Reads that form; `nil` for anything else.
    init?(_ json: JSON) {
        guard json.object != nil else { return nil }
        enabled = (json["enabled"]?.array ?? []).compactMap(\.string)
        active = (json["active"]?.array ?? []).compactMap(\.string)
        isDetached = json["detached"]?.bool ?? false
        lingers = json["lingers"]?.bool ?? false
    }
}
