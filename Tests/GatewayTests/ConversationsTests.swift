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

    /// Where a proxy in front of the gateway says who calls.
    private static let proxied = ["LLM_GATEWAY_TRUSTED_PRINCIPAL_HEADER": "X-User"]

    private static let id = "3b7cbb2b-5c8c-4a36-9b7d-0123456789ab"
    private static let bob = Principal(id: "bob", kind: .bearer)

    init() throws {
        home = try TemporaryDirectory()
        let machine = Machine(
            environment: ConversationsTests.proxied.merging(["HOME": home.root]) { $1 },
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

    @Test("the latest one is the caller's own where there are several callers, and there may be none")
    func latest() async throws {
        func latest(_ more: JSON = [:]) throws(GatewayError) -> SessionChoice {
            var values = more
            values["prompt"] = "x"
            values["resumeLatest"] = true
            let arguments = RequestArguments(values)
            return try conversations.choose(.codex, arguments, ConversationsTests.bob, .http).choice
        }
        let (earlier, later) = (
            "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
        )
        try await sessions.create("codex", id: "alice-1", caller: "alice")
        let error = #expect(throws: GatewayError.self) { try latest() }
        #expect(error?.message == "no conversation of yours with codex is known here")
        let blog = JSONObject([("workspaceAlias", "blog")])
        try await sessions.create("codex", id: earlier, metadata: blog, caller: "bob")
        try await sessions.create("codex", id: later, caller: "bob")
        try await sessions.update(later, caller: "bob")
        try await sessions.update("alice-1", caller: "alice")
        #expect(try latest() == .resume(later))
        #expect(try latest(["forkSession": true]) == .fork(later))
        #expect(try latest(["workspace": "blog"]) == .resume(earlier))
        // Who is alone with the CLIs is given what they take for the latest.
        let alone = RequestArguments(["prompt": "x", "resumeLatest": true])
        #expect(try conversations.choose(.codex, alone, .local, .http).choice == .latest)
    }
}
