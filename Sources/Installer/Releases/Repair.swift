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
        /// Remove what is left of a version that is no longer installed.
        case discard(path: String)
        /// Set permission bits.
        case changeMode(path: String, from: UInt32, to: UInt32)
        /// Move what is in the place of a folder or a file of a version out of it.
        case moveAside(path: String)
        /// Copy a file of a version from another one that has the same.
        case restore(path: String, entry: BundleManifest.Entry, source: String)
        /// Install a damaged version again, from its bundle.
        case reinstall(Receipt.Installed, because: String)
        /// Point `current` at an installed version.
        case relink(Receipt.Installed)
        /// Make the command's link.
        case linkCommand(path: String)
        /// Write a unit file that is gone.
        case writeUnit(path: String)

        /// `would remove '…'`, without the `would`.
        var sentence: String {
            switch self {
            case .recover(let verb): "finish or undo the interrupted \(verb)"
            case .remove(let path): "remove '\(path)', left by an interrupted command"
            case .discard(let path): "remove '\(path)', which is no longer installed"
            case .changeMode(let path, let from, let to):
                "set the mode of '\(path)' to 0\(String(to, radix: 8)) (it is 0\(String(from, radix: 8)))"
            case .moveAside(let path):
                "move '\(path)' aside, which is in the place of a file or folder of the version"
            case .restore(let path, let entry, let source):
                "restore '\(path)' from \(entry.target == nil ? "'\(source)'" : "the manifest")"
            case .reinstall(let installed, let reason):
                "install version \(installed.version) again from '\(installed.source)', because \(reason)"
            case .relink(let installed): "point 'current' at version '\(installed.directory)'"
            case .linkCommand(let path): "make the link '\(path)'"
            case .writeUnit(let path): "write the unit '\(path)'"
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
        let (receipt, flaw) = try Receipt.known(layout, files: files)
        switch flaw {
        case nil: break
        case .missing:
            plan.steps.append(.recover(verb: "command (the receipt is missing, it will be begun anew)"))
        case .copied(let home):
            plan.steps.append(
                .recover(verb: "command (the receipt came with a copy of '\(home)', it will be begun anew)")
            )
        case .moved(let home):
            plan.steps.append(
                .recover(verb: "command (this home was moved here from '\(home)', the receipt will say so)")
            )
        case .damaged:
            plan.steps.append(.recover(verb: "command (the receipt is damaged, it will be kept aside)"))
        }
        if let operation = receipt.operation { plan.steps.append(.recover(verb: operation.verb)) }
        for path in try leftovers() { plan.steps.append(.remove(path: path)) }
        let kept = receipt.installed.map(\.directory)
        for name in receipt.discarded where !kept.contains(name) && files.exists(layout.version(name)) {
            plan.steps.append(.discard(path: layout.version(name)))
        }
        try planPrivateModes(&plan)
        try planVersions(receipt, &plan)
        if let units {
            for path in try UnitInstallation(layout: layout, files: files).stale(units, receipt) {
                plan.steps.append(.writeUnit(path: path))
            }
        }
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
        var findings: [String: [BundleManifest.Finding]] = [:]
        for installed in receipt.installed {
            findings[installed.directory] = try InstalledVersions.verify(installed, layout, files: files)
        }
        /// Versions that are intact, or will be after the steps so far.
        var usable: [Receipt.Installed] = []
        for installed in receipt.installed {
            let damage = plan.take(findings[installed.directory] ?? [], of: installed, layout)
            guard let first = damage.first else {
                usable.append(installed)
                continue
            }
            let reason = first.sentence + (damage.count > 1 ? " (and \(damage.count - 1) more)" : "")
            if let restored = try restoration(of: installed, damage, receipt, findings) {
                plan.steps += restored
                usable.append(installed)
            } else if !installed.source.isEmpty, SHA256Text.isWellFormed(installed.sha256) {
                plan.steps.append(.reinstall(installed, because: reason))
            } else {
                plan.remaining.append(
                    "version \(installed.version): \(reason); install its bundle again (llm-cli-gateway install-bundle)"
                )
            }
        }
        let current = InstalledVersions.current(layout, files: files)
        let isNamed = receipt.installed.contains { $0.directory == current }
        let isReinstalled = plan.steps.contains { step in
            if case .reinstall(let installed, _) = step { installed.directory == current } else { false }
        }
        if let status = try files.status(layout.current), status.kind != .link {
            plan.remaining.append(
                "'\(layout.current)' is no link to a version; move it away, then run the command again"
            )
        } else if receipt.operation == nil, !isReinstalled, let best = usable.first,
            !isNamed || !usable.contains(where: { $0.directory == current })
        {
            plan.steps.append(.relink(best))
        }
        guard layout.isDefaultHome, !receipt.installed.isEmpty, try files.status(layout.commandLink) == nil
        else { return }
        plan.steps.append(.linkCommand(path: layout.commandLink))
    }

    /// The steps that make a version whole from what the other versions have; `nil` when they do not have it all.
    private func restoration(
        of installed: Receipt.Installed,
        _ damage: [BundleManifest.Finding],
        _ receipt: Receipt,
        _ findings: [String: [BundleManifest.Finding]]
    ) throws(GatewayError) -> [RepairPlan.Step]? {
        let root = layout.version(installed.directory)
        guard let manifest = try InstalledVersions.manifest(installed, layout, files: files) else {
            return nil
        }
        var steps: [RepairPlan.Step] = []
        for finding in damage {
            guard let entry = manifest.entries.first(where: { $0.path == finding.path }) else { return nil }
            if let part = try partInTheWay(of: entry.path, in: root),
                !steps.contains(.moveAside(path: part))
            {
                steps.append(.moveAside(path: part))
            }
            var source: String? = entry.target
            for other in receipt.installed where source == nil && other.directory != installed.directory {
                guard let donor = try InstalledVersions.manifest(other, layout, files: files) else {
                    continue
                }
                let bad = Set((findings[other.directory] ?? []).map(\.path))
                source = donor.entries.first { $0.sha256 == entry.sha256 && !bad.contains($0.path) }
                    .map { Layout.join(layout.version(other.directory), $0.path) }
            }
            guard let source else { return nil }
            steps.append(.restore(path: Layout.join(root, entry.path), entry: entry, source: source))
        }
        return steps
    }

    /// What lies where a folder of a version's file has to be, or a folder where the file has to be; `nil` when the way is free.
    ///
    /// No link is followed: a link to a folder leads to somebody else's files.
    private func partInTheWay(of path: String, in root: String) throws(GatewayError) -> String? {
        for part in RelativePath.folders(of: path) + [path] {
            let place = Layout.join(root, part)
            guard let kind = try files.status(place)?.kind else { return nil }
            if (kind == .directory) == (part == path) { return place }
        }
        return nil
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
            let first = try await BlockingThread.run("verify") { () throws(GatewayError) in try repairPlan() }
            var (receipt, notice) = try Receipt.recovered(layout, files: files, now: machine.clock.now())
            var notices = notice.map { [$0] } ?? []
            notices += try await recoverInterrupted(&receipt)
            // What was finished or undone may have been all that was wrong.
            var done = try await BlockingThread.run("verify") { () throws(GatewayError) in try repairPlan() }
            done.steps = first.steps.filter(\.isRecovery) + done.steps.filter { !$0.isRecovery }
            notices += try await carryOut(&done, &receipt)
            return (done, notices)
        }
    }

    private func carryOut(
        _ plan: inout RepairPlan,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String] {
        var notices: [String] = []
        var touched = false
        let hasUnits = plan.steps.contains { if case .writeUnit = $0 { true } else { false } }
        // Before anything is restarted by them.
        if let units, hasUnits {
            notices += try UnitInstallation(layout: layout, files: files).write(units, receipt: &receipt)
                .notices
        }
        for step in plan.steps {
            switch step {
            case .recover, .remove, .discard: continue
            case .changeMode(let path, _, let mode):
                if files.exists(path) { try files.changeMode(path, to: mode) }
            case .moveAside(let path):
                notices.append("'\(path)' is kept as '\(try moveAside(path))'")
            case .restore(let path, let entry, let source):
                try restore(path, entry, from: source)
                touched = touched || path.hasPrefix(currentRoot)
            case .reinstall(let installed, _):
                notices += try await reinstall(installed, &plan, &receipt)
            case .relink(let installed):
                notices += try await use(installed, &receipt)
            case .linkCommand: notices += try ensureCommandLink(&receipt)
            case .writeUnit: continue
            }
        }
        if hasUnits { try await service.reloadUnits() }
        // What runs may have been loaded from what was damaged.
        if touched {
            receipt.startedWith = nil
            let hindrance = await hindrance()
            if hindrance.isEmpty, try await restartIfChanged(&receipt) {
                notices.append("the gateway was restarted")
            }
            notices += hindrance
            try receipt.write(layout, files: files)
        }
        return notices
    }

    private var currentRoot: String {
        layout.version(InstalledVersions.current(layout, files: files) ?? "none") + "/"
    }

    /// Puts one file or link of a version back; the copy is compared with the manifest before it takes its place.
    private func restore(
        _ path: String,
        _ entry: BundleManifest.Entry,
        from source: String
    ) throws(GatewayError) {
        let root = String(path.dropLast(entry.path.count + 1))
        for folder in RelativePath.folders(of: entry.path) {
            let place = Layout.join(root, folder)
            // Made by the step before, unless somebody is quicker.
            guard try files.status(place)?.kind ?? .directory == .directory else { throw changed(place) }
            try files.makeDirectory(place, mode: 0o755)
        }
        guard try files.status(path)?.kind != .directory else { throw changed(path) }
        if let target = entry.target { return try files.link(path, to: target) }
        let bytes = try files.read(source, limit: 1 << 30)
        guard SHA256.hex(bytes) == entry.sha256 else {
            throw changed(source)
        }
        try files.write(bytes, to: path, mode: entry.mode)
    }

    private func changed(_ path: String) -> GatewayError {
        GatewayError("file-error", "'\(path)' changed while it was repaired", help: "run the command again")
    }

    /// Moves what is in the way within a version to the user's data, where it stays as it is; gives the new place.
    private func moveAside(_ path: String) throws(GatewayError) -> String {
        let stamp = machine.clock.now().iso8601.filter { $0 != ":" }
        let name = "\(Layout.replacedPrefix)\(stamp)-\(Files.name(of: path))"
        var place = Layout.join(layout.home, name)
        var number = 2
        while files.exists(place) {
            place = Layout.join(layout.home, "\(name).\(number)")
            number += 1
        }
        try files.rename(path, to: place)
        return place
    }

    /// Installs a damaged version again: the one in use is switched to its new copy, the other is replaced.
    ///
    /// When the bundle cannot be had, an intact version is used in place of the damaged one, and the plan says what
    /// remains.
    private func reinstall(
        _ damaged: Receipt.Installed,
        _ plan: inout RepairPlan,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String] {
        let isInUse = InstalledVersions.current(layout, files: files) == damaged.directory
        let installed: Receipt.Installed
        do throws(GatewayError) {
            let cached = Layout.join(layout.cache, damaged.sha256)
            let place = files.exists(cached) ? "file://\(cached)" : damaged.source
            var request = try BundleRequest.resolve(url: place, sha256: damaged.sha256)
            // The digest is believed for the reason for which it was believed then.
            request.trust = damaged.trust
            request.signer = damaged.signer
            installed = try await stage(
                request,
                Options(verb: "repair", reinstalls: true, replaces: damaged),
                &receipt
            )
        } catch {
            plan.steps.removeAll { if case .reinstall(damaged, _) = $0 { true } else { false } }
            plan.remaining.append(
                "version \(damaged.version) is damaged and could not be installed again (\(error)); "
                    + "install its bundle when you can reach it (llm-cli-gateway install-bundle)"
            )
            guard isInUse, let intact = try intactVersion(of: receipt) else { return [] }
            plan.steps.append(.relink(intact))
            return try await use(intact, &receipt)
        }
        guard isInUse else {
            try replace(damaged, by: installed, &receipt)
            return []
        }
        let hindrance = await hindrance()
        _ = try await activate(installed, &receipt, restarts: hindrance.isEmpty)
        return try hindrance + commit(installed, &receipt)
    }

    /// Why a gateway that runs is left alone although it could be loaded from what was damaged.
    ///
    /// The next one would be elsewhere, or none; what is wrong with its socket or unit is said by itself.
    private func hindrance() async -> [String] {
        do throws(GatewayError) {
            try await service.checkReplaceable()
            return []
        } catch {
            return ["the gateway was not restarted: \(error)"]
        }
    }

    /// The first version whose every file is as its manifest says.
    private func intactVersion(of receipt: Receipt) throws(GatewayError) -> Receipt.Installed? {
        for installed in receipt.installed {
            let findings = try InstalledVersions.verify(installed, layout, files: files)
            if findings.allSatisfy({ $0.problem == .extra }) { return installed }
        }
        return nil
    }

    /// Points `current` at an installed version, as a journalled operation.
    private func use(
        _ installed: Receipt.Installed,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String] {
        receipt.operation = Receipt.Operation(
            verb: "repair",
            installing: installed,
            previous: InstalledVersions.current(layout, files: files),
            startedAt: machine.clock.now()
        )
        receipt.note(Receipt.Created(path: layout.current, kind: .link))
        try receipt.write(layout, files: files)
        let hindrance = await hindrance()
        _ = try await activate(installed, &receipt, restarts: hindrance.isEmpty)
        return try hindrance + commit(installed, &receipt)
    }
}

extension RepairPlan.Step {
    /// Whether it is done by finishing or undoing what was interrupted.
    fileprivate var isRecovery: Bool {
        switch self {
        case .recover, .remove, .discard: true
        default: false
        }
    }
}

extension RepairPlan {
    /// Plans what findings ask for by themselves; gives back the missing and altered files.
    fileprivate mutating func take(
        _ findings: [BundleManifest.Finding],
        of installed: Receipt.Installed,
        _ layout: Layout
    ) -> [BundleManifest.Finding] {
        findings.filter { finding in
            let path = Layout.join(layout.version(installed.directory), finding.path)
            switch finding.problem {
            case .mode(let found, let expected):
                steps.append(.changeMode(path: path, from: found, to: expected))
                return false
            case .extra:
                // What a repair was staging is a leftover already.
                if Files.staged(Files.name(of: finding.path)) == nil {
                    remaining.append(
                        "'\(path)' does not belong to version \(installed.version); remove it if you do not need it"
                    )
                }
                return false
            // It is moved aside for the file that is missing behind it.
            case .inTheWay: return false
            case .missing, .altered: return true
            }
        }
    }
}
