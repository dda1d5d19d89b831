import Appliance
import Jobs
import MCP
import Platform
import Providers

/// What makes two requests the same, and what becomes of one that gets the answer of the other's run.
extension RequestTool {
    /// The key of a planned request: before anything is generated, with its owner, its place and the state of the files that
    /// the CLI is to read.
    func key(
        of plan: RequestPlan,
        _ arguments: RequestArguments,
        _ options: RequestOptions,
        _ place: Workspaces.Place,
        _ principal: Principal
    ) throws(GatewayError) -> String {
        var plan = plan
        if case .new(let id?) = plan.session {
            // Sent again, it finds the conversation begun and continues it: still the same request.
            plan = try RequestPlan(provider, arguments, session: .resume(id), options: options)
        }
        var read: [JSON] = []
        for use in plan.paths where use.kind == .readFile {
            let path = use.path.hasPrefix("/") ? use.path : Layout.join(place.directory, use.path)
            let status = try services.machine.files.target(path)
            read.append([
                .string(path), .integer(status?.size ?? -1), .integer(status?.modifiedNanoseconds ?? 0),
            ])
        }
        let material: JSON = [
            "owner": .string(principal.id), "request": plan.dedupMaterial, "cwd": .string(place.directory),
            "files": .array(read),
        ]
        return SHA256.hex(material.compact)
    }

    /// Whose answer a request may get: one that continues a conversation, or begins one of a given id, that of a running job.
    func sharing(_ plan: RequestPlan) -> Sharing {
        let isNew = if case .new(nil) = plan.session { true } else { false }
        return Sharing(
            window: .milliseconds(services.configuration.persistence.dedupWindowMilliseconds),
            includesFinished: isNew
        )
    }

    /// Says whose run a request gets the answer of.
    func shared(_ job: String, _ leader: String) -> RequestWarning {
        RequestWarning(
            "shared_run",
            "the same request is run once, as '\(leader)', and this is that run; its usage and cost are counted there",
            details: JSONObject([("jobId", .string(job)), ("runCorrelationId", .string(leader))])
        )
    }

    /// What a run has brought; a shared one's closes the record of this request too.
    func result(of begun: Begun, _ outcome: JobOutcome) async throws(GatewayError) -> ProviderResult? {
        guard begun.isShared else { return services.completion.take(begun.handle.id) }
        guard let result = try await services.completion.reread(outcome) else { return nil }
        await services.completion.finishShared(begun.correlation, result, outcome)
        return result
    }

    /// Closes the record of a request whose caller wants its shared run no more.
    func leaveShared(_ begun: Begun) async {
        var end = FlightEnd(succeeded: false, response: "", durationMilliseconds: 0)
        end.errorMessage = "canceled by caller"
        await services.recorder.complete(begun.correlation, end, job: begun.handle.id)
    }
}
