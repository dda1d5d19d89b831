import Appliance
import Jobs
import Platform
import Providers

/// How the requests of the last 24 hours used the providers' prompt caches; all zero without a record of them.
struct CacheAwareness: Sendable {
    var uses: [CacheUse] = []
    var findings: [Finding] = []

    private static let window: Int64 = 24 * 3_600_000

    /// Reads the record without changing it.
    static func read(
        machine: Machine,
        layout: Layout,
        persistence: Configuration.Persistence
    ) async -> CacheAwareness {
        guard let source = RecordSource(persistence, layout: layout) else { return CacheAwareness() }
        let start = machine.clock.now().advanced(byMilliseconds: -window)
        do throws(GatewayError) {
            return CacheAwareness(
                uses: try await CacheUse.recorded(in: source, since: start, files: machine.files)
            )
        } catch {
            // A busy or damaged record stops no request: the gateway serves without it. Without a server, gateways of other
            // machines do not find its jobs either.
            let severity = persistence.backend == .postgres ? Finding.Severity.error : .warning
            return CacheAwareness(findings: [Finding(error, severity, title: "database")])
        }
    }

    /// The `cache_awareness` of the report.
    func json(_ configuration: Configuration.CacheAwareness) -> JSON {
        var features: [String] = []
        if configuration.emitAnthropicCacheControl { features.append("anthropic_cache_control") }
        if configuration.warnOnTTLExpiry { features.append("ttl_warnings") }
        var byProvider = JSONObject()
        for name in Set(uses.map(\.provider)).sorted() {
            let own = uses.filter { $0.provider == name }
            byProvider[name] = [
                "hit_rate": .double(CacheAwareness.rate(own)), "total_hits": .integer(own.hits),
                "total_cache_read_tokens": .integer(own.reduce(0) { $0 + $1.readTokens }),
            ]
        }
        let savings = uses.reduce(0) {
            $0 + CachePrices.savings(provider: $1.provider, model: $1.model, tokens: $1.readTokens)
        }
        return [
            "enabled_features": .strings(features),
            "last_24h": [
                "hit_rate": .double(CacheAwareness.rate(uses)), "total_hits": .integer(uses.hits),
                "total_requests": .integer(uses.requests), "estimated_savings_usd": .double(savings),
            ],
            "per_cli": .object(byProvider),
        ]
    }

    private static func rate(_ uses: [CacheUse]) -> Double {
        uses.requests == 0 ? 0 : Double(uses.hits) / Double(uses.requests)
    }
}

extension [CacheUse] {
    fileprivate var hits: Int { reduce(0) { $0 + $1.hits } }
    fileprivate var requests: Int { reduce(0) { $0 + $1.requests } }
}
