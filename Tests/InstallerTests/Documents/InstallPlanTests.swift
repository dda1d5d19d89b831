import Appliance
import Platform
import Testing

@testable import Installer

@Suite("The install plan for assistants")
struct InstallPlanTests {
    private func plan() throws -> TOMLTable {
        try TOML.parse(try Files().readText(Layout.join(Pages.root, "setup/install-plan.dag.toml")))
    }

    private func steps() throws -> [TOMLTable] {
        try #require(try plan()["steps"]?.array).map { try #require($0.value.table) }
    }

    @Test("says what it is")
    func meta() throws {
        let meta = try #require(try plan()["meta"]?.table)
        #expect(meta.keys == ["name", "schema_version", "source_of_truth", "doctor_command"])
        #expect(meta["schema_version"]?.string == "1.0")
        #expect(meta["doctor_command"]?.string == "\(Product.name) doctor --json")
        let source = try #require(meta["source_of_truth"]?.string)
        #expect(Files().exists(Layout.join(Pages.root, source)))
        let guidance = try #require(try plan()["rollback"]?.table?["guidance"]?.array)
        #expect(guidance.allSatisfy { $0.value.string?.isEmpty == false } && !guidance.isEmpty)
    }

    @Test("gives every step what the reader needs, and nothing else")
    func shape() throws {
        for step in try steps() {
            let id = step["id"]?.string ?? "(a step without id)"
            #expect(
                step.keys == ["id", "depends_on", "actor", "action", "idempotent", "validation"],
                "\(id)"
            )
            #expect(id.wholeMatch(of: /[a-z]+(-[a-z]+)*/) != nil)
            let actors = ["assistant", "human", "human_or_command_capable_assistant"]
            #expect(actors.contains(step["actor"]?.string ?? ""), "\(id)")
            #expect(step["idempotent"]?.boolean != nil, "\(id)")
            for key in ["action", "validation"] {
                let text = step[key]?.string ?? ""
                #expect(text.hasSuffix("."), "\(id): \(key)")
            }
        }
    }

    @Test(
        "has steps that can be done one after the other: no unknown step, no circle, one beginning, one end"
    )
    func order() throws {
        var waiting: [String: Set<String>] = [:]
        for step in try steps() {
            let id = try #require(step["id"]?.string)
            #expect(waiting[id] == nil, "'\(id)' is there twice")
            waiting[id] = Set(try #require(step["depends_on"]?.array).compactMap(\.value.string))
        }
        let needed = waiting.values.reduce(Set()) { $0.union($1) }
        #expect(needed.isSubset(of: Set(waiting.keys)))
        #expect(waiting.count { $0.value.isEmpty } == 1)
        #expect(Set(waiting.keys).subtracting(needed).count == 1)
        var done: Set<String> = []
        while let next = waiting.first(where: { $0.value.isSubset(of: done) }) {
            waiting[next.key] = nil
            done.insert(next.key)
        }
        #expect(waiting.isEmpty, "these wait for each other: \(waiting.keys.sorted())")
    }

    @Test("speaks of fields that the doctor's report has")
    func fields() throws {
        let schema = try JSON.parse(
            try Files().readText(Layout.join(Pages.root, "setup/status.schema.json"))
        )
        var count = 0
        for step in try steps() {
            let text = step["validation"]?.string ?? ""
            for match in text.matches(of: /\b([a-z_]+)\.([a-z_]+)\b/) {
                let section = try #require(
                    schema["properties"]?[String(match.output.1)],
                    "the report has no '\(match.output.1)'"
                )
                let field = section["properties"]?[String(match.output.2)]
                #expect(field != nil, "the report has no '\(match.output.0)'")
                count += 1
            }
        }
        #expect(count >= 4)
    }
}
