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
        Flag("issuer", value: "URL", "the identity provider that must have vouched for the signer"),
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
        if let name = arguments["identity"] { return .identity(.exact(name), issuer: issuer) }
        if let text = arguments["identity-pattern"] {
            return .identity(.pattern(NamePattern(text)), issuer: issuer)
        }
        return issuer == nil ? SignerPolicy.releases : nil
    }
}
