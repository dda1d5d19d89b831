/// Where every file of the appliance lives.
///
/// The only place that knows.
///
/// One directory, `~/.llm-cli-gateway` unless `LLM_GATEWAY_HOME` says otherwise, as users of the reference have it.
package struct Layout: Sendable, Equatable {
    /// The appliance's directory, absolute, mode 0700.
    package let home: String
    /// The user's home directory; where HOME is not set, the appliance's stands for it.
    package let userHome: String
    /// Whether HOME is set.
    package let knowsUserHome: Bool
    /// `config.toml`, or what `LLM_GATEWAY_CONFIG` names.
    package let configuration: String
    /// Whether `home` is the default place; a second home gets units with a suffix of their own.
    package let isDefaultHome: Bool
    /// `LLM_GATEWAY_CONFIG`.
    private let chosenConfiguration: String?

    /// Derives every path from an environment.
    ///
    /// - Throws: `home-undefined` when neither `LLM_GATEWAY_HOME` nor `HOME` is set; `invalid-value` for a relative one.
    package init(environment: [String: String]) throws(GatewayError) {
        let userHome = environment["HOME"].flatMap { $0.isEmpty ? nil : Layout.plain($0) }
        let chosen = environment["LLM_GATEWAY_HOME"].flatMap { $0.isEmpty ? nil : Layout.plain($0) }
        guard let anchor = userHome ?? chosen else {
            throw GatewayError(
                "home-undefined",
                "neither HOME nor LLM_GATEWAY_HOME is set, so there is no place for the gateway's files",
                help: "set HOME to your home directory, or LLM_GATEWAY_HOME to the directory to use"
            )
        }
        let standard = Layout.standardHome(of: anchor)
        let home = chosen.map(Layout.withoutTrailingSlash) ?? standard
        let file = environment["LLM_GATEWAY_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
        // A service runs elsewhere than the shell, so that only absolute paths mean the same to both.
        for (name, path) in [("LLM_GATEWAY_HOME", chosen), ("HOME", userHome), ("LLM_GATEWAY_CONFIG", file)] {
            guard let path, !path.hasPrefix("/") else { continue }
            throw GatewayError(
                "invalid-value",
                "\(name) is '\(path)', which is not an absolute path",
                help: "use a path that starts with '/'"
            )
        }
        // What '..' means depends on links before it, and two spellings of one home must not become two.
        guard !home.split(separator: "/").contains("..") else {
            throw GatewayError(
                "invalid-value",
                "the gateway's home '\(home)' is written with '..'",
                help: "write its path without '..' in \(chosen == nil ? "HOME" : "LLM_GATEWAY_HOME")"
            )
        }
        guard !home.isEmpty else {
            throw GatewayError(
                "invalid-value",
                "LLM_GATEWAY_HOME is '/', which is the whole machine",
                help: "choose an empty folder, or one that does not exist yet"
            )
        }
        self.init(
            home: home,
            userHome: anchor,
            knowsUserHome: userHome != nil,
            isDefaultHome: home == standard,
            chosenConfiguration: file
        )
    }

    private init(
        home: String,
        userHome: String,
        knowsUserHome: Bool,
        isDefaultHome: Bool,
        chosenConfiguration: String?
    ) {
        self.home = home
        self.userHome = userHome
        self.knowsUserHome = knowsUserHome
        self.isDefaultHome = isDefaultHome
        self.chosenConfiguration = chosenConfiguration
        configuration = chosenConfiguration ?? Layout.join(home, "config.toml")
    }

    /// The default place of a user.
    package static func standardHome(of userHome: String) -> String { join(userHome, standardName) }

    /// The name of the default place's folder.
    package static let standardName = ".llm-cli-gateway"

    /// The same home by another of its names, as the default home of `userHome` or as one of several.
    package func named(_ home: String, userHome: String? = nil, isDefaultHome: Bool) -> Layout {
        Layout(
            home: home,
            userHome: userHome ?? self.userHome,
            knowsUserHome: knowsUserHome,
            isDefaultHome: isDefaultHome,
            chosenConfiguration: chosenConfiguration
        )
    }

    /// The layout itself, for who reads or writes outside of the appliance's directory: commands, units.
    ///
    /// Throws `home-undefined` when only `LLM_GATEWAY_HOME` is set, so that nothing is put where nobody looks for it.
    package func withUserHome() throws(GatewayError) -> Layout {
        guard knowsUserHome else {
            throw GatewayError(
                "home-undefined",
                "HOME is not set, so it is not known where your commands and systemd units belong",
                help:
                    "set HOME to your home directory; with LLM_GATEWAY_HOME alone only 'llm-cli-gateway stdio' works"
            )
        }
        return self
    }

    // MARK: the user's data
    /// The bearer token, 0600.
    package var authToken: String { Layout.join(home, "auth-token") }
    /// Address, port and public URL, 0600.
    package var settings: String { Layout.join(home, "settings.json") }
    /// `KEY=value` lines that the service reads: provider keys and the recorded search path, 0600.
    package var environmentFile: String { Layout.join(home, "environment") }
    /// The database of jobs and requests.
    package var database: String { Layout.join(home, "logs.db") }
    /// The session records.
    package var sessions: String { Layout.join(home, "sessions.json") }
    /// The approval decisions.
    package var approvals: String { Layout.join(home, "approvals.jsonl") }

    // MARK: the program
    /// The unpacked versions.
    package var versions: String { Layout.join(home, "versions") }
    /// One unpacked version.
    package func version(_ version: String) -> String { Layout.join(versions, version) }
    /// The symlink to the version in use.
    package var current: String { Layout.join(home, "current") }
    /// The manager of the version in use.
    package var currentManager: String { Layout.join(current, "bin/llm-cli-gateway") }
    /// The gateway of the version in use.
    package var currentGateway: String { Layout.join(current, "bin/llm-gateway") }
    /// Every path, unit and flag that this program created, and the journal of the operation under way.
    package var receipt: String { Layout.join(home, "receipt.json") }
    /// Held exclusively by every mutating command.
    package var lock: String { Layout.join(home, ".lock") }
    /// Downloads by digest.
    package var cache: String { Layout.join(home, "cache") }
    /// Where bundles are unpacked before they are believed; in the same file system as `versions`.
    package var staging: String { Layout.join(home, "staging") }
    /// One directory for each running job.
    package var jobs: String { Layout.join(home, "jobs") }
    /// One job's directory.
    package func job(_ identifier: String) -> String { Layout.join(jobs, identifier) }
    /// The logs of a gateway without a journal.
    package var logs: String { Layout.join(home, "log") }
    /// The log of a gateway without a journal.
    package var gatewayLog: String { Layout.join(logs, "gateway.log") }
    /// Pid and start time of the supervisor where there is no user manager.
    package var supervisor: String { Layout.join(home, "supervisor.json") }
    /// What one gateway leaves to the next about the MCP sessions of clients on HTTP.
    package var clientSessions: String { Layout.join(home, "client-sessions.jsonl") }

    /// What the last automatic upgrade came to.
    package var upgradeRecord: String { Layout.join(home, "auto-upgrade.json") }

    // MARK: coming from elsewhere
    /// The journal of a restore whose files are being put in place.
    package var restoration: String { Layout.join(home, "restore.json") }
    /// There while a gateway that a restore has stopped is still to be started again.
    package var pendingStart: String { Layout.join(home, "start-pending") }
    /// Where data goes that a restore replaced, one folder for each.
    package static let replacedPrefix = "replaced-"
    /// The program of the Node gateway that was in this home before, kept until the user lets it go.
    package var reference: String { Layout.join(home, "reference") }
    /// The journal of taking the Node gateway's place.
    package var takeover: String { Layout.join(home, "takeover.json") }

    // MARK: outside the directory
    /// The symlink through which the user's shell finds the manager.
    package var commandLink: String { Layout.join(userHome, ".local/bin/llm-cli-gateway") }
    /// The folder of systemd user units.
    package var userUnits: String { Layout.join(userHome, ".config/systemd/user") }
    /// The base name of our units: `llm-cli-gateway`, with an instance suffix for a second home.
    package var unitName: String {
        isDefaultHome ? "llm-cli-gateway" : "llm-cli-gateway-\(Layout.instance(of: home))"
    }

    /// The base name of the timer and the service for automatic upgrades.
    package var upgradeUnitName: String { "\(unitName)-upgrade" }
    /// Where systemd notes when the timer last ran: it makes the file itself, and never removes it.
    package var upgradeTimerStamp: String {
        Layout.join(userHome, ".local/share/systemd/timers/stamp-\(upgradeUnitName).timer")
    }

    /// A short name for a home: FNV-1a 32 of its path, in hexadecimal.
    ///
    /// Not secret, only distinct.
    private static func instance(of path: String) -> String {
        var hash: UInt32 = 2_166_136_261
        for byte in path.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        return Hex.encode([24, 16, 8, 0].map { UInt8(truncatingIfNeeded: hash >> $0) })
    }

    /// `base/name` with exactly one slash between.
    package static func join(_ base: String, _ name: String) -> String {
        withoutTrailingSlash(base) + "/" + name
    }

    /// A path without what does not change where it leads: `//` and `/./`.
    ///
    /// Two spellings of one home must not become two homes with two sets of units.
    private static func plain(_ path: String) -> String {
        guard path.hasPrefix("/") else { return path }
        let parts = path.split(separator: "/").filter { $0 != "." }
        return "/" + parts.joined(separator: "/")
    }

    private static func withoutTrailingSlash(_ path: String) -> String {
        // Bytes, not characters, which would be counted from the path's beginning each time.
        guard path.utf8.last == UInt8(ascii: "/") else { return path }
        let slashes = path.utf8.reversed().prefix { $0 == UInt8(ascii: "/") }.count
        return String(decoding: path.utf8.dropLast(slashes), as: UTF8.self)
    }
}
