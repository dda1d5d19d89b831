import Appliance
import Jobs
import Platform

/// The flags that say which records are meant, of `forget` and `export`.
enum RecordFlags {
    static let all = [
        Flag("request", value: "ID", "the request of this correlation id"),
        Flag("session", value: "ID", "the requests of this conversation"),
        Flag(
            "provider",
            value: "NAME",
            "those of one provider: \(Configuration.servedProviders.joined(separator: ", "))",
            offers: .words(Configuration.servedProviders)
        ),
        Flag("older-than", value: "AGE", "those that began so long ago or earlier: 30d, 12h, 8w"),
    ]

    /// The selection of a command line; several flags narrow it together.
    static func selection(_ call: Invocation) throws(GatewayError) -> RecordSelection {
        var selection = RecordSelection()
        selection.correlationID = call.arguments["request"]
        selection.session = call.arguments["session"]
        selection.provider = call.arguments["provider"]
        if let provider = selection.provider, !Configuration.servedProviders.contains(provider) {
            let nearest = Suggestion.nearest(to: provider, among: Configuration.servedProviders)
            throw GatewayError(
                "invalid-value",
                "'--provider' is '\(provider)', expected one of \(Configuration.servedProviders.joined(separator: ", "))",
                help: nearest.map { "did you mean '\($0)'?" }
            )
        }
        if let text = call.arguments["older-than"] {
            selection.before = call.machine.clock.now().advanced(byMilliseconds: -(try milliseconds(text)))
        }
        return selection
    }

    /// `30d`, `12h`, `8w`.
    private static func milliseconds(_ text: String) throws(GatewayError) -> Int64 {
        let hours: [Character: Int64] = ["h": 1, "d": 24, "w": 168]
        guard let unit = text.last.flatMap({ hours[$0] }), let count = Int64(text.dropLast()),
            (0...1_000_000).contains(count)
        else {
            throw GatewayError(
                "invalid-value",
                "'--older-than' is '\(text)', expected a number of hours, days or weeks such as 12h, 30d or 8w"
            )
        }
        return count * unit * 3_600_000
    }
}

extension Invocation {
    /// The configuration as the gateway of this home reads it.
    func persistence() throws(GatewayError) -> Configuration.Persistence {
        let layout = try layout()
        var environment = machine.environment
        if let bytes = try machine.files.readIfPresent(layout.environmentFile, limit: 1 << 20) {
            environment = EnvironmentFile(bytes: bytes).completing(environment)
        }
        let (configuration, findings) = Configuration.load(
            try machine.files.readIfPresent(layout.configuration, limit: 1 << 20),
            environment: environment,
            layout: layout
        )
        if let finding = findings.first(where: \.stopsStartup) { throw finding.error }
        return configuration.persistence
    }
}
