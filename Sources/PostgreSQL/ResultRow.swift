import CPostgreSQL
import SQL

/// A row of a result whose values are binary (https://www.postgresql.org/docs/current/catalog-pg-type.html has their types).
struct ResultRow: Row {
    let result: OpaquePointer

    /// Numbers of types.
    enum Kind {
        static let boolean: UInt32 = 16
        static let bytes: UInt32 = 17
        static let integers: [UInt32: Int] = [21: 2, 23: 4, 20: 8]
        static let integer: UInt32 = 20
        static let single: UInt32 = 700
        static let double: UInt32 = 701
    }

    var count: Int { Int(shim_pq_columns(result)) }

    func name(_ column: Int) -> String {
        shim_pq_name(result, Int32(column)).map { String(cString: $0) } ?? ""
    }

    func isNull(_ column: Int) -> Bool { shim_pq_is_null(result, 0, Int32(column)) }

    private func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8> {
        let start = UnsafeRawPointer(shim_pq_value(result, 0, Int32(column)))
        let count = Int(shim_pq_length(result, 0, Int32(column)))
        return UnsafeBufferPointer(start: start.assumingMemoryBound(to: UInt8.self), count: count)
    }

    /// The bytes as a number, the first one the highest.
    private func bits(_ column: Int) -> UInt64 { bytes(column).reduce(0) { $0 << 8 | UInt64($1) } }

    func value(_ column: Int) -> SQLValue {
        if isNull(column) { return .null }
        let type = shim_pq_type(result, Int32(column))
        switch type {
        case Kind.boolean: return .flag(bits(column) != 0)
        case Kind.bytes: return .blob(Array(bytes(column)))
        case Kind.single: return .real(Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits(column)))))
        case Kind.double: return .real(Double(bitPattern: bits(column)))
        default:
            guard let size = Kind.integers[type] else { return .text(string(column)) }
            let unused = 64 - size * 8
            return .integer((Int64(bitPattern: bits(column)) << unused) >> unused)
        }
    }

    private func string(_ column: Int) -> String { String(decoding: bytes(column), as: UTF8.self) }

    private func isPlain(_ column: Int) -> Bool {
        let type = shim_pq_type(result, Int32(column))
        return Kind.integers[type] == nil && ![Kind.boolean, Kind.single, Kind.double].contains(type)
    }

    func text(_ column: Int) -> String? {
        if isNull(column) { return nil }
        if isPlain(column) { return string(column) }
        switch value(column) {
        case .integer(let number): return String(number)
        case .real(let number): return String(number)
        default: return string(column)
        }
    }

    func blob(_ column: Int) -> [UInt8]? {
        if isNull(column) { return nil }
        return isPlain(column) ? Array(bytes(column)) : text(column).map { Array($0.utf8) }
    }

    func integer(_ column: Int) -> Int? {
        switch value(column) {
        case .null: nil
        case .integer(let number): Int(number)
        case .real(let number): Int(exactly: number.rounded(.towardZero)) ?? 0
        case .text(let text): Int(text) ?? 0
        case .blob(let bytes): Int(String(decoding: bytes, as: UTF8.self)) ?? 0
        }
    }

    func real(_ column: Int) -> Double? {
        switch value(column) {
        case .null: nil
        case .integer(let number): Double(number)
        case .real(let number): number
        case .text(let text): Double(text) ?? 0
        case .blob(let bytes): Double(String(decoding: bytes, as: UTF8.self)) ?? 0
        }
    }
}
