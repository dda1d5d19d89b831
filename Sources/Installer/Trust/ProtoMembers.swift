import Appliance

/// The members of one object in the JSON form of a protocol buffer, read strictly.
///
/// Names may be written in camel case or as in the schema, `null` is as good as absent, and what is unknown or twice there
/// is refused: a verifier that overlooks a member may overlook what it restricts.
/// https://protobuf.dev/programming-guides/json
struct ProtoMembers {
    /// Where the object is, for messages: `tlogEntries[0]`.
    let place: String
    private let values: [String: JSON]

    /// The members of a value that must be an object with no other members than these.
    init(_ json: JSON, _ place: String, known: Set<String>) throws(Malformed) {
        guard let object = json.object else {
            throw Malformed("'\(place)' is \(json.typeName), expected object")
        }
        var values: [String: JSON] = [:]
        for member in object.members {
            let name = ProtoMembers.camelCase(member.name)
            guard known.contains(name) else {
                throw Malformed("'\(place)' has the unknown member '\(ForeignText.shown(member.name))'")
            }
            guard values.updateValue(member.value, forKey: name) == nil else {
                throw Malformed("'\(place)' has the member '\(name)' twice")
            }
        }
        self.place = place
        self.values = values
    }

    /// `log_index` as `logIndex`.
    private static func camelCase(_ name: String) -> String {
        guard name.utf8.contains(UInt8(ascii: "_")) else { return name }
        let words = name.split(separator: "_", omittingEmptySubsequences: false)
        return words[0] + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }

    /// Where a member is.
    func place(of name: String) -> String { place.isEmpty ? name : "\(place).\(name)" }

    /// A member that may be absent.
    func optional(_ name: String) -> JSON? {
        guard let value = values[name], !value.isNull else { return Optional.none }
        return value
    }

    /// Whether a member is there.
    func has(_ name: String) -> Bool { optional(name).map { _ in true } ?? false }

    /// A member that must be there.
    func required(_ name: String) throws(Malformed) -> JSON {
        guard let value = optional(name) else { throw Malformed("'\(place(of: name))' is missing") }
        return value
    }

    func string(_ name: String) throws(Malformed) -> String { try text(try required(name), name) }

    func optionalString(_ name: String) throws(Malformed) -> String? {
        guard let value = optional(name) else { return nil }
        return try text(value, name)
    }

    private func text(_ value: JSON, _ name: String) throws(Malformed) -> String {
        guard let text = value.string else {
            throw Malformed("'\(place(of: name))' is \(value.typeName), expected string")
        }
        return text
    }

    /// Bytes in base 64, which may be broken into lines.
    func bytes(_ name: String) throws(Malformed) -> [UInt8] {
        let text = try string(name).filter { !$0.isNewline }
        guard let bytes = Base64.decode(text, ignoresTrailingBits: true) else {
            throw Malformed("'\(place(of: name))' is not base 64")
        }
        return bytes
    }

    /// A number of up to 64 bits, which JSON has as a string; negative ones have no meaning anywhere here.
    func number(_ name: String) throws(Malformed) -> Int64 {
        let text = try string(name)
        guard text.utf8.count <= 19, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int64(text)
        else {
            throw Malformed(
                "'\(place(of: name))' is '\(ForeignText.shown(text))', expected a number of at least 0"
            )
        }
        return number
    }

    func optionalNumber(_ name: String) throws(Malformed) -> Int64? {
        has(name) ? try number(name) : nil
    }

    /// An array of at most so many elements; an absent one is empty.
    func array(_ name: String, limit: Int) throws(Malformed) -> [JSON] {
        guard let value = optional(name) else { return [] }
        guard let array = value.array else {
            throw Malformed("'\(place(of: name))' is \(value.typeName), expected array")
        }
        guard array.count <= limit else {
            throw Malformed(
                "'\(place(of: name))' has \(array.count) elements, more than the \(limit) allowed"
            )
        }
        return array
    }

    /// An object inside, with no other members than these.
    func object(_ name: String, known: Set<String>) throws(Malformed) -> ProtoMembers {
        try ProtoMembers(try required(name), place(of: name), known: known)
    }

    func optionalObject(_ name: String, known: Set<String>) throws(Malformed) -> ProtoMembers? {
        guard let value = optional(name) else { return nil }
        return try ProtoMembers(value, place(of: name), known: known)
    }

    /// The elements of an array of objects.
    func objects(_ name: String, known: Set<String>, limit: Int) throws(Malformed) -> [ProtoMembers] {
        var objects: [ProtoMembers] = []
        for (index, element) in try array(name, limit: limit).enumerated() {
            objects.append(try ProtoMembers(element, "\(place(of: name))[\(index)]", known: known))
        }
        return objects
    }
}
