/// A value that is bound to a statement, or found in a row.
package enum SQLValue: Sendable, Equatable {
    case null
    case integer(Int64)
    case real(Double)
    case text(String)
    case blob([UInt8])

    /// Text, or null for `nil`.
    package static func optional(_ text: String?) -> SQLValue { text.map { .text($0) } ?? .null }
    /// An integer, or null for `nil`.
    package static func optional(_ integer: (some BinaryInteger)?) -> SQLValue {
        integer.map { .integer(Int64(clamping: $0)) } ?? .null
    }
    /// A number, or null for `nil`.
    package static func optional(_ real: Double?) -> SQLValue { real.map { .real($0) } ?? .null }
    /// 1 or 0: to be compared with a number, because PostgreSQL takes no number for a truth value.
    package static func flag(_ flag: Bool) -> SQLValue { .integer(flag ? 1 : 0) }
}

extension SQLValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByNilLiteral {
    /// A string literal is bound as text.
    package init(stringLiteral value: String) { self = .text(value) }
    /// An integer literal is bound as an integer.
    package init(integerLiteral value: Int64) { self = .integer(value) }
    /// `nil` is bound as null.
    package init(nilLiteral: ()) { self = .null }
}
