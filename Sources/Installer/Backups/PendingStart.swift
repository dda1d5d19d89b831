import Appliance
import Platform

/// `start-pending`: a restore has stopped the gateway, which was not started since.
///
/// It goes when the gateway runs again, and with `stop`. A start that fails leaves it to the next command.
struct PendingStart: Sendable, Equatable {
    /// Which restore has stopped it: the name of the folder with the files that it put in place.
    var restore = ""
    /// Whether it ran under a supervising process of ours, be there a service manager or not.
    var isDetached = false

    /// How it is started as it ran before.
    var options: GatewayService.StartOptions {
        GatewayService.StartOptions(detached: isDetached, pending: self)
    }

    /// What the note of a home says; `nil` when nothing is to be started.
    static func read(_ layout: Layout, files: Files) throws(GatewayError) -> PendingStart? {
        guard let bytes = try files.readIfPresent(layout.pendingStart, limit: 4096) else { return nil }
        let json = (try? JSON.parse(bytes)) ?? .null
        return PendingStart(
            restore: json["restore"]?.string ?? "",
            isDetached: json["detached"]?.bool ?? false
        )
    }

    /// Writes it durably.
    func write(_ layout: Layout, files: Files) throws(GatewayError) {
        let json: JSON = ["restore": .string(restore), "detached": .bool(isDetached)]
        try files.write(Array((json.prettyText + "\n").utf8), to: layout.pendingStart)
    }
}
