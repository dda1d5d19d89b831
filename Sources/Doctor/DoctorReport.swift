package import Appliance

/// What the doctor found: the JSON of `setup/status.schema.json`, and the same as rows for a person.
package struct DoctorReport: Sendable {
    /// The whole report.
    package let json: JSON
    /// What was noticed, the gravest first.
    package let findings: [Finding]
    /// What to do next, the most useful first; never empty.
    package let nextActions: [String]

    /// Whether nothing stops the gateway from serving.
    package var isOK: Bool { !findings.contains { $0.severity == .error } }

    /// 0 healthy or only warnings, 1 an error.
    package var exitCode: ExitCode { isOK ? .done : .failed }

    /// One line of the table: what was looked at, how it is, and what was seen.
    package struct Row: Sendable, Equatable {
        /// How it is.
        package enum Mark: String, Sendable { case good, info, warning, error }

        /// How it is.
        package var mark: Mark
        /// What was looked at, in a word or two.
        package var subject: String
        /// What was seen, and for a finding what to do.
        package var text: String
    }

    /// The report as a table for a person.
    package var rows: [Row] {
        var rows: [Row] = []
        func add(_ mark: Row.Mark, _ subject: String, _ text: String) {
            rows.append(Row(mark: mark, subject: subject, text: text))
        }
        let gateway = json["gateway"], install = gateway?["install"], service = json["service"]
        if install?["installed"]?.bool == true {
            let signer = install?["signer"]?["identity"]?.string.map { ", signed by \($0)" } ?? ""
            let trust = (install?["trust"]?.string.map { ", verified by \($0)" } ?? "") + signer
            add(.good, "installed", "version \(gateway?["version"]?.string ?? "?")\(trust)")
        } else {
            add(.warning, "installed", "no bundle is installed")
        }
        let running = service?["running"]?.bool == true
        let healthy = service?["healthy"]?.bool == true
        let supervisor = service?["manager"]?.string ?? "none"
        add(
            running && healthy ? .good : .warning,
            "service",
            running
                ? "\(healthy ? "running" : "running, but not answering"), \(supervisor), pid \(service?["pid"]?.int ?? 0)"
                : "not running (\(supervisor))"
        )
        if let starts = startWording(service) { add(starts.mark, "starts", starts.text) }
        if let upgrades = UpgradeFacts.wording(service?["auto_upgrade"]) { add(.good, "upgrades", upgrades) }
        add(.good, "address", json["endpoint_exposure"]?["local_url"]?.string ?? "")
        let isRequired = json["auth"]?["required"]?.bool == true
        let hasToken = json["auth"]?["token_configured"]?.bool == true
        if isRequired {
            add(hasToken ? .good : .error, "token", hasToken ? "configured" : "missing")
        } else {
            add(.warning, "token", "not required")
        }
        for (name, provider) in json["providers"]?.object?.members ?? [] {
            let login = provider["login_status"]?.string ?? "unknown"
            if provider["cli_available"]?.bool == true {
                let version = provider["version"]?.string ?? "version unknown"
                add(
                    login == "not_authenticated" ? .warning : .good,
                    name,
                    "\(version), login: \(login.spaced)"
                )
            } else {
                add(.info, name, "not installed")
            }
        }
        let workspaces = json["workspaces"]
        let count = workspaces?["repo_count"]?.int ?? 0
        add(
            count > 0 ? .good : .info,
            "workspaces",
            count > 0 ? "\(count) registered" : "none: HTTP clients cannot run providers yet"
        )
        for finding in findings {
            let mark: Row.Mark =
                switch finding.severity {
                case .info: .info
                case .warning: .warning
                case .error: .error
                }
            add(mark, finding.title, finding.help.map { "\(finding.text). \($0)" } ?? finding.text)
        }
        return rows
    }
}

extension DoctorReport {
    /// When the gateway starts by itself; `nil` where that was not asked for and cannot be had.
    private func startWording(_ service: JSON?) -> (mark: Row.Mark, text: String)? {
        switch (service?["enabled"]?.bool, service?["linger"]?.bool) {
        case (true, true): (.good, "at boot, without a login")
        case (true, false):
            (.info, "with your session, not at boot; 'llm-cli-gateway setup --linger' changes that")
        case (true, nil): (.info, "with your session")
        case (false, _): (.info, "not by itself; 'llm-cli-gateway setup --enable' changes that")
        case (nil, _):
            service?["manager"]?.string == "supervisor"
                ? (.info, "not by itself: there is no service manager to do it") : nil
        }
    }
}

extension String {
    fileprivate var spaced: String { replacing("_", with: " ") }
}
