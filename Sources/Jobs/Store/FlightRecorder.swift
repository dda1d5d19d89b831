package import Appliance
package import Platform
import SQL

/// What is known of a request when it starts.
package struct FlightStart: Sendable {
    /// The id that the record is to have; where an earlier request has it, `start` numbers it.
    package var correlationID: String
    /// `claude`, `codex`, `gemini`, `grok`, `mistral`.
    package var provider: String
    /// As asked for; `default` where the CLI chooses.
    package var model: String
    /// The whole text; secrets in it are replaced when it is written, unless that is switched off.
    package var prompt: String
    /// The part of the prompt that was given as `system`; `nil` for a plain prompt.
    package var system: String?
    /// The conversation that it continues, or the id chosen for a new one; `nil` where the provider will
    /// choose.
    package var sessionID: String?
    /// The principal that may read it back; `nil` means the local one.
    package var owner: String?
    /// The job that carries it out; its ending alone may complete the record.
    package var jobID: String?
    /// The approval gate's word; `nil` when the request did not pass one.
    package var approvalDecision: String?
    /// The digest of the prompt's parts before the task, which requests may share; `nil` for a plain prompt.
    package var stablePrefixHash: String?
    /// Estimated tokens of those parts; `nil` for a plain prompt.
    package var stablePrefixTokens: Int?
    /// How many parts the caller marked for the provider's cache; `nil` when none could be.
    package var cacheControlBlocks: Int?
    /// How long the provider is to keep them, in seconds: 300 or 3600; `nil` without a mark.
    package var cacheControlTTLSeconds: Int?
    /// How much of it is written down; what is asked here is asked again of `FlightEnd`.
    package var recording = Configuration.Persistence.Recording.full

    /// A request that starts.
    package init(correlationID: String, provider: String, model: String, prompt: String) {
        self.correlationID = correlationID
        self.provider = provider
        self.model = model
        self.prompt = prompt
    }
}

/// What is known of a request when it is over.
package struct FlightEnd: Sendable {
    /// `false` also for a run that a caller cancelled.
    package var succeeded: Bool
    /// The answer; of a failure, the provider's standard error or, where that is empty, its output.
    package var response: WrittenText
    /// From the provider's start to its end; 0 when it never ran.
    package var durationMilliseconds: Int
    /// The contract's numbers, as in `ExitRecord.exitCode`; `nil` when the run left no record.
    package var exitCode: Int32?
    /// What the caller was told; `nil` after a success.
    package var errorMessage: String?
    /// The model that answered, where the CLI says.
    package var model: String?
    /// As the provider names the conversation; `nil` keeps what the start said.
    package var sessionID: String?
    /// Of this run alone, as the provider counts them (`Usage.input`); `nil` where it does not say.
    package var inputTokens: Int?
    /// Of this run alone; `nil` where the provider does not say.
    package var outputTokens: Int?
    /// Tokens that came from the provider's prompt cache; `nil` where it does not say.
    package var cacheReadTokens: Int?
    /// Tokens that were added to the provider's prompt cache; `nil` where it does not say.
    package var cacheCreationTokens: Int?
    /// US dollars of this run; `nil` where unknown.
    package var costUSD: Double?
    /// Attempts after the first one.
    package var retryCount = 0
    /// `closed`, `open`, `half_open`.
    package var circuitBreakerState = "closed"
    /// Whether the prompt was rewritten by `optimizePrompt` before it was sent.
    package var optimizationApplied = false
    /// The model's visible reasoning, in order; cut at 1,000,000 bytes when it is written.
    package var thinking: [String] = []
    /// The status of the provider's API that ended the run; `nil` where none did or the CLI hides it.
    package var httpStatus: Int?
    /// Whose budget the cost counts for; `nil` where it counts elsewhere, or not at all.
    package var provider: String?
    /// How much of it is written down, as its start said.
    package var recording = Configuration.Persistence.Recording.full

    /// A request that is over.
    package init(succeeded: Bool, response: WrittenText, durationMilliseconds: Int) {
        self.succeeded = succeeded
        self.response = response
        self.durationMilliseconds = durationMilliseconds
    }
}

/// Writes every request down, and reads it back by its correlation id.
///
/// A failure to write is a finding and never fails a request.
package struct FlightRecorder: Sendable {
    /// Bytes of the thinking blocks' JSON together.
    private static let thinkingLimit = 1_000_000

    let store: Store?
    private let redacts: Bool
    private let report: @Sendable (GatewayError) -> Void

    /// A recorder on a store; without one it does nothing.
    ///
    /// `environment` may switch redaction off by `LLM_GATEWAY_REDACT_LOGGED_SECRETS`; `report` gets what
    /// could not be written.
    package init(
        _ store: Store?,
        environment: [String: String] = [:],
        report: @escaping @Sendable (GatewayError) -> Void
    ) {
        self.store = store
        self.report = report
        let wish = environment["LLM_GATEWAY_REDACT_LOGGED_SECRETS"]?.lowercased() ?? ""
        redacts = !["0", "false", "off", "no"].contains(wish)
    }

    /// What the store writes down of a request when it starts; `nil` where nothing is.
    package func entry(_ flight: FlightStart) -> FlightEntry? {
        store == nil || flight.recording == .none ? nil : FlightEntry(flight, redacts: redacts)
    }

    /// Writes down that a request starts, and returns the id of its record.
    ///
    /// That is its correlation id; where an earlier request has it already, `<id>~2`, `<id>~3` and so on. What cannot be
    /// written keeps the id that it came with.
    @discardableResult
    package func start(_ flight: FlightStart) async -> String {
        var recorded = flight.correlationID
        if let store, let entry = entry(flight) {
            await noting { () throws(GatewayError) in
                recorded = try await store.commit { (connection) throws(GatewayError) in
                    try entry.write(to: connection, of: store)
                }
            }
        }
        return recorded
    }

    /// Writes down how a request ended; only the first ending counts.
    ///
    /// Callers choose correlation ids; `job` keeps a request whose start could not be written from ending the record of
    /// another one that came with the same id. Returns whether it could be written, where there is something to write to.
    @discardableResult
    package func complete(_ correlationID: String, _ end: FlightEnd, job: String? = nil) async -> Bool {
        guard let store else { return true }
        let now = store.clock.now()
        guard end.recording != .none else { return await count(end, at: now, store) }
        var end = end
        if end.recording == .metadata {
            (end.response, end.errorMessage, end.thinking) = ("", nil, [])
        }
        let redacts = redacts
        let (ended, expiry) = (end, store.expiry(from: now))
        return await noting { () throws(GatewayError) in
            var long: RecordedText?
            if RecordedText.isLong(ended.response) {
                long = try await RecordedText.read(ended.response, redacts)
            }
            let read = long
            try await store.commit(
                bytes: ended.response.size,
                preparing: { () throws(GatewayError) in
                    let error = ended.errorMessage.map { RecordedText.clean($0, redacts) }
                    let thinking = FlightRecorder.thinking(ended.thinking, redacts)
                    let response: RecordedText
                    if let read {
                        response = read
                    } else {
                        response = try RecordedText(ended.response, redacts)
                    }
                    return (error: error, thinking: thinking, response: response)
                },
                { connection, texts throws(GatewayError) in
                    let changed = try connection.execute(
                        """
                        UPDATE gateway_metadata SET status = ?2, exit_code = ?3, error_message = ?4, cost_usd = ?5,
                            retry_count = ?6, circuit_breaker_state = ?7, optimization_applied = ?8,
                            thinking_blocks = ?9, http_status = ?10
                        WHERE request_id = ?1
                            AND (status = 'started'
                                OR status = 'failed' AND exit_code IS NULL
                                    AND error_message IN ('\(Store.orphanedRecord)', '\(Store.abandonedRecord)'))
                            AND COALESCE(async_job_id = ?11, TRUE)
                        """,
                        [
                            .text(correlationID), .text(ended.succeeded ? "completed" : "failed"),
                            .optional(ended.exitCode),
                            .optional(texts.error),
                            .optional(ended.costUSD), .integer(Int64(ended.retryCount)),
                            .text(ended.circuitBreakerState), .flag(ended.optimizationApplied),
                            .optional(texts.thinking),
                            .optional(ended.httpStatus), .optional(job),
                        ]
                    )
                    guard changed == 1 else { return }
                    if let provider = ended.provider {
                        try Store.addCost(ended.costUSD, of: provider, at: now, connection)
                    }
                    try connection.execute(
                        """
                        UPDATE requests SET response = ?2, duration_ms = ?3, model = COALESCE(?4, model),
                            session_id = COALESCE(?5, session_id), input_tokens = ?6, output_tokens = ?7,
                            cache_read_tokens = ?8, cache_creation_tokens = ?9,
                            expires_at = ?10, response_chars = ?11
                        WHERE id = ?1
                        """,
                        [
                            .text(correlationID), .text(texts.response.text),
                            .integer(Int64(ended.durationMilliseconds)), .optional(ended.model),
                            .optional(ended.sessionID), .optional(ended.inputTokens),
                            .optional(ended.outputTokens),
                            .optional(ended.cacheReadTokens), .optional(ended.cacheCreationTokens),
                            .text(expiry), .optional(texts.response.characters),
                        ]
                    )
                }
            )
        }
    }

    /// The record of a request; `nil` when there is none, or none that the principal `owner` may see.
    ///
    /// Throws what the database throws.
    package func record(
        of correlationID: String,
        owner: String,
        maximumCharacters: Int = 200_000,
        includePrompt: Bool = false
    ) async throws(GatewayError) -> JSON? {
        guard let store else { return nil }
        return try await store.read { connection throws(GatewayError) in
            try connection.first(
                """
                SELECT r.cli, r.model, r.session_id, r.datetime_utc, r.duration_ms, m.status, m.exit_code,
                    m.error_message, m.retry_count, m.circuit_breaker_state, m.cost_usd, m.async_job_id,
                    r.input_tokens, r.output_tokens, r.cache_read_tokens, r.cache_creation_tokens, r.prompt,
                    r.response, m.thinking_blocks, r.owner_principal, m.shared_with, r.response_chars
                FROM requests r LEFT JOIN gateway_metadata m ON m.request_id = r.id
                WHERE r.id = ?1 AND (r.owner_principal = ?2 OR (r.owner_principal IS NULL AND ?2 = '\(Ownership.local)'))
                """,
                [.text(correlationID), .text(owner)]
            ) { row in
                let prompt = row.text(16) ?? ""
                let response = row.text(17)
                let shown = response.map { RecordedText.prefix($0, maximumCharacters) }
                // Of more than what is kept here, the run's output has the rest.
                let characters = row.integer(21)
                var record: JSON = [
                    "correlationId": .string(correlationID), "cli": .optional(row.text(0)),
                    "model": .optional(row.text(1)), "sessionId": .optional(row.text(2)),
                    "datetimeUtc": .optional(row.text(3)), "durationMs": .optional(row.integer(4)),
                    "status": .optional(row.text(5)), "exitCode": .optional(row.integer(6)),
                    "errorMessage": .optional(row.text(7)), "retryCount": .integer(row.integer(8) ?? 0),
                    "circuitBreakerState": .optional(row.text(9)), "costUsd": .optional(row.real(10)),
                    "asyncJobId": .optional(row.text(11)), "inputTokens": .optional(row.integer(12)),
                    "outputTokens": .optional(row.integer(13)),
                    "cacheReadTokens": .optional(row.integer(14)),
                    "cacheCreationTokens": .optional(row.integer(15)),
                    "promptChars": .integer(prompt.utf16.count),
                    "responseChars": .integer(characters ?? response?.utf16.count ?? 0),
                    "responseTruncated": .bool(characters != nil || shown?.isShortened ?? false),
                    "response": .optional(shown?.text),
                    "thinkingBlocks": row.text(18).flatMap { try? JSON.parse($0) } ?? .null,
                    "ownerPrincipal": .optional(row.text(19)),
                ]
                if let leader = row.text(20) { record["sharedWith"] = .string(leader) }
                if includePrompt {
                    record["prompt"] = .string(RecordedText.prefix(prompt, maximumCharacters).text)
                }
                return record
            }
        }
    }

    // MARK: below

    /// Of a request that is not recorded, what it cost still counts.
    private func count(_ end: FlightEnd, at now: Timestamp, _ store: Store) async -> Bool {
        guard let provider = end.provider, end.costUSD != nil else { return true }
        return await noting { () throws(GatewayError) in
            try await store.commit { connection throws(GatewayError) in
                try Store.addCost(end.costUSD, of: provider, at: now, connection)
            }
        }
    }

    @discardableResult
    private func noting(_ body: () async throws(GatewayError) -> Void) async -> Bool {
        do throws(GatewayError) {
            try await body()
            return true
        } catch {
            report(error)
            return false
        }
    }

    /// The blocks as a JSON array of strings; the block that passes the limit is cut, the rest left out.
    private static func thinking(_ blocks: [String], _ redacts: Bool) -> String? {
        guard !blocks.isEmpty else { return nil }
        var room = thinkingLimit
        var kept: [String] = []
        for block in blocks {
            let block = RecordedText.clean(block, redacts)
            guard block.utf8.count > room else {
                kept.append(block)
                room -= block.utf8.count
                continue
            }
            kept.append(String(decoding: block.utf8.prefix(room), as: UTF8.self) + "[TRUNCATED]")
            break
        }
        return JSON.strings(kept).compactText
    }
}
