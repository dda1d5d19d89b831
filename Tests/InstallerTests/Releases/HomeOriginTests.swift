import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("A home that was moved, copied, or is reached by another path")
struct HomeOriginTests {
    private let files = Files()

    private func home(_ version: String) async throws -> ScratchHome {
        let home = try ScratchHome()
        let bytes = try await BundleFixture(version: version).tarGzip()
        _ = try await home.installation().install(try home.request(bytes, name: "\(version).tar.gz"))
        return home
    }

    @Test("believes no receipt that came with a copy of another home")
    func copiedHome() async throws {
        let home = try await home("1.0.0")
        let copy = home.layout.home + "-copy"
        let copied = try await home.machine().processes.run(
            Command("/bin/cp", ["-a", home.layout.home, copy])
        )
        #expect(copied.succeeded)
        let layout = try Layout(environment: home.environment.merging(["LLM_GATEWAY_HOME": copy]) { $1 })
        let known = try Receipt.known(layout, files: files)
        guard case .copied(home.layout.home)? = known.flaw else {
            Issue.record("the receipt of '\(home.layout.home)' is believed in '\(copy)'")
            return
        }
        #expect(known.receipt.created.allSatisfy { $0.path.hasPrefix(copy) })
        #expect(
            known.receipt.active?.sha256
                == (try Receipt.known(home.layout, files: files).receipt.active?.sha256)
        )
        let plan = try await Removal(layout: layout, files: files).planned(known.receipt, purge: true)
        #expect(plan.removals.allSatisfy { $0.path.hasPrefix(copy) })
        // By another path it is the same home.
        let link = home.layout.home + "-link"
        try files.link(link, to: home.layout.home)
        let other = try Layout(environment: home.environment.merging(["LLM_GATEWAY_HOME": link]) { $1 })
        #expect(try Receipt.known(other, files: files).flaw == nil)
    }

    @Test("knows a home that was moved, with what it made elsewhere, and mends its links")
    func movedHome() async throws {
        let home = try await home("1.0.0")
        let old = home.layout
        let unit = Layout.join(old.userUnits, "llm-cli-gateway.service")
        try files.makeDirectory(old.userUnits)
        try files.write(Array("a unit".utf8), to: unit)
        var receipt = try Receipt.read(old, files: files)
        receipt.note(Receipt.Created(path: unit, kind: .unit, sha256: SHA256.hex(Array("a unit".utf8))))
        receipt.enabledLinger = true
        try receipt.write(old, files: files)
        let place = old.home + "-moved"
        try files.rename(old.home, to: place)
        let layout = try Layout(environment: home.environment.merging(["LLM_GATEWAY_HOME": place]) { $1 })
        let known = try Receipt.known(layout, files: files)
        guard case .moved(old.home)? = known.flaw else {
            Issue.record("a moved home is taken for \(String(describing: known.flaw))")
            return
        }
        #expect(known.receipt.enabledLinger)
        #expect(known.receipt.entry(unit) != nil && known.receipt.entry(old.commandLink) != nil)
        #expect(known.receipt.created.allSatisfy { !$0.path.hasPrefix(old.home + "/") })
        // All of it goes with the program, wherever it is.
        let plan = try await Removal(layout: layout, files: files).planned(known.receipt, purge: true)
        #expect(Set([unit, old.commandLink, layout.current]).isSubset(of: plan.removals.map(\.path)))
        let (written, notice) = try Receipt.recovered(layout, files: files, now: Timestamp(milliseconds: 0))
        #expect(notice == "this home was moved here from '\(old.home)'; the receipt says so now")
        #expect(try Receipt.known(layout, files: files).flaw == nil)
        #expect(written.created == (try Receipt.read(layout, files: files).created))
    }

    private func layout(_ home: ScratchHome, at place: String) throws -> Layout {
        try Layout(environment: home.environment.merging(["LLM_GATEWAY_HOME": place]) { $1 })
    }

    @Test("knows a home that was moved also when there is something at its former place")
    func replacedHome() async throws {
        let home = try await home("1.0.0")
        let old = home.layout, place = old.home + "-moved"
        try files.rename(old.home, to: place)
        // As a gateway made it that had gone on.
        try files.makeDirectory(old.jobs)
        let layout = try layout(home, at: place)
        guard case .moved(old.home)? = try Receipt.known(layout, files: files).flaw else {
            Issue.record("a moved home is not known")
            return
        }
        #expect(try Receipt.known(layout, files: files).receipt.entry(old.commandLink) != nil)
    }

    @Test("knows a home that was moved to another file system, where a folder has another number")
    func otherFileSystem() async throws {
        let home = try await home("1.0.0")
        let old = home.layout, place = old.home + "-moved"
        let copied = try await home.machine().processes.run(Command("/bin/cp", ["-a", old.home, place]))
        #expect(copied.succeeded)
        try files.removeTree(old.home)
        let layout = try layout(home, at: place)
        guard case .moved(old.home)? = try Receipt.known(layout, files: files).flaw else {
            Issue.record("a moved home is not known")
            return
        }
        // Where the file system of then is away, it may have the original.
        var receipt = try Receipt.read(layout, files: files)
        receipt.device = (receipt.device ?? 0) &+ 1
        try files.write(Array(receipt.json.prettyText.utf8), to: layout.receipt)
        guard case .copied(old.home)? = try Receipt.known(layout, files: files).flaw else {
            Issue.record("a copy of a home that is away is taken for the home")
            return
        }
    }

    @Test("leaves to a new home at the former place what is that one's by now, units and link")
    func newHomeAtFormerPlace() async throws {
        let home = try await home("1.0.0")
        let old = home.layout, place = old.home + "-moved"
        let installation = UnitInstallation(layout: old, files: files)
        let units = UnitFiles(layout: old, settings: .standard, log: nil).all
        var receipt = try Receipt.read(old, files: files)
        _ = try installation.write(units, receipt: &receipt)
        try receipt.write(old, files: files)
        try files.rename(old.home, to: place)
        let layout = try layout(home, at: place)
        let paths = units.map { Layout.join(old.userUnits, $0.name) } + [old.commandLink]
        // With nobody there they are the moved one's to remove.
        let (moved, _) = try Receipt.recovered(layout, files: files, now: Timestamp(milliseconds: 0))
        #expect(paths.filter { moved.entry($0) == nil } == [])
        let bytes = try await BundleFixture(version: "1.0.0").tarGzip()
        _ = try await home.installation().install(try home.request(bytes, name: "again.tar.gz"))
        let (known, flaw) = try Receipt.known(layout, files: files)
        #expect(flaw == nil)
        #expect(paths.filter { known.entry($0) != nil } == [])
        let plan = try await Removal(layout: layout, files: files).planned(known, purge: true)
        #expect(
            plan.removals.filter { !$0.path.hasPrefix(place) }.map(\.kind).allSatisfy { $0 == .emptyFolder }
        )
        // For good: the new one may be moved away in its turn, and go on by its units.
        _ = try Receipt.recovered(layout, files: files, now: Timestamp(milliseconds: 0))
        #expect(paths.filter { path in (try? Receipt.read(layout, files: files).entry(path)) != nil } == [])
        // They are the new one's own, also where its receipt had been lost.
        let fresh = try Receipt.known(old, files: files).receipt
        #expect(fresh.entry(old.commandLink) != nil)
    }

    @Test("takes a whole home directory that was copied for what it is, and its link and units for its own")
    func copiedUserHome() async throws {
        let home = try await home("1.0.0")
        let user = home.layout.userHome, copy = user + "-copy"
        let unit = "llm-cli-gateway.service"
        try files.makeDirectory(home.layout.userUnits)
        try files.write(Array("a unit".utf8), to: Layout.join(home.layout.userUnits, unit))
        var receipt = try Receipt.read(home.layout, files: files)
        receipt.note(
            Receipt.Created(
                path: Layout.join(home.layout.userUnits, unit),
                kind: .unit,
                sha256: SHA256.hex(Array("a unit".utf8))
            )
        )
        try receipt.write(home.layout, files: files)
        defer { try? files.removeTree(copy) }
        let copied = try await home.machine().processes.run(Command("/bin/cp", ["-a", user, copy]))
        #expect(copied.succeeded)
        let layout = try Layout(environment: home.environment.merging(["HOME": copy]) { $1 })
        let (known, flaw) = try Receipt.known(layout, files: files)
        guard case .copied(home.layout.home)? = flaw else {
            Issue.record("a copied home is taken for \(String(describing: flaw))")
            return
        }
        #expect(known.created.allSatisfy { $0.path.hasPrefix(copy) })
        #expect(known.entry(Layout.join(layout.userUnits, unit)) != nil)
        #expect(known.entry(layout.commandLink)?.target == home.layout.currentManager)
        var mended = known
        var elsewhere = home
        elsewhere.layout = layout
        let installation = try elsewhere.installation()
        #expect(try installation.ensureCommandLink(&mended).allSatisfy { $0.contains("not on your PATH") })
        #expect(files.destination(ofLink: layout.commandLink) == layout.currentManager)
        #expect(files.destination(ofLink: home.layout.commandLink) == home.layout.currentManager)
    }

    @Test("a home goes by the name under which it was installed, however it is reached")
    func names() async throws {
        let home = try await home("1.0.0")
        let user = home.layout.userHome
        func layout(_ changes: [String: String]) throws -> Layout {
            try Layout(environment: home.environment.merging(changes) { $1 }).asInstalled(files: files)
        }
        let link = user + "-link"
        defer { try? files.removeFile(link) }
        try files.link(link, to: user)
        for changes in [
            [:], ["LLM_GATEWAY_HOME": home.layout.home], ["HOME": link],
            ["LLM_GATEWAY_HOME": Layout.join(link, ".llm-cli-gateway")],
        ] {
            #expect(try layout(changes) == home.layout, "\(changes)")
        }
        // Before anything is installed the default place has its name, and every other one its own.
        try files.removeFile(home.layout.receipt)
        #expect(try layout(["LLM_GATEWAY_HOME": Layout.join(link, ".llm-cli-gateway")]) == home.layout)
        let other = user + "/other"
        try files.makeDirectory(other)
        #expect(try layout(["LLM_GATEWAY_HOME": other]).home == other)
        #expect(try !layout(["LLM_GATEWAY_HOME": other]).isDefaultHome)
    }
}
