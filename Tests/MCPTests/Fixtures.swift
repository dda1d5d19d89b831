import Appliance
import MCP
import Platform
import Synchronization
import TestSupport
import Testing

/// A server with one tool of each kind.
struct Fixture: Sendable {
    let server: Server
    let journal = Journal()
    let gate = Gate()

    /// The text of an input schema, which must reach clients byte for byte.
    static let echoSchema =
        #"{"type":"object","$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"text":{"type":"string","maxLength":1000},"times":{"type":"integer","minimum":1,"maximum":3,"default":1},"style":{"enum":["plain","loud"]}},"required":["text"],"additionalProperties":false}"#

    init(resources: ResourceRegistry? = nil) throws {
        server = Server(
            information: Implementation(
                name: "fixture",
                version: "1.2.3",
                title: "Fixture",
                description: "A server for tests."
            ),
            instructions: "Be kind.",
            tools: try ToolRegistry(Fixture.tools(journal, gate)),
            resources: resources
        )
    }

    private static func tools(_ journal: Journal, _ gate: Gate) -> [Tool] {
        [
            Tool(
                name: "echo",
                title: "Echo",
                description: "Says it again.",
                inputSchema: parsed(echoSchema),
                outputSchema: ["type": "object", "properties": ["said": ["type": "string"]]],
                annotations: ToolAnnotations(readOnly: true, openWorld: false),
                handler: .immediate { call in
                    let text = call.arguments["text"]?.string ?? ""
                    return .text(text, structuredContent: ["said": .string(text)])
                }
            ),
            Tool(
                name: "wait",
                description: "Waits for its gate.",
                inputSchema: ["type": "object"],
                handler: .asynchronous { call in
                    journal.note("started \(call.requestID.json.compactText)")
                    call.progress.report(1, of: 3, "waiting")
                    if call.arguments["yields"]?.bool == true { call.cancellation.yieldToShutdown() }
                    await gate.wait()
                    guard let reason = call.cancellation.reason else {
                        journal.note("done")
                        return .text("waited")
                    }
                    journal.note("cancelled \(reason)")
                    guard reason == .shutdown else { throw CancellationError() }
                    return .text("goes on without you")
                }
            ),
            Tool(
                name: "count",
                description: "Reports progress, also where it may not.",
                inputSchema: ["type": "object"],
                handler: .asynchronous { call in
                    for value in [0.0, 1, 1, 0.5, 2] { call.progress.report(value, of: 2, "step") }
                    return ToolResult(
                        [.text("counted")],
                        structuredContent: [1, 2],
                        meta: JSONObject([(name: "own", value: 1)])
                    )
                }
            ),
            Tool(
                name: "fail",
                description: "Fails.",
                inputSchema: ["type": "object", "properties": ["how": ["type": "string"]]],
                outputSchema: ["type": "array"],
                handler: .asynchronous { call in
                    switch call.arguments["how"]?.string {
                    case "protocol": throw ProtocolError.invalidParams("no such handle")
                    case "capability": throw ProtocolError.missingCapability(["sampling": [:]])
                    default: throw GatewayError("file-not-found", "there is no '/x'", help: "make one")
                    }
                }
            ),
            Tool(
                name: "region",
                description: "Is routed by headers.",
                inputSchema: [
                    "type": "object",
                    "properties": [
                        "region": ["type": "string", "x-mcp-header": "Region"],
                        "size": [
                            "type": "object",
                            "properties": ["n": ["type": "integer", "x-mcp-header": "N"]],
                        ],
                    ],
                ],
                handler: .immediate { call in .text(call.arguments["region"]?.string ?? "none") }
            ),
            Tool(
                name: "who",
                description: "Says who asks.",
                inputSchema: ["type": "object"],
                handler: .immediate { call in
                    .text("\(call.principal.id) \(call.transport) \(call.version.rawValue)")
                }
            ),
        ]
    }
}

/// JSON of a test; a text that is none shows up in the comparison.
func parsed(_ text: String) -> JSON { (try? JSON.parse(text)) ?? .string("not JSON: \(text)") }

/// A request with the envelope of the modern era.
func modern(
    _ method: String,
    _ params: JSON = [:],
    id: JSON? = 1,
    version: JSON = "2026-07-28",
    token: JSON? = nil
) -> JSON {
    var meta: JSON = [
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": [:],
        "io.modelcontextprotocol/clientInfo": ["name": "test", "version": "1"],
    ]
    if let token { meta["progressToken"] = token }
    var params = params
    params["_meta"] = meta
    return legacy(method, params, id: id)
}

/// A request without envelope; a notification without an id.
func legacy(_ method: String, _ params: JSON? = nil, id: JSON? = 1) -> JSON {
    var message: JSON = ["jsonrpc": "2.0"]
    if let id { message["id"] = id }
    message["method"] = .string(method)
    if let params { message["params"] = params }
    return message
}

/// The handshake's request.
func initialize(_ version: JSON = "2025-11-25", id: JSON = 0) -> JSON {
    legacy(
        "initialize",
        ["protocolVersion": version, "capabilities": [:], "clientInfo": ["name": "test", "version": "1"]],
        id: id
    )
}
