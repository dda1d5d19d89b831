/// What prompt caches save, by list prices of 2026-06-13.
package enum CachePrices {
    /// US dollars for a million input tokens, and the part of it that a cached token costs.
    private struct Price {
        let input: Double
        let cachedPart: Double
    }

    /// US dollars that `tokens` read from a cache cost less than new ones would have; 0 for a model without known price.
    package static func savings(provider: String, model: String?, tokens: Int) -> Double {
        guard let price = price(provider, (model ?? "").lowercased()) else { return 0 }
        return Double(tokens) * price.input * (1 - price.cachedPart) / 1_000_000
    }

    private static func price(_ provider: String, _ model: String) -> Price? {
        func names(_ prefix: String) -> Bool {
            // "grok-4" is not "grok-4.5", and "gpt-5" is not "gpt-50".
            guard model.hasPrefix(prefix) else { return false }
            let rest = model.dropFirst(prefix.count)
            return rest.isEmpty || rest.hasPrefix("-")
        }
        switch Provider(rawValue: provider) {
        case .claude:
            if model.contains("opus") { return Price(input: 15, cachedPart: 0.1) }
            if model.contains("haiku") { return Price(input: 1, cachedPart: 0.1) }
            return Price(input: 3, cachedPart: 0.1)
        case .codex:
            return names("gpt-5") || names("o3") ? Price(input: 1.25, cachedPart: 0.5) : nil
        case .gemini:
            if ["lite", "image", "audio", "tts"].contains(where: { model.contains($0) }) { return nil }
            if names("gemini-2.5-flash") { return Price(input: 0.3, cachedPart: 0.1) }
            if names("gemini-2.5-pro") { return Price(input: 1.25, cachedPart: 0.1) }
            return names("gemini-3-pro") ? Price(input: 2, cachedPart: 0.1) : nil
        case .grok:
            if names("grok-build") || names("grok-code") { return Price(input: 1, cachedPart: 0.2) }
            return names("grok-4") || names("grok-3") || names("grok-latest")
                ? Price(input: 1.25, cachedPart: 0.16) : nil
        case .mistral:
            return names("mistral-medium-3.5") ? Price(input: 1.5, cachedPart: 0.1) : nil
        case nil: return nil
        }
    }
}
