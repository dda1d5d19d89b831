package import Appliance
package import Platform

/// Which version of a CLI is installed and whether it is logged in.
package struct VersionProbe: Sendable {
    /// Whose program is asked.
    package let provider: Provider

    /// A probe of one CLI.
    package init(_ provider: Provider) { self.provider = provider }

    /// What the contract calls the state of a login.
    package enum Login: String, Sendable {
        /// A key in the environment, a credential file, or the CLI's own word for it.
        case authenticated
        /// The CLI says so, or the file where its login would be is not there.
        case notAuthenticated = "not_authenticated"
        /// The CLI did not answer in time or in a form that is understood.
        case unknown
        /// The CLI is not installed.
        case notChecked = "not_checked"
    }

    /// The arguments that print the version.
    package var versionArguments: [String] { ["--version"] }

    /// The arguments that print the login state; `nil` where the CLI has none.
    ///
    /// vibe is not asked: it would take `auth status` for a prompt.
    package var loginArguments: [String]? {
        switch provider {
        case .claude: ["auth", "status", "--json"]
        case .codex: ["login", "status"]
        case .grok: ["inspect", "--json"]
        case .gemini, .mistral: nil
        }
    }

    /// Variables with a key that the CLI uses instead of a login.
    package var keyVariables: [String] {
        switch provider {
        case .claude: ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"]
        case .codex: ["CODEX_API_KEY"]
        case .gemini: ["GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTIGRAVITY_API_KEY"]
        case .grok: ["XAI_API_KEY", "GROK_CODE_XAI_API_KEY"]
        case .mistral: ["MISTRAL_API_KEY"]
        }
    }

    /// Files whose presence means a login, below the user's home; never read.
    package var credentialFiles: [String] {
        switch provider {
        case .gemini: [".gemini/oauth_creds.json", ".gemini/antigravity-cli/oauth_creds.json"]
        case .mistral: [".vibe/.env"]
        case .claude, .codex, .grok: []
        }
    }

    /// The version in the output of `--version`: `2.1.329` in "2.1.329 (Claude Code)".
    package static func version(in output: String) -> String? {
        for line in output.split(separator: "\n").prefix(20) {
            for word in line.split(whereSeparator: { $0.isWhitespace || $0 == "," || $0 == "(" || $0 == ")" })
            {
                if let version = SemanticVersion(String(word)) { return version.description }
            }
        }
        return nil
    }

    /// The login state that a login command's output tells.
    package func login(output: String, error: String, status: Int32) -> Login {
        let text = (output + "\n" + error).lowercased()
        if let json = try? JSON.parse(output), json.object != nil {
            for key in ["loggedIn", "logged_in", "authenticated"] {
                if let flag = json[key]?.bool { return flag ? .authenticated : .notAuthenticated }
            }
            if let flag = json["auth"]?["loggedIn"]?.bool ?? json["auth"]?["authenticated"]?.bool {
                return flag ? .authenticated : .notAuthenticated
            }
            return .unknown
        }
        if text.contains("not logged in") || text.contains("not authenticated") { return .notAuthenticated }
        if status == 0, text.contains("logged in") || text.contains("authenticated") { return .authenticated }
        return .unknown
    }

    /// Output without e-mail addresses, UUIDs and keys.
    package static func redacted(_ text: String) -> String {
        text.replacing(/[A-Za-z0-9._%+\-]+@[A-Za-z0-9.\-]+\.[A-Za-z]{2,}/, with: "[redacted-email]")
            .replacing(
                /[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}/,
                with: "[redacted-uuid]"
            )
            .replacing(/(?:sk-|xai-|AIza|eyJ|ghp_|gho_)[A-Za-z0-9_.\-]{12,}/, with: "[redacted-secret]")
            .replacing(/[Bb]earer\s+[A-Za-z0-9_.\-]{12,}/, with: "[redacted-secret]")
    }

    /// One row of `cli_versions`.
    package struct Report: Sendable, Equatable {
        /// Whose program was asked.
        package let provider: Provider
        /// The absolute path; the bare name when nothing was found.
        package var command: String
        /// Whether a program was found on the search path; it may still be broken (`error`).
        package var isInstalled = false
        /// What `--version` printed, as `2.1.329`; `nil` when it printed no version or did not run.
        package var version: String?
        /// Stays `notChecked` when the CLI is not installed.
        package var login = Login.notChecked
        /// Redacted, at most 4 KiB each.
        package var output = ""
        /// Standard error of the version command; redacted, at most 4 KiB.
        package var errorOutput = ""
        /// Why there is no version, or why it is not to be trusted: not found, ended by a limit, a non-zero
        /// exit.
        package var error: String?

        /// `{cli,command,args,installed,version?,loginStatus?,loginGuidance?,stdout,stderr,error?}`.
        package var json: JSON {
            var json: JSON = [
                "cli": .string(provider.rawValue), "command": .string(command), "args": ["--version"],
                "installed": .bool(isInstalled),
            ]
            if let version { json["version"] = .string(version) }
            json["loginStatus"] = .string(login.rawValue)
            if login != .authenticated { json["loginGuidance"] = .string(provider.loginGuidance) }
            json["stdout"] = .string(output)
            json["stderr"] = .string(errorOutput)
            if let error { json["error"] = .string(error) }
            return json
        }
    }

    /// Runs the version and the login command side by side, each with five seconds.
    ///
    /// `environment` is the whole environment of the children; its `HOME` says where credential files are.
    package func run(
        _ search: ProviderSearch,
        environment: [String: String],
        processes: Processes,
        files: Files
    ) async -> Report {
        var report = Report(provider: provider, command: provider.executable)
        let path: String
        do throws(GatewayError) {
            path = try search.require(provider, files: files)
        } catch {
            report.error = "\(error.description); \(error.help ?? "")"
            return report
        }
        report.command = path
        report.isInstalled = true
        let environment = environment.merging(["PATH": search.path]) { $1 }
        let limits = ProcessLimits(wall: .seconds(5), grace: .seconds(1))
        // Side by side: one that hangs must not double the wait.
        async let state = login(path, environment, processes, files, limits)
        do throws(GatewayError) {
            let command = Command(path, versionArguments, environment: environment)
            let result = try await processes.run(command, limits: limits)
            report.output = VersionProbe.shown(result.outputText)
            report.errorOutput = VersionProbe.shown(result.errorText)
            report.version = VersionProbe.version(in: result.outputText)
            if let intervention = result.intervention {
                report.error = "'\(path) --version' \(VersionProbe.wording(intervention, limits))"
            } else if !result.succeeded {
                report.error = "'\(path) --version' exited with \(result.status.code)"
            }
        } catch {
            report.error = error.description
        }
        report.login = await state
        return report
    }

    /// What a command did that had to be ended.
    private static func wording(_ intervention: ProcessIntervention, _ limits: ProcessLimits) -> String {
        switch intervention {
        case .wallTime, .idleTime:
            "did not answer within \(limits.wall.map(\.components.seconds) ?? 0) s"
        case .outputLimit: "printed more than \(limits.output >> 10) KiB"
        case .cancelled: "was ended before it answered"
        }
    }

    private func login(
        _ path: String,
        _ environment: [String: String],
        _ processes: Processes,
        _ files: Files,
        _ limits: ProcessLimits
    ) async -> Login {
        if keyVariables.contains(where: { environment[$0]?.isEmpty == false }) { return .authenticated }
        guard let arguments = loginArguments else {
            guard let home = environment["HOME"] else { return .unknown }
            if provider == .mistral, let folder = environment["VIBE_HOME"], !folder.isEmpty {
                return files.exists(Layout.join(folder, ".env")) ? .authenticated : .notAuthenticated
            }
            return credentialFiles.contains { files.exists(Layout.join(home, $0)) }
                ? .authenticated : .notAuthenticated
        }
        let command = Command(path, arguments, environment: environment)
        guard let result = try? await processes.run(command, limits: limits), result.intervention == nil
        else {
            return .unknown
        }
        return login(output: result.outputText, error: result.errorText, status: result.status.code)
    }

    private static func shown(_ text: String) -> String {
        redacted(String(decoding: Array(text.utf8.prefix(4096)), as: UTF8.self).trimmed)
    }
}
