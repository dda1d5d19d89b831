import Appliance
import Platform
import Testing

@testable import Installer

@Suite("The schema of a bundle's manifest")
struct ManifestSchemaTests {
    private func schema() throws -> JSON {
        try JSON.parse(try Files().readText(Layout.join(Pages.root, "releases/manifest.schema.json")))
    }

    @Test("names the version of the form, the platform and the programs as the installer does")
    func constants() throws {
        let properties = try #require(try schema()["properties"])
        #expect(properties["schema_version"]?["const"]?.string == BundleManifest.schema)
        #expect(properties["name"]?["const"]?.string == Product.name)
        #expect(properties["platform"]?["enum"]?.array?.contains(.string(Product.platform)) == true)
        let programs = properties["files"]?["allOf"]?.array?.compactMap {
            $0["contains"]?["properties"]?["path"]?["const"]?.string
        }
        #expect(programs == BundleManifest.programs)
    }

    @Test(
        "asks for what the installer asks for",
        arguments: ["schema_version", "version", "platform", "files"]
    )
    func required(key: String) throws {
        let file: JSON = [
            "sha256": .string(String(repeating: "0", count: 64)), "mode": "0755", "size": 1,
        ]
        var manifest: JSON = [
            "schema_version": .string(BundleManifest.schema), "version": "1.2.3", "platform": "linux-amd64",
            "files": .array(
                BundleManifest.programs.map { path in
                    var entry = file
                    entry["path"] = .string(path)
                    return entry
                }
            ),
        ]
        #expect(throws: Never.self) { try BundleManifest(manifest.compact) }
        manifest[key] = nil
        #expect(throws: GatewayError.self) { try BundleManifest(manifest.compact) }
        #expect(try schema()["required"]?.array?.contains(.string(key)) == true)
    }
}
