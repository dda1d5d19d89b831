/// Where a job is.
///
/// The raw values are the contract's; `queued` is told to callers and kept in the store as `running`, because the
/// contract's store has no word for it.
package enum JobStatus: String, Sendable, CaseIterable {
    /// Accepted, waiting for its turn.
    case queued
    /// Its runner works, or what a lost runner started is being ended.
    case running
    /// The provider ended by itself with code 0.
    case completed
    /// The provider failed, could not be started, or passed a limit.
    case failed
    /// A caller had it ended.
    case canceled
    /// Its runner disappeared without a record; nothing of it is left, and it is not run again.
    case orphaned

    /// Whether nothing more happens to the job.
    package var isFinal: Bool { self != .queued && self != .running }
}
