import Appliance
import Platform

/// Reads vibe's `streaming` lines (this run's entries only) and its `export.json` (usage, cost and outcome of this run).
extension Reading {
    mutating func readVibe(_ bytes: WrittenBytes, export: [UInt8]?) throws(GatewayError) {
        // Only who wants one document of them needs them all at once.
        let keepsEntries = context.outputFormat == "json"
        var entries: [JSON] = []
        var sawEntry = false
        var sawTool = false
        var reply: String?
        var denied: [String] = []
        try OutputReader.objects(in: bytes) { entry, _ in
            sawEntry = true
            if keepsEntries { entries.append(entry) }
            let role = entry["role"]?.string
            if entry["type"]?.string != "message" || role != "user" && role != "assistant"
                || entry["tool_calls"]?.array?.isEmpty == false
            {
                sawTool = true
            }
            if let id = entry["sessionId"]?.string { result.sessionID = id }
            if entry["type"]?.string == "message", entry["role"]?.string == "assistant" {
                let texts = (entry["content"]?.array ?? []).filter { $0["type"]?.string == "text" }
                reply = texts.compactMap { $0["text"]?.string }.joined()
            }
            if entry["type"]?.string == "effect",
                entry["state"]?["error"]?["code"]?.string == "tool_denied"
            {
                denied.append(entry["title"]?.string ?? "tool")
            }
        }
        // It prints the entries of a run that failed as well; without any, nobody knows.
        if sawEntry { toolsRun = sawTool }
        if !denied.isEmpty {
            warn(
                "permission_denied",
                "tools were not allowed to run: \(denied.joined(separator: ", "))",
                [("tools", .strings(denied))]
            )
        }
        switch context.outputFormat {
        case _ where !sawEntry: result.reply = try OutputReader.plainText(bytes)
        case "json": result.reply = WrittenText(JSON.array(entries).prettyText)
        case "streaming", "stream-json": result.reply = try OutputReader.plainText(bytes)
        default: result.reply = WrittenText(reply ?? "")
        }
        if sawEntry, (reply ?? "").allSatisfy(\.isWhitespace) { hasNoReply = true }
        if let export, let json = try? JSON.parse(export) { readExport(json) }
    }

    private mutating func readExport(_ json: JSON) {
        if result.sessionID == nil { result.sessionID = json["session_id"]?.string }
        if let usage = json["usage"], let input = usage["input_tokens"]?.int,
            let output = usage["output_tokens"]?.int
        {
            result.usage = Usage(input: input, output: output, cacheRead: usage["cached_input_tokens"]?.int)
        }
        result.costUSD = json["cost_usd"]?.number
        result.turns = json["steps"]?.int
        result.model = json["config"]?["active_model"]?.string
        if let outcome = json["outcome"]?.string, outcome != "finished" {
            let reason = Reading.message(of: json["error"]) ?? json["stop_reason"]?.string ?? outcome
            failure = "vibe stopped (\(outcome)): \(reason)"
        }
        checkModel(json["config"]?["models"]?.object)
    }

    /// vibe runs its default for a model that it does not know, and exits with 0.
    private mutating func checkModel(_ models: JSONObject?) {
        guard let asked = context.requestedModel, let models, !models.names.contains(asked) else { return }
        warn(
            "model_fallback",
            "vibe knows no model '\(asked)' and answered with its default; it knows \(models.names.joined(separator: ", "))",
            [("requestedModel", .string(asked))]
        )
        result.model = nil
    }
}
