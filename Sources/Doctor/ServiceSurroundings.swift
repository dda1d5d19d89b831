import Appliance
import Platform
import Providers

/// What the service has where the asking shell has more: its variables and its search path.
///
/// A CLI or a key that only this shell knows is of no use to a run under the service, so the checks use these.
struct ServiceSurroundings: Sendable {
    /// The whole environment of a child.
    let environment: [String: String]
    /// Where the service looks for the CLIs.
    let search: ProviderSearch
    /// The search path of the asking shell; `nil` when it is the service's own.
    let shellFolders: [String]?
    /// The environment of the asking shell.
    private let shell: [String: String]

    /// What a service manager leaves of a login's variables.
    private static let kept: Set<String> = [
        "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "DBUS_SESSION_BUS_ADDRESS",
    ]

    init(machine: Machine, layout: Layout, source: Doctor.Source, file: EnvironmentFile) {
        shell = machine.environment
        var variables: [String: String]
        switch source {
        case .manager:
            variables = file.overriding(
                shell.filter { name, _ in
                    Self.kept.contains(name) || name.hasPrefix("LC_") || name.hasPrefix("XDG_")
                }
            )
            shellFolders = EnvironmentFile.folders(shell["PATH"])
        case .gateway:
            variables = shell
            shellFolders = nil
        }
        let program = source == .gateway ? machine.executable : machine.files.realPath(layout.currentGateway)
        search = ProviderSearch(
            environment: variables,
            userHome: layout.userHome,
            gatewayFolder: program.map(Files.parent),
            recordedPath: file.values["PATH"],
            files: machine.files
        )
        variables = variables.filter { name, _ in
            !name.hasPrefix("LLM_GATEWAY_") && !name.hasPrefix("RVWR_")
                && !ServiceNotification.variables.contains(name)
        }
        // `setup` and the tests may run where HOME is not set, and the CLIs keep their logins there.
        variables["HOME"] = variables["HOME"] ?? layout.userHome
        environment = variables
    }

    /// Where only the asking shell finds a CLI.
    func shellPath(of provider: Provider, files: Files) -> String? {
        shellFolders.flatMap { Processes.find(provider.executable, in: $0, files: files) }
    }

    /// The variable with which the service's CLI is logged in.
    func key(_ probe: VersionProbe) -> String? { Self.key(probe, environment) }

    /// A variable with a key that only the asking shell has.
    func shellKey(_ probe: VersionProbe) -> String? { key(probe) == nil ? Self.key(probe, shell) : nil }

    private static func key(_ probe: VersionProbe, _ environment: [String: String]) -> String? {
        probe.keyVariables.first { environment[$0]?.isEmpty == false }
    }
}
