import Appliance
import Platform

extension Verb {
    static let verify = Verb(
        "verify",
        .look,
        "check who signed a file, by its Sigstore bundle and without a network",
        details: """
            Says who signed the file, who vouched for the signer, and which entry of the
            transparency log records it. Name the signer that you expect: with
            --identity or --identity-pattern, and with --issuer, because a name is worth
            only as much as who vouches for it; or with --key. In a pattern '*' stands
            for any characters but '/', '**' for any characters. A refusal names the
            step that failed and ends with exit code 3.
            """,
        operand: ("FILE", "the file that was signed"),
        offers: .files,
        flags: [
            Flag(
                "bundle",
                value: "FILE",
                "the Sigstore bundle, usually the file's name and '.sigstore.json'",
                offers: .files
            )
        ] + SignerFlags.all,
        style: .text,
        isQuestion: true
    ) { call throws(GatewayError) in
        let request = try VerifyRequest(call.arguments, files: call.machine.files)
        return try await BlockingThread.run("verify") { () throws(GatewayError) in try request.run() }
    }
}

/// What to verify, and who is expected to have signed it.
private struct VerifyRequest: Sendable {
    var file: String
    var bundle: String
    var policy: SignerPolicy
    /// `nil`: the built-in one.
    var trustRoot: String?
    var files: Files

    init(_ arguments: Arguments, files: Files) throws(GatewayError) {
        guard let file = arguments.operand else {
            throw GatewayError("usage", "nothing says which file to verify", help: VerifyRequest.example)
        }
        guard let bundle = arguments["bundle"] else {
            throw GatewayError(
                "usage",
                "nothing says where the Sigstore bundle of '\(file)' is",
                help: VerifyRequest.example
            )
        }
        self.file = file
        self.bundle = bundle
        self.files = files
        trustRoot = arguments["trust-root"]
        guard let policy = try SignerFlags.policy(arguments, files: files) else {
            throw GatewayError(
                "usage",
                "nothing says who should have signed the file, and a signature by just anybody proves nothing",
                help: "give --identity and --issuer, or --key"
            )
        }
        self.policy = policy
    }

    private static let example =
        "for example: \(Product.name) verify FILE --bundle FILE.sigstore.json --identity NAME --issuer URL"

    func run() throws(GatewayError) -> VerifyReport {
        let root: TrustRoot =
            if let trustRoot {
                try TrustRoot(try files.read(trustRoot, limit: TrustRoot.limit))
            } else {
                try TrustRoot.builtIn()
            }
        let verification = SignatureVerification(trustRoot: root, policy: policy)
        let signature = try files.read(bundle, limit: SignatureBundle.Limits.bundle)
        return VerifyReport(
            file: file,
            signature: try verification.run(signature, over: try Artifact(file: file, files: files))
        )
    }
}

/// Who signed a file.
private struct VerifyReport: Report {
    var file: String
    var signature: VerifiedSignature

    var json: JSON {
        [
            "ok": true, "verified": true, "file": .string(file), "sha256": .string(signature.sha256),
            "trust": "sigstore", "signer": .string(signature.signer), "issuer": .optional(signature.issuer),
            "signed_at": .string(signature.time.iso8601), "log": .string(signature.log),
            "log_index": .int(signature.logIndex),
        ]
    }

    var text: String {
        Columns.text(
            [
                ["verified", file],
                ["SHA-256", signature.sha256],
                [signature.isKey ? "signed with key" : "signed by", signature.signer],
            ] + (signature.issuer.map { [["vouched for by", $0]] } ?? []) + [
                ["signed at", signature.time.iso8601],
                ["recorded as", "entry \(signature.logIndex) of \(signature.log)"],
            ]
        )
    }
}
