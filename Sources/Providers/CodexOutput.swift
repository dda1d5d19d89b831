import Appliance
import Platform

/// Reads the JSON lines of `codex exec --json`.
///
/// The usage of `turn.completed` is the whole thread's. An `error` item is a warning; a failure is `turn.failed`, or an
/// `error` event that no finished turn follows (codex also says "Reconnecting... 1/5" with one).
extension Reading {
    mutating func readCodex(_ bytes: WrittenBytes) throws(GatewayError) {
        var sawObject = false
        var reply: String?
        var lastError: String?
        var failed: String?
        var usage: JSON?
        var turns = 0
        var sawTool = false
        try OutputReader.objects(in: bytes) { object, _ in
            sawObject = true
            if let type = object["item"]?["type"]?.string, !Reading.codexWords.contains(type) {
                sawTool = true
            }
            switch object["type"]?.string {
            case "thread.started": result.sessionID = object["thread_id"]?.string ?? result.sessionID
            case "item.completed": takeItem(object["item"] ?? .null, &reply)
            case "turn.completed":
                turns += 1
                usage = object["usage"]
                lastError = nil
            case "turn.failed": failed = Reading.message(of: object["error"]) ?? "the turn failed"
            case "error": lastError = Reading.message(of: object) ?? lastError
            default: break
            }
        }
        if sawObject || bytes.isEmpty { toolsRun = sawTool }
        failure = failed ?? (turns == 0 ? lastError : nil)
        result.turns = turns == 0 ? nil : turns
        takeUsage(usage)
        if context.outputFormat == "json" {
            result.reply = try OutputReader.plainText(bytes)
            if sawObject, failure == nil, (reply ?? "").allSatisfy(\.isWhitespace) {
                hasNoReply = true
            }
        } else {
            if let text = reply ?? failure ?? (sawObject ? "" : nil) {
                result.reply = WrittenText(text)
            } else {
                result.reply = try OutputReader.plainText(bytes)
            }
        }
    }

    /// Items that are words only; whatever else there is may have done something.
    private static let codexWords: Set<String> = ["agent_message", "reasoning", "error", "todo_list"]

    private mutating func takeItem(_ item: JSON, _ reply: inout String?) {
        switch item["type"]?.string {
        case "agent_message": if let text = item["text"]?.string { reply = text }
        case "reasoning": if let text = item["text"]?.string { result.thinking.append(text) }
        case "error":
            if let message = item["message"]?.string { warn("codex_notice", message) }
        default: break
        }
    }

    private mutating func takeUsage(_ json: JSON?) {
        guard let json, let input = json["input_tokens"]?.int, let output = json["output_tokens"]?.int else {
            return
        }
        let read = ["cached_input_tokens", "cache_read_input_tokens", "cache_read_tokens"]
        let written = ["cache_write_input_tokens", "cache_creation_input_tokens", "cache_creation_tokens"]
        isCumulative = true
        total = RunningTotal(
            usage: Usage(
                input: input,
                output: output,
                cacheRead: read.lazy.compactMap { json[$0]?.int }.first,
                cacheCreation: written.lazy.compactMap { json[$0]?.int }.first
            ),
            costUSD: json["cost_usd"]?.number
        )
    }

    /// The text of an error in any of its shapes: a string, `{"message"}`, or JSON inside the message.
    static func message(of json: JSON?) -> String? {
        guard let json else { return nil }
        guard let text = json.string ?? json["message"]?.string else { return nil }
        if text.hasPrefix("{"), let inner = try? JSON.parse(text) {
            return inner["error"]?["message"]?.string ?? inner["message"]?.string ?? text
        }
        return text
    }
}
