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
        "takes out comments that may hold a secret, wherever they stand, and no text that only looks like one"
    )
    func comments() throws {
        let text = """
            # mine: 3 notes
            [limits]
            x = 1 # sk-abcdefghijklmnop1234
            y = "a # b" # plain
            z = [ # the old password: hunter2
              1, # Zm9vYmFyYmF6cXV4MTIzNDU2
            ]
            t = \"\"\"
            # password in a string
            \"\"\"\t# was postgres://me:pw@host/db
            u = '#' # see https://example.org/a

            """
        let clean = try #require(HomeContents.withoutSecrets(configuration: Array(text.utf8)))
        #expect(
            String(decoding: clean, as: UTF8.self) == """
                # mine: 3 notes
                [limits]
                x = 1 # left out of the backup
                y = "a # b" # plain
                z = [ # left out of the backup
                  1, # left out of the backup
                ]
                t = \"\"\"
                # password in a string
                \"\"\"\t# left out of the backup
                u = '#' # see https://example.org/a

                """
        )
        #expect(try TOML.parse(clean) == TOML.parse(text))
        let value = HomeContents.withoutSecrets(
            configuration: Array("x = 'sk-abcdefghijklmnop1234'\r\n".utf8)
        )
        #expect(value.map { String(decoding: $0, as: UTF8.self) } == "x = ''\r\n")
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

@Suite("Backing up")
struct BackingUpTests {
    /// The archive's names and the report of a backup.
    private func backup(
        _ session: Session,
        _ more: [String] = []
    ) async throws -> (names: [String], Session.Answer) {
        let archive = session.scratch.path("b.tar.gz")
        let answer = await session.run(["backup", archive, "--force"] + more)
        #expect(answer.code == .done, "\(answer.error)")
        let names = String(decoding: try await filter("tar", ["tzf", archive]), as: UTF8.self)
        return (names.split(separator: "\n").map(String.init), answer)
    }

    @Test("leaves settings and configuration out that are too large to have their secrets taken out")
    func size() async throws {
        let session = try Session()
        let comment = "# " + String(repeating: "a", count: 4 << 20) + "\n"
        try session.write(comment, session.layout.configuration)
        try session.write("[1]" + String(repeating: " ", count: 4 << 20), session.layout.home + "/notes.txt")
        let (names, answer) = try await backup(session)
        #expect(names == ["backup.json", "home/notes.txt"])
        #expect(
            answer.json["left_out"]?.array == [
                [
                    "path": "config.toml",
                    "reason": "it is too large to have its secrets taken out (--with-secrets takes it)",
                ]
            ]
        )
        #expect(try await backup(session, ["--with-secrets"]).names.contains("home/config.toml"))
        // To the byte: what has just room is cleaned and taken.
        try session.write(String(comment.dropLast(3)), session.layout.configuration)
        #expect(try await backup(session).names.contains("home/config.toml"))
    }

    @Test(
        "says what is in the file, and no more",
        arguments: [
            ([:], [], "it holds none of your files"),
            (["auth-token": "t"], [], "it holds none of your files"),
            (["notes.md": "n"], [], "it holds neither your prompts and answers nor keys"),
            (
                ["notes.md": "n"], ["--with-secrets"],
                "it holds your files as they are, with what secrets may be in them"
            ),
            (
                ["auth-token": "t"], ["--with-secrets"],
                "it holds your token and keys: whoever has it can use them"
            ),
        ] as [([String: String], [String], String)]
    )
    func words(files: [String: String], flags: [String], sentence: String) async throws {
        let session = try Session()
        try Files().makeDirectory(session.layout.home)
        for (name, text) in files { try session.write(text, Layout.join(session.layout.home, name)) }
        let answer = try await backup(session, flags + ["--text"]).1
        #expect(answer.output.hasSuffix("\n\(sentence)\n"), "\(answer.output)")
    }

    @Test("says that records hold prompts and answers")
    func records() async throws {
        let session = try Session()
        try Files().makeDirectory(session.layout.home)
        _ = try await filter(
            "python3",
            [
                "-c", "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('create table jobs(id)')",
                session.layout.database,
            ]
        )
        let answer = try await backup(session, ["--text"]).1
        #expect(answer.output.hasSuffix("\nit holds your prompts and answers, but no keys\n"))
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
