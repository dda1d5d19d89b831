package import Appliance

/// Something that the doctor noticed.
package struct Finding: Sendable, Equatable {
    /// How grave it is.
    package enum Severity: String, Sendable, Comparable {
        /// Good to know; nothing has to be done.
        case info
        /// Works, but something is not as it should be; the exit code stays 0.
        case warning
        /// Does not work; the doctor exits with 1.
        case error

        /// Whether the left one is the less grave.
        package static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }

        private var rank: Int {
            switch self {
            case .info: 0
            case .warning: 1
            case .error: 2
            }
        }
    }

    /// Stable kebab-case name.
    package var code: String
    /// `error` makes the doctor exit with 1; `warning` and `info` do not.
    package var severity: Severity
    /// A few words.
    package var title: String
    /// What was seen.
    package var text: String
    /// What to do about it.
    package var help: String?

    /// A finding.
    package init(_ code: String, _ severity: Severity, _ title: String, _ text: String, help: String? = nil) {
        self.code = code
        self.severity = severity
        self.title = title
        self.text = text
        self.help = help
    }

    /// The finding that an error is.
    package init(_ error: GatewayError, _ severity: Severity = .error, title: String) {
        self.init(error.code, severity, title, error.description, help: error.help)
    }

    var json: JSON {
        [
            "code": .string(code), "title": .string(title), "severity": .string(severity.rawValue),
            "text": .string(text), "help": .optional(help),
        ]
    }
}
