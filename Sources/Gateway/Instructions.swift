/// What a model is told about the gateway at the start of a conversation.
enum Instructions {
    static let text = """
        This gateway runs coding CLIs on the user's machine and gives you their answers.
        Ask one with claude_request, codex_request, gemini_request, grok_request or mistral_request; each waits for \
        the reply, and asking another provider the same question is a second opinion.
        To go on with a conversation pass the sessionId of its last answer.
        Over HTTP a run needs a registered workspace; pass its alias as 'workspace' unless there is a default.
        Every answer carries a correlationId: llm_request_result finds the request again, also after your connection broke.
        list_models and cli_versions say what is there; session_list shows earlier conversations.
        """
}
