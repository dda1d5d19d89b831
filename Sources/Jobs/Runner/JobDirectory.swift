import Appliance
import Platform

/// The files of one running job.
///
/// ```
/// spec.json     what to run, written by the gateway before anything else can see the directory
/// owner         the gateway instance that answers for the job
/// lock          held (flock) from before the runner's start to its end
/// runner.json   who runs it; written once, so that a job is never run twice
/// stdin         the provider's standard input, where it has one
/// stdout stderr what it wrote
/// exit.json     how it ended
/// spare         room on the disk for exit.json, until that is written
/// retry.json    that it is run once more, and how; what the attempts before left is in attempt-1, attempt-2…
/// ```
/// Files that the request brings along lie beside them.
package struct JobDirectory: Sendable, Hashable {
    /// Absolute.
    package let path: String

    /// The directory at a path.
    package init(_ path: String) { self.path = path }

    /// The job's id.
    package var id: String { Files.name(of: path) }

    /// A `JobSpec`; it is there before the directory has its final name.
    package var spec: String { file("spec.json") }
    /// The name of the instance that answers for the job; rewritten when another one adopts it.
    package var owner: String { file("owner") }
    /// What counts is whether somebody holds it (flock(2)), not what is in it.
    package var lock: String { file("lock") }
    /// A `RunnerRecord`; not there until the runner has begun.
    package var runner: String { file("runner.json") }
    /// Not there when the provider reads `/dev/null`.
    package var standardInput: String { file("stdin") }
    /// At most `ProcessLimits.output` bytes; it grows while the provider works.
    package var standardOutput: String { file("stdout") }
    /// Counts towards the same limit as `stdout`.
    package var standardError: String { file("stderr") }
    /// An `ExitRecord`, renamed into place: it is there whole, or the job is not over.
    package var exit: String { file("exit.json") }

    /// Some bytes that are given back when the disk is too full to write how the job ended.
    package var spare: String { file("spare") }

    /// A `RetryRecord`, replaced atomically before each attempt after the first.
    package var retry: String { file("retry.json") }

    /// The names above: no request may bring a file that is called like one of them.
    static let reserved: Set<String> = [
        "spec.json", "owner", "lock", "runner.json", "stdin", "stdout", "stderr", "exit.json", "spare",
        "retry.json",
    ]

    /// Something else in the directory.
    package func file(_ name: String) -> String { Layout.join(path, name) }
}
