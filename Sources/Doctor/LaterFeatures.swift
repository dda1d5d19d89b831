import Appliance

/// The parts of the report whose features this version does not have: present, because readers of the contract expect
/// them, and saying so truthfully.
enum LaterFeatures {
    /// Whether remote clients can authorize themselves with OAuth.
    static let servesOAuth = false

    /// Telemetry tiers of the contract: how much of a provider's usage can be measured.
    private static let tiers = [
        ("claude", "T1"), ("mistral", "T1"), ("codex", "T2"), ("gemini", "T2"), ("grok", "T3"),
    ]

    /// What the configuration asks for and this version does not do.
    static func findings(_ configuration: Configuration) -> [Finding] {
        var missing: [(table: String, what: String)] = []
        if configuration.oauth.enabled, !servesOAuth { missing.append(("[http.oauth]", "OAuth")) }
        if !configuration.providers.isEmpty {
            missing.append(("[providers]", "providers behind an HTTP interface"))
        }
        if configuration.acp.enabled { missing.append(("[acp]", "the Agent Client Protocol")) }
        if configuration.compression.enabled { missing.append(("[compression]", "compressed replies")) }
        if configuration.leastCost.enabled { missing.append(("[least_cost]", "routing by price")) }
        return missing.map { missing in
            Finding(
                "feature-not-available",
                .info,
                "configuration",
                "\(missing.table) asks for \(missing.what), which this version does not have; the table is kept for one that does"
            )
        }
    }

    /// No request is routed by price.
    static var leastCost: JSON {
        [
            "enabled": false,
            "pricing": ["tableAsOf": "", "apiCatalogAsOf": nil, "staleDays": 0],
            "providers": .array(
                tiers.map { ["provider": .string($0), "telemetryTier": .string($1), "candidates": []] }
            ),
            "untieredModels": [], "calibrationQuality": [],
        ]
    }

    /// No shared personal configuration is synchronised.
    static func personalConfiguration(_ persistence: Configuration.Persistence) -> JSON {
        [
            "enabled": false, "configuration_valid": true, "ready": true,
            "claude_bare_auth_configured": false,
            "baseline_present": false, "current_release_id": nil, "last_success_at": nil, "stale": false,
            "last_sync_error": nil,
            "durable_async_configured": .bool([.sqlite, .postgres].contains(persistence.backend)),
            "provider_eligibility": [:],
        ]
    }
}
