import Appliance

/// A download: what has come so far, and what is to be done next.
///
/// Ask, take what comes, and at its end compare the digest. What is interrupted is asked for again from where it
/// stopped. When that cannot be granted, or the parts do not make up the file that was wanted, it starts over.
///
/// A plain value; `Download` does what it says.
struct DownloadState: Sendable, Equatable {
    /// How much is put up with.
    struct Policy: Sendable, Equatable {
        /// Failures in a row without a new byte, once the server has answered.
        var patience = 6
        /// Failures in a row before the server has answered at all.
        var firstContact = 3
        /// Failures in all.
        var interruptions = 100
        /// How often it may start over.
        var restarts = 3
        /// The longest wait after the first failure; it doubles with every further one.
        var firstWait = Duration.seconds(1)
        /// No wait of our own is longer.
        var longestWait = Duration.seconds(30)
        /// A server that wants to be left alone for longer is not waited for.
        var longestRetryAfter = Duration.seconds(120)
        /// For everything together.
        var total = Duration.seconds(4 * 3600)
    }

    /// What a server answered, as far as it matters here.
    struct Reply: Sendable, Equatable {
        var status: Int
        /// Of the first byte, in bytes.
        var offset: Int64 = 0
        /// Of the whole file, in bytes, where the server says it.
        var size: Int64?
        var validator: String?
        var retryAfter: Duration?
    }

    enum Event: Sendable, Equatable {
        case answered(Reply)
        /// So many more bytes have come.
        case received(Int)
        /// The transfer ended before its end; `jitter` from 0 to 1 shortens the wait.
        case failed(isTemporary: Bool, jitter: Double)
        /// The transfer ended as the server meant it to.
        case ended(jitter: Double)
        /// All is there; whether it has the digest that was wanted.
        case digested(matches: Bool)
    }

    enum Action: Sendable, Equatable {
        /// Ask for the file from this byte on; with a validator, only if it is still the same file.
        case ask(from: Int64, validator: String?)
        /// Go on taking what comes.
        case take
        /// Wait, then ask again.
        case wait(Duration)
        /// Drop everything that came, then ask again.
        case startOver
        /// Compare the digest.
        case check
        case accept
        case giveUp(Reason)
    }

    /// Why there will be no file.
    enum Reason: Sendable, Equatable {
        /// The transfer's own error says it.
        case failure
        /// The server refuses.
        case status
        /// The server wants to be asked again only after so long.
        case busy(Duration)
        /// The server's file has another size than the release says.
        case size(Int64)
        /// It ended too early again and again.
        case cutOff
        /// The file changed again and again while it came.
        case unsteady
        case digest
    }

    var policy = Policy()
    /// Bytes that the file must have, where that is known from elsewhere.
    var expected: Int64?
    /// Bytes that are there.
    private(set) var received: Int64 = 0
    /// Bytes of the whole file, as the server says.
    private(set) var size: Int64?
    private(set) var validator: String?
    /// Whether what is there came in more than one piece.
    private(set) var isMixed = false
    /// Failures since the last new byte.
    private(set) var failures = 0
    private var interruptions = 0
    private var restarts = 0
    private var hasAnswered = false

    /// A download of which nothing is there.
    init(expected: Int64? = nil, policy: Policy = Policy()) {
        self.expected = expected
        self.policy = policy
    }

    /// Goes on with what an earlier command left.
    mutating func resume(_ received: Int64, size: Int64?, validator: String?) {
        self.received = received
        self.size = size
        self.validator = validator
        isMixed = received > 0
    }

    /// What to do now that nothing is under way.
    func next() -> Action {
        if received > 0, let size = expected ?? size, received == size { return .check }
        return .ask(from: received, validator: received > 0 ? validator : nil)
    }

    /// Takes an event and says what to do.
    mutating func handle(_ event: Event) -> Action {
        switch event {
        case .answered(let reply): return answered(reply)
        case .received(let count):
            received += Int64(count)
            if count > 0 { failures = 0 }
            return .take
        case .failed(let isTemporary, let jitter):
            return isTemporary ? again(after: nil, jitter, reason: .failure) : .giveUp(.failure)
        case .ended(let jitter):
            if let size = expected ?? size, received < size {
                return again(after: nil, jitter, reason: .cutOff)
            }
            return .check
        case .digested(let matches):
            if matches { return .accept }
            return isMixed ? startOver(otherwise: .digest) : .giveUp(.digest)
        }
    }

    private mutating func answered(_ reply: Reply) -> Action {
        hasAnswered = true
        switch reply.status {
        case 200, 206:
            if let expected, let size = reply.size, size != expected { return .giveUp(.size(size)) }
            let isSame = size == nil || reply.size == nil || size == reply.size
            guard reply.offset == received, isSame else { return startOver(otherwise: .unsteady) }
            size = reply.size ?? size
            validator = reply.validator ?? (received == 0 ? nil : validator)
            return .take
        case 416: return startOver(otherwise: .unsteady)
        case 408, 429, 500, 502, 503, 504:
            // Half of the wait is enough when everybody was told the same time.
            return again(after: reply.retryAfter, 1, reason: .status)
        default: return .giveUp(.status)
        }
    }

    private mutating func again(after wanted: Duration?, _ jitter: Double, reason: Reason) -> Action {
        failures += 1
        interruptions += 1
        if let wanted, wanted > policy.longestRetryAfter { return .giveUp(.busy(wanted)) }
        guard failures < (hasAnswered ? policy.patience : policy.firstContact),
            interruptions < policy.interruptions
        else { return .giveUp(reason) }
        if received > 0 { isMixed = true }
        let longest = min(policy.longestWait, policy.firstWait * (1 << min(failures - 1, 20)))
        // Between a half and the whole, so that many who were cut off together do not come back together.
        let own = longest / 2 + longest / 2 * min(1, max(0, jitter))
        return .wait(max(own, wanted ?? .zero))
    }

    private mutating func startOver(otherwise reason: Reason) -> Action {
        restarts += 1
        guard restarts <= policy.restarts else { return .giveUp(reason) }
        received = 0
        size = nil
        validator = nil
        isMixed = false
        return .startOver
    }
}
