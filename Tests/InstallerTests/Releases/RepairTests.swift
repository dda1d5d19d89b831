import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

@Suite("Repairing")
struct RepairTests {
    private let files = Files()

    /// A home with these versions, the last one in use.
    private func home(_ versions: String...) async throws -> ScratchHome {
        let home = try ScratchHome()
        for version in versions {
            let bytes = try await BundleFixture(version: version).tarGzip()
            _ = try await home.installation().install(try home.request(bytes, name: "\(version).tar.gz"))
        }
        return home
    }

    private func expectWhole(_ home: ScratchHome, at location: SourceLocation = #_sourceLocation) throws {
        let plan = try home.installation().repairPlan()
        #expect(plan.isEmpty, "\(plan)", sourceLocation: location)
    }

    @Test("sets modes, makes links, removes leftovers; a dry run says as much and changes nothing")
    func modesAndLinks() async throws {
        let home = try await home("9.9.9")
        try files.write([0x61], to: home.layout.authToken, mode: 0o644)
        try files.changeMode(home.layout.version("9.9.9") + "/bin/llm-gateway", to: 0o600)
        try files.removeFile(home.layout.current)
        try files.removeFile(home.layout.commandLink)
        try files.makeDirectory(Layout.join(home.layout.staging, "0123456789abcdef"))
        let before = try home.tree()
        let plan = try home.installation().repairPlan()
        #expect(try home.tree() == before)
        #expect(plan.steps.count == 5)
        #expect(plan.remaining.isEmpty)
        let (done, _) = try await home.installation().repair()
        #expect(Set(done.steps.map(\.sentence)) == Set(plan.steps.map(\.sentence)))
        try expectWhole(home)
        #expect(try files.status(home.layout.authToken)?.mode == 0o600)
        #expect(try await home.runs() == "9.9.9")
    }

    @Test("takes only a version of its own home for the one in use", arguments: [true, false])
    func strayedCurrent(isRelative: Bool) async throws {
        let home = try await home("1.0.0"), other = try await self.home("2.0.0")
        let layout = home.layout
        var target = other.layout.version("2.0.0")
        if isRelative {
            try files.link(layout.home + "/other", to: other.layout.home)
            target = "other/versions/2.0.0"
        }
        try files.link(layout.current, to: target)
        #expect(InstalledVersions.current(layout, files: files) == nil)
        let service = try GatewayService(machine: home.machine())
        let refused = await refusal { try await service.start() }
        #expect(refused.code == "gateway-missing" && refused.help == "run: llm-cli-gateway repair")
        #expect(
            refused.message == "'\(layout.current)' leads to '\(target)', which is no version of this home"
        )
        let plan = try home.installation().repairPlan()
        #expect(plan.steps.map(\.sentence) == ["point 'current' at version '1.0.0'"])
        _ = try await home.installation().repair()
        #expect(try await home.runs() == "1.0.0")
        try expectWhole(home)
    }

    @Test("knows its versions by every name that its home has")
    func linkedHome() async throws {
        let home = try await home("1.0.0")
        let name = home.scratch.path("other-name")
        try files.link(name, to: home.layout.home)
        try files.link(home.layout.current, to: name + "/versions/1.0.0")
        #expect(InstalledVersions.current(home.layout, files: files) == "1.0.0")
        try files.link(home.layout.current, to: name + "/versions/..")
        #expect(InstalledVersions.current(home.layout, files: files) == nil)
    }

    @Test("says what stands in the place of the link to the version in use")
    func foldersForCurrent() async throws {
        let home = try await home("1.0.0")
        try files.removeFile(home.layout.current)
        try files.makeDirectory(home.layout.current)
        let (done, _) = try await home.installation().repair()
        #expect(
            done.remaining == [
                "'\(home.layout.current)' is no link to a version; move it away, then run the command again"
            ]
        )
    }

    @Test("installs nothing beside a folder in the place of the link to the version in use")
    func folderBeforeInstalling() async throws {
        let home = try await home("1.0.0")
        try files.removeFile(home.layout.current)
        try files.makeDirectory(home.layout.current)
        let request = try home.request(try await BundleFixture(version: "2.0.0").tarGzip(), name: "b.tar.gz")
        let error = await #expect(throws: GatewayError.self) {
            try await home.installation().install(request)
        }
        #expect(
            error?.message
                == "'\(home.layout.current)' is no link to a version, so nothing can be switched to"
        )
        #expect(try Receipt.read(home.layout, files: files).operation == nil)
    }

    @Test("follows no link to look for leftovers")
    func links() async throws {
        let home = try await home("9.9.9")
        let elsewhere = home.layout.home + "-elsewhere"
        let theirs = ["\(elsewhere)/data.tmp.100.200", "\(elsewhere)/0123456789abcdef/file"]
        for path in theirs {
            try files.makeDirectory(Files.parent(of: path))
            try files.write([0x61], to: path)
        }
        defer { try? files.removeTree(elsewhere) }
        try files.link(Layout.join(home.layout.versions, "dev"), to: elsewhere)
        try files.removeTree(home.layout.staging)
        try files.link(home.layout.staging, to: elsewhere)
        #expect(try home.installation().leftovers() == [])
        _ = try await home.installation().repair()
        for path in theirs { #expect(files.exists(path)) }
    }

    @Test("brings a file back from the other version, with its content and mode")
    func fromTheOtherVersion() async throws {
        let home = try await home("1.0.0", "2.0.0")
        let library = home.layout.version("2.0.0") + "/lib/libexample.so.1"
        let wanted = try files.read(library)
        try files.write([1], to: library, mode: 0o644)
        let service = ScriptedService(home.layout, running: true)
        let (done, notices) = try await home.installation(service: service).repair()
        #expect(
            done.steps.map(\.sentence) == [
                "restore '\(library)' from '\(home.layout.version("1.0.0"))/lib/libexample.so.1'"
            ]
        )
        #expect(try files.read(library) == wanted)
        #expect(try files.status(library)?.mode == 0o644)
        // What runs may have loaded the altered library.
        #expect(notices == ["the gateway was restarted"])
        #expect(service.state.withLock { $0.restartedWith } == ["2.0.0"])
        try expectWhole(home)
    }

    @Test("writes through no link to a folder: it is moved aside, and the folder made again")
    func linkedFolder() async throws {
        let home = try await home("1.0.0", "2.0.0")
        let root = home.layout.version("2.0.0"), elsewhere = home.layout.home + "-theirs"
        defer { try? files.removeTree(elsewhere) }
        try files.makeDirectory(elsewhere)
        try files.write([7], to: elsewhere + "/libexample.so.1")
        try files.removeTree(root + "/lib")
        try files.link(root + "/lib", to: elsewhere)
        let plan = try home.installation().repairPlan()
        #expect(
            plan.steps.map(\.sentence) == [
                "move '\(root)/lib' aside, which is in the place of a file or folder of the version",
                "restore '\(root)/lib/libexample.so.1' from '\(home.layout.version("1.0.0"))/lib/libexample.so.1'",
            ]
        )
        #expect(plan.remaining.isEmpty)
        let (done, notices) = try await home.installation().repair()
        #expect(done.steps == plan.steps && done.remaining.isEmpty)
        let aside = try #require(
            try files.list(home.layout.home).first { $0.hasPrefix(Layout.replacedPrefix) }
        )
        #expect(notices == ["'\(root)/lib' is kept as '\(home.layout.home)/\(aside)'"])
        #expect(files.destination(ofLink: Layout.join(home.layout.home, aside)) == elsewhere)
        #expect(try files.read(elsewhere + "/libexample.so.1") == [7])
        #expect(try files.list(elsewhere) == ["libexample.so.1"])
        try expectWhole(home)
    }

    @Test("moves a folder aside that is in the place of a file, with all that is in it")
    func folderForFile() async throws {
        let home = try await home("1.0.0", "2.0.0")
        let library = home.layout.version("2.0.0") + "/lib/libexample.so.1"
        try files.removeFile(library)
        try files.makeDirectory(library)
        try files.write([7], to: library + "/mine")
        let (done, _) = try await home.installation().repair()
        #expect(done.steps.count == 2 && done.remaining.isEmpty, "\(done)")
        let aside = try #require(
            try files.list(home.layout.home).first { $0.hasPrefix(Layout.replacedPrefix) }
        )
        #expect(try files.read("\(home.layout.home)/\(aside)/mine") == [7])
        try expectWhole(home)
    }

    @Test("takes a version that is a link to a folder for damaged, and leaves what it leads to")
    func linkedVersion() async throws {
        let home = try await home("1.0.0", "2.0.0")
        let root = home.layout.version("2.0.0"), elsewhere = home.layout.home + "-theirs"
        defer { try? files.removeTree(elsewhere) }
        try files.rename(root, to: elsewhere)
        try files.removeFile(elsewhere + "/setup/ui/index.html")
        try files.link(root, to: elsewhere)
        let before = try files.list(elsewhere)
        _ = try await home.installation().repair()
        #expect(try files.list(home.layout.versions) == ["1.0.0", "2.0.0.r2"])
        #expect(try files.list(elsewhere) == before && !files.exists(elsewhere + "/setup/ui/index.html"))
        #expect(try await home.runs() == "2.0.0")
        try expectWhole(home)
    }

    @Test("installs a damaged version again from its bundle, bit for bit, and keeps the other")
    func fromTheBundle() async throws {
        let home = try await home("1.0.0", "2.0.0")
        let before = try Receipt.read(home.layout, files: files)
        let page = home.layout.version("2.0.0") + "/setup/ui/index.html"
        try files.removeFile(page)
        let plan = try home.installation().repairPlan()
        #expect(
            plan.steps.map(\.sentence) == [
                "install version 2.0.0 again from 'file://\(home.scratch.path("2.0.0.tar.gz"))', because 'setup/ui/index.html' is missing"
            ]
        )
        _ = try await home.installation().repair()
        let after = try Receipt.read(home.layout, files: files)
        #expect(after.installed.map(\.directory) == ["2.0.0.r2", "1.0.0"])
        #expect(after.active?.manifestSHA256 == before.active?.manifestSHA256)
        #expect(after.active?.source == before.active?.source)
        #expect(try files.list(home.layout.versions) == ["1.0.0", "2.0.0.r2"])
        try expectWhole(home)
    }

    @Test(
        "installs a version again whose manifest is a folder, or longer than any",
        arguments: [true, false]
    )
    func impossibleManifest(isFolder: Bool) async throws {
        let home = try await home("1.0.0", "2.0.0")
        let manifest = Layout.join(home.layout.version("2.0.0"), BundleManifest.name)
        try files.removeFile(manifest)
        if isFolder {
            try files.makeDirectory(manifest)
        } else {
            try files.write([UInt8](repeating: 0x20, count: BundleManifest.limit + 1), to: manifest)
        }
        let (done, _) = try await home.installation().repair()
        #expect(done.remaining.isEmpty, "\(done)")
        #expect(try await home.runs() == "2.0.0")
        try expectWhole(home)
    }

    @Test("installs the kept version again without touching the one in use")
    func keptVersion() async throws {
        let home = try await home("1.0.0", "2.0.0")
        try files.removeFile(home.layout.version("1.0.0") + "/manifest.json")
        let service = ScriptedService(home.layout, running: true)
        _ = try await home.installation(service: service).repair()
        #expect(try files.list(home.layout.versions) == ["1.0.0.r2", "2.0.0"])
        #expect(service.state.withLock { $0.restartedWith } == [])
        try expectWhole(home)
        #expect(try await home.installation().rollback(to: nil).installed.directory == "1.0.0.r2")
        #expect(try await home.runs() == "1.0.0")
    }

    @Test("uses the intact version when the bundle of the damaged one has gone, and says what remains")
    func switches() async throws {
        let home = try await home("1.0.0", "2.0.0")
        try files.removeFile(home.scratch.path("2.0.0.tar.gz"))
        try files.removeFile(home.layout.version("2.0.0") + "/bin/llm-gateway")
        let service = ScriptedService(home.layout, running: true)
        let (done, _) = try await home.installation(service: service).repair()
        #expect(done.steps.map(\.sentence) == ["point 'current' at version '1.0.0'"])
        #expect(done.remaining.count == 1)
        #expect(done.remaining[0].hasPrefix("version 2.0.0 is damaged and could not be installed again ("))
        #expect(done.remaining[0].contains("2.0.0.tar.gz"))
        #expect(try await home.runs() == "1.0.0")
        #expect(service.state.withLock { $0.restartedWith } == ["1.0.0"])
    }

    @Test("does not take another bundle that is at the place of the first by now")
    func replacedBundle() async throws {
        let home = try await home("2.0.0")
        try files.removeFile(home.layout.version("2.0.0") + "/setup/ui/index.html")
        _ = try home.scratch.write(try await BundleFixture(version: "6.6.6").tarGzip(), "2.0.0.tar.gz")
        let (done, _) = try await home.installation().repair()
        #expect(done.remaining.count == 1)
        #expect(done.remaining[0].contains("2.0.0"))
        #expect(try await home.runs() == "2.0.0")
        #expect(try files.list(home.layout.versions) == ["2.0.0"])
    }

    @Test("removes what a killed write left, anywhere, and nothing that only looks like it")
    func stagedFiles() async throws {
        let home = try await home("1.0.0")
        let layout = home.layout
        try files.write([0x61], to: layout.authToken)
        let gone = [
            layout.authToken, layout.settings, layout.environmentFile, layout.receipt, layout.current,
            layout.commandLink, layout.version("1.0.0") + "/lib/libexample.so.1",
        ].map { "\($0).tmp.4194000.17" }
        // 4194304 is above every process number that Linux gives.
        let shared = ["sessions.json", "config.toml", "supervisor.json"].map {
            Layout.join(layout.home, "\($0).tmp.4194305.4294967295")
        }
        try files.makeDirectory(layout.job("job-1"))
        let job = layout.job("job-1") + "/exit.json.tmp.4194305.5"
        let mine = [
            "auth-token.tmp", "auth-token.tmp.1", "auth-token.tmp.1.x", "notes.tmp.4194305.17",
            "auth-token.tmp.01.2",
            "auth-token.tmp.1.4294967296", "auth-tokens.tmp.4194305.1",
            // The process lives and may still be writing.
            "sessions.json.tmp.\(getpid()).1",
        ].map { Layout.join(layout.home, $0) }
        for path in gone + shared + [job] + mine { try files.write([0], to: path, durable: false) }
        let plan = try home.installation().repairPlan()
        #expect(
            Set(plan.steps.map(\.sentence))
                == Set((gone + shared + [job]).map { "remove '\($0)', left by an interrupted command" })
        )
        _ = try await home.installation().repair()
        #expect((gone + shared + [job]).filter(files.exists) == [])
        #expect(mine.filter { !files.exists($0) } == [])
        try expectWhole(home)
    }

    @Test("begins a receipt anew that was removed")
    func missingReceipt() async throws {
        let home = try await home("1.0.0", "2.0.0")
        try files.removeFile(home.layout.receipt)
        let (done, notices) = try await home.installation().repair()
        #expect(done.steps.count == 1)
        #expect(notices == ["the receipt was missing; it was begun anew from what is installed"])
        #expect(try Receipt.read(home.layout, files: files).installed.map(\.version) == ["2.0.0", "1.0.0"])
        try expectWhole(home)
    }

    @Test("writes a unit that is gone, and leaves one that was edited")
    func units() async throws {
        let home = try await home("1.0.0")
        let units = UnitFiles(layout: home.layout, settings: .standard, log: nil)
        var receipt = try Receipt.read(home.layout, files: files)
        _ = try UnitInstallation(layout: home.layout, files: files).write(units.all, receipt: &receipt)
        try receipt.write(home.layout, files: files)
        let paths = units.all.map { Layout.join(home.layout.userUnits, $0.name) }
        try files.removeFile(paths[1])
        try files.write(Array("mine".utf8), to: paths[2])
        var installation = try home.installation()
        installation.units = units.all
        #expect(try installation.repairPlan().steps == [.writeUnit(path: paths[1])])
        let (_, notices) = try await installation.repair()
        #expect(try files.readText(paths[1]) == units.socket.text)
        #expect(try files.readText(paths[2]) == "mine")
        #expect(notices.count == 1 && notices[0].hasPrefix("'\(paths[2])' was not written by this program"))
        #expect(try installation.repairPlan().isEmpty)
    }
}
