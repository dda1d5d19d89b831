import Appliance
import Platform

/// The flags that say whose signature is wanted.
enum SignerFlags {
    static let all = [
        Flag(
            "identity",
            value: "NAME",
            "who must have signed: an e-mail address or the address of a workflow"
        ),
        Flag("identity-pattern", value: "PATTERN", "what the name of who signed must look like"),
        Flag(
            "issuer",
            value: "URL",
            "the identity provider that must have vouched for that name; always with it"
        ),
        Flag(
            "key",
            value: "FILE",
            "the public key, in PEM or DER, that must have signed",
            offers: .files
        ),
        Flag(
            "trust-root",
            value: "FILE",
            "a 'trusted_root.json' to believe instead of the built-in one",
            offers: .files
        ),
    ]

    /// The signer of the flags, else the one that this build knows; `nil` when neither names any.
    ///
    /// Throws `usage` for flags that exclude each other or mean nothing alone.
    static func policy(_ arguments: Arguments, files: Files) throws(GatewayError) -> SignerPolicy? {
        let given = ["identity", "identity-pattern", "key"].filter(arguments.has)
        guard given.count <= 1 else {
            throw GatewayError(
                "usage",
                "'--\(given[0])' and '--\(given[1])' exclude each other",
                help: "give one of them"
            )
        }
        let issuer = arguments["issuer"]
        if let path = arguments["key"] {
            guard issuer == nil else {
                throw GatewayError(
                    "usage",
                    "'--issuer' means nothing with '--key': nobody vouches for the holder of a key",
                    help: "leave one of them out"
                )
            }
            return .key(try files.read(path, limit: 64 << 10))
        }
        let name = arguments["identity"], pattern = arguments["identity-pattern"]
        guard name != nil || pattern != nil || issuer != nil else { return SignerPolicy.releases }
        return try policy(identity: name, pattern: pattern, issuer: issuer) { "--\($0)" }
    }

    /// The policy of a name, or a pattern for it, and who vouches for it; `title` says what each half is called here.
    ///
    /// Throws `usage` when one half is missing or empty.
    static func policy(
        identity: String?,
        pattern: String?,
        issuer: String?,
        title: (String) -> String
    ) throws(GatewayError) -> SignerPolicy {
        let given = identity == nil ? title("identity-pattern") : title("identity")
        guard let text = (identity ?? pattern)?.trimmed, !text.isEmpty else {
            throw GatewayError(
                "usage",
                "'\(title("issuer"))' is given without '\(title("identity"))' or '\(title("identity-pattern"))': "
                    + "whoever that provider vouches for could have signed",
                help: "add \(title("identity")) with the name of who must have signed"
            )
        }
        guard let issuer = issuer?.trimmed, !issuer.isEmpty else {
            throw GatewayError(
                "usage",
                "'\(given)' is given without '\(title("issuer"))': a name says nothing without who vouches for it",
                help: "add \(title("issuer")): \(publicIssuers)"
            )
        }
        return .identity(identity == nil ? .pattern(NamePattern(text)) : .exact(text), issuer: issuer)
    }

    /// The identity providers that the public certificate authority believes and most signers use.
    private static let publicIssuers =
        "https://token.actions.githubusercontent.com for a workflow of GitHub, https://gitlab.com for one of GitLab; "
        + "https://accounts.google.com, https://github.com/login/oauth or https://login.microsoftonline.com for a person"
}
