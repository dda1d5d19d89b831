package import Appliance

/// The text and the category of a failed run, in the contract's forms.
package struct FailureWording: Sendable {
    /// The most of a CLI's error output that goes into an answer, in bytes; the end is kept, where the reason is.
    package static let maximumDetailBytes = 32 << 10

    /// Told to callers as `errorCategory`.
    package let category: ErrorCategory
    /// "Error executing <cli> CLI" and why.
    package let text: String

    /// Words a failure; `detail` is the CLI's own reason, `standardError` is searched for login problems too.
    package init(provider: Provider, ending: RunEnding, detail: String, standardError: String = "") {
        let start = "Error executing \(provider.rawValue) CLI"
        let detail = FailureWording.end(of: detail)
        switch ending {
        case .launchFailed(let reason, _):
            category = .spawnError
            text = FailureWording.launch(start, provider, reason)
        case .refused(let error):
            category = ErrorCategory(code: error.code)
            text = FailureWording.text(provider, notStarted: error)
        case .timedOut:
            category = .timeout
            text = "\(start): Command timed out\n\(detail)"
        case .idleTimeout:
            category = .idleTimeout
            text = "\(start): Process killed due to inactivity\n\(detail)"
        case .outputOverflow(let limit):
            category = .outputOverflow
            text = "\(start): Output exceeded maximum size (\(limit >> 20)MB)"
        case .exited, .signalled:
            let isLogin =
                FailureWording.namesLoginProblem(detail) || FailureWording.namesLoginProblem(standardError)
            category = isLogin ? .authError : .cliError
            let reason = "\(start) (exit code \(ending.exitCode)):\n\(detail)"
            text = isLogin ? "\(reason)\n\nTo log in: \(provider.loginGuidance)" : reason
        }
    }

    /// The text for an error that kept a request from starting.
    package static func text(_ provider: Provider, notStarted error: GatewayError) -> String {
        launch("Error executing \(provider.rawValue) CLI", provider, error.description)
            + (error.help.map { "\n\n\($0)" } ?? "")
    }

    private static func launch(_ start: String, _ provider: Provider, _ reason: String) -> String {
        let text = "\(start):\n\(reason)"
        guard reason.contains("ENOENT") else { return text }
        return text
            + "\n\nThe '\(provider.executable)' command was not found. Please ensure \(provider.rawValue) CLI is installed and in your PATH."
    }

    /// Phrases of section 1.6 of the contract that mean: this CLI is not logged in.
    private static let loginPhrases = [
        "not logged in", "unauthorized", "authentication failed", "invalid api key", "no api key",
        "expired token",
        "reauthenticate", "re-authenticate",
    ]

    /// Whether an error output says that the CLI is not logged in (section 1.6 of the contract).
    package static func namesLoginProblem(_ text: String) -> Bool {
        text.split(separator: "\n").contains { line in
            let line = line.prefix(4096).lowercased()
            if loginPhrases.contains(where: { line.contains($0) }) { return true }
            if let run = line.firstRange(of: "please run "), line[run.upperBound...].contains("login") {
                return true
            }
            if line.split(whereSeparator: { !$0.isLetter && !$0.isNumber && $0 != "_" }).contains("401") {
                return true
            }
            guard let missing = line.firstRange(of: "missing environment variable: ") else { return false }
            let name = line[missing.upperBound...].drop { $0 == "`" }.prefix {
                $0.isLetter || $0.isNumber || $0 == "_"
            }
            return name.contains("key") || name.contains("token")
        }
    }

    private static func end(of detail: String) -> String {
        guard detail.utf8.count > maximumDetailBytes else { return detail }
        return "…" + String(decoding: Array(detail.utf8.suffix(maximumDetailBytes)), as: UTF8.self)
    }
}
