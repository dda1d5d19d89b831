import Appliance
import Glibc
import Platform

/// What a runner that died without a record has left running.
enum Leftovers {
    /// The variable by which every process of a job is known, whatever session it has moved to.
    static let variable = "LLM_GATEWAY_JOB_ID"

    /// Ends everything that belongs to the job: politely, and after the grace by force.
    ///
    /// The record tells the provider's session, and the scope if the job has one, which nothing can have left unnoticed.
    static func end(of job: String, _ record: RunnerRecord?, grace: Duration, processes: Processes) async {
        let provider = record?.provider
        let scope = record?.scope(of: job)
        // What is forked while its parent is being ended is found by the next round.
        for round in 0..<10 {
            let found = find(job, provider, scope)
            guard !found.isEmpty else { return }
            let patience = round == 0 ? grace : .zero
            if round > 0 { scope?.kill() }
            await withTaskGroup { group in
                for identity in found {
                    group.addTask { await processes.end(identity, grace: patience) }
                }
            }
        }
    }

    private static func find(
        _ job: String,
        _ provider: ProcessIdentity?,
        _ scope: ControlGroup?
    ) -> [ProcessIdentity] {
        let members = scope?.processes() ?? []
        let table = ProcessTable.all()
        let own = getpid()
        let mark = Array("\(variable)=\(job)".utf8)
        // A session keeps its number for as long as it has members, so nobody else can have it unless its leader's
        // number now belongs to another process. After another boot, any session may have it.
        let leader = table.first { $0.identity.pid == provider?.pid }
        let isKept = provider?.boot == ProcessTable.boot && (leader == nil || leader?.identity == provider)
        let session = isKept ? provider?.pid : nil
        return table.filter { entry in
            entry.state != "Z" && entry.identity.pid != own
                && (entry.identity == provider || entry.session == session
                    || members.contains(entry.identity.pid) || isMarked(entry, mark))
        }.map(\.identity)
    }

    private static func isMarked(_ entry: ProcessEntry, _ mark: [UInt8]) -> Bool {
        let environment = try? Files().read("/proc/\(entry.identity.pid)/environ", limit: 4 << 20)
        return environment?.split(separator: 0).contains { $0.elementsEqual(mark) } ?? false
    }
}
