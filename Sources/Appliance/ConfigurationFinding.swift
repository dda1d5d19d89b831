/// Something to tell about `config.toml` or the environment that overrides it.
package struct ConfigurationFinding: Sendable, Equatable {
    /// How bad it is.
    package enum Severity: String, Sendable {
        /// The gateway works as the user most likely meant, or one optional thing is off.
        case warning
        /// Something that was asked for is not in force.
        case error
    }

    /// How bad it is.
    package var severity: Severity
    /// Stable kebab-case identifier: `config-unknown-key`, `config-invalid-value`.
    package var code: String
    /// One sentence with the file and the line.
    package var message: String
    /// What to do about it.
    package var help: String?
    /// The line in the file, counted from 1; `nil` for the environment.
    package var line: Int?
    /// Whether a gateway must refuse to start, because it could lose or misplace jobs.
    package var stopsStartup = false

    /// The finding as an error, for a command that ends with it.
    package var error: GatewayError { GatewayError(code, message, help: help) }
}

/// What is wrong inside one table, before the table's own rule says what follows from it.
struct ConfigurationFault: Equatable {
    var message: String
    var help: String?
    var line: Int?
    var isUnknownKey = false
}
