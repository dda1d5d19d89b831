import Appliance
import Providers

/// The `provider_capabilities` of the report: what requests can and cannot do, without any path.
enum CapabilitySummary {
    static func json(_ providers: [ProviderFacts]) -> JSON {
        var resources = JSONObject()
        var entries = JSONObject()
        for facts in providers {
            let name = facts.provider.rawValue
            let capabilities = Capabilities(facts.provider)
            resources[name] = .string("provider-tools://\(name)")
            entries[name] = [
                "provider_kind": "cli", "cli_available": .bool(facts.isInstalled),
                "gateway_request_tools": .strings(capabilities.tools),
                "supported_features": .strings(capabilities.features),
                "unsupported_inputs": .strings(capabilities.unsupportedInputs),
                "config_surface_count": .integer(facts.surfaces.configurations),
                "discovered_skill_count": .integer(facts.surfaces.skills),
                // Skills are counted, not read, so that no tool of theirs is known.
                "discovered_provider_tool_count": 0,
                "warnings": .strings(facts.problem.map { [$0] } ?? []),
            ]
        }
        return [
            "schema_version": "provider-tool-capabilities.v2", "tool": "provider_tool_capabilities",
            "resources": ["catalog": "provider-tools://catalog", "providers": .object(resources)],
            "cache_ttl_ms": 60000, "providers": .object(entries),
        ]
    }
}
