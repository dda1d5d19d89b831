import Appliance
import Platform
import Providers
import TestSupport
import Testing

@testable import Gateway
@testable import Jobs
@testable import MCP

@Suite("The tools of the gateway")
struct ToolsTests {
    private let home: TemporaryDirectory

    init() throws { home = try TemporaryDirectory() }

    private func services(
        _ text: String = "",
        environment: [String: String] = [:]
    ) throws -> Services {
        let machine = Machine(
            environment: ["HOME": home.root],
            files: Files(),
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: .standard
        )
        let layout = try machine.layout()
        let (configuration, findings) = Configuration.load(
            text: text,
            environment: environment,
            layout: layout
        )
        #expect(findings.allSatisfy { $0.severity == .warning })
        return try Services(machine: machine, layout: layout, configuration: configuration, log: .none)
    }

    private static let jobTools: Set = [
        "claude_request_async", "codex_request_async", "gemini_request_async", "grok_request_async",
        "mistral_request_async", "llm_job_status", "llm_job_watch", "llm_job_result", "llm_job_cancel",
    ]

    @Test("with jobs there are all of them, with unique names and valid schemas")
    func all() throws {
        let services = try services()
        let tools = services.tools()
        #expect(Set(tools.map(\.name)).count == tools.count)
        #expect(ToolsTests.jobTools.isSubset(of: tools.map(\.name)))
        #expect(services.syncDeadline == .seconds(45))
        _ = try ToolRegistry(tools)
        for tool in tools {
            #expect((tool.title?.count ?? 0) > 2 && tool.description.count >= 20, "\(tool.name)")
            #expect(tool.annotations.readOnly != true || tool.annotations.destructive != true)
        }
    }

    @Test(
        "one gate decides about the tools for jobs, the deadline, and what clients are told",
        arguments: [
            ("", [:], true), (#"persistence.backend = "none""#, [:], false),
            ("persistence.asyncJobsEnabled = false", [:], false),
            ("", ["LLM_GATEWAY_LOGS_DB": "none"], false),
            (#"persistence = { backend = "memory", acknowledgeEphemeral = true }"#, [:], true),
        ] as [(String, [String: String], Bool)]
    )
    func gate(text: String, environment: [String: String], isOpen: Bool) throws {
        let services = try services(text, environment: environment)
        let names = Set(services.tools().map(\.name))
        #expect(services.asyncJobsEnabled == isOpen)
        #expect(names.intersection(ToolsTests.jobTools).count == (isOpen ? ToolsTests.jobTools.count : 0))
        #expect(names.isSuperset(of: Provider.allCases.map(\.requestTool)))
        #expect((services.syncDeadline == nil) == !isOpen)
        let said = Instructions.text(asyncJobs: services.asyncJobsEnabled, deadline: services.syncDeadline)
        for word in ["_async", "llm_job", "jobId", "deferred"] { #expect(said.contains(word) == isOpen) }
        #expect(said.contains("llm_request_result"))
    }

    @Test(
        "a call that the end of the gateway cuts short is told where its answer will be, and without a store that it is lost",
        arguments: ["", "persistence.asyncJobsEnabled = false", #"persistence.backend = "none""#]
    )
    func shutdown(text: String) throws {
        let services = try services(text)
        let handle = JobHandle(
            services.jobs.directory(of: "j"),
            reactor: services.machine.reactor
        )
        let begun = RequestTool.Begun(
            handle: handle,
            correlation: "c",
            sessionID: nil,
            snapshot: nil,
            warnings: []
        )
        let body = try #require(Deferral(.claude, begun, .shutdown, services).toolResult.structuredContent)
        let said = body["message"]?.string ?? ""
        #expect(said.hasPrefix("The gateway is stopping and claude goes on without it. "))
        #expect((body["pollWith"] != nil) == services.asyncJobsEnabled)
        #expect(said.contains("llm_request_result") == (services.store != nil))
        #expect((body["collectWith"] != nil) == (services.store != nil))
        #expect(said.contains(#"[persistence] backend = "none""#) == (services.store == nil))
    }

    @Test("without a store nothing of a request is found, and the answer says why")
    func nothingKept() async throws {
        let services = try services(#"persistence.backend = "none""#)
        func call(_ name: String, _ arguments: JSONObject) async throws -> ToolResult {
            let tool = try #require(services.tools().first { $0.name == name })
            guard case .asynchronous(let handler) = tool.handler else { throw CancellationError() }
            return try await handler(
                ToolCall(
                    tool: name,
                    arguments: arguments,
                    principal: .local,
                    transport: .stdio,
                    version: .july2026,
                    requestID: .int(1),
                    clientInfo: nil,
                    clientCapabilities: JSONObject(),
                    meta: JSONObject(),
                    progress: .silent(),
                    cancellation: Cancellation()
                )
            )
        }
        let found = try await call("llm_request_result", JSONObject([("correlationId", "c")]))
        #expect(found.isError)
        #expect(
            found.structuredContent?["hint"]
                == #"config.toml says [persistence] backend = "none", so nothing is kept"#
        )
        let health = try await call("llm_process_health", JSONObject()).structuredContent?["persistence"]
        #expect(health?["backend"] == "none" && health?["asyncJobsEnabled"] == false)
        #expect(health?["path"] == .null && health?["dbPath"] == .null)
        #expect(try Files().status(services.layout.database) == nil)
    }

    @Test("a deadline of 0 is none, and then nobody is told of one")
    func noDeadline() throws {
        let services = try services("limits.sync_deadline_ms = 0")
        #expect(services.asyncJobsEnabled && services.syncDeadline == nil)
        let said = Instructions.text(asyncJobs: true, deadline: nil)
        #expect(said.contains("llm_job_watch") && !said.contains("deferred"))
        #expect(try self.services("", environment: ["SYNC_DEADLINE_MS": "0"]).syncDeadline == nil)
    }

    /// The reference's tools are other people's data and lie outside the package.
    private static let reference: JSON? = {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let path = "/\(root)/../shared/contracts/reference-tools.json"
        guard let bytes = try? Files().readIfPresent(path) else {
            print("skipped: \(path) is not there, so the tools are not compared with the reference's")
            return nil
        }
        return try? JSON.parse(bytes)
    }()

    @Test("have the titles, hints and parameters that clients of the reference know")
    func likeReference() throws {
        guard let reference = ToolsTests.reference else { return }
        for tool in try services().tools() {
            let theirs = try #require(reference[tool.name], "the reference has no '\(tool.name)'")
            let hints = theirs["annotations"]
            #expect(tool.title == hints?["title"]?.string, "\(tool.name)")
            #expect(tool.annotations.readOnly == hints?["readOnlyHint"]?.bool, "\(tool.name) readOnly")
            #expect(
                tool.annotations.destructive == hints?["destructiveHint"]?.bool,
                "\(tool.name) destructive"
            )
            #expect(tool.annotations.idempotent == hints?["idempotentHint"]?.bool, "\(tool.name) idempotent")
            #expect(tool.annotations.openWorld == hints?["openWorldHint"]?.bool, "\(tool.name) openWorld")
            let ours = tool.inputSchema["properties"]?.object ?? JSONObject()
            for (name, schema) in theirs["params"]?.object?.members ?? [] {
                let own = ours[name]
                #expect(own != nil, "\(tool.name) lacks '\(name)'")
                #expect(own?["maximum"]?.number == schema["maximum"]?.number, "\(tool.name) \(name)")
            }
            #expect(
                Set((tool.inputSchema["required"]?.array ?? []).compactMap(\.string))
                    == Set((theirs["required"]?.array ?? []).compactMap(\.string)),
                "\(tool.name)"
            )
        }
    }
}
