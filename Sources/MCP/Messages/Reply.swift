import Appliance

/// A finished JSON-RPC response in its bytes, with the status that HTTP gives it.
struct Reply: Sendable, Equatable {
    let bytes: [UInt8]
    let status: Int

    /// The answer to a request; `result` is serialized JSON.
    static func result(_ id: RequestID, _ result: [UInt8]) -> Reply {
        var out: [UInt8] = []
        out.reserveCapacity(result.count + 64)
        out.append(contentsOf: #"{"jsonrpc":"2.0","id":"#.utf8)
        id.json.write(into: &out)
        out.append(contentsOf: #","result":"#.utf8)
        out.append(contentsOf: result)
        out.append(UInt8(ascii: "}"))
        return Reply(bytes: out, status: 200)
    }

    /// An error.
    ///
    /// Without a readable id the member is left out, because the schemas do not allow `null`.
    static func failure(_ id: RequestID?, _ error: ProtocolError, status: Int = 200) -> Reply {
        var message: JSON = ["jsonrpc": "2.0"]
        if let id { message["id"] = id.json }
        message["error"] = error.json
        return Reply(bytes: message.compact, status: status)
    }
}

/// What a message leads to.
enum Plan: Sendable {
    /// The answer is ready.
    case reply(Reply)
    /// The answer takes time; nothing has been done yet.
    case work(Work)
}

/// A request whose handler is asynchronous, ready to be run once.
struct Work: Sendable {
    let id: RequestID
    let progressToken: RequestID?
    /// Gives the answer, or `nil` when the client cancelled and expects none.
    let run: @Sendable (ProgressReporter, Cancellation) async -> Reply?
}
