import Appliance
import Platform

/// The files of one running job.
///
/// ```
/// spec.json     what to run and which gateway has accepted it, written before anything else can see the directory
/// adopter       the gateway that answers for the job now, where that is another one
/// running       locked (flock) from before the runner's start to its end; room on the disk for exit.json, which it becomes
/// runner.jsonl  who runs it; begun once, so that a job is never run twice
/// stdin         the provider's standard input, where it has one
/// stdout stderr what it wrote
/// exit.json     how its runner ended
/// end.json      how it ended, where its runner does not say so
/// retry.json    that it is run once more, and how; what the attempts before left is in attempt-1, attempt-2…
/// ```
/// Files that the request brings along lie beside them. They are few on purpose: to make and to remove a file costs more than to
/// write it, and there are some of them for each job.
package struct JobDirectory: Sendable, Hashable {
    /// Absolute.
    package let path: String

    /// The directory at a path.
    package init(_ path: String) { self.path = path }

    /// The job's id.
    package var id: String { Files.name(of: path) }

    /// A `JobSpec`; it is there before the directory has its final name, and never changes after that.
    package var spec: String { file("spec.json") }
    /// What counts is whether somebody holds it (flock(2)).
    ///
    /// It becomes `exit`, so that neither bytes nor a file are needed any more when the job ends.
    package var running: String { file("running") }
    /// The name of the instance that answers for the job in place of the one that has accepted it.
    package var adopter: String { file("adopter") }
    /// A `RunnerRecord`; not there until the runner has begun.
    package var runner: String { file("runner.jsonl") }
    /// Not there when the provider reads `/dev/null`.
    package var standardInput: String { file("stdin") }
    /// At most `ProcessLimits.output` bytes; it grows while the provider works.
    package var standardOutput: String { file("stdout") }
    /// Counts towards the same limit as `stdout`.
    package var standardError: String { file("stderr") }
    /// An `ExitRecord`, renamed into place: it is there whole, or the job is not over.
    package var exit: String { file("exit.json") }

    /// An `EndRecord`, renamed into place: it is there whole, or the job may still be run.
    var end: String { file("end.json") }

    /// A `RetryRecord`, replaced atomically before each attempt after the first.
    package var retry: String { file("retry.json") }

    /// The names above: no request may bring a file that is called like one of them.
    static let reserved: Set<String> = [
        "spec.json", "adopter", "runner.jsonl", "stdin", "stdout", "stderr", "running", "exit.json",
        "end.json", "retry.json",
    ]

    /// Whether its runner has ended or the job has: what it has written so far is complete.
    func hasEnd(_ files: Files) -> Bool { files.exists(exit) || files.exists(end) }

    /// Whether nothing of the job will be run any more where no gateway is about to decide on that.
    ///
    /// Throws what the file system throws when it cannot be told.
    func isOver(_ files: Files) throws(GatewayError) -> Bool {
        if try files.status(end) != nil { return true }
        guard try files.status(exit) != nil else { return false }
        return try RetryRecord(self, files: files)?.isPending(in: self, files) != true
    }

    /// Something else in the directory.
    package func file(_ name: String) -> String { Layout.join(path, name) }

    /// The instance that has adopted the job; `nil` when the one that accepted it answers for it.
    ///
    /// Throws what the file system throws when it cannot be told.
    func adopted(_ files: Files) throws(GatewayError) -> String? {
        try files.readIfPresent(adopter, limit: 256).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The instance that answers for the job; `nil` when its description is damaged or gone.
    ///
    /// Throws what the file system throws when it cannot be told.
    func gateway(_ files: Files) throws(GatewayError) -> String? {
        if let adopted = try adopted(files) { return adopted }
        do throws(GatewayError) {
            return try JobSpec(self, files: files).instance
        } catch {
            guard ["file-not-found", "job-damaged"].contains(error.code) else { throw error }
            return nil
        }
    }
}
