import Appliance
import Platform

/// The output of jobs that are over and not to be recorded, for as long as their callers may collect it.
///
/// The directory of such a job is renamed to `.kept-<id>`, where no gateway takes it for a job, and removed when its caller
/// has the answer, ten minutes after its end at the latest, or when the next gateway starts.
extension JobScheduler {
    static let keptPrefix = ".kept-"
    /// How long the caller of an asynchronous job has to collect what is not recorded.
    package static let keptTime = Duration.seconds(600)

    /// Where the files of a job are that is over and not recorded in full.
    nonisolated func keptDirectory(of id: String) -> JobDirectory {
        JobDirectory(Layout.join(layout.jobs, JobScheduler.keptPrefix + id))
    }

    /// Keeps a job's directory aside for its caller, which has its `end.json`; what only its run needed goes at once.
    func keep(_ directory: JobDirectory) throws(GatewayError) {
        try machine.files.removeFile(directory.standardInput)
        let kept = keptDirectory(of: directory.id)
        if try machine.files.status(kept.path) != nil { try machine.files.removeTree(kept.path) }
        try machine.files.rename(directory.path, to: kept.path, durable: false)
    }

    /// Removes what was kept of a job that is not recorded, because its caller has the answer.
    package func forgetKept(_ id: String) {
        guard JobFiles.isPlain(id) else { return }
        removeKept(keptDirectory(of: id).path)
    }

    /// Removes what was kept of jobs whose time is over.
    package func removeExpiredKept() {
        let now = machine.clock.now().milliseconds
        for name in (try? machine.files.list(layout.jobs)) ?? [] where name.hasPrefix(JobScheduler.keptPrefix)
        {
            let directory = JobDirectory(Layout.join(layout.jobs, name))
            let ended = ((try? EndRecord.of(directory, files: machine.files)) ?? nil)?.finished
            let since = ended ?? ((try? machine.files.status(directory.path)) ?? nil)?.modified
            let age = since.map { now - $0.milliseconds } ?? .max
            // From the future: the clock was set back, and nobody knows how old it is.
            if age < 0 || age >= JobScheduler.keptTime.milliseconds { removeKept(directory.path) }
        }
    }

    /// Whether anything is kept.
    var hasKept: Bool {
        ((try? machine.files.list(layout.jobs)) ?? []).contains { $0.hasPrefix(JobScheduler.keptPrefix) }
    }

    private func removeKept(_ path: String) {
        do throws(GatewayError) {
            try machine.files.removeTree(path)
        } catch {
            report(error)
        }
    }
}
