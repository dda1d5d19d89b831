/// The exit statuses of `llm-cli-gateway`.
///
/// 128+n means: ended by signal n.
package enum ExitCode: Int32, Sendable {
    case done = 0
    /// The command failed, or a check found an error.
    case failed = 1
    /// The command line was not understood.
    case usage = 2
    /// A digest, signature, manifest or platform was refused.
    case verificationRefused = 3
    /// Another command holds the lock, or jobs go on.
    case busy = 4
    /// The network or the other side failed.
    case network = 5
    /// A defect of this program.
    case internalError = 70

    /// The status for an error code.
    ///
    /// Codes are grouped by what a script would do next: correct the call, distrust the download, wait, or
    /// try again.
    package init(errorCode: String) {
        switch errorCode {
        case "usage", "unknown-verb", "unknown-flag", "missing-value", "invalid-value", "malformed-url",
            "digest-malformed", "no-release-source", "foreign-home", "file-exists",
            "home-not-empty", "inside-home", "version-not-kept":
            self = .usage
        case "digest-mismatch", "insecure-url", "unsafe-archive", "archive-damaged",
            "archive-too-large", "manifest-missing", "manifest-invalid", "manifest-mismatch",
            "wrong-platform", "reference-bundle", "downgrade-refused",
            "smoke-test-failed", "unsigned-release", "trust-root-invalid", "signature-bundle-invalid",
            "signature-key-refused", "signature-time-unproven", "signature-certificate-untrusted",
            "signature-certificate-misused", "signature-certificate-unlogged", "signature-identity-refused",
            "signature-log-unproven", "signature-log-mismatch", "signature-mismatch", "checksums-malformed",
            "checksum-missing", "not-a-backup", "backup-invalid", "backup-mismatch", "backup-too-new",
            "version-damaged":
            self = .verificationRefused
        case "no-release-signer": self = .usage
        case "wrong-size", "wrong-version", "release-index-invalid", "release-manifest-invalid":
            self = .verificationRefused
        case "busy", "reference-busy", "home-in-use", "jobs-running": self = .busy
        case "network", "download-failed", "http-status", "timed-out", "libcurl-missing", "libpq-missing",
            "database-unreachable",
            "connection-refused",
            "not-http", "answer-too-large":
            self = .network
        case "certificate-refused", "proxy-refused", "no-release", "release-not-found", "release-incomplete":
            self = .network
        case "internal-error": self = .internalError
        default: self = .failed
        }
    }
}
