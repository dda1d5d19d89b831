/// One row of a result; to be read only inside the closure that it is given to.
///
/// A column of another type is converted; null is `nil`.
package protocol Row {
    /// Whether a column is null.
    func isNull(_ column: Int) -> Bool
    /// A column as text; invalid UTF-8 is repaired.
    func text(_ column: Int) -> String?
    /// A column's bytes; a text's are its UTF-8.
    func blob(_ column: Int) -> [UInt8]?
    /// A column as an integer.
    func integer(_ column: Int) -> Int?
    /// A column as a number.
    func real(_ column: Int) -> Double?
    /// How many columns there are.
    var count: Int { get }
    /// What a column is called.
    func name(_ column: Int) -> String
    /// A column as it is stored.
    func value(_ column: Int) -> SQLValue
}

extension Row {
    /// A column as a truth value; null is `false`.
    package func flag(_ column: Int) -> Bool { integer(column) ?? 0 != 0 }
}
