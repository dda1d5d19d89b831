import Appliance
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

@Suite("What a restore does with links of the user's")
struct LinkedRestorationTests {
    private let session: Session
    private let files = Files()
    private var layout: Layout { session.layout }
    private var archive: String { session.scratch.path("backup.tar.gz") }
    private static let names = ["auth-token", "config.toml", "environment", "settings.json"]

    /// A home whose four files of the user's are links, of which there is a backup.
    init() async throws {
        session = try Session()
        _ = await session.run("setup", "--port", "4001")
        try session.write("# old\n", session.layout.home + "/config.toml")
        for name in Self.names {
            let (path, place) = (session.layout.home + "/" + name, session.scratch.path("dotfiles/\(name)"))
            try session.write(try session.read(path), place)
            try Files().removeFile(path)
            try Files().link(path, to: place)
        }
        let answer = await session.run("backup", session.scratch.path("backup.tar.gz"), "--with-secrets")
        #expect(answer.code == .done, "\(answer.error)")
    }

    private func place(_ name: String) -> String { session.scratch.path("dotfiles/\(name)") }

    private func expectLinks() {
        for name in Self.names {
            #expect(files.destination(ofLink: Layout.join(layout.home, name)) == place(name))
        }
    }

    @Test("what they lead to and is the same stays as it is")
    func same() async throws {
        let answer = await session.run("restore", archive, "--json")
        #expect(answer.code == .done, "\(answer.output)\(answer.error)")
        let unchanged = (answer.json["unchanged"]?.array ?? []).compactMap(\.string)
        #expect(Set(unchanged).isSuperset(of: Self.names))
        #expect(answer.json["replaced"]?.array == [])
        expectLinks()
    }

    @Test("what they lead to and differs is written in its place, kept aside, and said")
    func written() async throws {
        let was = try Self.names.map { try session.read(place($0)) }
        try session.write("# new\n", place("config.toml"), mode: 0o644)
        try session.write(#"{"http_port": 4002}"#, place("settings.json"))
        try session.write("# mine\n", place("environment"))
        try session.write("other", place("auth-token"))
        let answer = await session.run("restore", archive, "--replace", "--json")
        #expect(answer.code == .done, "\(answer.output)\(answer.error)")
        expectLinks()
        #expect(try Self.names.map { try session.read(place($0)) } == was)
        #expect(try session.mode(place("config.toml")) == 0o644)
        let aside = try #require(answer.json["replaced_in"]?.string)
        #expect(try session.read(aside + "/settings.json") == #"{"http_port": 4002}"#)
        #expect(try session.read(aside + "/auth-token") == "other")
        let notices = answer.json["notices"]?.array ?? []
        #expect(
            notices.contains(
                .string("'settings.json' stays a link: the backup's goes to '\(place("settings.json"))'")
            )
        )
        #expect(try files.list(session.scratch.path("dotfiles")) == Self.names)
    }

    @Test("one that leads to no file goes aside as it is")
    func broken() async throws {
        try files.removeFile(place("config.toml"))
        let answer = await session.run("restore", archive, "--replace", "--json")
        #expect(answer.code == .done, "\(answer.output)\(answer.error)")
        #expect(try files.status(layout.home + "/config.toml")?.kind == .file)
        let aside = try #require(answer.json["replaced_in"]?.string)
        #expect(files.destination(ofLink: aside + "/config.toml") == place("config.toml"))
    }

    @Test("however often it is interrupted, the content of before is kept and the link stays, there and back")
    func interruptions() throws {
        let path = layout.home + "/config.toml"
        for steps in 0..<60 {
            try session.write("# before\n", place("config.toml"))
            try session.write("# restored\n", layout.staging + "/restore-1/home/config.toml")
            let there = RestoreJournal(
                source: layout.staging + "/restore-1/home",
                aside: layout.home + "/replaced-1",
                placed: ["config.toml"],
                removed: [],
                state: .placing
            )
            let back = RestoreJournal(
                source: there.aside,
                aside: there.aside + ".undone",
                placed: ["config.toml"],
                removed: [],
                state: .placing
            )
            for (journal, text) in [(there, "# restored\n"), (back, "# before\n")] {
                try journal.write(layout, files: files)
                let left = Mutex(steps)
                let failing = Files { _ throws(GatewayError) in
                    let isOver = left.withLock { left in
                        left -= 1
                        return left < 0
                    }
                    if isOver { throw GatewayError("killed", "killed") }
                }
                _ = try? RestoreJournal.recover(layout, files: failing)
                _ = try RestoreJournal.recover(layout, files: files)
                #expect(files.destination(ofLink: path) == place("config.toml"))
                #expect(try session.read(place("config.toml")) == text, "step \(steps)")
                #expect(try files.list(journal.aside) == ["config.toml"])
            }
            #expect(try session.read(back.aside + "/config.toml") == "# restored\n")
            for name in [there.aside, back.aside] { try files.removeTree(name) }
        }
    }
}
