/// A program to run: everything explicit, nothing inherited.
package struct Command: Sendable {
    /// What the child finds on its standard input.
    package enum Input: Sendable {
        /// /dev/null.
        case none
        /// Written through a pipe while the child runs; a child that does not read them all is no error.
        case bytes([UInt8])
        /// A file, opened for reading.
        case file(String)
        /// An open descriptor; it stays the caller's.
        case descriptor(Int32)
    }

    /// An absolute path.
    package var executable: String
    /// Without the program's own name.
    package var arguments: [String]
    /// The whole environment of the child.
    package var environment: [String: String]
    /// `nil`: this process's.
    package var directory: String?
    /// What the child finds on its standard input; it never inherits ours.
    package var input: Input
    /// What the child sees as its own name; the executable when `nil`.
    package var name: String?

    /// A program to run.
    package init(
        _ executable: String,
        _ arguments: [String] = [],
        environment: [String: String] = [:],
        directory: String? = nil,
        input: Input = .none
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.input = input
    }
}

/// How a process ended.
package enum ProcessStatus: Sendable, Equatable {
    /// Ended by itself, with the code that it gave: 0 to 255.
    case exited(Int32)
    /// Ended by this signal.
    case signalled(Int32)

    /// The exit code as a shell reports it: 128+n for signal n.
    package var code: Int32 {
        switch self {
        case .exited(let code): code
        case .signalled(let signal): 128 + signal
        }
    }
}

/// What bounds a run.
///
/// Times are counted by the clock that goes on while the machine sleeps.
package struct ProcessLimits: Sendable {
    /// Bytes of standard output and error together.
    package var output: Int
    /// From start to end.
    package var wall: Duration?
    /// Without a byte on standard output or error.
    package var idle: Duration?
    /// From SIGTERM to SIGKILL.
    package var grace: Duration

    /// Bounds for a run.
    package init(
        output: Int = 1 << 20,
        wall: Duration? = .seconds(10),
        idle: Duration? = nil,
        grace: Duration = .seconds(5)
    ) {
        self.output = output
        self.wall = wall
        self.idle = idle
        self.grace = grace
    }
}

/// Why a run was ended from outside.
package enum ProcessIntervention: Sendable, Equatable {
    /// `ProcessLimits.wall` had passed.
    case wallTime
    /// Nothing was written for `ProcessLimits.idle`.
    case idleTime
    /// More than `ProcessLimits.output` was written.
    case outputLimit
    /// The waiting task was cancelled.
    case cancelled
}

/// The result of a run.
///
/// A non-zero exit is a result, not an error.
package struct ProcessResult: Sendable {
    /// How the process ended, also when a limit ended it.
    package var status: ProcessStatus
    /// Standard output; with `error` at most `ProcessLimits.output` bytes.
    package var output: [UInt8]
    /// Standard error; with `output` at most `ProcessLimits.output` bytes.
    package var error: [UInt8]
    /// Set when a limit or a cancellation ended it.
    package var intervention: ProcessIntervention?
    /// From start to end.
    package var duration: Duration

    /// Standard output as text.
    package var outputText: String { String(decoding: output, as: UTF8.self) }
    /// Standard error as text.
    package var errorText: String { String(decoding: error, as: UTF8.self) }
    /// Ended by itself with code 0.
    package var succeeded: Bool { status == .exited(0) && intervention == nil }
}
