import Appliance
import Jobs
import MCP
import Platform
import Providers

/// Which conversation a request belongs to.
struct Conversation: Sendable {
    var choice: SessionChoice
    /// The id that is continued; `nil` for a new or the latest one.
    var id: String?
    /// The workspace that it began in.
    var workspace: String?
    /// Whether it can be continued later, so that it is worth keeping.
    var isKept: Bool
    var warnings: [RequestWarning]
}

/// The conversations that were held through the gateway.
struct Conversations: Sendable {
    let machine: Machine
    let layout: Layout

    func choose(
        _ provider: Provider,
        _ arguments: RequestArguments,
        _ principal: Principal
    ) throws(GatewayError) -> Conversation {
        let choice = try SessionChoice.requested(by: arguments, of: provider)
        return Conversation(choice: choice, id: nil, workspace: nil, isKept: true, warnings: [])
    }

    func total(of id: String) -> RunningTotal? { nil }

    func keep(_ id: String, _ context: Completion.Context, total: RunningTotal?) {}
}
