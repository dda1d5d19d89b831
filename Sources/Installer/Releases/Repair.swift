import Appliance
import Platform

/// What `repair` would do, and what it cannot do.
struct RepairPlan: Sendable, Equatable {
    /// One change.
    enum Step: Sendable, Equatable {
        /// Finish or undo an interrupted command.
        case recover(verb: String)
        /// Remove what an interrupted command left.
        case remove(path: String)
        /// Set permission bits.
        case changeMode(path: String, from: UInt32, to: UInt32)
        /// Point `current` at an installed version.
        case relink(directory: String)
        /// Make the command's link.
        case linkCommand(path: String)

        /// `would remove '…'`, without the `would`.
        var sentence: String {
            switch self {
            case .recover(let verb): "finish or undo the interrupted \(verb)"
            case .remove(let path): "remove '\(path)', left by an interrupted command"
            case .changeMode(let path, let from, let to):
                "set the mode of '\(path)' to 0\(String(to, radix: 8)) (it is 0\(String(from, radix: 8)))"
            case .relink(let directory): "point 'current' at version '\(directory)'"
            case .linkCommand(let path): "make the link '\(path)'"
            }
        }
    }

    var steps: [Step] = []
    /// What is wrong and cannot be repaired from here, each with what to do.
    var remaining: [String] = []

    /// Whether nothing is wrong.
    var isEmpty: Bool { steps.isEmpty && remaining.isEmpty }
}

extension Installation {
    /// What is wrong with this home; changes nothing.
    ///
    /// Blocks while it reads every installed file.
    func repairPlan() throws(GatewayError) -> RepairPlan {
        var plan = RepairPlan()
        var receipt = Receipt()
        do throws(GatewayError) {
            receipt = try Receipt.read(layout, files: files)
        } catch  where error.code == "receipt-invalid" {
            plan.steps.append(.recover(verb: "command (the receipt is damaged, it will be kept aside)"))
            receipt.installed = try InstalledVersions.found(layout, files: files)
        }
        if let operation = receipt.operation { plan.steps.append(.recover(verb: operation.verb)) }
        for path in try leftovers() { plan.steps.append(.remove(path: path)) }
        try planPrivateModes(&plan)
        try planVersions(receipt, &plan)
        return plan
    }

    /// Files that only the user may read, and the home itself.
    private func planPrivateModes(_ plan: inout RepairPlan) throws(GatewayError) {
        let expected: [(String, UInt32)] = [
            (layout.home, 0o700), (layout.authToken, 0o600), (layout.settings, 0o600),
            (layout.environmentFile, 0o600), (layout.receipt, 0o600),
        ]
        for (path, mode) in expected {
            guard let status = try files.status(path), status.kind == .file || status.kind == .directory,
                status.mode & ~mode != 0
            else { continue }
            plan.steps.append(.changeMode(path: path, from: status.mode, to: mode))
        }
    }

    private func planVersions(_ receipt: Receipt, _ plan: inout RepairPlan) throws(GatewayError) {
        var intact: [String] = []
        for installed in receipt.installed {
            let findings = try InstalledVersions.verify(installed, layout, files: files)
            var isIntact = true
            for finding in findings {
                let path = Layout.join(layout.version(installed.directory), finding.path)
                if case .mode(let found, let expected) = finding.problem {
                    plan.steps.append(.changeMode(path: path, from: found, to: expected))
                } else if finding.problem == .extra {
                    plan.remaining.append(
                        "'\(path)' does not belong to version \(installed.version); remove it if you do not need it"
                    )
                } else {
                    isIntact = false
                    plan.remaining.append(
                        "version \(installed.version): \(finding.sentence); install its bundle again (llm-cli-gateway install-bundle)"
                    )
                }
            }
            if isIntact { intact.append(installed.directory) }
        }
        let current = InstalledVersions.current(layout, files: files)
        if receipt.operation == nil, let best = intact.first, current.map({ !intact.contains($0) }) ?? true {
            plan.steps.append(.relink(directory: best))
        }
        guard layout.isDefaultHome, !intact.isEmpty, try files.status(layout.commandLink) == nil else {
            return
        }
        plan.steps.append(.linkCommand(path: layout.commandLink))
    }

    /// Repairs what can be repaired, under the lock; returns what was done and what remains.
    ///
    /// Throws `busy`, or what a step throws.
    func repair() async throws(GatewayError) -> (done: RepairPlan, notices: [String]) {
        let lock = try await MutationLock.acquire(
            layout,
            verb: "repair",
            machine: machine,
            limit: lockLimit,
            say: say
        )
        return try await holding(lock) { () async throws(GatewayError) in
            let plan = try await BlockingThread.run("verify") { () throws(GatewayError) in try repairPlan() }
            var (receipt, notice) = try Receipt.recovered(layout, files: files, now: machine.clock.now())
            var notices = notice.map { [$0] } ?? []
            notices += try await recover(&receipt)
            for step in plan.steps {
                switch step {
                case .recover: continue
                case .remove(let path): try files.removeTree(path)
                case .changeMode(let path, _, let mode):
                    if files.exists(path) { try files.changeMode(path, to: mode) }
                case .relink(let directory):
                    try files.link(layout.current, to: "versions/\(directory)")
                    receipt.note(Receipt.Created(path: layout.current, kind: .link))
                    receipt.installed.sort { first, second in
                        first.directory == directory && second.directory != directory
                    }
                case .linkCommand: notices += try ensureCommandLink(&receipt)
                }
            }
            if !plan.steps.isEmpty { try receipt.write(layout, files: files) }
            return (plan, notices)
        }
    }
}
