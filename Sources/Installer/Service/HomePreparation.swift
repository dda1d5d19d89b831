import Appliance
import Platform
import Providers

/// Makes a home fit for use, and says what it did; what is in order stays as it is.
///
/// 1. Token, settings and `environment` are files, or links to files; what is neither stops it before it begins.
/// 2. The directory is private.
/// 3. There is a token that means something, and only the user can read it.
/// 4. `settings.json` can be read; one that cannot is kept aside. Address, port and path that the caller or the
///    environment gives are recorded, so that every later shell sees the same.
/// 5. With `recordsShell`: the `environment` file knows the caller's search path, and what else it asks for.
///
/// A link of the user's stays a link: what is written goes to where it leads.
struct HomePreparation {
    /// What the caller wants to be recorded.
    struct Options: Sendable {
        /// Values that win over the environment and the file.
        var host: String?
        var port: Int?
        var path: String?
        /// Whether the caller's search path is to be recorded.
        var recordsShell = false
        /// Whether provider variables of this shell are copied into the `environment` file.
        var importsKeys = false
    }

    var machine: Machine
    var layout: Layout

    private var files: Files { machine.files }

    /// Variables that make a provider CLI find its login or its way out, and that a service does not inherit.
    static let shellVariables = [
        "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR", "OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", "CODEX_HOME",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_GENAI_USE_VERTEXAI", "XAI_API_KEY", "GROK_API_KEY",
        "MISTRAL_API_KEY", "VIBE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",
    ]

    /// Does it; the caller holds the lock.
    func run(_ options: Options = Options()) throws(GatewayError) -> HomeReport {
        try check()
        var report = HomeReport(layout: layout)
        try makePrivate(&report)
        try ensureToken(&report)
        report.settings = try ensureSettings(options, &report)
        if options.recordsShell { try recordShell(options, &report) }
        return report
    }

    /// Throws for a token, settings or an `environment` that is no file and leads to none; `placed` are names that are about to
    /// be replaced.
    func check(besides placed: [String] = []) throws(GatewayError) {
        for path in [layout.authToken, layout.settings, layout.environmentFile]
        where !placed.contains(Files.name(of: path)) {
            try files.checkUsersFile(path)
        }
    }

    /// What `run` would put right beside modes, one sentence each; changes nothing.
    func pending() throws(GatewayError) -> [String] {
        try check()
        var sentences: [String] = []
        if files.exists(layout.restoration) {
            sentences.append(RestoreJournal.standing(layout, files: files).step)
        }
        if files.exists(layout.pendingStart) {
            sentences.append("start the gateway again, which a restore had stopped")
        }
        if try files.authToken(of: layout) == nil {
            sentences.append("make a token in '\(layout.authToken)'")
        }
        do throws(GatewayError) {
            _ = try files.storedSettings(of: layout)
        } catch {
            guard error.code == "settings-corrupt" else { throw error }
            sentences.append("keep the unreadable '\(layout.settings)' aside and begin a new one")
        }
        return sentences
    }

    /// What `run` would do, one sentence each in the imperative; changes nothing.
    func rehearse(_ options: Options) throws(GatewayError) -> HomeReport {
        var report = HomeReport(layout: layout)
        if try files.target(layout.home) == nil { report.changes.append("make the folder '\(layout.home)'") }
        for (path, mode) in [
            (layout.home, UInt32(0o700)), (layout.authToken, 0o600), (layout.settings, 0o600),
            (layout.environmentFile, 0o600),
        ] {
            guard let status = try files.target(path), status.mode & 0o077 != 0 else { continue }
            report.changes.append("make '\(path)' private: mode 0\(String(mode, radix: 8))")
        }
        report.changes += try pending()
        let stored = (try? files.storedSettings(of: layout)) ?? JSONObject()
        report.settings = try settings(stored, options)
        if report.settings.recorded(in: stored) != stored {
            report.changes.append("record the address \(report.settings.localURL) in '\(layout.settings)'")
        }
        guard options.recordsShell else { return report }
        let file = try files.environmentFile(of: layout)
        let folders = EnvironmentFile.folders(machine.environment["PATH"])
        if !folders.isEmpty, EnvironmentFile.folders(file.values["PATH"]) != folders {
            report.changes.append("record this shell's search path in '\(layout.environmentFile)'")
        }
        for name in Self.shellVariables
        where !(machine.environment[name] ?? "").isEmpty && file.values[name] == nil {
            if options.importsKeys {
                report.changes.append("copy \(name) into '\(layout.environmentFile)'")
            } else {
                report.missingVariables.append(name)
            }
        }
        report.providers = providers(in: folders)
        return report
    }

    /// The CLIs, each with its place in these folders.
    private func providers(in folders: [String]) -> [(command: String, path: String?)] {
        Provider.allCases.map { ($0.executable, Processes.find($0.executable, in: folders, files: files)) }
    }

    /// Settings of the file, as the environment and then the caller override them.
    private func settings(_ stored: JSONObject, _ options: Options) throws(GatewayError) -> Settings {
        var settings = try files.settings(stored, of: layout, environment: machine.environment)
        if let host = options.host { settings.host = host }
        if let port = options.port { settings.port = port }
        if let path = options.path { settings.path = path }
        return settings
    }

    private func makePrivate(_ report: inout HomeReport) throws(GatewayError) {
        guard let status = try files.target(layout.home) else {
            try files.makeDirectory(layout.home)
            return report.changes.append("made the folder '\(layout.home)'")
        }
        try tighten(files.realPath(layout.home) ?? layout.home, status, 0o700, &report)
    }

    /// Takes away what others may do with a file; says so, because they may have read it.
    ///
    /// A link's target is left alone and named: it is not in the home, and others may need it as it is.
    private func tighten(
        _ path: String,
        _ status: Files.Status,
        _ mode: UInt32,
        _ report: inout HomeReport
    ) throws(GatewayError) {
        guard status.mode & 0o077 != 0 else { return }
        guard try files.status(path)?.kind != .link else {
            let target = files.realPath(path) ?? path
            report.notices.append(
                "'\(path)' is a link to '\(target)', which others may use (mode 0\(String(status.mode, radix: 8))) and which was left alone; run: chmod 600 '\(target)'"
            )
            return
        }
        try files.changeMode(path, to: mode)
        report.changes.append(
            "made '\(path)' private: its mode was 0\(String(status.mode, radix: 8)), now 0\(String(mode, radix: 8))"
        )
    }

    private func ensureToken(_ report: inout HomeReport) throws(GatewayError) {
        let path = layout.authToken
        if try files.authToken(of: layout) != nil {
            if let status = try files.target(path) { try tighten(path, status, 0o600, &report) }
            return
        }
        let wasThere = files.exists(path)
        try files.writeUsersFile(Array(Hex.encode(machine.random.bytes(32)).utf8), to: path)
        report.changes.append(
            wasThere ? "replaced the empty token in '\(path)'" : "made a token in '\(path)'"
        )
    }

    private func ensureSettings(
        _ options: Options,
        _ report: inout HomeReport
    ) throws(GatewayError) -> Settings {
        var stored = JSONObject()
        var mustWrite = false
        do throws(GatewayError) {
            stored = try files.storedSettings(of: layout)
            if let status = try files.target(layout.settings) {
                try tighten(layout.settings, status, 0o600, &report)
            }
        } catch {
            guard error.code == "settings-corrupt" else { throw error }
            let aside = "\(layout.settings).corrupt-\(machine.clock.now().milliseconds)"
            if try files.status(layout.settings)?.kind == .link {
                // The link stays, and what it leads to is written anew.
                try files.write(try files.read(layout.settings), to: aside)
            } else {
                try files.rename(layout.settings, to: aside)
            }
            report.changes.append("kept the unreadable settings as '\(aside)' and began new ones")
            mustWrite = true
        }
        let settings = try settings(stored, options)
        let document = settings.recorded(in: stored)
        guard mustWrite || document != stored else { return settings }
        try files.writeUsersFile(Array((JSON.object(document).prettyText + "\n").utf8), to: layout.settings)
        if document != stored {
            report.changes.append("recorded the address \(settings.localURL) in '\(layout.settings)'")
        }
        return settings
    }

    private func recordShell(_ options: Options, _ report: inout HomeReport) throws(GatewayError) {
        let path = layout.environmentFile
        let wasThere = files.exists(path)
        var file = wasThere ? try files.environmentFile(of: layout) : EnvironmentFile(text: Self.template)
        if wasThere, let status = try files.target(path) { try tighten(path, status, 0o600, &report) }
        report.notices += file.problems.map { "'\(path)': \($0)" }
        let before = file
        let folders = EnvironmentFile.folders(machine.environment["PATH"])
        if !folders.isEmpty, EnvironmentFile.folders(file.values["PATH"]) != folders {
            try file.set("PATH", to: folders.joined(separator: ":"))
            report.changes.append("recorded this shell's search path in '\(path)'")
        }
        let present = Self.shellVariables.filter { !(machine.environment[$0] ?? "").isEmpty }
        for name in present where file.values[name] == nil {
            guard options.importsKeys, let value = machine.environment[name] else {
                report.missingVariables.append(name)
                continue
            }
            try file.set(name, to: value)
            report.changes.append("copied \(name) into '\(path)'")
        }
        if file != before || !wasThere { try files.writeUsersFile(file.bytes, to: path) }
        report.providers = providers(in: EnvironmentFile.folders(file.values["PATH"]))
    }

    /// What a new `environment` file says.
    static let template = """
        # Variables for the gateway and the CLIs it runs, one NAME=value a line: a service has none of your shell's.
        # Remove the '#' in front of what you need; quote values with spaces: NAME="some words".
        # 'llm-cli-gateway setup --import-keys' copies what your shell has. Changes apply after 'llm-cli-gateway restart'.
        #
        #ANTHROPIC_API_KEY=
        #OPENAI_API_KEY=
        #GEMINI_API_KEY=
        #XAI_API_KEY=
        #MISTRAL_API_KEY=
        #HTTPS_PROXY=
        #
        # Where your shell finds programs; 'llm-cli-gateway setup' keeps this line up to date.

        """
}

/// What became of a home.
struct HomeReport: Sendable {
    var layout: Layout
    var settings = Settings.standard
    /// What was done, one sentence each.
    var changes: [String] = []
    /// What the reader should know.
    var notices: [String] = []
    /// The provider CLIs by command name, with their absolute path where there is one; empty when nobody looked.
    var providers: [(command: String, path: String?)] = []
    /// Provider variables of this shell that the service will not see.
    var missingVariables: [String] = []

    init(layout: Layout) { self.layout = layout }
}
