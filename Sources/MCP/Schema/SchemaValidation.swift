import Appliance

/// One run of a value through a schema.
///
/// It goes on after the first violation, so that a caller mends all at once.
struct SchemaValidation {
    /// Steps of nesting before a circle of references is taken for one.
    static let maximumDepth = 200

    /// A path that costs nothing until somebody reads it.
    indirect enum Path {
        case root
        case member(Path, String)
        case element(Path, Int)

        var pointer: String {
            switch self {
            case .root: ""
            case .member(let parent, let name): "\(parent.pointer)/\(JSONPointer.escaped(name))"
            case .element(let parent, let index): "\(parent.pointer)/\(index)"
            }
        }
    }

    let nodes: [SchemaNode]
    private(set) var violations: [Violation] = []
    private var depth = 0

    init(nodes: [SchemaNode]) { self.nodes = nodes }

    private mutating func fail(_ path: Path, _ message: String) {
        guard violations.count < Schema.maximumViolations else { return }
        let pointer = path.pointer
        violations.append(Violation(path: pointer.isEmpty ? "/" : pointer, message: message))
    }

    /// The violations of one branch, on their own.
    private mutating func attempt(_ value: JSON, _ node: Int, _ path: Path) -> [Violation] {
        var branch = SchemaValidation(nodes: nodes)
        branch.depth = depth
        branch.check(value, against: node, path: path)
        return branch.violations
    }

    /// Collects what is wrong with a value.
    mutating func check(_ value: JSON, against index: Int, path: Path) {
        guard depth < SchemaValidation.maximumDepth else { return fail(path, "is nested too deeply") }
        depth += 1
        defer { depth -= 1 }
        let node = nodes[index]
        if node.refusesAll { return fail(path, "is not allowed") }
        if let reference = node.reference { check(value, against: reference, path: path) }
        if !node.types.isEmpty, !node.types.contains(where: { SchemaValidation.isType($0, value) }) {
            // What else the schema says is about another type of value: it would only repeat this.
            return fail(path, "expected \(Wording.list(node.types, "or")), got \(value.typeName)")
        }
        if let allowed = node.enumeration, !allowed.contains(where: { SchemaValidation.isSame($0, value) }) {
            fail(path, Wording.enumeration(allowed, got: value))
        }
        if let constant = node.constant, !SchemaValidation.isSame(constant, value) {
            fail(path, "expected \(constant.compactText), got \(Wording.short(value))")
        }
        switch value {
        case .object(let object): checkObject(object, node, path)
        case .array(let elements): checkArray(elements, node, path)
        case .string(let text): checkText(text, node, path)
        case .int, .double: checkNumber(value, node, path)
        case .null, .bool: break
        }
        checkComposition(value, node, path)
    }

    private mutating func checkObject(_ object: JSONObject, _ node: SchemaNode, _ path: Path) {
        for name in node.required where object[name] == nil { fail(.member(path, name), "is required") }
        for (name, required) in node.dependentRequired where object[name] != nil {
            for other in required where object[other] == nil {
                fail(.member(path, other), "is required together with '\(name)'")
            }
        }
        for (name, schema) in node.dependentSchemas where object[name] != nil {
            check(.object(object), against: schema, path: path)
        }
        if let minimum = node.minProperties, object.count < minimum {
            fail(path, "expected at least \(minimum) members, got \(object.count)")
        }
        if let maximum = node.maxProperties, object.count > maximum {
            fail(path, "expected at most \(maximum) members, got \(object.count)")
        }
        for (name, value) in object.members {
            let place = Path.member(path, name)
            if let schema = node.propertyNames { check(.string(name), against: schema, path: place) }
            var isKnown = false
            for property in node.properties where property.name == name {
                isKnown = true
                check(value, against: property.node, path: place)
            }
            for (pattern, schema) in node.patternProperties where pattern.matches(name) {
                isKnown = true
                check(value, against: schema, path: place)
            }
            guard !isKnown else { continue }
            switch node.additional {
            case .allowed: break
            case .schema(let schema): check(value, against: schema, path: place)
            case .refused:
                // A suggestion costs more than everything else here, and nobody reads the ten thousandth.
                guard violations.count < Schema.maximumViolations else { return }
                let near = Wording.nearest(to: name, among: node.properties.map(\.name))
                fail(place, near.map { "is unknown, did you mean '\($0)'?" } ?? "is unknown")
            }
        }
    }

    private mutating func checkArray(_ elements: [JSON], _ node: SchemaNode, _ path: Path) {
        if let minimum = node.minItems, elements.count < minimum {
            fail(path, "expected at least \(minimum) elements, got \(elements.count)")
        }
        if let maximum = node.maxItems, elements.count > maximum {
            fail(path, "expected at most \(maximum) elements, got \(elements.count)")
        }
        for (index, element) in elements.enumerated() {
            if index < node.prefixItems.count {
                check(element, against: node.prefixItems[index], path: .element(path, index))
            } else if let items = node.items {
                check(element, against: items, path: .element(path, index))
            }
        }
        if node.uniqueItems, let twice = SchemaValidation.repeated(elements) {
            fail(.element(path, twice), "repeats an earlier element")
        }
        guard let contains = node.contains else { return }
        var count = 0
        for (index, element) in elements.enumerated()
        where attempt(element, contains, .element(path, index)).isEmpty {
            count += 1
        }
        let minimum = node.minContains ?? 1
        if count < minimum { fail(path, "expected at least \(minimum) matching elements, got \(count)") }
        if let maximum = node.maxContains, count > maximum {
            fail(path, "expected at most \(maximum) matching elements, got \(count)")
        }
    }

    private mutating func checkText(_ text: String, _ node: SchemaNode, _ path: Path) {
        // Lengths are in code points. UTF-8 has at least as many bytes, so most texts need no counting.
        let bytes = text.utf8.count
        if let minimum = node.minLength, bytes < minimum * 4 {
            let count = text.unicodeScalars.count
            if count < minimum {
                fail(path, "expected at least \(Wording.characters(minimum)), got \(count)")
            }
        }
        if let maximum = node.maxLength, bytes > maximum {
            let count = text.unicodeScalars.count
            if count > maximum {
                fail(path, "expected at most \(Wording.characters(maximum)), got \(count)")
            }
        }
        if let pattern = node.pattern, !pattern.matches(text) {
            fail(path, "does not match the pattern \(pattern.source)")
        }
    }

    private mutating func checkNumber(_ value: JSON, _ node: SchemaNode, _ path: Path) {
        if let minimum = node.minimum, SchemaValidation.isLess(value, minimum) {
            fail(path, "expected at least \(minimum.compactText), got \(value.compactText)")
        }
        if let maximum = node.maximum, SchemaValidation.isLess(maximum, value) {
            fail(path, "expected at most \(maximum.compactText), got \(value.compactText)")
        }
        if let bound = node.exclusiveMinimum, !SchemaValidation.isLess(bound, value) {
            fail(path, "expected more than \(bound.compactText), got \(value.compactText)")
        }
        if let bound = node.exclusiveMaximum, !SchemaValidation.isLess(value, bound) {
            fail(path, "expected less than \(bound.compactText), got \(value.compactText)")
        }
        if let divisor = node.multipleOf, !SchemaValidation.isMultiple(value, of: divisor) {
            fail(path, "expected a multiple of \(divisor.compactText), got \(value.compactText)")
        }
    }

    private mutating func checkComposition(_ value: JSON, _ node: SchemaNode, _ path: Path) {
        for schema in node.allOf { check(value, against: schema, path: path) }
        if !node.anyOf.isEmpty { checkAlternatives(value, node.anyOf, path, isExclusive: false) }
        if !node.oneOf.isEmpty { checkAlternatives(value, node.oneOf, path, isExclusive: true) }
        if let not = node.not, attempt(value, not, path).isEmpty {
            fail(path, "is one of the values that are not allowed")
        }
        if let condition = node.condition {
            let branch = attempt(value, condition, path).isEmpty ? node.consequence : node.alternative
            if let branch { check(value, against: branch, path: path) }
        }
    }

    private mutating func checkAlternatives(
        _ value: JSON,
        _ schemas: [Int],
        _ path: Path,
        isExclusive: Bool
    ) {
        var failures: [[Violation]] = []
        var fitting = 0
        for schema in schemas {
            let found = attempt(value, schema, path)
            guard found.isEmpty else {
                failures.append(found)
                continue
            }
            fitting += 1
            if !isExclusive { return }
        }
        if fitting == 1 { return }
        if fitting > 1 { return fail(path, "fits \(fitting) alternatives, expected exactly one") }
        let types = schemas.map { nodes[$0].types }
        if types.allSatisfy({ types in
            !types.isEmpty && !types.contains { SchemaValidation.isType($0, value) }
        }) {
            var names: [String] = []
            for name in types.joined() where !names.contains(name) { names.append(name) }
            return fail(path, "expected \(Wording.list(names, "or")), got \(value.typeName)")
        }
        fail(path, "fits none of the \(schemas.count) alternatives")
        // The alternative with the fewest objections is the one that was most likely meant.
        for violation in failures.min(by: { $0.count < $1.count }) ?? []
        where violations.count < Schema.maximumViolations {
            violations.append(violation)
        }
    }
}

extension SchemaValidation {
    /// Whether a value is of a JSON Schema type; 1.0 is an integer.
    static func isType(_ name: String, _ value: JSON) -> Bool {
        switch (name, value) {
        case ("null", .null), ("boolean", .bool), ("string", .string), ("array", .array), ("object", .object),
            ("integer", .int), ("number", .int), ("number", .double):
            true
        case ("integer", .double(let number)): number == number.rounded()
        default: false
        }
    }

    /// Equality of JSON Schema, for which 1 and 1.0 are the same number.
    static func isSame(_ first: JSON, _ second: JSON) -> Bool {
        switch (first, second) {
        case (.int(let first), .double(let second)): Double(first) == second
        case (.double(let first), .int(let second)): first == Double(second)
        case (.array(let first), .array(let second)):
            first.count == second.count && zip(first, second).allSatisfy(isSame)
        case (.object(let first), .object(let second)):
            first.count == second.count
                && first.members.allSatisfy { name, value in second[name].map { isSame(value, $0) } ?? false }
        default: first == second
        }
    }

    private static func isLess(_ first: JSON, _ second: JSON) -> Bool {
        if case .int(let first) = first, case .int(let second) = second { return first < second }
        return (first.number ?? 0) < (second.number ?? 0)
    }

    private static func isMultiple(_ value: JSON, of divisor: JSON) -> Bool {
        if case .int(let value) = value, case .int(let divisor) = divisor {
            return value.isMultiple(of: divisor)
        }
        let quotient = (value.number ?? 0) / (divisor.number ?? 1)
        return quotient.isFinite && abs(quotient - quotient.rounded()) < 1e-9 * max(1, abs(quotient))
    }

    /// The index of the first element that equals an earlier one.
    private static func repeated(_ elements: [JSON]) -> Int? {
        // Comparing all pairs would let a long array keep the processor: equal values have equal canonical text.
        var seen: Set<String> = []
        return elements.firstIndex { !seen.insert(canonical($0)).inserted }
    }

    private static func canonical(_ value: JSON) -> String {
        switch value {
        case .double(let number): Int64(exactly: number).map { String($0) } ?? value.compactText
        case .array(let elements): "[\(elements.map(canonical).joined(separator: ","))]"
        case .object(let object):
            "{"
                + object.members.map { "\(JSON.string($0.name).compactText):\(canonical($0.value))" }.sorted()
                .joined(separator: ",") + "}"
        default: value.compactText
        }
    }
}

/// How violations put values into words.
private enum Wording {
    static func list(_ words: [String], _ last: String) -> String {
        words.count < 2
            ? words.joined() : "\(words.dropLast().joined(separator: ", ")) \(last) \(words[words.count - 1])"
    }

    static func characters(_ count: Int) -> String { count == 1 ? "1 character" : "\(count) characters" }

    /// A value in at most some forty characters: a prompt has no place in an error.
    static func short(_ value: JSON) -> String {
        switch value {
        case .array, .object: return value.typeName
        case .string(let text):
            let start = text.prefix(40)
            return start.endIndex == text.endIndex
                ? value.compactText : "\(JSON.string(String(start)).compactText)…"
        default: return value.compactText
        }
    }

    /// The word that was meant.
    ///
    /// Long texts are no typing errors, and comparing them would take long.
    static func nearest(to word: String, among words: [String]) -> String? {
        word.utf8.count > 64 ? nil : Suggestion.nearest(to: word, among: words)
    }

    static func enumeration(_ allowed: [JSON], got value: JSON) -> String {
        let near = value.string.flatMap { nearest(to: $0, among: allowed.compactMap(\.string)) }
        let hint = near.map { ", did you mean \(JSON.string($0).compactText)?" } ?? ""
        return "expected one of \(list(allowed.map(\.compactText), "or")), got \(short(value))\(hint)"
    }
}
