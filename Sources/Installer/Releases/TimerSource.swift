import Appliance
import Doctor
import Platform

/// Where the timer's runs find releases and whose signature they believe, as `upgrade --auto` was told.
///
/// Kept as the member `auto_upgrade_source` of `settings.json`.
///
/// Its values are those of the flags, so that a run of the timer is a command line with these flags.
struct TimerSource: Sendable, Equatable {
    /// The name of the member.
    static let key = "auto_upgrade_source"

    private static let signer = ["identity", "identity-pattern", "issuer", "key"]
    /// The flags that are remembered.
    static let flags = ["source"] + signer + ["trust-root"]

    /// Values by flag; paths are absolute.
    private(set) var values: [String: String]

    /// What a command line says; `nil` when it says nothing of it.
    ///
    /// Everything is tried now, because nobody watches when the timer runs. Throws what `ReleaseSource.base`,
    /// `SignerFlags.policy`, the reading of key and trust root throw, and `no-release-signer` when a source is named
    /// whose signer nobody knows.
    init?(_ arguments: Arguments, files: Files) throws(GatewayError) {
        guard TimerSource.flags.contains(where: arguments.has) else { return nil }
        values = [:]
        for flag in TimerSource.flags { values[flag] = arguments[flag] }
        guard let policy = try SignerFlags.policy(arguments, files: files) else {
            throw TimerSource.withoutPin(ReleaseTrust.noSigner)
        }
        if let text = arguments["source"] {
            switch try TimerSource.base(text, files) {
            case .folder(let path): values["source"] = path
            case .web(let url), .service(let url):
                guard try WebAddress(url).userInfo == nil else {
                    throw GatewayError(
                        "invalid-value",
                        "'--source' holds a name and a password, for which settings.json is no place",
                        help:
                            "put \(ReleaseSource.variable)=… into the file 'environment' of the gateway's home instead"
                    )
                }
                values["source"] = url
            }
        }
        for flag in ["key", "trust-root"] {
            if let path = arguments[flag] { values[flag] = files.realPath(path) ?? path }
        }
        if case .key(let key) = policy {
            _ = try SignatureStep.key.checking { () throws(Malformed) in try PublicKey(file: key) }
        }
        if let path = arguments["trust-root"] {
            _ = try TrustRoot(try files.read(path, limit: TrustRoot.limit))
        }
    }

    private static func base(_ text: String, _ files: Files) throws(GatewayError) -> ReleaseSource {
        do throws(GatewayError) {
            return try ReleaseSource.base(text, files: files)
        } catch {
            throw withoutPin(error)
        }
    }

    /// An error without the advice to pin a digest: that of a release to come is not known.
    private static func withoutPin(_ error: GatewayError) -> GatewayError {
        switch error.code {
        case "no-release-signer":
            GatewayError(error.code, error.message, help: "give --identity and --issuer, or --key")
        case "insecure-url": GatewayError(error.code, error.message, help: "use an https address")
        default: error
        }
    }

    /// What a stored document says; `nil` where it says nothing.
    ///
    /// Throws `settings-invalid`.
    init?(stored: JSONObject) throws(GatewayError) {
        guard let value = stored[TimerSource.key], !value.isNull else { return nil }
        values = [:]
        for member in value.object?.members ?? [] {
            let flag = member.name.replacing("_", with: "-")
            guard TimerSource.flags.contains(flag), let text = member.value.string else {
                throw TimerSource.invalid(
                    "has the member '\(ForeignText.shown(member.name))', which is none or no text"
                )
            }
            values[flag] = text
        }
        guard !values.isEmpty else { throw TimerSource.invalid("is \(value.typeName), expected an object") }
    }

    private static func invalid(_ what: String) -> GatewayError {
        GatewayError(
            "settings-invalid",
            "'\(key)' in settings.json \(what)",
            help: "say it anew: \(Product.name) upgrade --auto on --source URL --identity NAME --issuer URL"
        )
    }

    /// A command line of the timer with what it leaves out; a signer on it stands for the remembered one.
    func completing(_ arguments: Arguments) -> Arguments {
        let namesSigner = TimerSource.signer.contains(where: arguments.has)
        return arguments.adding(values.filter { !namesSigner || !TimerSource.signer.contains($0.key) })
    }

    /// As it is stored.
    private var stored: JSON {
        var json: JSON = [:]
        for flag in TimerSource.flags {
            if let value = values[flag] { json[flag.replacing("-", with: "_")] = .string(value) }
        }
        return json
    }

    /// A stored document with this; every other member stays as it is.
    static func recorded(_ source: TimerSource?, in stored: JSONObject) -> JSONObject {
        var document = stored
        document[key] = source?.stored
        return document
    }

    /// For reports: addresses without secrets.
    var facts: UpgradeFacts.Origin {
        UpgradeFacts.Origin(
            source: values["source"].map(BundleRequest.withoutSecrets),
            signer: values["identity"] ?? values["identity-pattern"],
            issuer: values["issuer"],
            key: values["key"],
            trustRoot: values["trust-root"]
        )
    }
}
