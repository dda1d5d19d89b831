package import Appliance
package import Platform

/// Which models the CLIs are configured for: a snapshot of environment and configuration files.
///
/// Read again after two minutes; nothing is asked from a network. Environment wins over a CLI's own configuration. Names
/// that only this program knows are hints, never verified and never a default: such lists go stale.
package struct ModelRegistry: Sendable {
    /// What is known for each CLI.
    package let models: [Provider: ProviderModels]

    /// Seconds for which a snapshot is good.
    package static let lifetimeSeconds = 120

    /// Reads the environment and, unless `LLM_GATEWAY_DISABLE_MODEL_DISCOVERY=1`, the CLIs' configuration files.
    package init(environment: [String: String], userHome: String, files: Files) {
        let discovers = environment["LLM_GATEWAY_DISABLE_MODEL_DISCOVERY"] != "1"
        var models: [Provider: ProviderModels] = [:]
        for provider in Provider.allCases {
            var source = ModelSource(provider, environment: environment, userHome: userHome, files: files)
            source.readEnvironment()
            if discovers { source.readConfiguration() }
            models[provider] = source.models
        }
        self.models = models
    }

    /// The model to ask for: aliases and `default` resolved; `nil` leaves it to the CLI.
    package func resolve(_ asked: String?, for provider: Provider) -> String? {
        guard let known = models[provider], let asked = asked?.trimmed, !asked.isEmpty else { return nil }
        var name = asked
        if let target = known.aliases.first(where: { $0.key.lowercased() == asked.lowercased() })?.value {
            name = target
        }
        switch name.lowercased() {
        case "default", "latest": return known.defaultModel
        case "pro" where provider == .gemini, "flash" where provider == .gemini:
            return known.newest(containing: name.lowercased()) ?? name
        default: return name
        }
    }

    /// What is known about a resolved model.
    package func standing(of model: String?, for provider: Provider) -> ModelStanding {
        guard let model, let known = models[provider] else { return .unverified }
        if known.entries.contains(where: { $0.id == model }) { return .known }
        guard known.isComplete else { return .unverified }
        let names = known.entries.map(\.id) + known.hints
        return names.contains(model) ? .known : .unknown(names)
    }

    /// The result of `list_models`: one member for each CLI, or for the one asked for.
    package func listing(_ provider: Provider? = nil) -> JSON {
        var json = JSONObject()
        for candidate in Provider.allCases where provider == nil || provider == candidate {
            json[candidate.rawValue] = models[candidate]?.json ?? [:]
        }
        return .object(json)
    }
}

/// The models of one CLI.
package struct ProviderModels: Sendable, Equatable {
    /// Where a name came from, in falling precedence.
    package enum Source: String, Sendable { case env, config }

    /// One model.
    package struct Entry: Sendable, Equatable {
        /// What the CLI takes as its model argument: not empty, no white space, no control characters.
        package let id: String
        /// What the configuration says of it; empty where it says nothing more than the name.
        package let description: String
        /// Who named it first; later mentions of the same name are dropped.
        package let source: Source
        /// The variable or the path.
        package let detail: String
    }

    /// Whose models these are.
    package let provider: Provider
    /// Verified models in their order.
    package var entries: [Entry] = []
    /// What runs without a choice, and where that is said.
    package var defaultModel: String?
    /// The variable or the path that names `defaultModel`; `nil` exactly when that is.
    package var defaultSource: String?
    /// Alias → model.
    package var aliases: [String: String] = [:]
    /// Names that may work and that no configuration mentions.
    package var hints: [String] = []
    /// Sentences for a person: what was left out of a configuration, and why.
    package var warnings: [String] = []
    /// Whether the CLI runs nothing else than what its configuration lists.
    package var isComplete = false

    init(_ provider: Provider) { self.provider = provider }

    /// The model with the highest first number among those that contain a word.
    func newest(containing word: String) -> String? {
        func number(_ id: String) -> Double {
            id.firstMatch(of: /[0-9]+(?:\.[0-9]+)?/).flatMap { Double(String($0.output)) } ?? 0
        }
        return entries.map(\.id).filter { $0.lowercased().contains(word) }.max { number($0) < number($1) }
    }

    /// The contract's CliInfo.
    package var json: JSON {
        var names = JSONObject()
        var metadata = JSONObject()
        for entry in entries {
            names[entry.id] = .string(entry.description)
            metadata[entry.id] = [
                "source": .string(entry.source.rawValue), "sourceDetail": .string(entry.detail),
                "confidence": "high",
            ]
        }
        var json: JSON = [
            "description": .string(
                "\(provider.displayName) by \(provider.vendor), run as '\(provider.executable)'"
            ),
            "models": .object(names),
        ]
        if !hints.isEmpty { json["unverifiedModelHints"] = .strings(hints) }
        if let defaultModel { json["defaultModel"] = .string(defaultModel) }
        if let defaultSource { json["defaultModelSource"] = .string(defaultSource) }
        if !entries.isEmpty { json["modelOrder"] = .strings(entries.map(\.id)) }
        let sorted = aliases.sorted { $0.key < $1.key }
        if !sorted.isEmpty {
            json["aliases"] = .object(JSONObject(sorted.map { (name: $0.key, value: .string($0.value)) }))
        }
        json["modelMetadata"] = .object(metadata)
        var notes = warnings
        if entries.isEmpty {
            notes.append("no model is configured; without one the CLI uses its own default")
        }
        json["warnings"] = .strings(notes)
        return json
    }
}
