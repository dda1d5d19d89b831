import Appliance
import Platform

/// Reads claude's `stream-json` lines, and grok's `streaming-messages-json`, which has the same shape.
///
/// A failure is told by `is_error`, never by `subtype`, which says `success` for failed API calls too.
extension Reading {
    mutating func readClaude(_ bytes: WrittenBytes) throws(GatewayError) {
        var lines = ClaudeLines(keepsText: context.outputFormat == "json")
        try OutputReader.objects(in: bytes, skipping: "{\"type\":\"stream_event\"") { object, line in
            lines.take(object, line)
        }
        // `--output-format json` of a CLI that somebody runs by hand prints one object, perhaps indented.
        if !lines.sawObject, let whole = try OutputReader.document(bytes), whole["type"]?.string == "result" {
            lines.take(whole, try bytes.all()[...])
        }
        result.sessionID = lines.session
        result.thinking = lines.thinking
        result.model = lines.model
        // The first line comes before anything is done.
        if lines.sawObject || bytes.isEmpty { toolsRun = lines.sawTool }
        guard let last = lines.results.last else {
            guard lines.sawObject else {
                result.reply = try OutputReader.plainText(bytes)
                return
            }
            let reply = lines.reply ?? ""
            result.reply = WrittenText(reply)
            if !reply.isEmpty {
                failure =
                    "\(context.provider.executable) ended without a result; its last message was: \(reply)"
            }
            return
        }
        readResult(last.json, earlier: lines.results.dropLast().map(\.json))
        let reply =
            last.json["structured_output"].flatMap { $0.isNull ? nil : $0.compactText }
            ?? last.json["result"]?.string
        if last.json["is_error"]?.bool == true {
            failure = claudeFailure(last.json, reply: reply)
        }
        result.reply = WrittenText(
            context.outputFormat == "json" ? last.text : reply ?? lines.reply ?? ""
        )
        // The line itself is never empty; what counts is whether there is a reply in it.
        if context.outputFormat == "json", failure == nil, (reply ?? "").allSatisfy(\.isWhitespace) {
            hasNoReply = true
        }
    }

    private mutating func readResult(_ last: JSON, earlier: [JSON]) {
        result.turns = last["num_turns"]?.int
        result.apiStatus = last["api_error_status"]?.int
        if result.model == nil { result.model = last["modelUsage"]?.object?.names.first }
        // `usage` is one result's own; several input messages give several results.
        let parts = (earlier + [last]).compactMap { ClaudeLines.usage(of: $0["usage"]) }
        if let first = parts.first { result.usage = parts.dropFirst().reduce(first) { $0.adding($1) } }
        if let denials = last["permission_denials"]?.array, !denials.isEmpty {
            let tools = denials.compactMap { $0["tool_name"]?.string }
            warn(
                "permission_denied",
                "tools were not allowed to run: \(tools.joined(separator: ", "))",
                [("tools", .strings(tools))]
            )
        }
        guard context.provider == .claude, let cost = last["total_cost_usd"]?.number else { return }
        let bases = last["modelUsage"]?.object?.members.compactMap { $0.value["costBasis"]?.string } ?? []
        guard !bases.contains("unknown") else {
            return warn(
                "cost_unknown_model",
                "claude knows no price for this model; its cost figure is a guess and is left out"
            )
        }
        isCumulative = true
        total = RunningTotal(costUSD: cost)
    }

    private func claudeFailure(_ last: JSON, reply: String?) -> String {
        let errors = (last["errors"]?.array ?? []).compactMap(\.string).joined(separator: "\n")
        let text = reply.flatMap { $0.isEmpty ? nil : $0 } ?? (errors.isEmpty ? nil : errors)
        let subtype = last["subtype"]?.string ?? "error"
        let type = last["api_error_type"]?.string ?? last["api_error"]?.string
        let reason = text ?? (subtype == "success" ? type ?? "the run failed" : subtype)
        let status = last["api_error_status"]?.int.map { " (API status \($0))" } ?? ""
        return reason + status
    }
}

/// What the lines of a claude stream say.
struct ClaudeLines {
    /// Whether a result is the reply as it was written.
    let keepsText: Bool
    var results: [(json: JSON, text: String)] = []
    /// The last message.
    var reply: String?
    var thinking: [String] = []
    var session: String?
    var model: String?
    var sawObject = false
    /// A tool of any kind, of a subagent's too.
    var sawTool = false

    init(keepsText: Bool) { self.keepsText = keepsText }

    mutating func take(_ object: JSON, _ line: ArraySlice<UInt8>) {
        sawObject = true
        for block in object["message"]?["content"]?.array ?? [] {
            let type = block["type"]?.string ?? ""
            if type.hasSuffix("tool_use") || type.hasSuffix("tool_result") { sawTool = true }
        }
        if let id = object["session_id"]?.string { session = id }
        switch object["type"]?.string {
        case "system" where object["subtype"]?.string == "init":
            if let name = object["model"]?.string { model = name }
        case "assistant": takeMessage(object)
        case "result": results.append((object, keepsText ? String(decoding: line, as: UTF8.self) : ""))
        default: break
        }
    }

    /// A subagent's messages carry the id of the tool call that started it, and are not the reply.
    private mutating func takeMessage(_ object: JSON) {
        guard object["parent_tool_use_id"]?.string == nil else { return }
        if model == nil { model = object["message"]?["model"]?.string }
        var texts: [String] = []
        for block in object["message"]?["content"]?.array ?? [] {
            switch block["type"]?.string {
            case "text": if let text = block["text"]?.string { texts.append(text) }
            case "thinking": if let text = block["thinking"]?.string { thinking.append(text) }
            default: break
            }
        }
        if !texts.isEmpty { reply = texts.joined() }
    }

    static func usage(of json: JSON?) -> Usage? {
        guard let json, let input = json["input_tokens"]?.int, let output = json["output_tokens"]?.int else {
            return nil
        }
        return Usage(
            input: input,
            output: output,
            cacheRead: json["cache_read_input_tokens"]?.int,
            cacheCreation: json["cache_creation_input_tokens"]?.int
        )
    }
}

extension Usage {
    func adding(_ other: Usage) -> Usage {
        func sum(_ first: Int?, _ second: Int?) -> Int? {
            first == nil && second == nil ? nil : (first ?? 0) + (second ?? 0)
        }
        return Usage(
            input: input + other.input,
            output: output + other.output,
            cacheRead: sum(cacheRead, other.cacheRead),
            cacheCreation: sum(cacheCreation, other.cacheCreation)
        )
    }
}
