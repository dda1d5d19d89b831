package import Appliance

/// The arguments of one tool call with typed access; the schema has been checked before, and what it cannot say is
/// checked here.
///
/// An empty optional string counts as absent, as clients send it for an unset field.
package struct RequestArguments: Sendable {
    /// The members as they came.
    package let values: JSONObject

    /// Arguments of a tool call; anything but an object counts as no arguments.
    package init(_ json: JSON) { values = json.object ?? JSONObject() }

    /// Whether the parameter is there and not null.
    package func has(_ name: String) -> Bool { values[name].map { !$0.isNull } ?? false }

    /// A text; `nil` when absent or empty.
    package func string(_ name: String) throws(GatewayError) -> String? {
        guard let value = values[name], !value.isNull else { return nil }
        guard let text = value.string else { throw wrongType(name, "a string", value) }
        guard !text.utf8.contains(0) else { throw .invalidInput("'\(name)' contains a zero byte") }
        return text.isEmpty ? nil : text
    }

    /// A switch; `false` when absent.
    package func bool(_ name: String) throws(GatewayError) -> Bool {
        guard let value = values[name], !value.isNull else { return false }
        guard let flag = value.bool else { throw wrongType(name, "true or false", value) }
        return flag
    }

    /// An integer in a range.
    package func int(_ name: String, in range: ClosedRange<Int>) throws(GatewayError) -> Int? {
        guard let value = values[name], !value.isNull else { return nil }
        guard let number = value.int else { throw wrongType(name, "an integer", value) }
        guard range.contains(number) else {
            throw .invalidInput(
                "'\(name)' must be between \(range.lowerBound) and \(range.upperBound), found \(number)"
            )
        }
        return number
    }

    /// A finite number in a range.
    package func number(_ name: String, in range: ClosedRange<Double>) throws(GatewayError) -> Double? {
        guard let value = values[name], !value.isNull else { return nil }
        guard let number = value.number, number.isFinite else { throw wrongType(name, "a number", value) }
        guard range.contains(number) else {
            throw .invalidInput(
                "'\(name)' must be between \(range.lowerBound) and \(range.upperBound), found \(number)"
            )
        }
        return number
    }

    /// One of some words.
    package func choice(_ name: String, of words: [String]) throws(GatewayError) -> String? {
        guard let text = try string(name) else { return nil }
        guard words.contains(text) else {
            throw .invalidInput("'\(name)' must be one of \(words.joined(separator: ", ")), found '\(text)'")
        }
        return text
    }

    /// A list of texts; empty when absent.
    package func strings(_ name: String) throws(GatewayError) -> [String] {
        guard let value = values[name], !value.isNull else { return [] }
        guard let elements = value.array else { throw wrongType(name, "an array of strings", value) }
        var texts: [String] = []
        for element in elements {
            guard let text = element.string else { throw wrongType(name, "an array of strings", element) }
            guard !text.utf8.contains(0) else { throw .invalidInput("'\(name)' contains a zero byte") }
            texts.append(text)
        }
        return texts
    }

    /// A list of words that follow a flag on the command line, where a leading `-` would be read as another flag.
    package func words(_ name: String) throws(GatewayError) -> [String] {
        let words = try strings(name)
        if let bad = words.first(where: ContractCheck.looksLikeFlag) {
            throw .invalidInput("'\(name)' values must not start with '-', found '\(bad)'")
        }
        return words
    }

    func wrongType(_ name: String, _ expected: String, _ found: JSON) -> GatewayError {
        .invalidInput("'\(name)' must be \(expected), found \(found.typeName)")
    }
}

/// The prompt of a request: one text, and the parts that it was put together from.
package struct Prompt: Sendable, Equatable {
    /// One part of a prompt.
    package struct Block: Sendable, Equatable {
        /// `system`, `tools`, `context` or `task`.
        package let name: String
        /// As the caller wrote it; from the second part on the assembled prompt puts an empty line before it.
        package let text: String
        /// Whether the caller asked that the provider cache everything up to and including this part.
        package let isCacheMarked: Bool
    }

    /// What the provider reads.
    package let text: String
    /// The parts in order; one `task` for a plain prompt.
    package let blocks: [Block]
    /// Whether any part carries a cache mark.
    package var hasCacheMark: Bool { blocks.contains(where: \.isCacheMarked) }

    /// Reads `prompt` or `promptParts`; exactly one of them.
    ///
    /// Throws `invalid-input` with the contract's texts. `limit` counts characters as the reference does (UTF-16 units).
    package init(from arguments: RequestArguments, limit: Int) throws(GatewayError) {
        switch (arguments.has("prompt"), arguments.has("promptParts")) {
        case (true, true): throw .invalidInput("provide exactly one of `prompt` or `promptParts`")
        case (false, false): throw .invalidInput("one of `prompt` or `promptParts` is required")
        case (true, false):
            blocks = [Block(name: "task", text: try Prompt.text("prompt", arguments), isCacheMarked: false)]
        case (false, true): blocks = try Prompt.blocks(of: arguments)
        }
        text = blocks.map(\.text).joined(separator: "\n\n")
        try Prompt.check(text, limit: limit)
    }

    /// A prompt from one text that came by another parameter.
    package init(text: String, limit: Int) throws(GatewayError) {
        blocks = [Block(name: "task", text: text, isCacheMarked: false)]
        self.text = text
        try Prompt.check(text, limit: limit)
    }

    private static func check(_ text: String, limit: Int) throws(GatewayError) {
        guard text.contains(where: { !$0.isWhitespace }) else {
            throw .invalidInput("Prompt cannot be empty")
        }
        guard !text.utf8.contains(0) else { throw .invalidInput("the prompt contains a zero byte") }
        guard text.utf16.count <= limit else {
            let shown = limit == 100_000 ? "100k" : "\(limit)"
            throw GatewayError(
                "input-too-large",
                "Prompt too long (max \(shown) chars)",
                help: "raise [limits].max_prompt_chars in config.toml, at most 4000000"
            )
        }
    }

    private static func text(_ name: String, _ arguments: RequestArguments) throws(GatewayError) -> String {
        guard let text = try arguments.string(name) else { throw .invalidInput("Prompt cannot be empty") }
        return text
    }

    private static func blocks(of arguments: RequestArguments) throws(GatewayError) -> [Block] {
        guard let object = arguments.values["promptParts"]?.object else {
            throw .invalidInput("'promptParts' must be an object")
        }
        let parts = RequestArguments(.object(object))
        let marks = RequestArguments(object["cacheControl"] ?? .null)
        guard parts.has("task") else { throw .invalidInput("'promptParts.task' is required") }
        var blocks: [Block] = []
        for name in ["system", "tools", "context", "task"] {
            guard let text = try parts.string(name) else { continue }
            let isMarked = name != "task" && Prompt.isMark(marks.values[name])
            blocks.append(Block(name: name, text: text, isCacheMarked: isMarked))
        }
        guard blocks.last?.name == "task" else { throw .invalidInput("Prompt cannot be empty") }
        return blocks
    }

    /// `true` and any object (`{"type":"ephemeral"}`) ask for a mark.
    private static func isMark(_ value: JSON?) -> Bool { value?.bool == true || value?.object != nil }
}
