import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

@Suite("Deciding what is carried to another home")
struct HomeContentsTests {
    @Test("carries what is the user's, and nothing of the program or the machine")
    func names() {
        for name in [
            "auth-token", "environment", "settings.json", "config.toml", "logs.db", "notes.md", "skills",
        ] {
            #expect(HomeContents.isCarried(name), "\(name)")
        }
        for name in [
            "versions", "current", "receipt.json", "receipt.json.damaged-1", ".lock", "logs.db-wal",
            "logs.db-shm",
            "logs.db.lock", "staging", "cache", "log", "jobs", "supervisor.json", "restore.json",
            "takeover.json",
            "reference", "replaced-2026", "gateway.pid", "settings.json.tmp.1.2", "lost+found",
            "auto-upgrade.json",
        ] { #expect(!HomeContents.isCarried(name), "\(name)") }
    }

    @Test(
        "takes files for secrets whose names speak of them",
        arguments: [
            "auth-token", "environment", "environment.bak", "x/server.key", "id_ed25519", "my-token.txt",
            ".env", "settings.json.corrupt-17", "config.toml.bak",
        ]
    )
    func secrets(name: String) {
        #expect(HomeContents.isSecret(name))
        #expect(
            !["logs.db", "notes.md", "settings.json", "config.toml"].contains(where: HomeContents.isSecret)
        )
    }

    @Test("takes secret values out of a configuration, and keeps the rest to the byte")
    func configuration() throws {
        let text = """
            # dsn = "in a comment"
            [persistence]
            backend = "sqlite" # mine
            dsn = "postgres://me:password@host/db"
            [providers.xai]
            api_key_env = "XAI_API_KEY"
            [[http.oauth.clients]]
            client_secret_hash = 'scrypt:abcdefgh'

            """
        let clean = try #require(HomeContents.withoutSecrets(configuration: Array(text.utf8)))
        let wanted = text.replacing("postgres://me:password@host/db", with: "").replacing(
            "scrypt:abcdefgh",
            with: ""
        ).replacing(#"# dsn = "in a comment""#, with: "# left out of the backup")
        #expect(String(decoding: clean, as: UTF8.self) == wanted)
    }

    @Test(
        "gives up on a configuration that it cannot be sure of",
        arguments: [
            // The value stands in the text otherwise than it is read.
            #"dsn = "postgres:\u002f\u002fme:password@host/db""#,
            // So short a text may stand anywhere.
            #"dsn = "a""#, "dsn = ", "title = 'password1'\ndsn = 'password1'",
        ]
    )
    func unsure(text: String) { #expect(HomeContents.withoutSecrets(configuration: Array(text.utf8)) == nil) }

    @Test("takes out of the settings what lets somebody in")
    func settings() throws {
        let text =
            #"{"http_port":4001,"chatgpt_no_auth_path":"/x","public_url":"https://u:p@me.example/mcp","mine":1}"#
        let clean = try #require(HomeContents.withoutSecrets(settings: Array(text.utf8)))
        #expect(try Settings.document(of: clean).members.map(\.name) == ["http_port", "mine"])
        #expect(HomeContents.withoutSecrets(settings: Array("{".utf8)) == nil)
    }
}

@Suite("Writing an archive")
struct ArchiveWriterTests {
    @Test("writes what tar reads, with long names and files of every size")
    func roundTrip() async throws {
        let scratch = try TemporaryDirectory()
        defer { withExtendedLifetime(scratch) {} }
        let path = scratch.path("a.tar.gz")
        let descriptor = open(path, O_RDWR | O_CREAT, 0o600)
        let long = (0..<30).map { "folder-\($0)" }.joined(separator: "/") + "/file"
        let contents: [(String, [UInt8])] = [
            ("empty", []), ("one", [1]), ("block", [UInt8](repeating: 7, count: 512)),
            (long, Array("long".utf8)),
            ("large", (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }),
        ]
        let writer = try ArchiveWriter(descriptor, path: path)
        for (name, bytes) in contents {
            try writer.begin(
                name,
                size: Int64(bytes.count),
                mode: 0o600,
                modified: Timestamp(milliseconds: 0)
            )
            try bytes.withUnsafeBytes { buffer in try writer.write(buffer) }
        }
        try writer.finish()
        close(descriptor)
        let names = String(decoding: try await filter("tar", ["tzf", path]), as: UTF8.self)
        #expect(names.split(separator: "\n").map(String.init) == contents.map(\.0))
        for (name, bytes) in contents {
            #expect(try await filter("tar", ["xzOf", path, name]) == bytes, "\(name)")
        }
        let again = open(path, O_RDONLY)
        defer { close(again) }
        let reader = try ArchiveReader(.descriptor(again))
        while let entry = try reader.next() { #expect(names.contains(entry.path)) }
    }

    @Test("notices a file that is not as large as was said")
    func wrongSize() throws {
        let scratch = try TemporaryDirectory()
        let descriptor = open(scratch.path("a.tar.gz"), O_RDWR | O_CREAT, 0o600)
        defer { close(descriptor) }
        let writer = try ArchiveWriter(descriptor, path: "a.tar.gz")
        try writer.begin("x", size: 2, mode: 0o600, modified: Timestamp(milliseconds: 0))
        let error = #expect(throws: GatewayError.self) { try writer.finish() }
        #expect(error?.code == "internal-error")
    }
}

@Suite("Restoring")
struct RestoringTests {
    @Test("neither rehearses nor backs up while another restore is half done, and an uninstall finishes it")
    func interrupted() async throws {
        let session = try Session()
        _ = await session.run("setup")
        let layout = session.layout
        try session.write("theirs", layout.staging + "/restore-1/home/notes.md")
        let journal = RestoreJournal(
            source: layout.staging + "/restore-1/home",
            aside: layout.home + "/replaced-1",
            placed: ["notes.md"],
            removed: [],
            state: .placing
        )
        try journal.write(layout, files: Files())
        let archive = Files.parent(of: layout.home) + "/x.tar.gz"
        for words in [["backup", archive], ["restore", archive, "--dry-run"]] {
            let answer = await session.run(words + ["--json"])
            #expect(answer.json["error"]?["code"]?.string == "restore-interrupted", "\(answer.output)")
        }
        #expect(!Files().exists(layout.home + "/notes.md") && !Files().exists(archive))
        let answer = await session.run("uninstall", "--yes", "--json")
        #expect(answer.output.contains("finished an interrupted restore"), "\(answer.output)\(answer.error)")
        #expect(try session.read(layout.home + "/notes.md") == "theirs")
    }

    @Test("does not believe a journal that names places elsewhere")
    func journal() throws {
        let session = try Session()
        let home = session.layout.home
        for text in [
            "{", #"{"source":"/etc/x/home","aside":"\#(home)/replaced-1","placed":[],"removed":[]}"#,
            #"{"source":"\#(home)/staging/restore-1/home","aside":"/etc","placed":[],"removed":[]}"#,
            #"{"source":"\#(home)/staging/restore-1/home","aside":"\#(home)/replaced-1","placed":["../x"],"removed":[]}"#,
        ] {
            try session.write(text, session.layout.restoration)
            let error = #expect(throws: GatewayError.self) {
                try RestoreJournal.read(session.layout, files: Files())
            }
            #expect(error?.code == "restore-journal-invalid")
        }
    }

    @Test("puts everything in its place however often it was interrupted")
    func interruptions() throws {
        // Each time it is ended one changing step later, and then goes on from there.
        for steps in 0..<60 {
            let session = try Session()
            let layout = session.layout
            for (name, text) in [
                ("logs.db", "old"), ("logs.db-wal", "old log"), ("sessions.json", "old sessions"),
                ("notes/a.md", "old notes"), ("notes/server.key", "key"),
            ] {
                try session.write(text, Layout.join(layout.home, name))
            }
            let staging = Layout.join(layout.staging, "restore-0011223344556677")
            try session.write("new", staging + "/home/logs.db")
            try session.write("new notes", staging + "/home/notes/a.md")
            let journal = RestoreJournal(
                source: staging + "/home",
                aside: Layout.join(layout.home, "replaced-1"),
                placed: ["logs.db", "notes/a.md"],
                removed: ["logs.db-wal", "sessions.json"],
                state: .placing
            )
            try journal.write(layout, files: Files())
            let left = Gauge(steps)
            let failing = Files { _ throws(GatewayError) in
                if left.next() < 0 { throw GatewayError("killed", "killed") }
            }
            _ = try? RestoreJournal.recover(layout, files: failing)
            _ = try RestoreJournal.recover(layout, files: Files())
            #expect(try session.read(layout.database) == "new")
            #expect(try session.read(layout.home + "/notes/a.md") == "new notes")
            #expect(try session.read(layout.home + "/notes/server.key") == "key")
            #expect(try session.read(journal.aside + "/notes/a.md") == "old notes")
            #expect(try session.read(journal.aside + "/logs.db") == "old")
            #expect(try session.read(journal.aside + "/logs.db-wal") == "old log")
            #expect(try session.read(journal.aside + "/sessions.json") == "old sessions")
            #expect(try Files().list(layout.home) == ["logs.db", "notes", "replaced-1", "staging"])
            #expect(try Files().list(layout.staging).isEmpty)
        }
    }
}

/// Counts down; each call gives the number that is left.
private final class Gauge: Sendable {
    private let value: Mutex<Int>
    init(_ start: Int) { value = Mutex(start) }

    func next() -> Int {
        value.withLock { value in
            value -= 1
            return value
        }
    }
}
