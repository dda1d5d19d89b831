import Appliance
import Glibc
import Platform

/// What was found in `jobs/` at the start.
package struct AdoptionReport: Sendable, Equatable {
    /// Jobs whose runner lives; they are watched now.
    package var live: [String] = []
    /// Jobs that ended while no gateway watched; they are committed.
    package var finished: [String] = []
    /// Jobs that were accepted and had not been started; they wait for their turn or run.
    package var queued: [String] = []
    /// Jobs that were accepted, had not been started, and have waited for too long by now; they have failed.
    package var missed: [String] = []
    /// Jobs whose runner is gone without a record; what it had started is being ended.
    package var lost: [String] = []
    /// Rows of the store that nothing was left of.
    package var orphaned: [String] = []

    /// Nothing was found.
    package init() {}
}

extension JobScheduler {
    /// Takes over the jobs of gateways that are gone.
    ///
    /// 1. With the guard held, claim every directory whose gateway is gone. One whose description is damaged may be a living
    ///    gateway's: it is left to wait until no other lives, unless its row says whose it is.
    /// 2. A held lock, or a runner that is there by its record: the runner lives, watch it. A record: commit it. Neither runner
    ///    nor record ever: start it, it was accepted and never ran; unless it has waited for too long by now, or the machine was
    ///    restarted since, because a power cut may have taken the traces of a run that began. A runner without a record: end
    ///    what it left, `orphaned`.
    /// 3. Rows that run and have no directory: of a gateway that kept none, `orphaned` once their process is gone; of one of
    ///    this home, once it is gone: it had reserved the row and not got as far as the directory.
    ///
    /// Nothing that has ever been started is started again, unless that was decided and written down before its gateway was
    /// gone (`retry.json`). What is damaged is reported and put aside; what cannot be read
    /// for now is reported and tried again later.
    package func adopt() async -> AdoptionReport { await adopt(pause: JobScheduler.firstPause) }

    /// Takes over the jobs of the gateways of this home that have ended, and of each other one as it ends, and ends the jobs
    /// that callers of other gateways want ended, until the task is cancelled.
    package func adoptWhenOthersEnd() async {
        let watch: InstanceWatch
        do throws(GatewayError) {
            try registry.enrol()
            watch = try InstanceWatch(registry, reactor: machine.reactor)
        } catch {
            return report(
                GatewayError(
                    error.code,
                    "runs that another gateway of this home leaves are only taken over at the next start: \(error.message)",
                    help: error.help
                )
            )
        }
        _ = await adopt()
        while let news = await watch.next() {
            for instance in news.ended where endings.insert(instance).inserted {
                Task { await adopt(afterTheEndOf: instance) }
            }
            // Those that are not here are another gateway's, or over.
            for job in news.canceled where knows(job) { try? cancel(job) }
        }
    }

    private func adopt(afterTheEndOf instance: String) async {
        let lock = registry.lockFile(instance)
        if FileLock.isHeld(lock) {
            await patiently { () async throws(GatewayError) in
                try await BlockingThread.run("instance-end") { () throws(GatewayError) in
                    try FileLock.waitWhileHeld(lock)
                }
            }
        }
        endings.remove(instance)
        _ = await adopt()
    }

    /// One adoption after the other: what one has claimed and not taken in yet must not be taken in by another.
    private func adopt(pause: Duration) async -> AdoptionReport {
        let earlier = adoption
        let task = Task {
            _ = await earlier?.value
            return await adoptNow(pause)
        }
        adoption = task
        return await task.value
    }

    private func adoptNow(_ pause: Duration) async -> AdoptionReport {
        var result = AdoptionReport()
        var isComplete = true
        func tell(_ error: GatewayError) {
            // Once is enough for what is tried again and again.
            if pause == JobScheduler.firstPause { report(error) }
        }
        func failed(_ error: GatewayError) {
            tell(error)
            isComplete = false
        }
        do throws(GatewayError) {
            for directory in try claim(await acceptances(failed), tell, failed) {
                do throws(GatewayError) {
                    try await adopt(directory, &result)
                } catch {
                    if error.code == "job-damaged", await setAside(directory) {
                        tell(error)
                    } else {
                        failed(error)
                    }
                }
            }
        } catch {
            failed(error)
        }
        if !isComplete, !isAdoptionAwaited {
            isAdoptionAwaited = true
            Task {
                try? await machine.clock.sleep(pause)
                isAdoptionAwaited = false
                _ = await adopt(pause: JobScheduler.longer(pause))
            }
        }
        await noting { store throws(GatewayError) in result.orphaned = try await orphanRows(store) }
        await endUnwanted()
        return result
    }

    /// The directories that are this gateway's now and that it does not know yet.
    private func claim(
        _ accepted: [String: Acceptance],
        _ tell: (GatewayError) -> Void,
        _ failed: (GatewayError) -> Void
    ) throws(GatewayError) -> [JobDirectory] {
        try registry.enrol()
        let lock = try registry.guardChanges()
        defer { withExtendedLifetime(lock) {} }
        let names = try machine.files.list(layout.jobs)
        var claimed: [JobDirectory] = []
        for name in names {
            guard let acceptance = accepted[name], !knows(name) else { continue }
            let directory = JobDirectory(layout.job(name))
            do throws(GatewayError) {
                let adopter = try directory.adopted(machine.files)
                switch (adopter, acceptance) {
                case (let gateway?, _), (nil, .by(let gateway)):
                    // Claimed by an earlier try of ours that could not read it.
                    if gateway == registry.name {
                        claimed.append(directory)
                        continue
                    }
                    if registry.isAlive(gateway) { continue }
                case (nil, .damaged(let error)):
                    // Whoever has accepted it may be one of those that live. Their ends are looked at.
                    if registry.hasOthers(names) {
                        tell(error)
                        continue
                    }
                }
                try machine.files.write(registry.name.utf8, to: directory.adopter, durable: false)
                claimed.append(directory)
            } catch {
                // Over, and removed by the one that had it.
                if error.code == "file-not-found", !machine.files.exists(directory.path) { continue }
                failed(error)
            }
        }
        registry.sweep(names)
        return claimed
    }

    /// Who has accepted a job, as its description says, or where that is damaged, its row.
    private enum Acceptance {
        case by(String)
        case damaged(GatewayError)
    }

    /// Who has accepted the jobs that this gateway does not know, by their names: what never changes, and what takes too long to be
    /// read while others wait for the guard.
    private func acceptances(_ failed: (GatewayError) -> Void) async -> [String: Acceptance] {
        var found: [String: Acceptance] = [:]
        let names: [String]
        do throws(GatewayError) {
            names = try machine.files.list(layout.jobs)
        } catch {
            failed(error)
            return [:]
        }
        for name in names where !name.hasPrefix(".") && !knows(name) {
            do throws(GatewayError) {
                found[name] = .by(try JobSpec(JobDirectory(layout.job(name)), files: machine.files).instance)
            } catch {
                switch error.code {
                // It is no job, or over and removed meanwhile.
                case "file-not-found", "not-a-directory": continue
                case "job-damaged":
                    // A store that does not answer has not said that there is no row.
                    do throws(GatewayError) {
                        let row = try await store?.shared(name)
                        found[name] = row.map { .by($0.instance) } ?? .damaged(error)
                    } catch {
                        failed(error)
                    }
                default: failed(error)
                }
            }
        }
        return found
    }

    private func adopt(_ directory: JobDirectory, _ result: inout AdoptionReport) async throws(GatewayError) {
        let spec = try JobSpec(directory, files: machine.files)
        guard spec.id == directory.id else {
            throw GatewayError("job-damaged", "'\(directory.spec)' describes the job '\(spec.id)'")
        }
        let isRunning = try isRunning(directory)
        let retry = try RetryRecord(directory, files: machine.files)
        if !isRunning, let end = try end(of: directory) {
            result.finished.append(spec.id)
            return await commit(spec, directory, end, retry)
        }
        // A decision that was written down and not carried out; while a runner lives it was.
        if !isRunning {
            _ = try RunningFile.record(of: directory, machine.files)
            try retry?.moveAside(directory, collected: spec.collected, files: machine.files)
        }
        let record = try RunnerRecord.of(directory, files: machine.files)
        let exit = try ExitRecord.of(directory, files: machine.files)
        // Killed after its end was committed, a gateway may have left it as if it had not begun.
        if !isRunning, record == nil, exit == nil, let end = await committedEnd(of: spec) {
            result.finished.append(spec.id)
            told[spec.id] = end
            return await commit(spec, directory, end, retry)
        }
        switch (isRunning, record) {
        case (true, _):
            // Without a record its gateway died between starting the runner and the runner's first words.
            result.live.append(spec.id)
            let job = await adopt(spec, directory, as: .running)
            job.retry = retry
            watch(job, record?.runner)
            if isCancelMarked(spec.id) { try? cancel(spec.id) }
        case (false, nil) where exit == nil && isOfThisBoot(spec) && retry != nil:
            result.queued.append(spec.id)
            let job = await adopt(spec, directory, as: .resting)
            job.retry = retry
            if isCancelMarked(spec.id) { try? cancel(spec.id) }
            Task { await rest(job) }
        case (false, nil) where exit == nil && isOfThisBoot(spec):
            if mayWait(spec) { result.queued.append(spec.id) } else { result.missed.append(spec.id) }
            _ = await adopt(spec, directory, as: .queued)
        case (false, _):
            if exit != nil { result.finished.append(spec.id) } else { result.lost.append(spec.id) }
            let isCanceled = exit == nil && isCancelMarked(spec.id)
            let job = await adopt(spec, directory, as: isCanceled ? .canceling : .running, exit: exit)
            job.retry = retry
            if exit == nil, record == nil {
                job.message =
                    "the machine was restarted, and whether the job had begun is not known; it is not run again"
            }
            await runnerEnded(job, exit, mayRetry: false)
        }
    }

    /// Takes in a job whose end was told, to commit it.
    private func commit(
        _ spec: JobSpec,
        _ directory: JobDirectory,
        _ end: EndRecord,
        _ retry: RetryRecord?
    ) async {
        // What a lost runner had left was ended before the end was told.
        let job = await adopt(spec, directory, as: .clearing(end.status), end: end)
        job.retry = retry
        take(.cleared, spec.id)
    }

    /// How a job ended by its row in the store; `nil` where that does not say, or nobody can read it now.
    ///
    /// A row that counts as orphaned may be one whose gateway was only out of sight.
    private func committedEnd(of spec: JobSpec) async -> EndRecord? {
        guard let store, let row = (try? await store.job(spec.id)) ?? nil, row.status.isFinal,
            row.status != .orphaned
        else { return nil }
        return EndRecord(
            row.status,
            at: row.finished.flatMap(Timestamp.init(iso8601:)) ?? machine.clock.now(),
            message: row.error
        )
    }

    /// Whether a runner works on a job: by its lock, or by its record, should somebody have replaced the locked file.
    ///
    /// One that has written how it ended does nothing more: others may have said so, and it is not tried again.
    private func isRunning(_ directory: JobDirectory) throws(GatewayError) -> Bool {
        if try machine.files.status(directory.exit) != nil { return false }
        if try FileLock.isTaken(directory.running) { return true }
        return try RunnerRecord.of(directory, files: machine.files).map { ProcessTable.isRunning($0.runner) }
            ?? false
    }

    /// Gives a job up whose description cannot be read, as a power cut may leave it: it is over for who asks, and what is there of
    /// it stays under a name that nobody takes for a job.
    ///
    /// `false` when that has to wait, because its runner lives or the store does not.
    private func setAside(_ directory: JobDirectory) async -> Bool {
        let aside = Layout.join(
            Files.parent(of: directory.path),
            InstanceRegistry.damagedPrefix + directory.id
        )
        do throws(GatewayError) {
            guard try !isRunning(directory) else { return false }
            let isClosed = await noting { store throws(GatewayError) in
                try await store.orphan(
                    [directory.id],
                    error: "the job's files were damaged; they are in '\(aside)'"
                )
            }
            if isClosed { try machine.files.rename(directory.path, to: aside, durable: false) }
            return isClosed
        } catch {
            report(error)
            return false
        }
    }

    private func isOfThisBoot(_ spec: JobSpec) -> Bool {
        guard let then = spec.boot, let now = registry.boot else { return true }
        return then == now
    }

    private func orphanRows(_ store: Store) async throws(GatewayError) -> [String] {
        var gone: [String] = []
        for row in try await store.running() where !knows(row.id) {
            if machine.files.exists(layout.job(row.id)) { continue }
            // A row with an instance belongs to a gateway that keeps directories, here or in another home: only the
            // commit that removes its directory may close it.
            if row.instance != nil { continue }
            // Not by /proc, which nobody can read without a descriptor.
            if let pid = row.pid, pid > 0, kill(pid, 0) == 0 || errno == EPERM { continue }
            gone.append(row.id)
        }
        if !gone.isEmpty {
            try await store.orphan(gone, error: "Gateway restarted while job was running")
        }
        for row in try await store.running(below: layout.jobs, on: registry.host) where !knows(row.id) {
            if try await closeIfAbandoned(row, store) { gone.append(row.id) }
        }
        await lookElsewhere()
        return gone
    }

    /// Closes the row of a job that has no directory and whose gateway is gone: nothing of it was ever started, or its end
    /// is recorded elsewhere.
    ///
    /// Returns whether it did.
    func closeIfAbandoned(_ row: SharedRow, _ store: Store) async throws(GatewayError) -> Bool {
        do {
            let lock = try InstanceRegistry.guardChanges(of: Files.parent(of: row.directory))
            defer { withExtendedLifetime(lock) {} }
            let isThere = try machine.files.status(row.directory) != nil
            if isThere || registry.isAlive(row.instance, in: Files.parent(of: row.directory)) { return false }
        }
        try await store.orphan([row.id], error: "the gateway ended before the job was started; ask again")
        return true
    }
}
