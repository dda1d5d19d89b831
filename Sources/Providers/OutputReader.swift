import Appliance

/// Turns what a CLI wrote into a `ProviderResult`.
package enum OutputReader {
    /// Reads a run.
    ///
    /// `earlierTotal` gives the stored running total of a conversation, so that this run's part can be told from it.
    package static func read(
        _ output: RunOutput,
        _ context: ReadingContext,
        earlierTotal: (_ sessionID: String) -> RunningTotal? = { _ in nil }
    ) -> ProviderResult {
        var reading = Reading(context: context)
        switch context.provider {
        case .claude: reading.readClaude(output.standardOutput)
        case .codex: reading.readCodex(output.standardOutput)
        case .gemini: reading.result.text = plainText(output.standardOutput)
        case .grok: reading.readGrok(output.standardOutput)
        case .mistral: reading.readVibe(output.standardOutput, export: output.files[Mistral.exportFile])
        }
        reading.settleSession()
        reading.settleTotals(earlierTotal)
        reading.settleFailure(output)
        return reading.result
    }

    /// Text without the line breaks at its end.
    static func plainText(_ bytes: [UInt8]) -> String {
        var end = bytes.count
        while end > 0, bytes[end - 1] == 0x0A || bytes[end - 1] == 0x0D { end -= 1 }
        return String(decoding: bytes[..<end], as: UTF8.self)
    }

    /// Every line that is a JSON object; other lines are counted and skipped.
    static func objects(
        in bytes: [UInt8],
        skipping prefix: String? = nil,
        _ body: (_ object: JSON, _ line: ArraySlice<UInt8>) -> Void
    ) {
        let skipped = prefix.map { Array($0.utf8) }
        for line in bytes.split(separator: 0x0A) where line.first == UInt8(ascii: "{") {
            if let skipped, line.starts(with: skipped) { continue }
            if let object = try? JSON.parse(line), object.object != nil { body(object, line) }
        }
    }
}

/// A result under construction.
struct Reading {
    let context: ReadingContext
    var result = ProviderResult()
    /// What the CLI itself gave as the reason of a failure.
    var failure: String?
    /// Whether a document without any reply in it stands in `result.text`.
    var hasNoReply = false
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
    mutating func settleFailure(_ output: RunOutput) {
        result.exitCode = output.ending.exitCode
        let errors = OutputReader.plainText(output.standardError)
        let isEmpty = hasNoReply || !result.text.contains { !$0.isWhitespace }
        switch output.ending {
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
            ending: output.ending,
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
