package import Appliance
import Platform

/// Turns what a CLI wrote into a `ProviderResult`.
///
/// Long output is read once and in pieces. Lines of JSON are read one by one, so what is in memory is the longest of them, parsed, and
/// what is kept of them; a CLI that writes one JSON document has it parsed as a whole. Both are at most the job's output limit.
package enum OutputReader {
    /// A run whose output has been read, and whose part of running totals has not been told yet.
    package struct Run: Sendable {
        fileprivate let reading: Reading
        fileprivate let ending: RunEnding
        fileprivate let errors: String

        /// The conversation, where it is known.
        package var sessionID: String? { reading.result.sessionID }

        /// What it comes to; `earlierTotal` gives the stored running total of a conversation, so that this run's part can be told
        /// from it.
        package func result(
            earlierTotal: (_ sessionID: String) -> RunningTotal? = { _ in nil }
        ) -> ProviderResult {
            var reading = reading
            reading.settleTotals(earlierTotal)
            reading.settleFailure(ending, errors)
            return reading.result
        }
    }

    /// Bytes of a long standard error that are looked at: the end, where the reason is.
    private static let longestErrors = 1 << 20

    /// Reads a run.
    ///
    /// Throws what the file system throws.
    package static func read(_ output: RunOutput, _ context: ReadingContext) throws(GatewayError) -> Run {
        var reading = Reading(context: context)
        switch context.provider {
        case .claude: try reading.readClaude(output.standardOutput)
        case .codex: try reading.readCodex(output.standardOutput)
        case .gemini: reading.result.reply = try plainText(output.standardOutput)
        case .grok: try reading.readGrok(output.standardOutput)
        case .mistral:
            try reading.readVibe(output.standardOutput, export: output.files[Mistral.exportFile])
        }
        reading.settleSession()
        reading.isBlank = try reading.result.reply.isBlank()
        let errors = output.standardError
        let shown = max(0, errors.count - longestErrors)
        return Run(
            reading: reading,
            ending: output.ending,
            errors: try plainText(WrittenBytes(try errors.bytes(from: shown, longestErrors))).whole()
        )
    }

    /// Text without the line breaks at its end.
    static func plainText(_ bytes: WrittenBytes) throws(GatewayError) -> WrittenText {
        WrittenText(try bytes.withoutLineBreaksAtEnd())
    }

    /// Every line that is a JSON object; other lines are skipped.
    static func objects(
        in bytes: WrittenBytes,
        skipping prefix: String? = nil,
        _ body: (_ object: JSON, _ line: ArraySlice<UInt8>) -> Void
    ) throws(GatewayError) {
        let skipped = prefix.map { Array($0.utf8) }
        func take(_ line: ArraySlice<UInt8>) {
            guard line.first == UInt8(ascii: "{") else { return }
            if let skipped, line.starts(with: skipped) { return }
            if let object = try? JSON.parse(line), object.object != nil { body(object, line) }
        }
        // A line that goes on in the next piece; of one that is no object nothing is kept.
        var open: [UInt8] = []
        var isOpen = false
        try bytes.forEachPiece { piece throws(GatewayError) in
            var rest = piece[...]
            while !rest.isEmpty {
                let end = rest.firstIndex(of: 0x0A)
                let part = rest[..<(end ?? rest.endIndex)]
                if isOpen {
                    if !open.isEmpty { open += part }
                } else if end != nil {
                    take(part)
                } else if part.first == UInt8(ascii: "{") {
                    open = Array(part)
                }
                isOpen = end == nil
                guard let end else { break }
                if !open.isEmpty {
                    take(open[...])
                    open = []
                }
                rest = rest[(end + 1)...]
            }
            return true
        }
        if !open.isEmpty { take(open[...]) }
    }

    /// The JSON object that the bytes are as a whole; `nil` when they are something else.
    static func document(_ bytes: WrittenBytes) throws(GatewayError) -> JSON? {
        var first: UInt8?
        try bytes.forEachPiece { piece throws(GatewayError) in
            first = piece.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
            return first == nil
        }
        guard first == UInt8(ascii: "{"), let object = try? JSON.parse(try bytes.all()),
            object.object != nil
        else { return nil }
        return object
    }
}

/// A result under construction.
struct Reading {
    let context: ReadingContext
    var result = ProviderResult()
    /// What the CLI itself gave as the reason of a failure.
    var failure: String?
    /// Whether a document without any reply in it stands in `result.reply`.
    var hasNoReply = false
    /// Whether there is nothing but white space in `result.reply`.
    var isBlank = true
    /// Whether a tool was run; `nil` where nobody can say.
    var toolsRun: Bool?
    /// What the CLI says that the whole conversation has used.
    var total: RunningTotal?
    /// Whether the CLI reports running totals when it resumes.
    var isCumulative = false

    init(context: ReadingContext) { self.context = context }

    mutating func warn(_ code: String, _ message: String, _ details: [(String, JSON)] = []) {
        result.warnings.append(
            RequestWarning(code, message, details: JSONObject(details.map { (name: $0.0, value: $0.1) }))
        )
    }

    /// Names the conversation also where the CLI did not, and says when it is another one than asked for.
    mutating func settleSession() {
        switch context.session {
        case .resume(let id):
            if let found = result.sessionID, CLIContract.Pattern.uuid.matches(id), found != id {
                warn("session_changed", "session '\(id)' was to be resumed and the CLI continued '\(found)'")
            }
            result.sessionID = result.sessionID ?? id
        case .new, .fork: result.sessionID = result.sessionID ?? context.chosenSessionID
        case .latest: break
        }
    }

    /// This run's part of a running total; decision 16 of the contract where the earlier total is unknown.
    mutating func settleTotals(_ earlierTotal: (String) -> RunningTotal?) {
        guard isCumulative, let total else { return }
        result.runningTotal = total
        let earlier: RunningTotal?
        switch context.session {
        case .new:
            earlier = RunningTotal(
                usage: Usage(input: 0, output: 0, cacheRead: 0, cacheCreation: 0),
                costUSD: 0
            )
        case .resume(let id):
            earlier = result.sessionID.flatMap(earlierTotal) ?? earlierTotal(id)
        case .latest: earlier = result.sessionID.flatMap(earlierTotal)
        // Codex and claude count a fork on from its parent's total.
        case .fork(let parent): earlier = parent.flatMap(earlierTotal)
        }
        var isKnown = true
        if let now = total.usage {
            result.usage = earlier?.usage.flatMap { now.since($0) }
            isKnown = result.usage != nil
        }
        if let now = total.costUSD {
            result.costUSD = earlier?.costUSD.flatMap { Reading.difference(now, $0) }
            isKnown = isKnown && result.costUSD != nil
        }
        if !isKnown {
            // A total that fell below the stored one (claude's failed runs say 0) must not replace it.
            if earlier != nil { result.runningTotal = nil }
            warn(
                "usage_total_unknown",
                "\(context.provider.executable) reports totals of the whole conversation, and what was used before this run is not known"
            )
        }
    }

    /// Money to nine digits after the point, because sums of decimals are not exact; `nil` when it went down.
    private static func difference(_ now: Double, _ earlier: Double) -> Double? {
        let difference = ((now - earlier) * 1e9).rounded() / 1e9
        return difference < 0 ? nil : difference
    }

    /// Decides whether the run succeeded, and words the failure.
    mutating func settleFailure(_ ending: RunEnding, _ errors: String) {
        result.exitCode = ending.exitCode
        let isEmpty = hasNoReply || isBlank
        switch ending {
        case .exited(0) where failure == nil && !isEmpty: return
        case .exited(0) where failure == nil:
            failure = errors.isEmpty ? "\(context.provider.executable) ended without an answer" : errors
            warn("empty_output", "\(context.provider.executable) exited with 0 and wrote no answer")
        case .signalled(let signal) where failure == nil && errors.isEmpty:
            failure = "\(context.provider.executable) was ended by signal \(signal)"
        case .exited(0) where context.provider == .claude:
            warn(
                "claude_result_error",
                "claude exited with 0 and reported an error",
                [("resultIsError", true)]
            )
        default: break
        }
        let wording = FailureWording(
            provider: context.provider,
            ending: ending,
            detail: failure ?? errors,
            standardError: errors
        )
        result.isError = true
        // What a failed run says of a conversation is no base to count from: claude says 0.
        if context.session.continuesConversation, result.costUSD == nil,
            result.usage == nil || total?.usage == nil
        {
            result.runningTotal = nil
        }
        result.isTransient =
            (wording.category == .timeout || wording.category == .cliError)
            && context.provider.contract.isTransient(
                exit: result.exitCode,
                status: result.apiStatus,
                text: failure ?? errors
            )
        result.hasRunNoTool = context.provider.contract.tellsTools && toolsRun == false
        result.category = wording.category
        result.errorText = wording.text
    }
}

extension Usage {
    /// What was added since an earlier total; `nil` when the total went down, which no sum explains.
    func since(_ earlier: Usage) -> Usage? {
        func part(_ now: Int?, _ then: Int?) -> Int? { now.map { $0 - (then ?? 0) } }
        let part = Usage(
            input: input - earlier.input,
            output: output - earlier.output,
            cacheRead: part(cacheRead, earlier.cacheRead),
            cacheCreation: part(cacheCreation, earlier.cacheCreation)
        )
        let all = [part.input, part.output, part.cacheRead ?? 0, part.cacheCreation ?? 0]
        return all.contains { $0 < 0 } ? nil : part
    }
}
