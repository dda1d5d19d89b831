package import Appliance
package import Platform

/// A provider run that is to become a job: everything decided, nothing started.
package struct JobRequest: Sendable {
    /// A file that the job brings into its directory, mode 0600.
    package struct File: Sendable {
        /// Relative to the job's directory, or absolute below it.
        package var name: String
        /// The file's bytes; they are in place before the provider starts.
        package var contents: [UInt8]

        /// A file with its contents.
        package init(_ name: String, _ contents: [UInt8]) {
            self.name = name
            self.contents = contents
        }
    }

    /// A new UUID; `JobScheduler.directory(of:)` says where its files will be.
    package var id: String
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// Absolute.
    package var executable: String
    /// Without the program's own name.
    package var arguments: [String]
    /// The whole environment of the provider.
    package var environment: [String: String]
    /// `nil`: the job's own directory, which is empty but for the job's files.
    package var workingDirectory: String?
    /// Empty: `/dev/null`.
    package var standardInput: [UInt8] = []
    /// Written before the runner starts; a name of the job's own files is refused (`JobDirectory.reserved`).
    package var files: [File] = []
    /// Directories to make in the job's directory; relative, or absolute below it.
    package var directories: [String] = []
    /// Output cap, wall and idle time, grace.
    package var limits: ProcessLimits = .job
    /// Who may see the job; `nil` means the local principal.
    package var owner: String?
    /// Whose turn it uses when jobs wait: a client's connection, or its owner.
    package var client = ""
    /// Whether a caller waits for it: such a job goes before those in the background.
    package var isAwaited = false
    /// For how long after its acceptance another attempt may begin; `nil`: for as long as there are attempts.
    package var retryTime: Duration?
    /// The id that the request comes with; where an earlier one has it, the job goes by that of its record.
    package var correlationID: String
    /// The dedup key.
    package var requestKey: String?
    /// The tool's `outputFormat` with its default filled in; only kept in the store, the run does not depend
    /// on it.
    package var outputFormat: String?
    /// Relative names of files, or of directories with files, that belong to the output.
    package var collected: [String] = []
    /// Given back with the outcome, also after a restart.
    package var context: JSON = .null
    /// How much of the job is kept once it is over.
    package var recording = Configuration.Persistence.Recording.full

    /// A run of a program.
    package init(
        id: String,
        provider: String,
        executable: String,
        arguments: [String],
        environment: [String: String],
        correlationID: String
    ) {
        self.id = id
        self.provider = provider
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.correlationID = correlationID
    }
}

extension ProcessLimits {
    /// The contract's bounds of a job: 50 MB of output, ten minutes of silence, no wall clock, 5 s of grace.
    package static let job = ProcessLimits(
        output: 50 << 20,
        wall: nil,
        idle: .milliseconds(600_000),
        grace: .seconds(5)
    )
}
