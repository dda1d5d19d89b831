package import Appliance

/// One way in which a value breaks its schema.
package struct Violation: Sendable, Hashable, CustomStringConvertible {
    /// JSON Pointer (RFC 6901) to the value; `/` for the whole.
    package let path: String
    /// What was expected and found.
    package let message: String

    /// The path, then the message.
    package var description: String { "\(path): \(message)" }
}

/// A compiled JSON Schema 2020-12, as far as schemas of messages and tools go.
///
/// All keywords of the core, applicator and validation vocabularies except `unevaluated…` and dynamic references;
/// `$ref` resolves inside the document only, never over the network. `format` is an annotation.
package struct Schema: Sendable {
    /// Violations beyond this many are not collected: nobody reads them.
    static let maximumViolations = 64

    let nodes: [SchemaNode]
    let root: Int

    /// Compiles a document, or one definition in it: `at` is a JSON Pointer such as `/$defs/Tool`.
    ///
    /// Throws `invalid-schema` for a keyword of the wrong type and for a reference that leads nowhere.
    package init(_ document: JSON, at pointer: String = "") throws(GatewayError) {
        var compiler = SchemaCompiler(document: document)
        root = try compiler.node(at: pointer)
        nodes = compiler.finished
    }

    /// Every violation of a value, in the order of the value's members; empty when it is valid.
    package func violations(of value: JSON) -> [Violation] {
        var validation = SchemaValidation(nodes: nodes)
        validation.check(value, against: root, path: .root)
        return validation.violations
    }
}

/// The keywords of one schema object; other schemas by their place in the list.
struct SchemaNode: Sendable {
    enum Additional: Sendable {
        case allowed
        case refused
        case schema(Int)
    }

    /// `false` as a schema.
    var refusesAll = false
    var reference: Int?
    var types: [String] = []
    var enumeration: [JSON]?
    var constant: JSON?

    var properties: [(name: String, node: Int)] = []
    var patternProperties: [(pattern: TextPattern, node: Int)] = []
    var required: [String] = []
    var dependentRequired: [(name: String, required: [String])] = []
    var dependentSchemas: [(name: String, node: Int)] = []
    var additional = Additional.allowed
    var propertyNames: Int?
    var minProperties: Int?
    var maxProperties: Int?

    var prefixItems: [Int] = []
    var items: Int?
    var contains: Int?
    var minContains: Int?
    var maxContains: Int?
    var minItems: Int?
    var maxItems: Int?
    var uniqueItems = false

    var minLength: Int?
    var maxLength: Int?
    var pattern: TextPattern?

    var minimum: JSON?
    var maximum: JSON?
    var exclusiveMinimum: JSON?
    var exclusiveMaximum: JSON?
    var multipleOf: JSON?

    var allOf: [Int] = []
    var anyOf: [Int] = []
    var oneOf: [Int] = []
    var not: Int?
    var condition: Int?
    var consequence: Int?
    var alternative: Int?
}
