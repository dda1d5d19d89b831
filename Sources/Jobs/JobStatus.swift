/// Where a job is.
///
/// The raw values are the contract's; `queued` is told to callers and kept in the store as `running`, because the
/// contract's store has no word for it.
package enum JobStatus: String, Sendable, CaseIterable {
    case queued, running, completed, failed, canceled, orphaned

    /// Whether nothing more happens to the job.
    package var isFinal: Bool { self != .queued && self != .running }
}
