import Appliance
import Platform
import Testing

@testable import MCP

/// The published schemas of the protocol, where they lie beside the package.
struct WireSchemas {
    /// `../shared/mcp-schema` as seen from the package.
    static let folder: String = {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        return "/\(root)/../shared/mcp-schema"
    }()

    private let document: JSON
    private let definitions: String

    /// The schema of a revision; `nil`, said aloud, where it is not to be had.
    init?(_ version: ProtocolVersion) throws {
        let path = "\(WireSchemas.folder)/\(version.rawValue).schema.json"
        guard let bytes = try? Files().read(path, limit: 16 << 20) else {
            print("skipped: the protocol's schema is not at '\(path)'")
            return nil
        }
        document = try JSON.parse(bytes)
        definitions = document["$defs"] == nil ? "definitions" : "$defs"
    }

    /// What is wrong with a value as one of the schema's definitions.
    func violations(of value: JSON, as name: String) throws -> [Violation] {
        try Schema(document, at: "/\(definitions)/\(name)").violations(of: value)
    }

    func has(_ name: String) -> Bool { document[definitions]?[name] != nil }
}
