import Appliance
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

/// Releases that a test makes up.
private final class ScriptedSource: UpgradeSource {
    private let version: Result<SemanticVersion, GatewayError>
    private let installing: Result<InstallReport, GatewayError>
    let installations = Mutex(0)

    init(_ version: String, installing: Result<InstallReport, GatewayError>? = nil) throws {
        self.version = .success(try #require(SemanticVersion(version)))
        self.installing =
            installing ?? .failure(GatewayError("internal-error", "nothing was to be installed"))
    }

    init(_ error: GatewayError) {
        version = .failure(error)
        installing = .failure(error)
    }

    func newest() async throws(GatewayError) -> SemanticVersion { try version.get() }

    func install() async throws(GatewayError) -> InstallReport {
        installations.withLock { $0 += 1 }
        return try installing.get()
    }
}

@Suite("An upgrade by the timer")
struct AutomaticUpgradeTests {
    private let home: ScratchHome
    private let files = Files()
    private let now = Timestamp(milliseconds: 1_795_255_860_497)

    /// A home with version 1.2.3.
    init() throws {
        home = try ScratchHome()
        try files.makeDirectory(home.layout.home)
        var receipt = Receipt()
        receipt.installed = [AutomaticUpgradeTests.installed("1.2.3")]
        try receipt.write(home.layout, files: files)
    }

    private static func installed(_ version: String) -> Receipt.Installed {
        Receipt.Installed(
            version: version,
            directory: version,
            sha256: String(repeating: "a", count: 64),
            manifestSHA256: String(repeating: "b", count: 64),
            trust: .pinnedChecksum,
            source: "https://example.org/bundle.tar.gz",
            installedAt: Timestamp(milliseconds: 0)
        )
    }

    private static func report(_ version: String) -> InstallReport {
        InstallReport(
            verb: "upgrade",
            installed: installed(version),
            directory: "/v",
            bundle: "https://example.org/bundle.tar.gz",
            origin: .flags,
            previousVersion: "1.2.3",
            changed: true,
            restarted: true,
            command: "/c",
            notices: []
        )
    }

    private func run(_ source: ScriptedSource, mode: UpgradeMode = .on) async throws -> AutomaticUpgradeReport
    {
        let document = JSON.object(mode.recorded(in: JSONObject())).prettyText
        try files.write(Array(document.utf8), to: home.layout.settings)
        let now = now
        let clock = WallClock(now: { now }, uptime: WallClock.system.uptime, sleep: WallClock.system.sleep)
        return try await AutomaticUpgrade(layout: home.layout, files: files, clock: clock, source: source)
            .run()
    }

    private var record: UpgradeRecord? { get throws { try UpgradeRecord.read(home.layout, files: files) } }

    @Test("installs a newer release and says so")
    func upgrades() async throws {
        let source = try ScriptedSource("1.3.0", installing: .success(Self.report("1.3.0")))
        #expect(try await run(source).text == "upgraded to version 1.3.0")
        #expect(try record == UpgradeRecord(at: now, outcome: .upgraded, version: "1.3.0"))
        #expect(source.installations.withLock { $0 } == 1)
    }

    @Test("only says that there is one where it is to notify")
    func notifies() async throws {
        let source = try ScriptedSource("1.3.0")
        let report = try await run(source, mode: .notify)
        #expect(report.text == "version 1.3.0 can be installed: llm-cli-gateway upgrade")
        #expect(try record?.outcome == .available)
        #expect(source.installations.withLock { $0 } == 0)
    }

    @Test("leaves alone what is as new or newer", arguments: ["1.2.3", "1.2.2", "1.2.3-rc.1"])
    func newest(version: String) async throws {
        let source = try ScriptedSource(version)
        #expect(try await run(source).text == "version 1.2.3 is the newest")
        #expect(try record?.outcome == .upToDate)
        #expect(source.installations.withLock { $0 } == 0)
    }

    @Test("looks at nothing and records nothing where it is switched off")
    func off() async throws {
        let source = ScriptedSource(GatewayError("network", "must not be asked"))
        #expect(try await run(source, mode: .off).text == "automatic upgrades are off")
        #expect(try record == nil)
    }

    @Test("records why it failed, and how often in a row, until one succeeds")
    func failures() async throws {
        let cause = GatewayError("network", "no route to 'example.org'", help: "look at the cable")
        for count in 1...3 {
            let thrown = await refusal { try await run(ScriptedSource(cause)) }
            #expect(thrown == cause && thrown.exitCode == .network)
            #expect(try record?.failures == count && record?.error == cause)
        }
        #expect(try record?.wording == "failed 3 times in a row: no route to 'example.org'")
        _ = try await run(try ScriptedSource("1.2.3"))
        #expect(try record?.failures == 0 && record?.error == nil)
    }

    @Test("records a release that was found and did not work")
    func unhealthy() async throws {
        let source = try ScriptedSource(
            "2.0.0",
            installing: .failure(GatewayError("unhealthy-version", "version 2.0.0 did not work"))
        )
        #expect(await refusal { try await run(source) }.code == "unhealthy-version")
        #expect(try record?.outcome == .failed)
    }

    @Test("shows in the state what the last one came to")
    func state() throws {
        var status = ServiceStatus(url: "http://127.0.0.1:3333/mcp")
        status.upgradeMode = .on
        #expect(status.text.contains("automatic upgrades  on"))
        status.lastUpgrade = UpgradeRecord(at: now, outcome: .upgraded, version: "1.3.0")
        #expect(status.text.contains("on; 2026-11-21T10:11:00.497Z: upgraded to version 1.3.0"))
        #expect(status.json["status"]?["auto_upgrade"]?["last"]?["outcome"]?.string == "upgraded")
    }
}

@Suite("Asking for upgrades by the timer")
struct UpgradeModeTests {
    private static let needsNone: Comment = "this machine has a service manager"

    @Test(
        "says plainly that it needs a service manager where there is none",
        .enabled(if: !ServiceBus.machineHasSystemd(), needsNone),
        arguments: ["on", "notify"]
    )
    func withoutManager(mode: String) async throws {
        let session = try Session()
        let answer = await session.run("upgrade", "--auto", mode)
        #expect(answer.code == .failed)
        #expect(
            answer.error == """
                error: automatic upgrades need a user service manager, and this machine has none
                help: run 'llm-cli-gateway upgrade' in a daily job of yours, with cron for example

                """
        )
        #expect(!Files().exists(session.layout.home))
    }

    @Test("is content to be off already, and makes nothing for that")
    func off() async throws {
        let session = try Session()
        let answer = await session.run("upgrade", "--auto", "off", "--text")
        #expect(answer.code == .done && answer.output == "nothing is upgraded by itself\n")
        #expect(!Files().exists(session.layout.home))
    }

    @Test("forgets mode and record when it is switched off, and keeps the other settings")
    func switchesOff() async throws {
        let session = try Session()
        try session.write(#"{"http_port": 4003, "auto_upgrade": "on"}"#, session.layout.settings)
        try session.write("{}", session.layout.upgradeRecord)
        #expect(await session.run("status").json["status"]?["auto_upgrade"]?["mode"]?.string == "on")
        let answer = await session.run("upgrade", "--auto", "off")
        #expect(answer.json["changed"]?.bool == true, "\(answer.error)")
        #expect(try session.read(session.layout.settings) == "{\n  \"http_port\": 4003\n}\n")
        #expect(!Files().exists(session.layout.upgradeRecord))
    }

    @Test("names the mode or the flag that it cannot be")
    func usage() async throws {
        let session = try Session()
        let mode = await session.run("upgrade", "--auto", "daily")
        #expect(mode.code == .usage)
        #expect(mode.error.hasPrefix("error: '--auto' is 'daily', expected on, notify or off\n"))
        let both = await session.run("upgrade", "--auto", "on", "--url", "https://example.org/b.tar.gz")
        #expect(both.code == .usage)
        #expect(both.error.hasPrefix("error: '--auto' and '--url' exclude each other\n"))
        try session.write(#"{"auto_upgrade": 1}"#, session.layout.settings)
        let stored = await session.run("upgrade", "--auto-run")
        #expect(
            stored.error.hasPrefix(
                #"error: 'auto_upgrade' in settings.json is 1, expected "on", "notify" or "off""#
            )
        )
        let found = await session.run("doctor", "--json").json["findings"]?.array ?? []
        #expect(found.contains { $0["code"]?.string == "settings-invalid" })
    }

    /// A shelf whose checksums are signed by an instance of our own, and the flags that believe it.
    private func signedShelf() async throws -> (shelf: ReleaseShelf, remembered: JSON) {
        let shelf = try ReleaseShelf()
        let instance = try SigningInstance()
        guard case .key(let key) = instance.policy else { throw GatewayError("internal-error", "no key") }
        try await shelf.add("1.2.3") { files in
            let sums = files[ReleaseReader.checksums] ?? []
            files[ReleaseReader.signature] = try? instance.sign(sums)
        }
        let keyFile = try shelf.scratch.write(key, "key.pub")
        let root = try shelf.scratch.write(instance.trustRootJSON.compact, "root.json")
        return (
            shelf,
            [
                "source": .string(shelf.root), "key": .string(keyFile), "trust_root": .string(root),
            ]
        )
    }

    @Test("a run of the timer believes the source and the signer that it was told, and nobody else")
    func remembered() async throws {
        let session = try Session()
        let (shelf, remembered) = try await signedShelf()
        defer { withExtendedLifetime(shelf) {} }
        func remember(_ json: JSON, mode: String = "notify") throws {
            let document: JSON = ["auto_upgrade": .string(mode), "auto_upgrade_source": json]
            try session.write(document.prettyText, session.layout.settings)
        }
        try remember(remembered)
        let told = await session.run("upgrade", "--auto-run")
        #expect(told.json["last"]?["outcome"]?.string == "available", "\(told.error)")
        #expect(told.json["last"]?["version"]?.string == "1.2.3")
        try remember(remembered, mode: "on")
        let done = await session.run("upgrade", "--auto-run")
        #expect(done.json["last"]?["outcome"]?.string == "upgraded", "\(done.error)")
        let status = await session.run("status").json["status"]
        #expect(status?["installed"]?["trust"]?.string == "sigstore")
        #expect(status?["auto_upgrade"]?["source"]?["key"] == remembered["key"])
        #expect(status?["auto_upgrade"]?["source"]?["issuer"]?.isNull == true)
        let text = await session.run("status", "--text").output
        #expect(
            text.contains(
                "automatic upgrades  on, from '\(remembered["source"]?.string ?? "")', signed with the key"
            )
        )
        let doctor = await session.run("doctor", "--json").json["service"]?["auto_upgrade"]
        #expect(doctor?["source"]?["trust_root"] == remembered["trust_root"], "\(doctor ?? .null)")
        let table = await session.run("doctor", "--text").output
        #expect(
            table.contains("on, from '\(remembered["source"]?.string ?? "")', signed with the key"),
            "\(table)"
        )
        // A signer on the command line stands for the remembered one.
        let other = await session.run(
            "upgrade",
            "--auto-run",
            "--identity",
            "me@example.org",
            "--issuer",
            "https://example.org"
        )
        #expect(other.json["last"]?["outcome"]?.string == "up-to-date", "\(other.error)")
        var strange = remembered
        strange["key"] = .string(try session.scratch.write(Array("no key".utf8), "other.pub"))
        try remember(strange, mode: "on")
        try Files().removeTree(session.layout.versions)
        let refused = await session.run("upgrade", "--auto-run")
        #expect(refused.code == .verificationRefused, "\(refused.output)")
    }

    @Test(
        "a run of the timer that cannot understand what it was told fails, and does not do without",
        arguments: [
            (#""x""#, "is string, expected an object"), (#"{}"#, "is object, expected an object"),
            (#"{"source": 7}"#, "has the member 'source', which is none or no text"),
            (#"{"sha256": "x"}"#, "has the member 'sha256', which is none or no text"),
        ]
    )
    func misremembered(value: String, reason: String) async throws {
        let session = try Session()
        try session.write(
            #"{"auto_upgrade": "on", "auto_upgrade_source": \#(value)}"#,
            session.layout.settings
        )
        let answer = await session.run("upgrade", "--auto-run")
        #expect(answer.json["error"]?["code"]?.string == "settings-invalid")
        #expect(
            answer.json["error"]?["message"]?.string == "'auto_upgrade_source' in settings.json \(reason)"
        )
        let last = await session.run("status").json["status"]?["auto_upgrade"]?["last"]
        #expect(last?["error"]?["code"]?.string == "settings-invalid")
        let found = await session.run("doctor", "--json").json["findings"]?.array ?? []
        #expect(found.contains { $0["code"]?.string == "settings-invalid" })
    }

    @Test("switching off forgets the source and the signer")
    func forgets() async throws {
        let session = try Session()
        try session.write(
            #"{"http_port": 4003, "auto_upgrade": "on", "auto_upgrade_source": {"source": "https://example.org"}}"#,
            session.layout.settings
        )
        let off = await session.run("upgrade", "--auto", "off")
        #expect(off.json["changed"]?.bool == true && off.json["source"]?.isNull == true, "\(off.error)")
        #expect(try session.read(session.layout.settings) == "{\n  \"http_port\": 4003\n}\n")
        let flag = await session.run("upgrade", "--auto", "off", "--source", "https://example.org")
        #expect(flag.error.hasPrefix("error: '--auto' and '--source' exclude each other\n"))
    }

    @Test("what the timer is to remember is tried at once, and kept by its full path")
    func tried() async throws {
        let session = try Session()
        let (shelf, remembered) = try await signedShelf()
        func source(_ words: String...) throws -> TimerSource? {
            try TimerSource(try Arguments(["upgrade"] + words, verbs: Verb.all), files: Files())
        }
        #expect(try source() == nil)
        let key = remembered["key"]?.string ?? "", root = remembered["trust_root"]?.string ?? ""
        let whole = try source("--source", shelf.root + "/../shelf", "--key", key, "--trust-root", root)
        let document = TimerSource.recorded(whole, in: JSONObject())
        #expect(document[TimerSource.key] == remembered)
        #expect(try TimerSource(stored: document) == whole)
        #expect(TimerSource.recorded(nil, in: document).isEmpty)
        for (words, code) in [
            (["--source", shelf.root], "no-release-signer"), (["--identity", "me"], "usage"),
            (["--source", "/nowhere", "--key", key], "file-not-found"),
            (["--source", "http://example.org", "--key", key], "insecure-url"),
            (["--source", "https://me:secret@example.org", "--key", key], "invalid-value"),
            (["--key", root], "signature-key-refused"),
            (["--key", key, "--trust-root", key], "trust-root-invalid"),
        ] {
            let arguments = try Arguments(["upgrade"] + words, verbs: Verb.all)
            let error = #expect(throws: GatewayError.self) { try TimerSource(arguments, files: Files()) }
            #expect(error?.code == code, "\(words): \(String(describing: error))")
            #expect(error?.message.contains("secret") == false)
            // The digest of what comes in a year is not known.
            #expect(error?.help?.contains("--sha256") != true, "\(words)")
        }
        let answer = await session.run("upgrade", "--auto", "on", "--source", shelf.root)
        #expect(answer.json["error"]?["code"]?.string == "no-release-signer")
    }

    @Test("a run of the timer uses no bundle that a shell names")
    func unnamed() async throws {
        let session = try Session()
        try session.write(#"{"auto_upgrade": "on"}"#, session.layout.settings)
        let answer = await session.run(
            ["upgrade", "--auto-run"],
            with: [
                BundleRequest.urlVariable: "file:///bundle.tar.gz",
                BundleRequest.digestVariable: String(repeating: "a", count: 64),
            ]
        )
        #expect(answer.json["error"]?["code"]?.string == "no-release-source")
        let last = await session.run("status").json["status"]?["auto_upgrade"]?["last"]
        #expect(
            last?["outcome"]?.string == "failed" && last?["error"]?["code"]?.string == "no-release-source"
        )
    }
}

@Suite("Running without a login")
struct LingeringTests {
    @Test("cannot be asked for and refused at once")
    func usage() async throws {
        let answer = try await Session().run("setup", "--linger", "--no-linger")
        #expect(answer.code == .usage)
        #expect(answer.error.hasPrefix("error: '--linger' and '--no-linger' exclude each other\n"))
    }

    @Test("is not switched on before there is something to run")
    func nothingInstalled() async throws {
        let answer = try await Session().run("setup", "--linger")
        #expect(answer.json["error"]?["code"]?.string == "gateway-missing")
    }

    @Test(
        "says so where there is no service manager",
        .enabled(if: !ServiceBus.machineHasSystemd(), "this machine has a service manager")
    )
    func withoutManager() async throws {
        let session = try Session()
        try session.write("#!/bin/sh\n", session.layout.currentGateway, mode: 0o755)
        let answer = await session.run("setup", "--linger")
        #expect(answer.code == .failed)
        #expect(answer.json["error"]?["code"]?.string == "no-user-manager")
        #expect(
            answer.error.hasPrefix(
                "error: the gateway cannot start at boot: there is no service manager to do it\n"
            )
        )
        #expect(try Receipt.read(session.layout, files: Files()).enabledLinger == false)
    }

    @Test("leaves alone what it did not switch on")
    func notOurs() async throws {
        let answer = try await Session().run("setup", "--no-linger")
        #expect(answer.code == .done)
        #expect(answer.json["changes"]?.array?.contains { $0.string?.contains("linger") == true } == false)
    }

    @Test("names the bus that does not answer")
    func unreachable() {
        #expect(throws: GatewayError.self) {
            let bus = try ServiceBus.connectSystem(environment: [
                "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"
            ])
            try bus.setLinger(true)
        }
    }
}
