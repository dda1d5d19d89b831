import Appliance
import Platform
import TestSupport
import Testing

@testable import Installer

@Suite("Stopping what an interrupted command would start again")
struct ForgottenStartsTests {
    private let session: Session
    private let files = Files()
    private var layout: Layout { session.layout }

    init() async throws {
        session = try Session()
        _ = await session.run("setup")
    }

    private func writeJournal(_ state: RestoreJournal.State) throws {
        let staging = Layout.join(layout.staging, RestoreJournal.stagingPrefix + "1")
        try session.write("restored", Layout.join(staging, "home/notes.md"))
        try RestoreJournal(
            source: Layout.join(staging, "home"),
            aside: Layout.join(layout.home, Layout.replacedPrefix + "1"),
            placed: ["notes.md"],
            removed: [],
            wasRunning: true,
            state: state
        )
        .write(layout, files: files)
    }

    @Test(
        "holds after a restore that did not come to its end",
        arguments: [RestoreJournal.State.stopping, .placing]
    )
    func restore(state: RestoreJournal.State) async throws {
        try writeJournal(state)
        #expect(await session.run("stop").code == .done)
        let journal = try #require(try RestoreJournal.read(layout, files: files))
        #expect(!journal.wasRunning && journal.state == state)
        let answer = await session.run("setup")
        #expect(answer.output.contains("interrupted restore"), "\(answer.output)")
        #expect(!answer.output.contains("which a restore had stopped"), "\(answer.output)")
        #expect(!files.exists(layout.restoration) && !files.exists(layout.pendingStart))
        #expect(files.exists(Layout.join(layout.home, "notes.md")) == (state == .placing))
    }

    @Test("holds when the restore was done but for the start")
    func pendingStart() async throws {
        try session.write("", layout.pendingStart)
        #expect(await session.run("stop").code == .done)
        #expect(!files.exists(layout.pendingStart))
    }

    @Test("holds after an uninstall that did not come to its end; what starts with the session still does")
    func uninstall() async throws {
        var standing = ServiceStanding()
        let units = ["\(layout.unitName).service", "\(layout.unitName).socket"]
        let timer = "\(layout.upgradeUnitName).timer"
        standing.enabled = units
        standing.active = units + [timer]
        standing.isDetached = true
        var receipt = try Receipt.read(layout, files: files)
        receipt.operation = Receipt.Operation(
            verb: Receipt.Operation.uninstall,
            service: standing,
            startedAt: Timestamp(milliseconds: 0)
        )
        try receipt.write(layout, files: files)
        #expect(await session.run("stop").code == .done)
        let service = try Receipt.read(layout, files: files).operation?.service
        #expect(service?.enabled == units && service?.active == [timer] && service?.isDetached == false)
    }

    @Test("takes no lock and makes nothing where there is nothing to forget")
    func nothing() async throws {
        let lock = try FileLock.attempt(layout.lock)
        #expect(await session.run("stop").code == .done)
        withExtendedLifetime(lock) {}
        let empty = try Session()
        #expect(await empty.run("stop").code == .done)
        #expect(!files.exists(empty.layout.home))
    }

    @Test("goes on when the journals cannot be read")
    func unreadable() async throws {
        try session.write("{}", layout.restoration)
        try session.write("[]", layout.receipt)
        #expect(await session.run("stop").code == .done)
    }
}
