/// A JSON value that keeps the order of keys and the difference between integers and decimals, because protocol
/// schemas must come out as they went in, and a request id must be echoed exactly.
package enum JSON: Sendable, Hashable {
    case null
    case bool(Bool)
    /// Written without fraction and exponent; a larger number is a `double`.
    case int(Int64)
    /// Written with a fraction or an exponent, or too large for 64 bits.
    case double(Double)
    case string(String)
    case array([JSON])
    /// Keeps the order of its members.
    case object(JSONObject)
}

/// The members of a JSON object in their order.
///
/// Look-up is linear: objects of the protocol are small.
package struct JSONObject: Sendable {
    /// The members in source order; a name may occur twice only when it came from outside, and then the last wins.
    package var members: [(name: String, value: JSON)]

    /// An object with these members.
    package init(_ members: [(name: String, value: JSON)] = []) { self.members = members }

    /// The value of a member; setting `nil` removes it.
    package subscript(name: String) -> JSON? {
        get { members.last { $0.name == name }?.value }
        set {
            guard let newValue else { return members.removeAll { $0.name == name } }
            if let index = members.lastIndex(where: { $0.name == name }) {
                members[index].value = newValue
            } else {
                members.append((name, newValue))
            }
        }
    }

    /// The member names in order.
    package var names: [String] { members.map(\.name) }
    /// Whether there is no member.
    package var isEmpty: Bool { members.isEmpty }
    /// The number of members.
    package var count: Int { members.count }
}

extension JSONObject: Hashable {
    /// Equality ignores order, as JSON does.
    package static func == (left: JSONObject, right: JSONObject) -> Bool {
        left.members.count == right.members.count && left.members.allSatisfy { right[$0.name] == $0.value }
    }

    /// Ignores order and values, so that equal objects hash alike.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(members.count)
        for name in names.sorted() { hasher.combine(name) }
    }
}

extension JSON {
    /// The text of a string value.
    package var string: String? { if case .string(let value) = self { value } else { nil } }
    /// The integer value; a decimal without fraction counts.
    package var int: Int? {
        switch self {
        case .int(let value): Int(value)
        case .double(let value): Int(exactly: value)
        default: nil
        }
    }
    /// The numeric value.
    package var number: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }
    /// The truth value.
    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// The elements of an array.
    package var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
    /// The members of an object.
    package var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
    /// Whether this is `null`.
    package var isNull: Bool { if case .null = self { true } else { false } }

    /// A member of an object; `nil` when absent or when this is no object.
    ///
    /// Setting on `null` makes an object.
    package subscript(name: String) -> JSON? {
        get { object?[name] }
        set {
            var members = object ?? JSONObject()
            members[name] = newValue
            self = .object(members)
        }
    }

    /// An element of an array; `nil` when out of range.
    package subscript(index: Int) -> JSON? {
        guard let array, array.indices.contains(index) else { return nil }
        return array[index]
    }

    /// The name of the JSON type, for messages: `string`, `integer`, `object`.
    package var typeName: String {
        switch self {
        case .null: "null"
        case .bool: "boolean"
        case .int: "integer"
        case .double: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }

    /// `string` or `null`.
    package static func optional(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
    /// Integer or `null`.
    package static func optional(_ value: Int?) -> JSON { value.map { .int(Int64($0)) } ?? .null }
    /// Number or `null`.
    package static func optional(_ value: Double?) -> JSON { value.map { .double($0) } ?? .null }
    /// An integer of any width.
    package static func integer(_ value: some BinaryInteger) -> JSON { .int(Int64(clamping: value)) }
    /// An array of strings.
    package static func strings(_ values: [String]) -> JSON {
        .array(values.map { .string($0) })
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    /// A string literal is a JSON string.
    package init(stringLiteral value: String) { self = .string(value) }
    /// An integer literal is an integer, and is written without a fraction.
    package init(integerLiteral value: Int64) { self = .int(value) }
    /// A decimal literal is a decimal, also where it has no fraction.
    package init(floatLiteral value: Double) { self = .double(value) }
    /// `true` and `false` are JSON's own.
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    /// `nil` is JSON's null, not an absent value.
    package init(nilLiteral: ()) { self = .null }
    /// An array literal is a JSON array.
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    /// A dictionary literal is a JSON object whose members keep the order in which they are written.
    package init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(JSONObject(elements.map { (name: $0.0, value: $0.1) }))
    }
}
