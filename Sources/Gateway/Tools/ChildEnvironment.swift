import Appliance
import Platform

/// What a provider CLI inherits: the gateway's environment without what is only the gateway's own.
enum ChildEnvironment {
    /// Names that must not reach a child: the gateway's token and settings, and the service manager's variables, with
    /// which a child could speak for the service.
    static func isPrivate(_ name: String) -> Bool {
        name.hasPrefix("LLM_GATEWAY_") || name.hasPrefix("RVWR_")
            || ServiceNotification.variables.contains(name)
            || ["MCP_TRANSPORT", "JOURNAL_STREAM", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "MANAGERPID"]
                .contains(name)
    }

    /// What of the gateway's environment every child inherits.
    static func inherited(_ environment: [String: String]) -> [String: String] {
        environment.filter { !isPrivate($0.key) }
    }

    /// The environment of a run: what is inherited, with the search path that finds the CLI's own helpers, and what the plan
    /// adds.
    static func make(
        inherited: [String: String],
        path: String,
        added: [String: String]
    ) -> [String: String] {
        var environment = inherited
        environment["PATH"] = path
        return environment.merging(added) { $1 }
    }
}
