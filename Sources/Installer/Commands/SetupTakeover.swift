import Appliance
import Platform

extension Invocation {
    /// What takes the place of a Node gateway in this home.
    func takeover() throws(GatewayError) -> Takeover {
        Takeover(machine: machine, layout: try layout(), say: note)
    }
}

extension SetupReport {
    /// Takes the place of the Node gateway in the home, as far as that can be done now.
    mutating func takeOver(_ call: Invocation) async throws(GatewayError) {
        let layout = home.layout
        let files = call.machine.files
        let takeover = try call.takeover()
        guard let found = try ReferenceHome.find(layout, files: files) else { return }
        var outcome = Takeover.Outcome(state: .kept, version: found.version)
        if !found.items.isEmpty || found.isInterrupted {
            guard isInstalled else {
                self.takeover = SetupReport.waiting(found)
                home.notices += self.takeover?.notices ?? []
                return
            }
            outcome = try await locked(call) { () async throws(GatewayError) in
                // Looked at again: another command may have been at it meanwhile.
                let found = try ReferenceHome.find(layout, files: files) ?? found
                return try await takeover.end(found, endingRuns: call.arguments.has("now"))
            }
            if outcome.mustStart, !call.arguments.has("enable") {
                status = try await call.service().start()
                outcome.changes.append("started this gateway in its place")
            }
        }
        outcome = try await locked(call) { [outcome] () async throws(GatewayError) in
            var outcome = outcome
            if outcome.state == .takenOver, let found = try ReferenceHome.find(layout, files: files) {
                try takeover.putAside(found, &outcome)
            }
            if call.arguments.has("remove-reference") { try takeover.removeKept(&outcome) }
            return outcome
        }
        if files.exists(layout.reference) {
            outcome.notices.append(
                "its program is kept in '\(layout.reference)'; when you no longer need it: "
                    + "\(Product.name) setup --remove-reference"
            )
        }
        home.changes += outcome.changes
        home.notices += outcome.notices
        self.takeover = outcome
    }

    /// What is said while nothing is installed that could take its place: it goes on.
    private static func waiting(_ found: ReferenceHome) -> Takeover.Outcome {
        let runs = found.process.map { " (\($0.wording)) goes on until then" } ?? ""
        return Takeover.Outcome(
            state: .waiting,
            version: found.version,
            pid: found.process?.identity.pid,
            moved: found.movable,
            notices: [
                "\(found.title)\(runs) is in this home; install a bundle, then run '\(Product.name) setup' again, "
                    + "and this gateway takes its place with its address, token and records"
            ] + found.notices
        )
    }

    private func locked<Value>(
        _ call: Invocation,
        _ body: () async throws(GatewayError) -> Value
    ) async throws(GatewayError) -> Value {
        let lock = try await MutationLock.acquire(
            home.layout,
            verb: "setup",
            machine: call.machine,
            say: call.note
        )
        defer { withExtendedLifetime(lock) {} }
        return try await body()
    }

    /// What `setup` would do; changes nothing.
    static func rehearse(
        _ call: Invocation,
        _ options: HomePreparation.Options,
        _ found: ReferenceHome?
    ) throws(GatewayError) -> SetupReport {
        let layout = try call.layout()
        let files = call.machine.files
        try HomeClaim.check(layout, files: files)
        var home = try HomePreparation(machine: call.machine, layout: layout).rehearse(options)
        let isInstalled = files.isExecutable(layout.currentGateway)
        var report = SetupReport(
            home: home,
            isInstalled: isInstalled,
            installCommand: ReleaseSource.installCommand(call.machine.environment),
            isDry: true
        )
        guard let found else { return report }
        guard !found.items.isEmpty || found.isInterrupted else {
            if call.arguments.has("remove-reference") {
                report.home.changes.append(
                    "remove '\(layout.reference)' with \(found.kept.joined(separator: ", "))"
                )
            }
            report.takeover = Takeover.Outcome(state: .kept)
            return report
        }
        var outcome = waiting(found)
        if isInstalled { outcome.notices = found.notices }
        if let process = found.process, isInstalled {
            let lost = try call.takeover().lostVariables(of: process)
            if !lost.isEmpty {
                home.changes.append(
                    "copy \(lost.joined(separator: ", ")) from the Node gateway's process into '\(layout.environmentFile)'"
                )
            }
            home.changes.append("end \(found.title) (\(process.wording))")
            home.changes.append("start this gateway in its place")
        }
        if isInstalled, !found.movable.isEmpty {
            home.changes.append(
                "move what is left of its program (\(found.movable.joined(separator: ", "))) into '\(layout.reference)'"
            )
        }
        if isInstalled, call.arguments.has("remove-reference") {
            home.changes.append("remove '\(layout.reference)' with the program of the Node gateway")
        }
        report.home = home
        report.home.notices += outcome.notices
        report.takeover = outcome
        return report
    }
}
