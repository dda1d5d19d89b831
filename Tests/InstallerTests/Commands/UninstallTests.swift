import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Planning to uninstall")
struct UninstallPlanTests {
    private let layout: Layout
    private var receipt = Receipt()

    init() throws {
        layout = try Layout(environment: ["HOME": "/home/user"])
        receipt.note(Receipt.Created(path: layout.home, kind: .directory))
        receipt.note(Receipt.Created(path: "/home/user/.config/systemd/user", kind: .directory))
        receipt.note(Receipt.Created(path: "/home/user/.config", kind: .directory))
        receipt.note(Receipt.Created(path: "/u.service", kind: .unit, sha256: "1"))
        receipt.note(Receipt.Created(path: layout.commandLink, kind: .link, target: "/m"))
    }

    private func plan(
        _ there: [String: UninstallPlan.Present],
        names: [String] = [],
        inside: [String: [String]] = [:],
        altered: [String: [BundleManifest.Finding]] = [:],
        purge: Bool = false
    ) throws -> UninstallPlan {
        let listed = [layout.home: names].merging(inside) { $1 }
        return try UninstallPlan(
            receipt: receipt,
            layout: layout,
            purge: purge,
            list: { listed[$0] ?? [] },
            altered: { altered[$0.directory] ?? [] },
            present: { there[$0] }
        )
    }

    @Test("removes what is as it was made, the deepest folder first")
    func ours() throws {
        let plan = try plan([
            "/u.service": .init(kind: .file, sha256: "1"),
            layout.commandLink: .init(kind: .link, target: "/m"),
            "/home/user/.config": .init(kind: .directory),
            "/home/user/.config/systemd/user": .init(kind: .directory),
        ])
        #expect(
            plan.removals.map(\.path) == [
                "/u.service", layout.commandLink, "/home/user/.config/systemd/user", "/home/user/.config",
                layout.home,
            ]
        )
        #expect(plan.removals.suffix(3).allSatisfy { $0.kind == .emptyFolder })
        #expect(plan.kept.isEmpty)
    }

    @Test("keeps what was changed, and what became of another kind")
    func changed() throws {
        let plan = try plan([
            "/u.service": .init(kind: .file, sha256: "2"),
            layout.commandLink: .init(kind: .link, target: "/elsewhere"),
            "/home/user/.config": .init(kind: .link, target: "/data"),
        ])
        #expect(plan.removals.map(\.path) == [layout.home])
        #expect(plan.kept.map(\.path) == ["/home/user/.config", "/u.service", layout.commandLink])
    }

    @Test("keeps the user's data unless told to purge, and strangers always")
    func data() throws {
        let names = [
            "auth-token", "logs.db", "logs.db-wal", "config.toml", "settings.json.corrupt-1", "notes.txt",
        ]
        let kept = try plan([:], names: names)
        #expect(kept.removals.map(\.path) == [layout.home])
        #expect(kept.kept.count == names.count)
        let purged = try plan([:], names: names, purge: true)
        #expect(purged.removals.count == names.count)
        #expect(purged.kept.map(\.path) == [layout.home + "/notes.txt"])
    }

    @Test("removes what it keeps for its own use, before the receipt")
    func bookkeeping() throws {
        let file = UninstallPlan.Present(kind: .file)
        let plan = try plan(
            [layout.upgradeRecord: file, layout.receipt: file, layout.lock: file],
            names: ["auto-upgrade.json", "receipt.json", ".lock"]
        )
        #expect(
            plan.removals.map(\.path) == [layout.upgradeRecord, layout.receipt, layout.lock, layout.home]
        )
        #expect(plan.kept.isEmpty)
    }

    @Test("removes from its working folders only what bears a name of its own")
    func workingFolders() throws {
        let digest = String(repeating: "a", count: 64)
        let folders = [layout.cache, layout.staging, layout.logs]
        let plan = try plan(
            Dictionary(uniqueKeysWithValues: folders.map { ($0, .init(kind: .directory)) }),
            inside: [
                layout.cache: [digest + ".part", "precious"],
                layout.staging: ["0123456789abcdef", "draft"],
                layout.logs: ["gateway.log", "gateway.log.1", "gateway.login"],
            ]
        )
        #expect(
            plan.kept.map(\.path) == [
                layout.cache + "/precious", layout.staging + "/draft", layout.logs + "/gateway.login",
            ]
        )
        #expect(plan.removals.filter { folders.contains($0.path) }.allSatisfy { $0.kind == .emptyFolder })
        #expect(plan.removals.contains { $0.path == layout.cache + "/" + digest + ".part" })
    }

    @Test("leaves a home that was there before")
    func foreignHome() throws {
        var other = self
        other.receipt.forget(layout.home)
        #expect(try other.plan([:]).removals.isEmpty)
    }
}

@Suite("Uninstalling")
struct UninstallTests {
    @Test(
        "touches nothing in a folder that LLM_GATEWAY_HOME names by mistake",
        arguments: [
            ["setup"], ["uninstall", "--yes", "--purge"], ["repair"],
            [
                "install-bundle", "--url", "file:///etc/hostname", "--sha256",
                String(repeating: "a", count: 64),
            ],
        ]
    )
    func strangersFolder(words: [String]) async throws {
        let session = try Session()
        let project = session.scratch.path("project")
        for name in ["config.toml", "jobs/notes", "staging/draft", "cache/precious"] {
            try session.write("mine", "\(project)/\(name)")
        }
        try session.write("all: test", project + "/Makefile")
        try Files().changeMode(project, to: 0o755)
        let answer = await session.run(words, with: ["LLM_GATEWAY_HOME": project])
        #expect(answer.code == .usage)
        #expect(
            answer.error == """
                error: LLM_GATEWAY_HOME is '\(project)', a folder that holds other things, such as 'Makefile'
                help: choose an empty folder, or one that does not exist yet

                """
        )
        #expect(try Files().list(project) == ["Makefile", "cache", "config.toml", "jobs", "staging"])
        #expect(try session.mode(project) == 0o755)
    }

    @Test("takes a home for its own that only a gateway or its user has touched so far")
    func untouchedHome() async throws {
        let session = try Session()
        let home = session.scratch.path("second")
        for name in ["config.toml", "logs.db", "logs.db-wal", "sessions.json.lock"] {
            try session.write("", "\(home)/\(name)")
        }
        #expect(await session.run(["setup"], with: ["LLM_GATEWAY_HOME": home]).code == .done)
    }

    @Test("says what a home is that is no folder")
    func noFolder() async throws {
        let session = try Session()
        try session.write("", session.layout.home)
        let answer = await session.run("setup")
        #expect(answer.error.hasPrefix("error: '\(session.layout.home)' is not a directory\nhelp: move"))
        try Files().link(session.layout.home, to: "nowhere")
        #expect(await session.run("setup").error.contains("is a link that leads nowhere"))
    }

    @Test("lists, changes nothing, and says how to go on")
    func listing() async throws {
        let session = try Session()
        _ = await session.run("setup")
        let before = try Files().list(session.layout.home)
        let answer = await session.run("uninstall")
        #expect(answer.json["removed"]?.bool == false && answer.json["action"]?.string == "uninstall")
        #expect(answer.json["would_remove"]?.array?.isEmpty == false)
        #expect(try Files().list(session.layout.home) == before)
    }

    @Test("asks on a terminal", arguments: ["", "n", "no"])
    func asking(answer: String) async throws {
        let session = try Session(typed: answer)
        _ = await session.run("setup")
        let output = await session.run("uninstall").output
        #expect(output.contains("Remove this? [y/N] ") && output.hasSuffix("note: nothing was removed\n"))
        #expect(Files().exists(session.layout.authToken))
    }

    @Test("keeps the user's data, and with --purge leaves nothing behind")
    func removing() async throws {
        let session = try Session()
        _ = await session.run("setup")
        #expect(await session.run("uninstall", "--yes").json["removed"]?.bool == true)
        #expect(try Files().list(session.layout.home) == ["auth-token", "environment"])
        _ = await session.run("setup")
        let typed = await session.run("uninstall", "-y", "--purge")
        #expect(typed.code == .done)
        // The second `setup` found the folder there: it is not ours by the receipt, but purging includes it.
        #expect(try Files().list(session.layout.userHome) == [])
        let gone = await session.run("uninstall", "--yes")
        #expect(gone.json["note"]?.string == "App directory already absent; nothing to remove.")
    }

    @Test(
        "takes away what a home that was removed by hand has left elsewhere, and its units whatever port they name"
    )
    func removedHome() async throws {
        let session = try Session()
        let layout = session.layout, files = Files()
        #expect(await session.run("setup", "--port", "4711").code == .done)
        let machine = Machine(
            environment: session.environment,
            files: files,
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: Terminal(write: { _ in }, writeError: { _ in })
        )
        let units = try GatewayService(machine: machine).units.map { unit in
            try session.write(unit.text, Layout.join(layout.userUnits, unit.name), mode: 0o644)
            return Layout.join(layout.userUnits, unit.name)
        }
        #expect(units.count == 5)
        try files.makeDirectory(Files.parent(of: layout.commandLink))
        try files.link(layout.commandLink, to: layout.currentManager)
        try files.removeTree(layout.home)
        let listing = await session.run("uninstall").json
        let listed = listing["would_remove"]?.array?.compactMap(\.string) ?? []
        #expect(Set(units + [layout.commandLink]).isSubset(of: listed), "\(listing.prettyText)")
        #expect(
            listing["notices"]?.array == [
                .string("'\(layout.home)' does not exist; this is what it left elsewhere")
            ]
        )
        #expect(!files.exists(layout.home))
        let answer = await session.run("uninstall", "--yes")
        #expect(answer.json["removed"]?.bool == true, "\(answer.output)\(answer.error)")
        #expect((units + [layout.commandLink, layout.home]).filter(files.exists) == [])
        let gone = await session.run("uninstall", "--yes")
        #expect(gone.json["note"]?.string == "App directory already absent; nothing to remove.")
    }

    @Test("takes what killed writes left with it", arguments: [[], ["--purge"]])
    func stagedFiles(more: [String]) async throws {
        let session = try Session()
        _ = await session.run("setup")
        let layout = session.layout
        let staged = [layout.authToken, layout.environmentFile, layout.receipt].map { "\($0).tmp.4194305.7" }
        for path in staged { try session.write("secret", path) }
        #expect(await session.run(["uninstall", "--yes"] + more).code == .done)
        #expect(staged.filter { Files().exists($0) } == [])
    }

    @Test("keeps what others put among the files of a version, and without --purge what they changed")
    func alteredVersion() async throws {
        for purge in [false, true] {
            let home = try ScratchHome()
            _ = try await home.installation().install(try home.request(try await BundleFixture().tarGzip()))
            let root = home.layout.version("9.9.9")
            try Files().write(Array("mine".utf8), to: root + "/setup/notes.txt")
            try Files().write(Array("edited".utf8), to: root + "/setup/ui/index.html", mode: 0o644)
            let outcome = try #require(try await home.installation().uninstall(purge: purge))
            let left = try home.tree().filter {
                !$0.hasPrefix(".local") && $0.contains(".") && $0.contains("setup/")
            }
            let version = ".llm-cli-gateway/versions/9.9.9"
            let edited = purge ? [] : ["\(version)/setup/ui", "\(version)/setup/ui/index.html"]
            #expect(left == ["\(version)/setup/notes.txt"] + edited)
            #expect(outcome.plan.kept.map(\.path).contains(root + "/setup/notes.txt"))
            #expect(!Files().exists(home.layout.current) && !Files().exists(root + "/bin"))
        }
    }

    @Test("leaves a home that is a link, and what is not ours in it")
    func linkedHome() async throws {
        let session = try Session()
        let real = session.scratch.path("elsewhere")
        try session.write("keep", real + "/notes.txt")
        try Files().link(session.layout.home, to: real)
        _ = await session.run("setup")
        let answer = await session.run("uninstall", "--yes", "--purge")
        #expect(answer.code == .done, "\(answer.error)")
        #expect(try Files().list(real) == ["notes.txt"])
        #expect(Files().exists(session.layout.home))
    }
}
