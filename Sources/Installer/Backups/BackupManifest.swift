import Appliance
import Platform

/// `backup.json`, the first entry of a backup: who made it of what, and every file with its digest.
struct BackupManifest: Sendable, Equatable {
    /// The name of its entry.
    static let name = "backup.json"
    /// Where the files of the home are in the archive.
    static let folder = "home"
    static let schema = "backup-manifest.v1"
    /// Bytes that one may have.
    static let limit = 8 << 20
    /// Bytes of one file: so few that all that a manifest can list have a sum.
    static let largestFile = 1 << 44

    struct File: Sendable, Equatable {
        /// Relative to the home.
        var path: String
        /// Bytes.
        var size: Int64
        var sha256: String
        var mode: UInt32
        var isDatabase = false
    }

    /// Something that was not taken, and why.
    struct Omission: Sendable, Equatable {
        var path: String
        var reason: String
    }

    /// The version that made it.
    var version: String
    var createdAt: Timestamp
    /// The home it is of.
    var home: String
    var hasSecrets: Bool
    var files: [File]
    var omissions: [Omission]

    var json: JSON {
        [
            "schema_version": .string(BackupManifest.schema), "name": .string(Product.name),
            "version": .string(version), "created_at": .string(createdAt.iso8601), "home": .string(home),
            "with_secrets": .bool(hasSecrets),
            "files": .array(
                files.map { file in
                    var json: JSON = [
                        "path": .string(file.path), "size": .int(file.size), "sha256": .string(file.sha256),
                        "mode": .string("0" + String(file.mode, radix: 8)),
                    ]
                    if file.isDatabase { json["kind"] = "database" }
                    return json
                }
            ),
            "left_out": .array(omissions.map(\.json)),
        ]
    }

    /// Bytes of all files.
    var size: Int64 { files.reduce(0) { $0 + $1.size } }

    /// The names directly in the home.
    var names: [String] {
        var names: [String] = []
        for file in files {
            let name = String(file.path.prefix { $0 != "/" })
            if names.last != name, !names.contains(name) { names.append(name) }
        }
        return names
    }

    init(
        version: String,
        createdAt: Timestamp,
        home: String,
        hasSecrets: Bool,
        files: [File],
        omissions: [Omission]
    ) {
        self.version = version
        self.createdAt = createdAt
        self.home = home
        self.hasSecrets = hasSecrets
        self.files = files
        self.omissions = omissions
    }

    /// Reads one; nothing in it is believed.
    ///
    /// Throws `backup-invalid`, `backup-too-new` or `unsafe-archive`.
    init(_ bytes: [UInt8]) throws(GatewayError) {
        guard let json = try? JSON.parse(bytes), let schema = json["schema_version"]?.string else {
            throw BackupManifest.invalid("it is no JSON object with a 'schema_version'")
        }
        guard schema == BackupManifest.schema else {
            let made = json["version"]?.string.map { " by version \($0)" } ?? ""
            throw GatewayError(
                "backup-too-new",
                "the backup was made\(made) in the form '\(schema)', and this version (\(Product.version)) reads '\(BackupManifest.schema)'",
                help: "install the version that made the backup, or a newer one, then restore"
            )
        }
        guard let version = json["version"]?.string,
            let createdAt = json["created_at"]?.string.flatMap({ Timestamp(iso8601: $0) }),
            let home = json["home"]?.string, let hasSecrets = json["with_secrets"]?.bool,
            let entries = json["files"]?.array
        else { throw BackupManifest.invalid("a member is missing") }
        var files: [File] = []
        var seen: Set<String> = []
        for entry in entries {
            guard let path = entry["path"]?.string, try EntryRules.normalise(path) == path,
                let size = entry["size"]?.int, (0...BackupManifest.largestFile).contains(size),
                let sha256 = entry["sha256"]?.string,
                sha256.utf8.count == 64, let mode = entry["mode"]?.string.flatMap({ UInt32($0, radix: 8) })
            else { throw BackupManifest.invalid("an entry of 'files' is incomplete") }
            guard seen.insert(path).inserted else {
                throw BackupManifest.invalid("'\(path)' is listed twice")
            }
            let name = String(path.prefix { $0 != "/" })
            guard HomeContents.isCarried(name) else {
                throw GatewayError(
                    "unsafe-archive",
                    "the backup is not safe to restore: '\(path)' is a name that no backup has",
                    help: "do not use this file; nothing was changed"
                )
            }
            files.append(
                File(
                    path: path,
                    size: Int64(size),
                    sha256: sha256,
                    mode: mode & 0o700 | 0o600,
                    isDatabase: entry["kind"]?.string == "database"
                )
            )
        }
        self.init(
            version: version,
            createdAt: createdAt,
            home: home,
            hasSecrets: hasSecrets,
            files: files,
            omissions: (json["left_out"]?.array ?? []).compactMap { entry in
                guard let path = entry["path"]?.string, let reason = entry["reason"]?.string else {
                    return nil
                }
                return Omission(path: path, reason: reason)
            }
        )
    }

    private static func invalid(_ what: String) -> GatewayError {
        GatewayError(
            "backup-invalid",
            "the backup's \(name) is not valid: \(what)",
            help: "use another copy of the backup; nothing was changed"
        )
    }
}

extension BackupManifest.Omission {
    var json: JSON { ["path": .string(path), "reason": .string(reason)] }
}
