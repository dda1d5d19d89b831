import Appliance
import Jobs
import Platform

/// What an uninstall did.
struct UninstallOutcome: Sendable {
    var plan: UninstallPlan
    /// What was removed; of folders, those that were empty.
    var gone: [String]
    /// What the user should know.
    var notices: [String]
    /// Jobs that ran or waited.
    var canceledJobs = 0
}

extension Installation {
    /// Takes away what the receipt says that this program made; `nil` when another uninstall had just done so.
    ///
    /// 1. note in the receipt what begins, and what the service does
    /// 2. cancel the jobs; nothing of this home shall go on, and nothing be removed under one that runs
    /// 3. stop the gateway, take its units out of the session's start, switch off lingering that we switched on
    /// 4. remove links and units, then `current`, then the versions, then what else there is
    /// 5. remove receipt, lock and home, each of which tells the next command what is left
    ///
    /// Safe to repeat after an interruption at any point. Throws `busy`, or what a step throws.
    func uninstall(
        purge: Bool,
        isBareHome: Bool = false
    ) async throws(GatewayError) -> UninstallOutcome? {
        let (lock, madeHome) = try await MutationLock.take(
            layout,
            verb: Receipt.Operation.uninstall,
            machine: machine,
            limit: lockLimit,
            say: say
        )
        return try await holding(lock) { () async throws(GatewayError) in
            let removal = Removal(
                layout: layout,
                files: files,
                isBareHome: isBareHome || madeHome,
                units: units ?? []
            )
            // The home may have been removed by hand, with what it had made elsewhere left behind.
            guard !madeHome || removal.hasTraces || service.isServedWithoutHome() else {
                try removal.perform([
                    .init(path: layout.lock, kind: .file), .init(path: layout.home, kind: .emptyFolder),
                ])
                return nil
            }
            // The files of a backup are the user's, and half of two homes is nobody's.
            let restored = purge ? nil : try RestoreJournal.recover(layout, files: files)
            let (found, notice) = try Receipt.recovered(layout, files: files, now: machine.clock.now())
            let receipt = removal.complete(found)
            var plan = try await removal.planned(receipt, purge: purge)
            var outcome = UninstallOutcome(
                plan: plan,
                gone: [],
                notices: [restored, notice].compactMap { $0 }
            )
            if let operation = found.operation {
                outcome.notices.append(
                    operation.verb == Receipt.Operation.uninstall
                        ? "went on with an interrupted uninstall"
                        : "removed what an interrupted \(operation.verb) had left"
                )
            }
            // What an uninstall before this one has stopped is not how it was.
            var standing = found.operation?.service
            if standing == nil { standing = await service.standing() }
            let isNoted = try begin(receipt, standing, purge: purge)
            let jobs = UnfinishedJobs(layout: layout, machine: machine)
            let canceled = try await jobs.cancel(within: GatewayService.jobLimit)
            // Nobody starts it again in a home that is being removed.
            let wish = ServiceTurn.wish(layout)
            defer { withExtendedLifetime(wish) {} }
            outcome.notices += try await service.retire()
            let rest = try await jobs.cancel(within: GatewayService.jobLimit)
            outcome.canceledJobs = Set((canceled.canceled + rest.canceled).map(\.id)).count
            if let job = rest.left.first {
                throw GatewayError(
                    "jobs-running",
                    rest.left.count == 1
                        ? "a job goes on: \(job.wording)"
                        : "\(rest.left.count) jobs go on, the first: \(job.wording)",
                    help: "end the clients that run a gateway on stdio, then repeat the command"
                )
            }
            if plan.disablesLinger {
                do throws(GatewayError) {
                    try await service.setLingering(false)
                } catch {
                    outcome.notices.append("lingering stays on: \(error); \(error.help ?? "")")
                }
            }
            // What the gateway has written until its end goes as well.
            plan = try await removal.planned(receipt, purge: purge)
            outcome.plan = plan
            let frame = Removal.frame(layout)
            outcome.gone = try removal.perform(plan.removals.filter { !frame.contains($0.path) })
            // A manager that could not be asked may have started it again until its program was gone.
            if try await service.endRest() {
                plan = try await removal.planned(receipt, purge: purge)
                outcome.gone += try removal.perform(plan.removals.filter { !frame.contains($0.path) })
            }
            await leaveFolders(plan, outcome.gone)
            // There is room by now for what could not be written before.
            if !isNoted { _ = try begin(receipt, standing, purge: purge) }
            outcome.gone += try removal.perform(plan.removals.filter { frame.contains($0.path) })
            do throws(GatewayError) { try await service.reloadUnits() } catch {}
            return outcome
        }
    }

    /// Leaves folders that this home has made, and that another home's units are in, to that one: it takes them away.
    private func leaveFolders(_ plan: UninstallPlan, _ gone: [String]) async {
        let staying = plan.removals.filter { removal in
            removal.kind == .emptyFolder && !gone.contains(removal.path)
                && !(removal.path + "/").hasPrefix(layout.home + "/")
        }
        let owner = PlaceOwner(layout: layout, files: files)
        guard !staying.isEmpty, let home = owner.neighbours().first,
            let other = try? Layout(environment: ["HOME": layout.userHome, "LLM_GATEWAY_HOME": home])
        else { return }
        // Where that home is busy, an empty folder is what stays.
        do throws(GatewayError) {
            let lock = try await MutationLock.acquire(
                other,
                verb: Receipt.Operation.uninstall,
                machine: machine,
                limit: .seconds(5),
                makesHome: false,
                say: say
            )
            defer { withExtendedLifetime(lock) {} }
            var receipt = try Receipt.recovered(other, files: files, now: machine.clock.now()).receipt
            receipt.noteFolders(staying.map(\.path).filter { receipt.entry($0) == nil })
            try receipt.write(other, files: files)
        } catch {}
    }

    /// Notes in the receipt what begins now; false when the disk is too full for that.
    ///
    /// Removing is what makes room, so it goes on without: repeating the command does the same.
    private func begin(
        _ receipt: Receipt,
        _ standing: ServiceStanding?,
        purge: Bool
    ) throws(GatewayError) -> Bool {
        // Where nothing is noted there is nothing to come back to.
        guard files.exists(layout.receipt) else { return true }
        var receipt = receipt
        receipt.operation = Receipt.Operation(
            verb: Receipt.Operation.uninstall,
            purges: purge,
            service: standing,
            startedAt: machine.clock.now()
        )
        do throws(GatewayError) {
            try receipt.write(layout, files: files)
            return true
        } catch  where error.code == "disk-full" {
            return false
        }
    }
}

extension Removal {
    /// The receipt with what an interrupted command may have left behind, and with units that hold exactly our text for this
    /// home, which a lost receipt does not name: that goes as well.
    func complete(_ receipt: Receipt) -> Receipt {
        var receipt = receipt
        for trace in traces where receipt.entry(trace.path) == nil { receipt.note(trace) }
        guard let operation = receipt.operation else { return receipt }
        if InstalledVersions.current(layout, files: files) != nil {
            receipt.note(Receipt.Created(path: layout.current, kind: .link))
        }
        if let installing = operation.installing,
            !receipt.installed.contains(where: { $0.directory == installing.directory })
        {
            receipt.installed.append(installing)
        }
        return receipt
    }

    /// Units that hold exactly our text for this home, but for the port, which other settings may have named, and the command's
    /// link, when it leads into it.
    private var traces: [Receipt.Created] {
        var traces: [Receipt.Created] = []
        for unit in units {
            let path = Layout.join(layout.userUnits, unit.name)
            guard (try? files.status(path))??.kind == .file,
                let bytes = try? files.read(path, limit: 1 << 20),
                UnitFiles.withoutPort(String(decoding: bytes, as: UTF8.self))
                    == UnitFiles.withoutPort(unit.text)
            else { continue }
            traces.append(Receipt.Created(path: path, kind: .unit, sha256: SHA256.hex(bytes)))
        }
        if layout.isDefaultHome, files.destination(ofLink: layout.commandLink) == layout.currentManager {
            traces.append(
                Receipt.Created(path: layout.commandLink, kind: .link, target: layout.currentManager)
            )
        }
        return traces
    }

    /// Whether this home has left something elsewhere that is known by its form.
    var hasTraces: Bool { !traces.isEmpty }

    /// Plans on a thread of its own: every installed file is read.
    func planned(_ receipt: Receipt, purge: Bool) async throws(GatewayError) -> UninstallPlan {
        try await BlockingThread.run("uninstall") { () throws(GatewayError) in
            try plan(receipt, purge: purge)
        }
    }
}
