import Appliance
import Glibc
import Platform

/// What the files of the appliance and the environment say; read once for a report.
struct LocalFacts: Sendable {
    var settings: Settings
    var configuration: Configuration
    var configurationFindings: [ConfigurationFinding]
    var configurationIsPresent: Bool
    var configurationPath: String
    var environmentFile: EnvironmentFile
    var hasToken: Bool
    var tokenFromEnvironment: Bool
    var authIsDisabled: Bool
    /// The folder that the report was asked for in.
    var directory: String
    /// Whether a registered workspace is the appliance's own folder.
    var exposesHome: Bool
    var findings: [Finding]

    /// Reads settings, configuration, environment file and token.
    ///
    /// What cannot be read becomes a finding, and its defaults hold.
    init(machine: Machine, layout: Layout) {
        let files = machine.files
        var findings: [Finding] = []
        func reading<Value>(_ title: String, _ read: () throws(GatewayError) -> Value) -> Value? {
            do throws(GatewayError) {
                return try read()
            } catch {
                findings.append(Finding(error, title: title))
                return nil
            }
        }
        settings =
            reading("settings") { () throws(GatewayError) in
                try files.settings(of: layout, environment: machine.environment)
            } ?? .standard
        environmentFile =
            reading("environment") { () throws(GatewayError) in try files.environmentFile(of: layout) }
            ?? EnvironmentFile()
        // The gateway is started with the file's variables on top of the inherited ones.
        let environment = environmentFile.overriding(machine.environment)
        let bytes = reading("configuration") { () throws(GatewayError) in
            try files.readIfPresent(layout.configuration, limit: 4 << 20)
        }
        configurationIsPresent = files.exists(layout.configuration)
        configurationPath = layout.configuration
        (configuration, configurationFindings) = Configuration.load(
            bytes ?? nil,
            environment: environment,
            layout: layout
        )
        tokenFromEnvironment = environment["LLM_GATEWAY_AUTH_TOKEN"].map { !$0.trimmed.isEmpty } ?? false
        authIsDisabled = environment["LLM_GATEWAY_AUTH_DISABLED"] == "1"
        let stored = reading("token") { () throws(GatewayError) in try files.authToken(of: layout) }
        hasToken = tokenFromEnvironment || (stored ?? nil) != nil
        directory = files.realPath(".") ?? "/"
        let home = files.realPath(layout.home) ?? layout.home
        exposesHome = configuration.workspaces.repositories.contains {
            (files.realPath($0.path) ?? $0.path) == home
        }
        findings += LocalFacts.disk(layout.home, files)
        findings += LocalFacts.looseModes(layout, files)
        findings += environmentFile.problems.map {
            Finding(
                "environment-line-skipped",
                .warning,
                "environment",
                "'\(layout.environmentFile)': \($0)",
                help: "write one NAME=value in each line of '\(layout.environmentFile)'"
            )
        }
        findings += LocalFacts.missingFolders(configuration.workspaces, files)
        self.findings = findings
    }

    /// Bytes below which the disk is said to be low: an upgrade and a few jobs that write as much as one may.
    static let lowSpace: Int64 = 256 << 20

    /// Whether there is anything to write on, without which no job starts.
    private static func disk(_ home: String, _ files: Files) -> [Finding] {
        guard files.exists(home) else { return [] }
        if let obstacle = files.obstacleToWriting(home) {
            let isReadOnly = obstacle == EROFS
            return [
                Finding(
                    "home-not-writable",
                    .error,
                    "home",
                    "'\(home)' cannot be written\(isReadOnly ? ": its file system is read-only" : ""), so no job can be started or recorded",
                    help: isReadOnly
                        ? "mount its file system with write access; the kernel takes that away from a disk with errors ('dmesg')"
                        : "make the folder your own and writable: ls -ld '\(home)'"
                )
            ]
        }
        guard let free = try? files.freeSpace(home), free < lowSpace else { return [] }
        return [
            Finding(
                "disk-low",
                .warning,
                "home",
                "only \(free >> 20) MB are free where '\(home)' is, and one job may write 50 MB",
                help: "free some space there, \(lowSpace >> 20) MB or more"
            )
        ]
    }

    /// Secrets that other users of the machine could read.
    private static func looseModes(_ layout: Layout, _ files: Files) -> [Finding] {
        let places = [
            ("home", layout.home), ("token", layout.authToken), ("settings", layout.settings),
            ("environment", layout.environmentFile), ("database", layout.database),
        ]
        return places.compactMap { name, path in
            guard let status = (try? files.target(path)) ?? nil, status.mode & 0o077 != 0 else { return nil }
            let expected = name == "home" ? "0700" : "0600"
            // Repair does not change what a link leads to.
            let isLink = ((try? files.status(path)) ?? nil)?.kind == .link
            return Finding(
                "\(name)-mode-loose",
                .warning,
                name,
                "other users of this machine may read '\(path)': its mode is 0\(String(status.mode, radix: 8)), expected \(expected)",
                help: isLink && name != "home"
                    ? "it is a link; run: chmod \(expected) '\(files.realPath(path) ?? path)'"
                    : "run 'llm-cli-gateway repair'"
            )
        }
    }

    private static func missingFolders(_ workspaces: Configuration.Workspaces, _ files: Files) -> [Finding] {
        workspaces.repositories.compactMap { repository in
            guard ((try? files.target(repository.path)) ?? nil)?.kind != .directory else { return nil }
            return Finding(
                "workspace-missing",
                .warning,
                "workspaces",
                "the workspace '\(repository.alias)' is '\(repository.path)', which is no folder",
                help: "make the folder, or remove the workspace from config.toml"
            )
        }
    }

    var configurationJSON: JSON {
        [
            "path": .string(configurationPath), "present": .bool(configurationIsPresent),
            "findings": .array(
                configurationFindings.map { finding in
                    [
                        "code": .string(finding.code), "severity": .string(finding.severity.rawValue),
                        "line": .optional(finding.line), "message": .string(finding.message),
                        "help": .optional(finding.help),
                    ]
                }
            ),
        ]
    }
}
