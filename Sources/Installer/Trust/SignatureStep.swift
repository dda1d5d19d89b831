import Appliance

/// The steps of verifying a signature, in their order; the raw value is the error code of a refusal there.
enum SignatureStep: String, Sendable, CaseIterable {
    /// The trust root itself cannot be understood.
    case trustRoot = "trust-root-invalid"
    /// The bundle cannot be understood, or lacks what its version must have.
    case bundle = "signature-bundle-invalid"
    /// A certificate was presented for a policy of keys, or the other way round.
    case key = "signature-key-refused"
    /// No trusted clock says when the signature was made.
    case time = "signature-time-unproven"
    /// The certificate does not lead to the trust root, or was not valid at that time.
    case chain = "signature-certificate-untrusted"
    /// The certificate is not for signing code.
    case usage = "signature-certificate-misused"
    /// No trusted certificate log has promised to publish the certificate.
    case certificateLog = "signature-certificate-unlogged"
    /// Somebody else signed.
    case identity = "signature-identity-refused"
    /// The transparency log does not vouch for the entry.
    case logEntry = "signature-log-unproven"
    /// The log entry is about another artifact, signature or certificate.
    case binding = "signature-log-mismatch"
    /// The signature was not made over this artifact.
    case artifact = "signature-mismatch"

    /// What the step is called in messages.
    private var name: String {
        switch self {
        case .trustRoot: "trust root"
        case .bundle: "bundle"
        case .key: "key"
        case .time: "time of signing"
        case .chain: "certificate chain"
        case .usage: "certificate usage"
        case .certificateLog: "certificate log"
        case .identity: "signer identity"
        case .logEntry: "transparency log"
        case .binding: "log entry"
        case .artifact: "signature over the artifact"
        }
    }

    /// The refusal at this step.
    func refusal(_ reason: String, help: String? = nil) -> GatewayError {
        GatewayError(rawValue, "the signature is refused at the step '\(name)': \(reason)", help: help)
    }

    /// Runs what belongs to this step: what it finds malformed is refused here.
    func checking<Value>(_ body: () throws(Malformed) -> Value) throws(GatewayError) -> Value {
        do throws(Malformed) {
            return try body()
        } catch {
            throw refusal(error.reason)
        }
    }
}

/// Why a text or a structure is not what it should be: one clause, without the step it belongs to.
struct Malformed: Error, Sendable, Equatable {
    var reason: String

    init(_ reason: String) { self.reason = reason }
}
