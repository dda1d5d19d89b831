/// What a model is told about the gateway at the start of a conversation.
enum Instructions {
    /// Speaks of jobs only where there are tools for them, and of a deadline only where there is one.
    static func text(asyncJobs: Bool, deadline: Duration?) -> String {
        var lines = [
            """
            This gateway runs coding CLIs on the user's machine and gives you their answers.
            Ask one with claude_request, codex_request, gemini_request, grok_request or mistral_request; each waits for \
            the reply, and asking another provider the same question is a second opinion.
            """
        ]
        if asyncJobs {
            lines.append(
                """
                What takes long or may run beside your own work is started with the same tool's name and _async: you get a \
                jobId at once. llm_job_watch waits for news of it, llm_job_result has its output, llm_job_cancel ends it.
                """
            )
        }
        if asyncJobs, let deadline {
            lines.append(
                """
                A call that waits longer than \(deadline) gets such a jobId instead of the reply (status \
                'deferred'): the run goes on, so do not ask again, collect it.
                """
            )
        }
        lines.append(
            """
            To go on with a conversation pass the sessionId of its last answer.
            Over HTTP a run needs a registered workspace; pass its alias as 'workspace' unless there is a default.
            Every answer carries a correlationId: llm_request_result finds the request again, also after your connection broke.
            list_models and cli_versions say what is there; session_list shows earlier conversations.
            """
        )
        return lines.joined(separator: "\n")
    }
}
