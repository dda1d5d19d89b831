import Appliance
import Platform
import Testing

@testable import MCP

@Suite("Staying within the protocol's published schemas")
struct WireTests {
    @Test("accepts every official example as what it is")
    func examples() throws {
        guard let schemas = try WireSchemas(.july2026) else { return }
        let folder = "\(WireSchemas.folder)/2026-07-28-examples"
        var count = 0
        for type in try Files().list(folder) where schemas.has(type) {
            for file in try Files().list("\(folder)/\(type)") where file.hasSuffix(".json") {
                let value = try JSON.parse(try Files().read("\(folder)/\(type)/\(file)"))
                #expect(try schemas.violations(of: value, as: type) == [], "\(type)/\(file)")
                count += 1
            }
        }
        #expect(count > 80)
    }

    @Test("notices when an official example is broken")
    func brokenExamples() throws {
        guard let schemas = try WireSchemas(.july2026) else { return }
        let result: JSON = ["content": [["type": "text", "text": 1]], "isError": "yes"]
        let found = try schemas.violations(of: result, as: "CallToolResult").map(\.path)
        #expect(found.contains("/resultType"))
        #expect(found.contains("/isError"))
        #expect(found.contains { $0.hasPrefix("/content/0") })
    }

    static let resources = ResourceRegistry(
        list: { _ in [["uri": "test://one", "name": "one", "mimeType": "text/plain"]] },
        templates: [["uriTemplate": "test://{id}", "name": "any"]],
        read: { uri, _ in
            guard uri == "test://one" else { return nil }
            return [["uri": .string(uri), "mimeType": "text/plain", "text": "1"]]
        }
    )

    /// Methods and parameters that between them bring out every kind of answer.
    static let requests: [(method: String, params: JSON)] = [
        ("ping", [:]),
        ("server/discover", [:]),
        ("tools/list", [:]),
        ("tools/list", ["cursor": "x"]),
        ("tools/call", ["name": "echo", "arguments": ["text": "hi"]]),
        ("tools/call", ["name": "echo", "arguments": ["text": 1, "times": 9]]),
        ("tools/call", ["name": "echo", "arguments": []]),
        ("tools/call", ["name": "count"]),
        ("tools/call", ["name": "fail"]),
        ("tools/call", ["name": "fail", "arguments": ["how": "protocol"]]),
        ("tools/call", ["name": "fail", "arguments": ["how": "capability"]]),
        ("tools/call", ["name": "none"]),
        ("tools/call", [:]),
        ("resources/list", [:]),
        ("resources/templates/list", [:]),
        ("resources/read", ["uri": "test://one"]),
        ("resources/read", ["uri": "test://two"]),
        ("prompts/list", [:]),
        ("logging/setLevel", ["level": "info"]),
    ]

    @Test("sends nothing on stdio that its revision does not allow", arguments: ProtocolVersion.allCases)
    func stdio(_ version: ProtocolVersion) async throws {
        guard let schemas = try WireSchemas(version) else { return }
        let client = try StdioClient(Fixture(resources: WireTests.resources).server)
        if version.era == .legacy {
            let answer = await client.ask(initialize(.string(version.rawValue)))
            #expect(answer["result"]?["protocolVersion"]?.string == version.rawValue)
            try check(answer, of: "initialize", schemas, version)
        }
        for (index, request) in WireTests.requests.enumerated() {
            let id = JSON.integer(index + 1)
            var message = modern(request.method, request.params, id: id, token: "t")
            if version.era == .legacy {
                var params = request.params
                params["_meta"] = ["progressToken": "t"]
                message = legacy(request.method, params, id: id)
            }
            await client.send(message)
            while true {
                let answer = await client.receive()
                try check(answer, of: request.method, schemas, version)
                guard answer["method"] != nil else {
                    #expect(answer["id"] == id)
                    break
                }
            }
        }
        #expect(await client.finish().isEmpty)
    }

    @Test("sends nothing over HTTP that its revision does not allow", arguments: ProtocolVersion.allCases)
    func http(_ version: ProtocolVersion) async throws {
        guard let schemas = try WireSchemas(version) else { return }
        let client = EndpointClient(try Fixture(resources: WireTests.resources).server)
        let session = version.era == .legacy ? try await client.open(.string(version.rawValue)) : nil
        var messages: [(String, JSON)] = []
        for request in WireTests.requests {
            var message = modern(request.method, request.params, token: 7)
            if version.era == .legacy {
                var params = request.params
                params["_meta"] = ["progressToken": 7]
                message = legacy(request.method, params)
            }
            let response = await client.post(message, session: session)
            let streamed = await response.streamed().messages
            messages += streamed.map { (request.method, $0) }
            if streamed.isEmpty { messages.append((request.method, response.json)) }
        }
        if version.era == .modern {
            let wrong = modern("tools/list", version: "2027-01-01")
            messages.append(("tools/list", await client.post(wrong).json))
            let headerless = await client.post(modern("tools/list")) { $0["Mcp-Method"] = nil }
            messages.append(("tools/list", headerless.json))
        }
        for (method, message) in messages { try check(message, of: method, schemas, version) }
        #expect(messages.contains { $0.1["method"] == "notifications/progress" })
    }

    private func check(
        _ message: JSON,
        of method: String,
        _ schemas: WireSchemas,
        _ version: ProtocolVersion
    ) throws {
        let isOldest = version == .june2025
        var value = message
        let names: [String]
        if let notification = message["method"]?.string {
            #expect(notification == "notifications/progress")
            names = ["JSONRPCNotification", "ProgressNotification"]
        } else if let error = message["error"] {
            let specific = [
                -32020: "HeaderMismatchError", -32021: "MissingRequiredClientCapabilityError",
                -32022: "UnsupportedProtocolVersionError",
            ]
            names =
                [isOldest ? "JSONRPCError" : "JSONRPCErrorResponse"]
                + [error["code"]?.int.flatMap { version.era == .modern ? specific[$0] : nil }].compactMap {
                    $0
                }
        } else {
            let frame = isOldest ? "JSONRPCResponse" : "JSONRPCResultResponse"
            #expect(try schemas.violations(of: message, as: frame) == [], "\(message.compactText)")
            value = message["result"] ?? .null
            let results = [
                "initialize": "InitializeResult", "ping": "EmptyResult", "server/discover": "DiscoverResult",
                "tools/list": "ListToolsResult", "tools/call": "CallToolResult",
                "resources/list": "ListResourcesResult",
                "resources/templates/list": "ListResourceTemplatesResult",
                "resources/read": "ReadResourceResult",
            ]
            names = [try #require(results[method], "an unexpected result of \(method)")]
            let serverInfo = value["_meta"]?["io.modelcontextprotocol/serverInfo"]
            #expect((serverInfo != nil) == (version.era == .modern))
            #expect((value["resultType"] != nil) == (version.era == .modern))
            let isCacheable = version.era == .modern && method != "tools/call"
            #expect((value["ttlMs"] != nil) == isCacheable && (value["cacheScope"] != nil) == isCacheable)
            if method == "ping" { #expect(value == [:]) }
        }
        for name in names {
            #expect(try schemas.violations(of: value, as: name) == [], "\(message.compactText)")
        }
    }
}
