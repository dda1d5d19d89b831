import Appliance

/// `release-manifest.json`: the files of one release.
struct ReleaseManifest: Sendable, Equatable {
    /// One file.
    struct Artifact: Sendable, Equatable {
        var name: String
        /// `linux-amd64`.
        var platform: String
        /// What it is: `platform-bundle` for what is installed.
        var role: String
        /// Bytes, and of a bundle those that it unpacks to, where the manifest says it.
        var size: Int64?
        var unpackedSize: Int64?
        /// 64 lower-case hexadecimal digits, where the manifest says it.
        var sha256: String?
    }

    static let name = "release-manifest.json"
    static let schema = "release-manifest.v1"
    /// The largest manifest that is read, in bytes.
    static let limit = 1 << 20

    var version: SemanticVersion
    var artifacts: [Artifact]

    /// Reads a manifest.
    ///
    /// Throws `release-manifest-invalid`.
    init(_ bytes: [UInt8]) throws(GatewayError) {
        let json: JSON
        do throws(JSONSyntaxError) {
            json = try JSON.parse(bytes, maximumDepth: 32)
        } catch {
            throw ReleaseManifest.invalid(error.description)
        }
        guard json["schema_version"]?.string == ReleaseManifest.schema else {
            let found = json["schema_version"].map { $0.string ?? $0.typeName } ?? "nothing"
            throw ReleaseManifest.invalid(
                "'schema_version' is \(ForeignText.shown(found)), expected \(ReleaseManifest.schema)"
            )
        }
        guard let text = json["version"]?.string, let version = SemanticVersion(text) else {
            throw ReleaseManifest.invalid("'version' is no version such as 1.2.3")
        }
        guard let files = json["artifacts"]?.array, files.count <= 1000 else {
            throw ReleaseManifest.invalid("'artifacts' is no array of at most 1000 files")
        }
        var artifacts: [Artifact] = []
        for (number, file) in files.enumerated() {
            artifacts.append(try ReleaseManifest.artifact(file, "artifacts[\(number)]"))
        }
        self.version = version
        self.artifacts = artifacts
    }

    private static func artifact(_ json: JSON, _ place: String) throws(GatewayError) -> Artifact {
        guard let name = json["name"]?.string, ReleaseIndex.isName(name) else {
            throw invalid("\(place).name is no file name")
        }
        guard let system = json["os"]?.string, let architecture = json["arch"]?.string else {
            throw invalid("\(place) does not say its os and arch")
        }
        func bytes(_ key: String) throws(GatewayError) -> Int64? {
            guard let value = json[key], !value.isNull else { return nil }
            guard case .int(let size) = value, size > 0, size <= 1 << 40 else {
                throw invalid("\(place).\(key) is no number of bytes")
            }
            return size
        }
        let sha256 = json["sha256"]?.string
        if let sha256, !SHA256Text.isWellFormed(sha256) {
            throw invalid("\(place).sha256 is not 64 lower-case hexadecimal digits")
        }
        return Artifact(
            name: name,
            platform: "\(system)-\(architecture)",
            role: json["role"]?.string ?? "",
            size: try bytes("size"),
            unpackedSize: try bytes("unpacked_size"),
            sha256: sha256
        )
    }

    /// The bundle for a platform; `nil` when the release has none.
    func bundle(for platform: String) -> Artifact? {
        artifacts.first { $0.role == "platform-bundle" && $0.platform == platform }
    }

    private static func invalid(_ what: String) -> GatewayError {
        GatewayError(
            "release-manifest-invalid",
            "\(name) cannot be understood: \(what)",
            help: "check that the release source is one of \(Product.name)"
        )
    }
}
