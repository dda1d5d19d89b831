import Appliance

/// Whose signature is wanted.
enum SignerPolicy: Sendable {
    /// A name, and the identity provider that must have vouched for it: anybody can have any name from some provider.
    case identity(SignerName, issuer: String)
    /// The holder of this key, in PEM or DER.
    case key([UInt8])

    /// The signer of this product's releases; `nil` when this build has none.
    static var releases: SignerPolicy? {
        guard !Product.releaseSigner.isEmpty, !Product.releaseSignerIssuer.isEmpty else { return nil }
        return .identity(
            Product.releaseSigner.contains("*")
                ? .pattern(NamePattern(Product.releaseSigner)) : .exact(Product.releaseSigner),
            issuer: Product.releaseSignerIssuer
        )
    }
}

/// The name of a signer, or what it must look like.
enum SignerName: Sendable, CustomStringConvertible {
    case exact(String)
    case pattern(NamePattern)

    func matches(_ name: String) -> Bool {
        switch self {
        case .exact(let wanted): wanted.utf8.elementsEqual(name.utf8)
        case .pattern(let pattern): pattern.matches(name)
        }
    }

    var description: String {
        switch self {
        case .exact(let name): name
        case .pattern(let pattern): pattern.text
        }
    }
}

/// A pattern for a whole name: `*` stands for any characters but '/', `**` for any characters at all.
///
/// Matching takes time in proportion to pattern and name, whatever they are.
struct NamePattern: Sendable, Equatable {
    private enum Part: Sendable, Equatable {
        case byte(UInt8)
        case run(crossesSlashes: Bool)
    }

    let text: String
    private let parts: [Part]

    init(_ text: String) {
        self.text = text
        var parts: [Part] = []
        for byte in text.utf8 {
            if byte != UInt8(ascii: "*") {
                parts.append(.byte(byte))
            } else if case .run = parts.last {
                parts[parts.count - 1] = .run(crossesSlashes: true)
            } else {
                parts.append(.run(crossesSlashes: false))
            }
        }
        self.parts = parts
    }

    /// Whether the pattern describes the name from its first to its last character.
    func matches(_ name: String) -> Bool {
        // The places in the pattern that are reached so far; a run may also be left without having taken anything.
        var reached = [Bool](repeating: false, count: parts.count + 1)
        func reach(_ place: Int, in places: inout [Bool]) {
            var place = place
            places[place] = true
            while place < parts.count, case .run = parts[place] {
                place += 1
                places[place] = true
            }
        }
        reach(0, in: &reached)
        for byte in name.utf8 {
            var next = [Bool](repeating: false, count: parts.count + 1)
            for place in parts.indices where reached[place] {
                switch parts[place] {
                case .byte(byte): reach(place + 1, in: &next)
                case .byte: continue
                case .run(let crossesSlashes):
                    if crossesSlashes || byte != UInt8(ascii: "/") { reach(place, in: &next) }
                }
            }
            reached = next
        }
        return reached[parts.count]
    }
}
