import Appliance
import Platform

/// What the gateway was started with, so that it is only started again when something of that has changed.
extension GatewayService {
    /// A digest of everything that the gateway would be started with now: version, units, environment, address.
    func fingerprint() throws(GatewayError) -> String {
        let files = machine.files
        var lines = ["address \(settings.listenAddress)\(settings.path)"]
        let version = InstalledVersions.current(layout, files: files) ?? "none"
        let manifest = Layout.join(layout.version(version), BundleManifest.name)
        let bytes = try InstalledVersions.manifestBytes(manifest, files: files)
        lines.append("version \(version) \(bytes.map { SHA256.hex($0) } ?? "absent")")
        lines.append("environment \(try digest(layout.environmentFile, limit: 1 << 20))")
        for kind in ["service", "socket", "slice"] {
            let path = Layout.join(layout.userUnits, "\(layout.unitName).\(kind)")
            lines.append("\(kind) \(try digest(path, limit: 1 << 20))")
        }
        return SHA256.hex(Array(lines.joined(separator: "\n").utf8))
    }

    private func digest(_ path: String, limit: Int) throws(GatewayError) -> String {
        try machine.files.readIfPresent(path, limit: limit).map { SHA256.hex($0) } ?? "absent"
    }

    /// Notes in the receipt what the gateway has just been started with.
    func noteStart() async throws(GatewayError) {
        let fingerprint = try fingerprint()
        try await changingReceipt("start") { (receipt) throws(GatewayError) in
            // Whoever removed the program meanwhile has stopped it as well.
            guard receipt.active != nil else {
                throw GatewayError("gateway-missing", "another command has removed the gateway meanwhile")
            }
            receipt.startedWith = fingerprint
        }
    }

    /// Whether the running gateway is known to have been started with something else.
    func isOutdated() throws(GatewayError) -> Bool {
        guard let noted = try Receipt.read(layout, files: machine.files).startedWith else { return false }
        return try noted != fingerprint()
    }
}
