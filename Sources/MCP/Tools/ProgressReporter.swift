import Appliance
import Synchronization

/// Sends `notifications/progress` for one call, when its client asked for them with a token.
///
/// The value must rise with every notification (specification, progress); one that does not is dropped, and so is
/// everything after the answer.
package final class ProgressReporter: Sendable {
    private let token: RequestID?
    private let send: @Sendable ([UInt8]) -> Void
    /// The last value sent; `infinity` once the call has ended.
    private let last = Mutex(-Double.infinity)

    /// A reporter; `send` gets each notification as serialized JSON.
    init(token: RequestID?, send: @escaping @Sendable ([UInt8]) -> Void) {
        self.token = token
        self.send = send
    }

    /// A reporter whose reports go nowhere.
    package static func silent() -> ProgressReporter { ProgressReporter(token: nil) { _ in } }

    /// Whether anybody listens, so that costly reports can be left out.
    package var isWanted: Bool { token != nil }

    /// Reports how far the call is, in units of the tool's choice; `total` in the same units.
    package func report(_ progress: Double, of total: Double? = nil, _ message: String? = nil) {
        guard let token, progress.isFinite else { return }
        last.withLock { last in
            guard progress > last else { return }
            last = progress
            var params: JSON = ["progressToken": token.json, "progress": .double(progress)]
            if let total { params["total"] = .double(total) }
            if let message { params["message"] = .string(message) }
            // Inside the lock, so that two reporting tasks can't overtake each other on the way out.
            send((["jsonrpc": "2.0", "method": "notifications/progress", "params": params] as JSON).compact)
        }
    }

    /// Ends reporting: nothing may follow the answer.
    func close() { last.withLock { $0 = .infinity } }
}
