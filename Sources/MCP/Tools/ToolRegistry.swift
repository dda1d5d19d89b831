package import Appliance

/// The tools of a server, checked once and listed in the order in which they were given.
package struct ToolRegistry: Sendable {
    struct Entry: Sendable {
        let tool: Tool
        let schema: Schema
        let headers: [HeaderParameter]
    }

    private let entries: [String: Entry]
    /// In the order of the list.
    package let tools: [Tool]

    /// Checks names and schemas.
    ///
    /// Throws `invalid-tool` for a name that clients may refuse (allowed: 1 to 128 of `A-Z a-z 0-9 _ - .`), a name used
    /// twice, or an input schema that is no object schema.
    package init(_ tools: [Tool]) throws(GatewayError) {
        var entries: [String: Entry] = [:]
        for tool in tools {
            func refuse(_ reason: String) -> GatewayError {
                GatewayError("invalid-tool", "the tool '\(tool.name)' \(reason)")
            }
            let isPlain = tool.name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"),
                    UInt8(ascii: "."):
                    true
                default: false
                }
            }
            guard isPlain, (1...128).contains(tool.name.utf8.count) else {
                throw refuse("must be named with 1 to 128 letters, digits, '_', '-' or '.'")
            }
            guard entries[tool.name] == nil else { throw refuse("is registered twice") }
            guard tool.inputSchema["type"]?.string == "object" else {
                throw refuse("must have an input schema with \"type\": \"object\"")
            }
            let schema = try Schema(tool.inputSchema)
            if let output = tool.outputSchema { _ = try Schema(output) }
            let headers = try HeaderParameter.all(in: tool.inputSchema, of: tool.name)
            entries[tool.name] = Entry(tool: tool, schema: schema, headers: headers)
        }
        self.entries = entries
        self.tools = tools
    }

    subscript(name: String) -> Entry? { entries[name] }
}
