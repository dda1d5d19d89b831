import Appliance
import MCP
import Platform
import TestSupport
import Testing

@testable import Gateway
@testable import Jobs
@testable import Providers

@Suite("Choosing a conversation")
struct ConversationsTests {
    private let home: TemporaryDirectory
    private let sessions: SessionStore
    private let conversations: Conversations

    private static let id = "3b7cbb2b-5c8c-4a36-9b7d-0123456789ab"
    private static let bob = Principal(id: "bob", kind: .bearer)

    init() throws {
        home = try TemporaryDirectory()
        let machine = Machine(
            environment: ["HOME": home.root],
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        let layout = try Layout(environment: machine.environment)
        sessions = SessionStore(layout: layout, machine: machine) { Issue.record("\($0)") }
        conversations = Conversations(sessions: sessions, machine: machine, layout: layout)
    }

    private func choose(
        _ provider: Provider,
        _ id: String,
        _ principal: Principal = bob,
        _ transport: Transport = .http
    ) throws(GatewayError) -> SessionChoice {
        try conversations.choose(
            provider,
            RequestArguments(["prompt": "x", "sessionId": .string(id)]),
            principal,
            transport
        ).choice
    }

    @Test(
        "over HTTP goes by the whole id alone: not by a name, a part of an id or another spelling of it",
        arguments: Provider.allCases,
        [
            "alpha", "3b7cbb2b", "3B7CBB2B-5C8C-4A36-9B7D-0123456789AB",
            "3b7cbb2b-5c8c-4a36-9b7d-0123456789ab ",
        ]
    )
    func names(provider: Provider, id: String) async throws {
        try await sessions.create(provider.rawValue, id: ConversationsTests.id, caller: "alice")
        let error = #expect(throws: GatewayError.self) { try choose(provider, id) }
        #expect(error?.code == "session-refused")
        #expect(
            error?.message
                == "Session \(id) is not accessible: over HTTP a conversation goes by its whole id, a lower-case UUID"
        )
        #expect(throws: GatewayError.self) { try choose(provider, ConversationsTests.id) }
        // Who sits at this machine may do so as with the CLI itself.
        if provider == .claude {
            #expect(try choose(provider, "alpha", .local, .stdio) == .resume("alpha"))
        }
    }

    @Test("takes the ids of agy and grok as they were reported to the caller")
    func reported() async throws {
        for provider in [Provider.gemini, .grok] {
            try await sessions.create(provider.rawValue, id: "\(provider)-17", caller: "bob")
            #expect(try choose(provider, "\(provider)-17") == .resume("\(provider)-17"))
            let alice = Principal(id: "alice", kind: .bearer)
            #expect(throws: GatewayError.self) { try choose(provider, "\(provider)-17", alice) }
        }
        #expect(try choose(.codex, ConversationsTests.id) == .resume(ConversationsTests.id))
    }
}
