import Appliance

/// Turns a schema document into nodes, each place in the document once, so that references may form circles.
struct SchemaCompiler {
    let document: JSON
    private var places: [String: Int] = [:]
    private var nodes: [SchemaNode?] = []
    private var anchors: [String: String]?

    init(document: JSON) { self.document = document }

    /// The nodes; every place that was begun has been finished by then.
    var finished: [SchemaNode] { nodes.map { $0 ?? SchemaNode() } }

    /// The node of the schema at a JSON Pointer.
    mutating func node(at pointer: String) throws(GatewayError) -> Int {
        if let known = places[pointer] { return known }
        guard let schema = resolve(pointer) else {
            throw GatewayError("invalid-schema", "the schema refers to '\(pointer)', which is not in it")
        }
        let index = nodes.count
        nodes.append(nil)
        places[pointer] = index
        nodes[index] = try compile(schema, at: pointer)
        return index
    }

    private func resolve(_ pointer: String) -> JSON? {
        var value = document
        for part in pointer.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            let name = String(part.replacing("~1", with: "/").replacing("~0", with: "~"))
            var next: JSON?
            if case .array = value, let index = Int(name) { next = value[index] } else { next = value[name] }
            guard let next else { return nil }
            value = next
        }
        return value
    }

    private mutating func compile(_ schema: JSON, at place: String) throws(GatewayError) -> SchemaNode {
        var node = SchemaNode()
        switch schema {
        case .bool(let accepts):
            node.refusesAll = !accepts
            return node
        case .object(let object):
            for (keyword, value) in object.members { try apply(keyword, value, at: place, to: &node) }
            return node
        default:
            throw invalid(place, "must be an object or a boolean, got \(schema.typeName)")
        }
    }

    private mutating func apply(
        _ keyword: String,
        _ value: JSON,
        at place: String,
        to node: inout SchemaNode
    ) throws(GatewayError) {
        let here = "\(place)/\(JSONPointer.escaped(keyword))"
        switch keyword {
        case "$ref": node.reference = try reference(value, at: here)
        case "type": node.types = try types(value, at: here)
        case "enum":
            guard let values = value.array else { throw invalid(here, "must be an array") }
            node.enumeration = values
        case "const": node.constant = value
        case "properties": node.properties = try children(value, at: here)
        case "patternProperties":
            for (name, child) in try children(value, at: here) {
                node.patternProperties.append((try pattern(.string(name), at: here), child))
            }
        case "required": node.required = try strings(value, at: here)
        case "dependentRequired":
            for (name, names) in value.object?.members ?? [] {
                node.dependentRequired.append((name, try strings(names, at: here)))
            }
        case "dependentSchemas": node.dependentSchemas = try children(value, at: here)
        case "additionalProperties":
            switch value {
            case .bool(true): node.additional = .allowed
            case .bool(false): node.additional = .refused
            default: node.additional = .schema(try self.node(at: here))
            }
        case "propertyNames": node.propertyNames = try self.node(at: here)
        case "prefixItems": node.prefixItems = try list(value, at: here)
        case "items": node.items = try self.node(at: here)
        case "contains": node.contains = try self.node(at: here)
        case "uniqueItems": node.uniqueItems = value.bool ?? false
        case "pattern": node.pattern = try pattern(value, at: here)
        case "allOf": node.allOf = try list(value, at: here)
        case "anyOf": node.anyOf = try list(value, at: here)
        case "oneOf": node.oneOf = try list(value, at: here)
        case "not": node.not = try self.node(at: here)
        case "if": node.condition = try self.node(at: here)
        case "then": node.consequence = try self.node(at: here)
        case "else": node.alternative = try self.node(at: here)
        default: try applyLimit(keyword, value, at: here, to: &node)
        }
    }

    private func applyLimit(
        _ keyword: String,
        _ value: JSON,
        at place: String,
        to node: inout SchemaNode
    ) throws(GatewayError) {
        func count() throws(GatewayError) -> Int {
            guard let count = value.int, count >= 0 else { throw invalid(place, "must be a count") }
            return count
        }
        func number() throws(GatewayError) -> JSON {
            guard value.number != nil else { throw invalid(place, "must be a number") }
            return value
        }
        switch keyword {
        case "minProperties": node.minProperties = try count()
        case "maxProperties": node.maxProperties = try count()
        case "minContains": node.minContains = try count()
        case "maxContains": node.maxContains = try count()
        case "minItems": node.minItems = try count()
        case "maxItems": node.maxItems = try count()
        case "minLength": node.minLength = try count()
        case "maxLength": node.maxLength = try count()
        case "minimum": node.minimum = try number()
        case "maximum": node.maximum = try number()
        case "exclusiveMinimum": node.exclusiveMinimum = try number()
        case "exclusiveMaximum": node.exclusiveMaximum = try number()
        case "multipleOf":
            guard let divisor = value.number, divisor > 0 else { throw invalid(place, "must be above 0") }
            node.multipleOf = value
        default: break
        }
    }

    private func invalid(_ place: String, _ reason: String) -> GatewayError {
        GatewayError("invalid-schema", "the schema at '\(place.isEmpty ? "/" : place)' \(reason)")
    }

    private mutating func reference(_ value: JSON, at place: String) throws(GatewayError) -> Int {
        guard let text = value.string, text.hasPrefix("#") else {
            throw invalid(place, "must be a reference within the schema, got \(value.compactText)")
        }
        let fragment = PercentEncoding.decoded(String(text.dropFirst()))
        if fragment.isEmpty || fragment.hasPrefix("/") { return try node(at: fragment) }
        var known = anchors ?? [:]
        if anchors == nil {
            collectAnchors(document, at: "", into: &known)
            anchors = known
        }
        guard let pointer = known[fragment] else {
            throw invalid(place, "refers to the anchor '\(fragment)', which is not in it")
        }
        return try node(at: pointer)
    }

    private func collectAnchors(_ value: JSON, at place: String, into found: inout [String: String]) {
        switch value {
        case .object(let object):
            if let anchor = object["$anchor"]?.string { found[anchor] = place }
            for (name, member) in object.members {
                collectAnchors(member, at: "\(place)/\(JSONPointer.escaped(name))", into: &found)
            }
        case .array(let elements):
            for (index, element) in elements.enumerated() {
                collectAnchors(element, at: "\(place)/\(index)", into: &found)
            }
        default: break
        }
    }

    private func types(_ value: JSON, at place: String) throws(GatewayError) -> [String] {
        let names: [String]
        if let name = value.string { names = [name] } else { names = try strings(value, at: place) }
        let known = ["null", "boolean", "integer", "number", "string", "array", "object"]
        for name in names where !known.contains(name) {
            throw invalid(place, "names an unknown type '\(name)'")
        }
        return names
    }

    private func strings(_ value: JSON, at place: String) throws(GatewayError) -> [String] {
        guard let elements = value.array else { throw invalid(place, "must be an array of strings") }
        var out: [String] = []
        for element in elements {
            guard let text = element.string else { throw invalid(place, "must be an array of strings") }
            out.append(text)
        }
        return out
    }

    private func pattern(_ value: JSON, at place: String) throws(GatewayError) -> TextPattern {
        guard let text = value.string else { throw invalid(place, "must be a string") }
        do {
            return try TextPattern(text)
        } catch {
            throw invalid(place, "is no regular expression: '\(text)'")
        }
    }

    private mutating func list(_ value: JSON, at place: String) throws(GatewayError) -> [Int] {
        guard let elements = value.array else { throw invalid(place, "must be an array of schemas") }
        var out: [Int] = []
        for index in elements.indices { out.append(try node(at: "\(place)/\(index)")) }
        return out
    }

    private mutating func children(
        _ value: JSON,
        at place: String
    ) throws(GatewayError) -> [(
        name: String, node: Int
    )] {
        guard let object = value.object else { throw invalid(place, "must be an object of schemas") }
        var out: [(name: String, node: Int)] = []
        for name in object.names {
            out.append((name, try node(at: "\(place)/\(JSONPointer.escaped(name))")))
        }
        return out
    }
}

/// JSON Pointer (RFC 6901).
enum JSONPointer {
    /// One reference token.
    static func escaped(_ name: String) -> String {
        name.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "~") })
            ? name.replacing("~", with: "~0").replacing("/", with: "~1") : name
    }
}

/// Percent-encoding (RFC 3986 section 2.1).
enum PercentEncoding {
    /// The text with its encoded bytes decoded; a broken escape stays as it is.
    static func decoded(_ text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return text }
        let bytes = Array(text.utf8)
        var out: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let high = Hex.value(ofDigit: bytes[index + 1]),
                let low = Hex.value(ofDigit: bytes[index + 2])
            {
                out.append(high << 4 | low)
                index += 3
            } else {
                out.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
