import Appliance
import Providers

/// What is known of one provider's CLI, as the service would run it.
struct ProviderFacts: Sendable, Equatable {
    var report: VersionProbe.Report
    /// The variable that holds the service's key.
    var key: String?
    /// A variable that only the asking shell has.
    var shellKey: String?
    /// Where only the asking shell finds the CLI.
    var shellPath: String?
    var surfaces = ProviderSurfaces()

    var provider: Provider { report.provider }
    var isInstalled: Bool { report.isInstalled }
    var login: VersionProbe.Login { report.login }

    /// The first line that `--version` printed; it may come on standard error.
    var version: String? {
        let text = report.output.isEmpty ? report.errorOutput : report.output
        return text.split(separator: "\n").first.map { String($0.prefix(200)) }
    }

    /// Why an installed CLI does not work, without any path.
    var problem: String? {
        guard isInstalled else { return nil }
        return report.error?.replacing(report.command, with: provider.executable)
    }

    /// The entry under `providers`.
    var json: JSON {
        let install = Guidance(provider.installGuidance), login = Guidance(provider.loginGuidance)
        var installation: JSON = [
            "summary": .string(provider.installGuidance), "commands": .strings(install.commands),
        ]
        if let page = install.page { installation["documentation_url"] = .string(page) }
        return [
            "cli_available": .bool(isInstalled), "version": .optional(version),
            "path": .optional(isInstalled ? report.command : nil),
            "login_status": .string(self.login.rawValue),
            "version_command": .strings([provider.executable] + VersionProbe(provider).versionArguments),
            "login_check": loginCheck, "install_guidance": installation,
            "login_guidance": [
                "summary": .string(provider.loginGuidance), "commands": .strings(login.commands),
                "credential_handling": .string(
                    "\(provider.displayName) keeps its own login; the gateway never reads, copies or prints it. A key belongs in the file 'environment' of the gateway's home, which only you can read"
                ),
            ],
        ]
    }

    private var loginCheck: JSON {
        let probe = VersionProbe(provider)
        var method = "not_checked", store = "not_checked", detail: String
        var command: JSON = .null
        if !isInstalled {
            detail = "the CLI is not installed"
        } else if let key {
            method = "credential_store"
            store = "present"
            detail = "\(key) is set for the service; whether it is accepted was not tried"
        } else if let arguments = probe.loginArguments {
            method = "cli"
            let words = [provider.executable] + arguments
            command = .strings(words)
            let line = words.joined(separator: " ")
            detail =
                switch login {
                case .authenticated: "'\(line)' says that it is logged in"
                case .notAuthenticated: "'\(line)' says that nobody is logged in"
                case .unknown, .notChecked: "'\(line)' did not tell"
                }
        } else {
            method = "credential_store"
            store = login == .authenticated ? "present" : "not_found"
            detail =
                login == .authenticated
                ? "its credential file is there; it was not read"
                : "neither a credential file nor a key was found"
        }
        return [
            "method": .string(method), "command": command, "credential_store": .string(store),
            "detail": .string(detail),
        ]
    }
}

/// The commands and the page that a sentence of advice names.
struct Guidance: Sendable, Equatable {
    /// What stands in quotes.
    var commands: [String]
    /// The first address outside of quotes.
    var page: String?

    init(_ sentence: String) {
        let parts = sentence.split(separator: "'", omittingEmptySubsequences: false)
        commands = parts.enumerated().filter { !$0.offset.isMultiple(of: 2) }.map { String($0.element) }
        page =
            parts.enumerated().filter { $0.offset.isMultiple(of: 2) }
            .flatMap { $0.element.split(separator: " ") }.first { $0.hasPrefix("https://") }.map(String.init)
    }
}
