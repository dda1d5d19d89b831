extension Configuration {
    /// `[http.oauth]`, after the environment had its say; off when anything in it is wrong.
    package struct OAuth: Sendable, Equatable {
        /// Who may register a client.
        package enum RegistrationPolicy: String, Sendable, CaseIterable {
            /// Nobody: the clients are those of the file.
            case staticClients = "static_clients"
            /// Whoever knows the shared secret.
            case sharedSecret = "shared_secret"
            /// Anybody, for development on one machine.
            case openDevelopment = "open_dev"
        }

        /// `[[http.oauth.clients]]`.
        package struct Client: Sendable, Equatable {
            /// 1 to 128 of `[A-Za-z0-9._-]`.
            package var identifier: String
            /// The secret; `nil` for a public client.
            package var secret: Credential?
            /// Where the browser may be sent back to, compared exactly.
            package var redirectURIs: [String]
            /// What it may ask for.
            package var scopes: [String]
        }

        /// `[http.oauth.shared_secret]`.
        package struct SharedSecret: Sendable, Equatable {
            /// Whether it may be used.
            package var enabled = false
            /// The secret; there is one whenever it is enabled.
            package var secret: Credential?
            /// What the consent page calls it.
            package var promptLabel = "Gateway access code"
        }

        /// A secret that is never printed.
        package enum Credential: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible {
            /// `scrypt:N=…,r=…,p=…:salt:hash`, salt and hash in base64url.
            case hash(String)
            /// From the environment, to be hashed before use and never written.
            case plaintext(String)

            /// Always `<secret>`, so that neither a log nor an error message can carry the value.
            package var description: String { "<secret>" }
            /// The same for a debugger and for `String(reflecting:)`.
            package var debugDescription: String { "<secret>" }
        }

        /// Whether remote clients authorize themselves with OAuth.
        package var enabled = false
        /// `auto`, or the origin to announce.
        package var issuer = "auto"
        /// Whether a proof key is demanded.
        package var requirePKCE = true
        /// Whether a proof key may be sent as it is.
        package var allowPlainPKCE = false
        /// Who may register a client.
        package var registrationPolicy = RegistrationPolicy.staticClients
        /// Whether clients without a secret are allowed.
        package var allowPublicClients = false
        /// Seconds that an access token is good for.
        package var tokenTTLSeconds = 3600
        /// Whether a person must agree in the browser.
        package var requireConsent = false
        /// What that person has to type.
        package var consentSecret: Credential?
        /// The clients of the file.
        package var clients: [Client] = []
        /// What whoever registers a client must know.
        package var sharedSecret: SharedSecret?
        /// Whether `LLM_GATEWAY_OAUTH_OPEN_DEV=1` confirms open registration.
        package var isOpenDevelopmentConfirmed = false

        /// The defaults.
        package init() {}
    }
}

extension Configuration.OAuth {
    init(_ section: inout ConfigurationSection, environment: [String: String], names: inout [String]) {
        enabled = section.boolean("enabled", default: false)
        issuer = section.text("issuer") ?? issuer
        requirePKCE = section.boolean("require_pkce", default: true)
        allowPlainPKCE = section.boolean("allow_plain_pkce", default: false)
        registrationPolicy = section.choice("registration_policy", default: .staticClients)
        allowPublicClients = section.boolean("allow_public_clients", default: false)
        tokenTTLSeconds = section.integer("token_ttl_seconds", in: 1...31_536_000, default: 3600)
        requireConsent = section.boolean("require_consent", default: false)
        consentSecret = Self.hash("consent_secret_hash", in: &section)
        for var entry in section.sections("clients") {
            clients.append(Client(&entry, allowPublic: allowPublicClients))
            section.absorb(entry)
        }
        let identifiers = clients.map(\.identifier)
        if let twice = identifiers.first(where: { name in identifiers.count { $0 == name } > 1 }),
            !twice.isEmpty
        {
            section.wrong("clients", "has the client_id '\(twice)' more than once")
        }
        var shared = section.section("shared_secret")
        if shared.isPresent {
            let secret = SharedSecret(
                enabled: shared.boolean("enabled", default: false),
                secret: Self.hash("secret_hash", in: &shared),
                promptLabel: shared.text("prompt_label") ?? SharedSecret().promptLabel
            )
            sharedSecret = secret
        }

        let hasConsentInFile = section.has("require_consent")
        func isOne(_ name: String) -> Bool? { environment[name].map { $0 == "1" } }
        if let on = isOne("LLM_GATEWAY_OAUTH_ENABLED") {
            enabled = on
            names.append("LLM_GATEWAY_OAUTH_ENABLED")
        }
        for name in ["LLM_GATEWAY_OAUTH_REGISTRATION_SECRET", "LLM_GATEWAY_OAUTH_SHARED_SECRET"] {
            guard let secret = environment[name], !secret.isEmpty else { continue }
            registrationPolicy = .sharedSecret
            sharedSecret = SharedSecret(enabled: true, secret: .plaintext(secret))
            names.append(name)
            break
        }
        let consent = isOne("LLM_GATEWAY_OAUTH_REQUIRE_CONSENT")
        if let consent {
            requireConsent = consent
            names.append("LLM_GATEWAY_OAUTH_REQUIRE_CONSENT")
        }
        if let secret = environment["LLM_GATEWAY_OAUTH_CONSENT_SECRET"], !secret.isEmpty {
            consentSecret = .plaintext(secret)
            if consent == nil, !hasConsentInFile { requireConsent = true }
            names.append("LLM_GATEWAY_OAUTH_CONSENT_SECRET")
        }
        isOpenDevelopmentConfirmed = isOne("LLM_GATEWAY_OAUTH_OPEN_DEV") ?? false

        if sharedSecret?.enabled == true, sharedSecret?.secret == nil {
            shared.fault("[http.oauth.shared_secret] is enabled and needs 'secret_hash'", line: shared.line)
        }
        section.absorb(shared)
        if issuer != "auto", !Identifiers.isHTTPSOrLoopback(issuer) {
            section.wrong(
                "issuer",
                "must be 'auto', or start with https://, or with http:// and name this machine"
            )
        }
        if requireConsent, consentSecret == nil {
            section.fault(
                "consent is required and [http.oauth] has no 'consent_secret_hash'",
                line: section.line
            )
        }
    }

    /// A key that holds a hash; anything else is a fault, and is not repeated.
    fileprivate static func hash(_ key: String, in section: inout ConfigurationSection) -> Credential? {
        guard let text = section.text(key) else { return nil }
        guard isHash(text) else {
            section.wrong(
                key,
                "must be a hash of the form scrypt:N=…,r=…,p=…:salt:hash",
                help: "make one with 'llm-cli-gateway oauth'"
            )
            return nil
        }
        return .hash(text)
    }

    /// Whether a text is a scrypt hash whose cost a gateway can afford.
    private static func isHash(_ text: String) -> Bool {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "scrypt" else { return false }
        var costs: [Substring: Int] = [:]
        for cost in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
            let pair = cost.split(separator: "=", omittingEmptySubsequences: false)
            guard pair.count == 2, let number = Int(pair[1]), number > 0 else { return false }
            costs[pair[0]] = number
        }
        guard costs.count == 3, let n = costs["N"], let r = costs["r"], let p = costs["p"],
            n > 1, n <= 1 << 20, n & (n - 1) == 0, r <= 32, p <= 16
        else { return false }
        return parts[2...].allSatisfy { part in
            part.count >= 8 && part.utf8.allSatisfy { Identifiers.isWord($0) || $0 == UInt8(ascii: "=") }
        }
    }
}

extension Configuration.OAuth.Client {
    fileprivate init(_ section: inout ConfigurationSection, allowPublic: Bool) {
        identifier = section.requiredText("client_id")
        let hasSecret = section.has("client_secret_hash")
        secret = Configuration.OAuth.hash("client_secret_hash", in: &section)
        redirectURIs = section.texts("allowed_redirect_uris") ?? []
        scopes = section.texts("scopes") ?? ["mcp"]
        if !identifier.isEmpty, !Identifiers.isPlain(identifier, upTo: 128) {
            section.wrong("client_id", "must be 1 to 128 letters, digits, dots, underscores or hyphens")
        }
        if !hasSecret, !allowPublic {
            section.fault(
                "\(section.header) needs 'client_secret_hash', because public clients are not allowed",
                line: section.line
            )
        }
        if redirectURIs.isEmpty {
            section.fault("\(section.header) needs 'allowed_redirect_uris'", line: section.line)
        } else if !redirectURIs.allSatisfy(Identifiers.isHTTPSOrLoopback) {
            section.wrong(
                "allowed_redirect_uris",
                "must start with https://, or with http:// and name this machine"
            )
        }
    }
}
