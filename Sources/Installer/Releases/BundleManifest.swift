import Appliance

/// `manifest.json`: what a bundle is and every file that belongs to it.
struct BundleManifest: Sendable, Equatable {
    /// One file or link.
    struct Entry: Sendable, Equatable {
        /// Relative to the bundle's root, normalised.
        var path: String
        /// 64 lower-case hexadecimal digits; empty for a link.
        var sha256: String
        /// Permission bits, at most 0o777.
        var mode: UInt32
        /// Bytes.
        var size: Int64
        /// Where a symbolic link points.
        var target: String?
    }

    /// The name of the file itself, at the root of the bundle.
    static let name = "manifest.json"
    /// What `schema_version` must say.
    static let schema = "bundle-manifest.v1"
    /// The largest manifest that is read, in bytes.
    static let limit = 8 << 20
    /// What a bundle must have to be of use.
    static let programs = ["bin/llm-cli-gateway", "bin/llm-gateway"]

    var version: SemanticVersion
    /// `linux-amd64`, `linux-arm64`.
    var platform: String
    var entries: [Entry]

    /// The bytes that the files take on the disk.
    var unpackedSize: Int64 { entries.reduce(0) { $0 + $1.size } }

    /// Reads and checks a manifest.
    ///
    /// Throws `manifest-invalid` with the place that is wrong.
    init(_ bytes: [UInt8]) throws(GatewayError) {
        let json: JSON
        do {
            json = try JSON.parse(bytes)
        } catch {
            throw BundleManifest.invalid(error.description)
        }
        guard json["schema_version"]?.string == BundleManifest.schema else {
            let found = json["schema_version"].map { $0.string ?? $0.typeName } ?? "nothing"
            throw BundleManifest.invalid("'schema_version' is \(found), expected \(BundleManifest.schema)")
        }
        guard let text = json["version"]?.string, let version = SemanticVersion(text) else {
            throw BundleManifest.invalid("'version' is no version such as 1.2.3")
        }
        guard let platform = json["platform"]?.string, !platform.isEmpty else {
            throw BundleManifest.invalid("'platform' is missing")
        }
        guard let files = json["files"]?.array else {
            throw BundleManifest.invalid("'files' is no array")
        }
        var entries: [Entry] = []
        var names: Set<String> = []
        for (index, file) in files.enumerated() {
            let entry = try BundleManifest.entry(file, "files[\(index)]")
            guard names.insert(entry.path).inserted else {
                throw BundleManifest.invalid("'\(entry.path)' is listed twice")
            }
            entries.append(entry)
        }
        for program in BundleManifest.programs {
            guard let entry = entries.first(where: { $0.path == program }), entry.mode & 0o100 != 0 else {
                throw BundleManifest.invalid("'\(program)' is not among its executable files")
            }
        }
        self.version = version
        self.platform = platform
        self.entries = entries
    }

    private static func entry(_ file: JSON, _ place: String) throws(GatewayError) -> Entry {
        guard let name = file["path"]?.string, let path = try? EntryRules.normalise(name), path == name,
            path != BundleManifest.name
        else {
            throw invalid("\(place).path is no path inside the bundle")
        }
        if let target = file["target"]?.string {
            guard EntryRules.stays(target: target, from: path) else {
                throw invalid("\(place).target leads outside the bundle")
            }
            return Entry(path: path, sha256: "", mode: 0o777, size: Int64(target.utf8.count), target: target)
        }
        guard let sha256 = file["sha256"]?.string, SHA256Text.isWellFormed(sha256) else {
            throw invalid("\(place).sha256 is not 64 lower-case hexadecimal digits")
        }
        guard let octal = file["mode"]?.string, let mode = UInt32(octal, radix: 8), mode <= 0o777,
            mode & 0o400 != 0
        else {
            throw invalid("\(place).mode is no octal mode such as \"0644\"")
        }
        guard case .int(let size)? = file["size"], size >= 0, size <= 1 << 40 else {
            throw invalid("\(place).size is no number of bytes")
        }
        return Entry(path: path, sha256: sha256, mode: mode, size: size)
    }

    private static func invalid(_ what: String) -> GatewayError {
        GatewayError(
            "manifest-invalid",
            "the bundle's manifest.json is not valid: \(what)",
            help: "the file is damaged or no bundle of \(Product.name); nothing of it was installed"
        )
    }

    /// Refuses a bundle for another platform with `wrong-platform`.
    func checkPlatform(_ expected: String = Product.platform) throws(GatewayError) {
        guard platform == expected else {
            throw GatewayError(
                "wrong-platform",
                "the bundle is for \(platform), but this machine is \(expected)",
                help: "use llm-cli-gateway-bundle-\(version)-\(expected).tar.gz"
            )
        }
    }

    /// What differs between the manifest and what is there; empty when all is right.
    func findings(in written: [String: StagingTree.Written]) -> [Finding] {
        var findings: [Finding] = []
        for entry in entries {
            guard let found = written[entry.path] else {
                findings.append(Finding(path: entry.path, problem: .missing))
                continue
            }
            if found.target != entry.target || found.sha256 != entry.sha256 || found.size != entry.size {
                findings.append(Finding(path: entry.path, problem: .altered))
            } else if entry.target == nil, found.mode != entry.mode {
                findings.append(
                    Finding(path: entry.path, problem: .mode(found: found.mode, expected: entry.mode))
                )
            }
        }
        let known = Set(entries.map(\.path))
        let folders = Set(entries.flatMap { RelativePath.folders(of: $0.path) })
        for path in written.keys.sorted() where path != BundleManifest.name && !known.contains(path) {
            let isInTheWay =
                folders.contains(path) || RelativePath.folders(of: path).contains(where: known.contains)
            findings.append(Finding(path: path, problem: isInTheWay ? .inTheWay : .extra))
        }
        return findings
    }

    /// One difference.
    struct Finding: Sendable, Equatable {
        enum Problem: Sendable, Equatable {
            case missing
            case altered
            case extra
            /// What is no folder where one has to be, or lies in a folder where a file has to be.
            case inTheWay
            case mode(found: UInt32, expected: UInt32)
        }

        var path: String
        var problem: Problem

        /// `'bin/x' is missing`.
        var sentence: String {
            switch problem {
            case .missing: "'\(path)' is missing"
            case .altered: "'\(path)' has other content than the manifest says"
            case .extra: "'\(path)' is not in the manifest"
            case .inTheWay: "'\(path)' is in the place of something else"
            case .mode(let found, let expected):
                "'\(path)' has mode 0\(String(found, radix: 8)), expected 0\(String(expected, radix: 8))"
            }
        }
    }
}

/// A path below a folder, as manifests and journals have it.
enum RelativePath {
    /// The folders that it is in, relative as it is, the outermost first.
    static func folders(of path: String) -> [String] {
        path.indices.filter { path[$0] == "/" }.map { String(path[..<$0]) }
    }
}

/// The text form of a SHA-256 digest.
enum SHA256Text {
    /// Whether this is 64 lower-case hexadecimal digits.
    static func isWellFormed(_ text: String) -> Bool {
        text.utf8.count == 64
            && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
