import Appliance
import CShims
import Glibc
import Platform

/// A scope for one runner: the pipe at which the runner waits for it, and the request to the service manager.
///
/// Whatever comes of the request, its end closes the pipe, and the runner goes on: with the scope or without.
final class RunnerScope: Sendable {
    /// The reading end, for the runner's standard input.
    let announcement: Int32
    private let door: Int32
    private let scope: ServiceBus.Scope
    private let scopes: UserScopes

    /// How the name of a job's scope ends.
    static func suffix(of job: String) -> String { "-job-\(job).scope" }

    /// `nil` where no scope can be had, which is no reason not to run.
    init?(_ spec: JobSpec, _ layout: Layout, _ scopes: UserScopes) {
        let unit = layout.unitName
        let scope = ServiceBus.Scope(
            name: unit + RunnerScope.suffix(of: spec.id),
            slice: "\(unit).slice",
            description: "\(spec.provider) job \(spec.id) of the gateway for AI coding CLIs",
            pid: 0
        )
        guard scopes.areWorthTrying, ServiceBus.Scope.canName(spec.id) else { return nil }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return nil }
        for end in ends { _ = shim_set_cloexec(end, true) }
        (announcement, door) = (ends[0], ends[1])
        self.scope = scope
        self.scopes = scopes
        // At once: a gateway that dies now has said which scope it was about to ask for.
        let name = Array(scope.name.utf8)
        write(door, name, name.count)
    }

    deinit {
        close(announcement)
        close(door)
    }

    /// Asks for the scope of a runner that was started.
    func place(_ runner: ProcessIdentity) {
        var scope = scope
        scope.pid = runner.pid
        Task { [scope, scopes] in
            await scopes.place(scope) { _ in
                // The last one that holds the door lets go of it.
                withExtendedLifetime(self) {}
            }
        }
    }
}
