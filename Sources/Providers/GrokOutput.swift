import Appliance
import Platform

/// Reads grok's formats: one JSON object, deltas, claude's message stream, or plain text.
extension Reading {
    mutating func readGrok(_ bytes: WrittenBytes) throws(GatewayError) {
        switch context.outputFormat {
        case "streaming-messages-json": try readClaude(bytes)
        case "streaming-json": try readGrokDeltas(bytes)
        case "plain": result.reply = try OutputReader.plainText(bytes)
        default: try readGrokObject(bytes)
        }
    }

    /// `{text, stopReason, sessionId, requestId, thought}`; anything else is taken as the reply itself.
    private mutating func readGrokObject(_ bytes: WrittenBytes) throws(GatewayError) {
        let whole = try OutputReader.plainText(bytes)
        guard let object = try OutputReader.document(bytes) else {
            result.reply = whole
            return
        }
        result.sessionID = object["sessionId"]?.string
        result.turns = object["num_turns"]?.int
        if let thought = object["thought"]?.string, !thought.isEmpty { result.thinking = [thought] }
        if let error = Reading.message(of: object["error"]) { failure = error }
        let reply = object["text"]?.string
        if context.outputFormat == "json" {
            result.reply = whole
        } else {
            result.reply = reply.map { WrittenText($0) } ?? (failure == nil ? whole : "")
        }
        if failure == nil, let reply, reply.allSatisfy(\.isWhitespace) {
            hasNoReply = true
        }
    }

    private mutating func readGrokDeltas(_ bytes: WrittenBytes) throws(GatewayError) {
        var sawObject = false
        var text = ""
        var thought = ""
        try OutputReader.objects(in: bytes) { object, _ in
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
        result.reply = sawObject ? WrittenText(text) : try OutputReader.plainText(bytes)
    }
}
