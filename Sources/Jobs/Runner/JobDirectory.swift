import Appliance

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
/// ```
/// Files that the request brings along lie beside them.
package struct JobDirectory: Sendable, Hashable {
    /// Absolute.
    package let path: String

    /// The directory at a path.
    package init(_ path: String) { self.path = path }

    /// The job's id.
    package var id: String { String(path.split(separator: "/").last ?? "") }

    package var spec: String { file("spec.json") }
    package var owner: String { file("owner") }
    package var lock: String { file("lock") }
    package var runner: String { file("runner.json") }
    package var standardInput: String { file("stdin") }
    package var standardOutput: String { file("stdout") }
    package var standardError: String { file("stderr") }
    package var exit: String { file("exit.json") }

    /// The names above: no request may bring a file that is called like one of them.
    static let reserved: Set<String> = [
        "spec.json", "owner", "lock", "runner.json", "stdin", "stdout", "stderr", "exit.json",
    ]

    /// Something else in the directory.
    package func file(_ name: String) -> String { Layout.join(path, name) }
}
