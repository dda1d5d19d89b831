import Appliance
import Platform
import Testing

@testable import Providers

@Suite("Schemas of the request tools")
struct SchemaTests {
    /// The reference's parameters are other people's data and lie outside the package.
    static let reference: JSON? = {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let path = "/\(root)/../shared/contracts/reference-tools.json"
        guard let bytes = try? Files().readIfPresent(path) else {
            print(
                "skipped: \(path) is not there, so the schemas are not compared with the reference's parameters"
            )
            return nil
        }
        return try? JSON.parse(bytes)
    }()

    @Test("accept every parameter of the reference", arguments: Provider.allCases)
    func acceptsReference(provider: Provider) throws {
        guard let reference = SchemaTests.reference else { return }
        let theirs = try #require(reference[provider.requestTool]?["params"]?.object)
        let ours = try #require(ToolSchema.request(for: provider)["properties"]?.object)
        for (name, schema) in theirs.members {
            let own = try #require(ours[name], "\(provider.requestTool) lacks '\(name)'")
            if let type = schema["type"] { #expect(own["type"] == type, "\(provider) \(name)") }
            for word in schema["enum"]?.array ?? [] {
                #expect(own["enum"]?.array?.contains(word) == true, "\(provider) \(name) lacks \(word)")
            }
            for bound in ["maximum", "maxLength"] {
                #expect(own[bound]?.number == schema[bound]?.number, "\(provider) \(name) \(bound)")
            }
        }
    }

    @Test("describe every parameter", arguments: Provider.allCases)
    func describes(provider: Provider) throws {
        let properties = try #require(ToolSchema.request(for: provider)["properties"]?.object)
        for (name, schema) in properties.members {
            #expect((schema["description"]?.string?.count ?? 0) > 5, "\(provider) \(name)")
        }
        #expect(ToolSchema.description(of: provider).count > 60)
    }

    @Test("follow the configured prompt limit")
    func promptLimit() {
        let limits = ToolSchema.Limits(maximumPromptCharacters: 4_000_000)
        let schema = ToolSchema.request(for: .codex, limits: limits)
        #expect(schema["properties"]?["prompt"]?["maxLength"] == 4_000_000)
    }
}
