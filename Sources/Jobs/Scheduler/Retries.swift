package import Appliance
import Platform

/// What the gateway thinks of a failed attempt.
package struct FailedAttempt: Sendable {
    /// Whether the same run may succeed at the next attempt.
    package var isTransient: Bool
    /// What the next attempt runs; `nil` where it may not be run again, because it may have changed something.
    package var next: Next?

    /// The next attempt of a run.
    package struct Next: Sendable, Equatable {
        /// In place of the first attempt's: a conversation that was begun under an id cannot be begun again.
        package var arguments: [String]
        /// What is given back with the outcome.
        package var context: JSON

        /// An attempt.
        package init(arguments: [String], context: JSON) {
            self.arguments = arguments
            self.context = context
        }
    }

    /// A judgement.
    package init(isTransient: Bool = false, next: Next? = nil) {
        self.isTransient = isTransient
        self.next = next
    }
}

/// `retry.json`: the decision that a job is run once more, written before anything follows from it.
///
/// Then what the failed attempt left moves to `attempt-<n>`, its `exit.json` last: where that is, the move is complete.
struct RetryRecord: Sendable, Equatable {
    /// 2 or more.
    var attempt: Int
    var arguments: [String]
    var context: JSON
    var notBefore: Timestamp

    var json: JSON {
        [
            "attempt": .integer(attempt), "arguments": .strings(arguments), "context": context,
            "notBefore": .string(notBefore.iso8601),
        ]
    }

    init(attempt: Int, next: FailedAttempt.Next, notBefore: Timestamp) {
        self.attempt = attempt
        arguments = next.arguments
        context = next.context
        self.notBefore = notBefore
    }

    /// Reads a job's `retry.json`; `nil` when there is none.
    ///
    /// It was replaced atomically, so one that is damaged is `job-damaged`.
    init?(_ directory: JobDirectory, files: Files) throws(GatewayError) {
        guard try files.status(directory.retry) != nil else { return nil }
        let json = try RecordFile.read(directory.retry, files)
        guard let attempt = json["attempt"]?.int, attempt > 1, let arguments = json["arguments"]?.array,
            let notBefore = json["notBefore"]?.string.flatMap(Timestamp.init(iso8601:))
        else { throw GatewayError("job-damaged", "'\(directory.retry)' does not describe an attempt") }
        self.attempt = attempt
        self.arguments = arguments.compactMap(\.string)
        context = json["context"] ?? .null
        self.notBefore = notBefore
    }

    /// Moves aside what the attempt before left, its record last; repeating it finishes what was begun.
    ///
    /// What fails has changed nothing, unless that cannot be undone either.
    func moveAside(_ directory: JobDirectory, collected: [String], files: Files) throws(GatewayError) {
        let aside = aside(in: directory)
        guard try files.status(aside.exit) == nil else { return }
        try files.makeDirectory(aside.path)
        let plain = collected.filter { JobFiles.isPlain(Files.name(of: $0)) }
        let moves =
            plain.map { (directory.file($0), aside.file(Files.name(of: $0))) } + [
                (directory.standardOutput, aside.standardOutput),
                (directory.standardError, aside.standardError), (directory.runner, aside.runner),
                (directory.exit, aside.exit),
            ]
        var moved: [(String, String)] = []
        do throws(GatewayError) {
            for (path, destination) in moves where try files.status(path) != nil {
                try files.rename(path, to: destination, durable: false)
                moved.append((path, destination))
            }
        } catch {
            for (path, destination) in moved { try? files.rename(destination, to: path, durable: false) }
            throw error
        }
    }

    /// Whether the decision was not carried out yet: what the attempt before left is not aside, or not all of it.
    func isPending(in directory: JobDirectory, _ files: Files) throws(GatewayError) -> Bool {
        try files.status(aside(in: directory).exit) == nil
    }

    /// Where what the attempt before left goes to.
    private func aside(in directory: JobDirectory) -> JobDirectory {
        JobDirectory(directory.file("attempt-\(attempt - 1)"))
    }

    /// Takes the decision back, so that nobody carries it out once the end is told; the one before it stands again.
    ///
    /// Returns whether it did: where not, or where something of the attempt before is aside and belongs to its end, the
    /// decision is to be carried out.
    func withdraw(in directory: JobDirectory, for earlier: RetryRecord?, _ files: Files) -> Bool {
        guard (try? files.removeEmptyDirectory(aside(in: directory).path)) == true else { return false }
        if let earlier {
            try? files.write(earlier.json.compact, to: directory.retry, durable: false)
        } else {
            try? files.removeFile(directory.retry)
        }
        do throws(GatewayError) {
            return try RetryRecord(directory, files: files)?.attempt != attempt
        } catch {
            return false
        }
    }
}

/// Attempts after the first one, of runs that failed for a reason that may pass and that have changed nothing.
///
/// 1. A failed attempt is judged. Its provider's circuit learns of it.
/// 2. `retry.json` is the decision, where the caller's time allows for one. What the attempt left is moved aside.
/// 3. After the pause the runner is started again, unless the circuit is open by then.
///
/// The next gateway goes on where a dead one was: a job without this decision is never run again.
extension JobScheduler {
    /// Output beyond this is not read again to judge a failure, which then is none that may pass.
    private static let judgedOutput = 4 << 20

    /// An attempt ended without success and was not canceled: run it again, or let it be.
    func attemptFailed(_ job: Job, _ record: ExitRecord) async {
        var judgement = FailedAttempt()
        if record.outputBytes + record.errorBytes <= JobScheduler.judgedOutput {
            let outcome = await patiently { () async throws(GatewayError) in try await collect(job, .failed) }
            let judge = judge
            let judged = try? await BlockingThread.run("judge") { () throws(GatewayError) in judge(outcome) }
            judgement = judged ?? FailedAttempt()
        }
        settleCircuit(job.spec.provider, judgement.isTransient ? .failedTransiently : .other)
        guard judgement.isTransient, let next = judgement.next, job.machine.state == .running,
            let pause = pause(beforeNext: job)
        else { return take(.runnerEnded(record.verdict), job.spec.id) }
        let decision = RetryRecord(
            attempt: job.attempt + 1,
            next: next,
            notBefore: machine.clock.now().advanced(byMilliseconds: Int64(pause.milliseconds))
        )
        do throws(GatewayError) {
            try machine.files.write(decision.json.compact, to: job.directory.retry)
            try decision.moveAside(job.directory, collected: job.spec.collected, files: machine.files)
        } catch {
            report(error)
            if decision.withdraw(in: job.directory, for: job.retry, machine.files) {
                return take(.runnerEnded(record.verdict), job.spec.id)
            }
            await patiently { () throws(GatewayError) in
                // Nothing has to be out of the way of a job that its caller does not want any more.
                guard job.machine.state == .running else { return }
                // It may be that it has never got its name.
                try machine.files.write(decision.json.compact, to: job.directory.retry)
                try decision.moveAside(job.directory, collected: job.spec.collected, files: machine.files)
            }
        }
        // A caller may have canceled it while this was decided.
        guard job.machine.state == .running else { return take(.runnerEnded(.canceled), job.spec.id) }
        job.retry = decision
        take(.attemptFailed, job.spec.id)
    }

    /// How long to wait before the next attempt; `nil` when there is none: after five, with an open circuit, beyond the
    /// caller's time.
    private func pause(beforeNext job: Job) -> Duration? {
        guard job.attempt < CircuitBreaker.threshold else { return nil }
        if case .open = circuit(job.spec.provider).state { return nil }
        let pause = Backoff.pause(before: job.attempt + 1, chance: machine.random.bytes(1).first ?? 0)
        guard let limit = job.spec.retryTime else { return pause }
        let taken = Duration.milliseconds(waited(job.spec))
        return taken + pause < limit ? pause : nil
    }

    /// Waits for the time of an attempt and begins it.
    func rest(_ job: Job) async {
        guard let decision = job.retry else { return }
        job.spec.arguments = decision.arguments
        job.spec.context = decision.context
        let pause = decision.notBefore.milliseconds - machine.clock.now().milliseconds
        // A clock that was set back makes nobody wait longer than a pause takes.
        try? await machine.clock.sleep(.milliseconds(min(30_000, max(0, pause))))
        guard job.machine.state == .resting else { return }
        do throws(GatewayError) {
            try beginCircuit(job.spec.provider)
            take(.restOver, job.spec.id)
        } catch {
            job.refusal = error
            take(.turnMissed, job.spec.id)
        }
    }

    // MARK: circuits

    /// The circuit of a provider as it is now.
    func circuit(_ provider: String) -> CircuitBreaker {
        var circuit = circuits[provider] ?? CircuitBreaker()
        circuit.settle(now: uptime)
        return circuit
    }

    /// Lets a run begin, or throws `circuit-open`.
    func beginCircuit(_ provider: String) throws(GatewayError) {
        try circuits[provider, default: CircuitBreaker()].begin(now: uptime)
    }

    func settleCircuit(_ provider: String, _ ending: CircuitBreaker.Ending) {
        circuits[provider, default: CircuitBreaker()].end(ending, now: uptime)
    }

    /// The circuits of all providers that were tried, by provider: state, failures in a row, milliseconds to the next trial.
    package func circuitReport() -> JSON {
        var report: JSON = [:]
        for provider in circuits.keys.sorted() {
            let circuit = circuit(provider)
            var entry: JSON = [
                "state": .string(circuit.state.name), "consecutiveFailures": .integer(circuit.failures),
            ]
            if case .open(let until) = circuit.state {
                entry["retryAfterMs"] = .integer(max(0, until - uptime))
            }
            report[provider] = entry
        }
        return report
    }
}
