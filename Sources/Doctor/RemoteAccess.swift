import Appliance

/// How far remote access over HTTPS with OAuth is set up: the first stage that is not passed, and what passes it.
struct RemoteAccess: Sendable {
    enum Stage: String, Sendable {
        case notStarted = "not_started"
        case missingPublicURL = "missing_public_url"
        case oauthDisabled = "oauth_disabled"
        case unsafeOAuth = "unsafe_oauth_config"
        case missingClient = "missing_oauth_client"
        case missingWorkspace = "missing_workspace"
        case ready
    }

    var exposure: EndpointExposure
    var path: String
    var requiresToken: Bool
    var hasToken: Bool
    var oauth: Configuration.OAuth
    /// Whether the table could not be used as it is.
    var oauthIsMalformed = false
    /// Whether this version serves OAuth at all.
    var oauthIsServed = true
    var workspaces: Configuration.Workspaces

    /// Stages in order; the first gate that fails wins.
    var stage: Stage {
        let isConfigured = oauthIsMalformed || oauth != Configuration.OAuth()
        if exposure.publicURL == nil, !isConfigured { return .notStarted }
        if !exposure.isPublicHTTPS { return .missingPublicURL }
        if oauthIsMalformed { return .unsafeOAuth }
        if !oauth.enabled || !oauthIsServed { return .oauthDisabled }
        if oauth.allowPublicClients || oauth.registrationPolicy == .openDevelopment { return .unsafeOAuth }
        if oauth.registrationPolicy == .staticClients, oauth.clients.isEmpty { return .missingClient }
        if workspaces.repositories.isEmpty { return .missingWorkspace }
        return .ready
    }

    var nextActions: [String] {
        switch stage {
        case .notStarted: ["nothing to do: remote access is off, and local clients use the bearer token"]
        case .missingPublicURL:
            ["give the gateway a public URL that starts with https:// (settings.json, public_url)"]
        case .oauthDisabled:
            [
                oauthIsServed
                    ? "set enabled = true under [http.oauth] in config.toml"
                    : "connect web clients by the bearer token behind your own proxy: this version serves no OAuth"
            ]
        case .unsafeOAuth:
            [
                oauthIsMalformed
                    ? "correct [http.oauth] in config.toml as 'findings' says"
                    : "turn off allow_public_clients and registration_policy = \"open_dev\" in config.toml"
            ]
        case .missingClient: ["add a client under [[http.oauth.clients]] in config.toml"]
        case .missingWorkspace: ["register a folder under [[workspaces.repos]] in config.toml"]
        case .ready: ["connect a web client; whether the address is reachable from outside was not verified"]
        }
    }

    /// The origin that tokens are issued in the name of: the configured one, else that of the public URL.
    var issuer: String? {
        let address = oauth.issuer == "auto" ? exposure.publicURL : oauth.issuer
        return address.flatMap { try? WebAddress($0).origin }
    }

    var json: JSON {
        let origin = issuer
        let secured = oauth.enabled && oauthIsServed ? origin : nil
        return [
            "ready": .bool(stage == .ready), "stage": .string(stage.rawValue),
            "public_url": .optional(exposure.publicURL.map(Redaction.url)),
            "mcp_url": .optional(origin.map { $0 + path }),
            "auth_mode": .string(
                secured != nil ? "oauth" : requiresToken && hasToken ? "bearer_token" : "none"
            ),
            "oauth": [
                "enabled": .bool(oauth.enabled), "issuer": .optional(secured),
                "authorization_url": .optional(secured.map { $0 + "/oauth/authorize" }),
                "token_url": .optional(secured.map { $0 + "/oauth/token" }),
                "registration_policy": .string(oauth.registrationPolicy.rawValue),
                "clients_configured": .integer(oauth.clients.count),
                "consent_required": .bool(oauth.requireConsent),
            ],
            "workspace": [
                "ready": .bool(!workspaces.repositories.isEmpty),
                "default": .optional(workspaces.defaultAlias),
                "aliases": .strings(workspaces.repositories.map(\.alias)),
            ],
            "next_actions": .strings(nextActions),
        ]
    }
}
