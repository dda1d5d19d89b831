/// What went wrong, said once, for a person and for a program.
///
/// `code` is stable kebab-case and decides the exit status (see `ExitCode`); `message` is one sentence with a
/// lower-case start and no final period, paths in quotes, expected and actual named; `help` says what to do next.
package struct GatewayError: Error, Sendable, Equatable {
    /// Stable kebab-case identifier, for programs: `digest-mismatch`, `file-not-found`.
    package var code: String
    /// One sentence: what was wrong, what was expected.
    package var message: String
    /// What the reader can do about it.
    package var help: String?
    /// The error below this one, already worded.
    package var cause: String?
    /// After which time the same may work; `nil` where nobody knows.
    package var retryAfter: Duration?

    /// Makes an error; `cause` is worded at once, so that the value stays plain data.
    package init(_ code: String, _ message: String, help: String? = nil, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.help = help
        self.cause = cause.map { GatewayError.wording(of: $0) }
    }

    /// One line for any error, ours or not.
    package static func wording(of error: any Error) -> String {
        (error as? GatewayError)?.description ?? "\(error)"
    }

    /// Any error as one of ours; a foreign one becomes `internal-error`.
    package static func wrapping(_ error: any Error) -> GatewayError {
        (error as? GatewayError) ?? GatewayError("internal-error", "\(error)")
    }

    /// The contract's JSON form: `{"error":{"code","message","help"}}`; `cause` and `retryAfterMs` are added when there are any.
    package var json: JSON {
        var body: JSON = ["code": .string(code), "message": .string(message)]
        if let help { body["help"] = .string(help) }
        if let cause { body["cause"] = .string(cause) }
        if let retryAfter {
            let (seconds, attoseconds) = retryAfter.components
            body["retryAfterMs"] = .integer(seconds * 1000 + attoseconds / 1_000_000_000_000_000)
        }
        return ["error": body]
    }

    /// Reads the body of `json`, what is under `error` there; `nil` when it is none.
    package init?(body: JSON) {
        guard let code = body["code"]?.string, let message = body["message"]?.string else { return nil }
        self.init(code, message, help: body["help"]?.string)
        cause = body["cause"]?.string
        retryAfter = body["retryAfterMs"]?.int.map { .milliseconds($0) }
    }

    /// The process exit status that this error ends a command with.
    package var exitCode: ExitCode { ExitCode(errorCode: code) }
}

extension GatewayError: CustomStringConvertible {
    /// The message, and after a colon the cause where there is one; `help` is not part of it.
    package var description: String {
        cause.map { "\(message): \($0)" } ?? message
    }
}
