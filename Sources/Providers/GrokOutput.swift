import Appliance

/// Reads grok's formats: one JSON object, deltas, claude's message stream, or plain text.
extension Reading {
    mutating func readGrok(_ bytes: [UInt8]) {
        switch context.outputFormat {
        case "streaming-messages-json": readClaude(bytes)
        case "streaming-json": readGrokDeltas(bytes)
        case "plain": result.text = OutputReader.plainText(bytes)
        default: readGrokObject(bytes)
        }
    }

    /// `{text, stopReason, sessionId, requestId, thought}`; anything else is taken as the reply itself.
    private mutating func readGrokObject(_ bytes: [UInt8]) {
        let whole = OutputReader.plainText(bytes)
        guard let object = try? JSON.parse(bytes), object.object != nil else {
            result.text = whole
            return
        }
        result.sessionID = object["sessionId"]?.string
        result.turns = object["num_turns"]?.int
        if let thought = object["thought"]?.string, !thought.isEmpty { result.thinking = [thought] }
        if let error = Reading.message(of: object["error"]) { failure = error }
        let reply = object["text"]?.string
        result.text = context.outputFormat == "json" ? whole : reply ?? (failure == nil ? whole : "")
        if failure == nil, let reply, reply.allSatisfy(\.isWhitespace) {
            hasNoReply = true
        }
    }

    private mutating func readGrokDeltas(_ bytes: [UInt8]) {
        var sawObject = false
        var text = ""
        var thought = ""
        OutputReader.objects(in: bytes) { object, _ in
            sawObject = true
            if let id = object["sessionId"]?.string { result.sessionID = id }
            let part = object["data"]?.string ?? object["text"]?.string ?? ""
            switch object["type"]?.string {
            case "text": text += part
            case "thought": thought += part
            case "error":
                failure = Reading.message(of: object) ?? Reading.message(of: object["error"]) ?? "grok failed"
            default: break
            }
        }
        if !thought.isEmpty { result.thinking = [thought] }
        result.text = sawObject ? text : OutputReader.plainText(bytes)
    }
}
