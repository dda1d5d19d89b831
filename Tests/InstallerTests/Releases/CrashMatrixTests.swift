import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Installer

/// One mutating command in a prepared home.
struct CrashScenario: Sendable, CustomTestStringConvertible {
    /// What is there when the command has come to its end.
    enum Outcome: Sendable, Equatable {
        case uses(String)
        case prepared
        case gone(purged: Bool)
    }

    var name: String
    /// The versions in the home before, the last one in use.
    var versions: [String] = []
    /// What else there is.
    var prepare: @Sendable (ScratchHome) async throws -> Void = { _ in }
    /// The versions that become healthy; all when `nil`.
    var healthy: Set<String>?
    /// The command; a refusal that it is meant to end with is not thrown on.
    var run: @Sendable (Installation) async throws -> Void
    var outcome: Outcome

    var testDescription: String { name }

    var removes: Bool { if case .gone = outcome { true } else { false } }

    private static func bundle(_ home: ScratchHome, _ version: String) throws -> BundleRequest {
        let path = home.scratch.path("\(version).tar.gz")
        return try BundleRequest.resolve(url: "file://\(path)", sha256: SHA256.hex(try Files().read(path)))
    }

    private static func install(
        _ version: String,
        _ verb: String
    ) -> @Sendable (Installation) async throws -> Void {
        { installation in
            let path = Layout.join(Files.parent(of: installation.layout.userHome), "\(version).tar.gz")
            let digest = SHA256.hex(try Files().read(path))
            _ = try await installation.install(
                try BundleRequest.resolve(url: "file://\(path)", sha256: digest),
                Installation.Options(verb: verb)
            )
        }
    }

    private static func expecting(
        _ code: String,
        _ run: @escaping @Sendable (Installation) async throws -> Void
    ) -> @Sendable (Installation) async throws -> Void {
        { installation in
            do { try await run(installation) } catch let error as GatewayError {
                if error.code != code { throw error }
            }
        }
    }

    private static func writeUnits(_ installation: Installation, port: Int) throws {
        let files = installation.files, layout = installation.layout
        var settings = Settings.standard
        settings.port = port
        var receipt = try Receipt.recovered(layout, files: files, now: Timestamp(milliseconds: 0)).receipt
        let before = receipt
        _ = try UnitInstallation(layout: layout, files: files)
            .write(UnitFiles(layout: layout, settings: settings, log: nil).all, receipt: &receipt)
        if receipt != before { try receipt.write(layout, files: files) }
    }

    private static func command(_ words: String...) -> @Sendable (Installation) async throws -> Void {
        { installation in
            let silent = Terminal(write: { _ in }, writeError: { _ in })
            let code = await Main.run(words, silent) { () throws(GatewayError) in installation.machine }
            guard code == .done else { throw GatewayError("command-failed", "\(words) ended with \(code)") }
        }
    }

    static let all: [CrashScenario] = [
        CrashScenario(name: "setup", run: command("setup"), outcome: .prepared),
        CrashScenario(
            name: "install-bundle into an empty home",
            run: install("1.0.0", "install-bundle"),
            outcome: .uses("1.0.0")
        ),
        CrashScenario(
            name: "install-bundle of a third version",
            versions: ["1.0.0", "1.1.0"],
            run: install("2.0.0", "install-bundle"),
            outcome: .uses("2.0.0")
        ),
        CrashScenario(
            name: "upgrade",
            versions: ["1.0.0"],
            run: install("2.0.0", "upgrade"),
            outcome: .uses("2.0.0")
        ),
        CrashScenario(
            name: "upgrade to a version that is not healthy",
            versions: ["1.0.0"],
            healthy: ["1.0.0"],
            run: expecting("unhealthy-version", install("2.0.0", "upgrade")),
            outcome: .uses("1.0.0")
        ),
        CrashScenario(
            name: "rollback",
            versions: ["1.0.0", "2.0.0"],
            run: { _ = try await $0.rollback(to: "1.0.0") },
            outcome: .uses("1.0.0")
        ),
        CrashScenario(
            name: "rollback to a version that is not healthy",
            versions: ["1.0.0", "2.0.0"],
            healthy: ["2.0.0"],
            run: expecting("unhealthy-version") { _ = try await $0.rollback(to: "1.0.0") },
            outcome: .uses("2.0.0")
        ),
        CrashScenario(
            name: "repair of files, modes, links and units",
            versions: ["1.0.0", "2.0.0"],
            prepare: { home in
                let layout = home.layout, files = Files()
                try writeUnits(try home.installation(), port: 3333)
                try files.removeFile(layout.version("2.0.0") + "/lib/libexample.so.1")
                try files.changeMode(layout.version("1.0.0") + "/bin/llm-gateway", to: 0o600)
                try files.removeFile(layout.commandLink)
                try files.removeFile(Layout.join(layout.userUnits, "\(layout.unitName).socket"))
            },
            run: { installation in
                var installation = installation
                installation.units = UnitFiles(layout: installation.layout, settings: .standard, log: nil).all
                _ = try await installation.repair()
            },
            outcome: .uses("2.0.0")
        ),
        CrashScenario(
            name: "repair from the bundle",
            versions: ["1.0.0", "2.0.0"],
            prepare: { try Files().removeFile($0.layout.version("2.0.0") + "/setup/ui/index.html") },
            run: { _ = try await $0.repair() },
            outcome: .uses("2.0.0")
        ),
        CrashScenario(
            name: "start, which writes units",
            versions: ["1.0.0"],
            run: { try writeUnits($0, port: 3333) },
            outcome: .uses("1.0.0")
        ),
        CrashScenario(
            name: "start, which replaces units",
            versions: ["1.0.0"],
            prepare: { try writeUnits(try $0.installation(), port: 3333) },
            run: { try writeUnits($0, port: 4444) },
            outcome: .uses("1.0.0")
        ),
        CrashScenario(
            name: "uninstall",
            versions: ["1.0.0", "2.0.0"],
            prepare: { try writeUnits(try $0.installation(), port: 3333) },
            run: { _ = try await $0.uninstall(purge: false) },
            outcome: .gone(purged: false)
        ),
        CrashScenario(
            name: "uninstall --purge",
            versions: ["1.0.0", "2.0.0"],
            prepare: { try writeUnits(try $0.installation(), port: 3333) },
            run: { _ = try await $0.uninstall(purge: true) },
            outcome: .gone(purged: true)
        ),
    ]
}

/// What has to hold wherever a command was cut short.
struct CrashExamination {
    let scenario: CrashScenario
    let home: ScratchHome
    /// The user's home before anything was installed.
    let pristine: Node
    /// The user's home before the command.
    let base: Node
    /// Whether the disk failed under the command, instead of the machine.
    var isFaulty = false
    let files = Files()

    private var layout: Layout { home.layout }
    private var user: String { home.layout.userHome }

    /// Files of the user's, with their bytes; they are in the home before every command.
    static let data = ["auth-token": "0123456789abcdef", "config.toml": "[http]\n", "settings.json": "{}\n"]

    /// A home with the scenario's versions, and what was there before each of them.
    static func prepare(_ scenario: CrashScenario) async throws -> CrashExamination {
        let home = try ScratchHome()
        for version in ["1.0.0", "1.1.0", "2.0.0"] {
            _ = try home.scratch.write(try await bundle(version), "\(version).tar.gz")
        }
        let user = home.layout.userHome
        try Files().makeDirectory("\(user)/.config")
        try Files().write(Array("mine".utf8), to: "\(user)/.config/editor.conf", durable: false)
        let pristine = try Node(user) ?? .folder(entries: [:], mode: 0o700)
        let examination = { base in
            CrashExamination(scenario: scenario, home: home, pristine: pristine, base: base)
        }
        guard scenario.outcome != .prepared else { return examination(pristine) }
        try Files().makeDirectory(home.layout.home)
        var receipt = Receipt()
        receipt.note(Receipt.Created(path: home.layout.home, kind: .directory))
        try receipt.write(home.layout, files: Files())
        for (name, text) in data {
            try Files().write(Array(text.utf8), to: Layout.join(home.layout.home, name))
        }
        for version in scenario.versions {
            let bytes = try Files().read(home.scratch.path("\(version).tar.gz"))
            let service = ScriptedService(home.layout, running: true)
            _ = try await home.installation(service: service)
                .install(try home.request(bytes, name: "\(version).tar.gz"))
        }
        try await scenario.prepare(home)
        return examination(try Node(user) ?? pristine)
    }

    private static let bundles = Mutex<[String: [UInt8]]>([:])

    private static func bundle(_ version: String) async throws -> [UInt8] {
        if let bytes = bundles.withLock({ $0[version] }) { return bytes }
        var fixture = BundleFixture(version: version)
        fixture.files[2].content = [UInt8](repeating: 7, count: 9_000)
        let bytes = try await fixture.tarGzip()
        bundles.withLock { $0[version] = bytes }
        return bytes
    }

    /// A new command after the one that was cut short.
    func next(_ files: Files = Files()) throws -> Installation {
        let service = ScriptedService(layout, running: true, healthy: scenario.healthy)
        var installation = try home.installation(files: files, service: service)
        installation.lockLimit = .seconds(5)
        return installation
    }

    /// Looks at what was found and at what the next commands make of it; gives what is wrong.
    func look(at root: Node, _ isFinished: Bool) async throws -> [String] {
        try root.write(to: user)
        var wrong: [String] = []
        func expect(_ holds: Bool, _ what: @autoclosure () throws -> String) rethrows {
            if !holds { wrong.append(try what()) }
        }
        // Before anybody does anything.
        let receipt = try Receipt.read(layout, files: files)
        if !scenario.versions.isEmpty {
            let works = try workingVersion(receipt)
            let isRemoving =
                receipt.operation?.verb == Receipt.Operation.uninstall || !files.exists(layout.receipt)
            try expect(
                works != nil || (scenario.removes && isRemoving),
                "no version works: \(try home.tree())"
            )
        }
        expect(try dataIsThere(), "the user's data is not as it was")
        // The next command is 'repair'.
        let notices = try await repaired()
        expect(
            receipt.operation == nil || !notices.isEmpty,
            "an interrupted \(receipt.operation?.verb ?? "") was passed over in silence"
        )
        let plan = try next().repairPlan()
        expect(plan.isEmpty, "something is left to repair: \(plan)")
        wrong += try leftBehind().map { "after repair: \($0)" }
        expect(try dataIsThere(), "repair touched the user's data")
        // The command itself, once more.
        if scenario.removes { try root.write(to: user) }
        if !isFinished || scenario.removes {
            try await scenario.run(try next())
            wrong += try outcome().map { "after the command was repeated: \($0)" }
        } else {
            wrong += try outcome().map { "after the command: \($0)" }
        }
        // And then away with it all.
        _ = try await next().uninstall(purge: true)
        let left = try Node(user) ?? .folder(entries: [:], mode: 0o700)
        expect(left == pristine, "after uninstall --purge: \(difference(left, pristine))")
        return wrong
    }

    /// What `repair` says; one that had to go back from a version that is not healthy ends with that word.
    private func repaired() async throws -> [String] {
        do {
            return try await next().repair().notices
        } catch let error as GatewayError where error.code == "unhealthy-version" && scenario.healthy != nil {
            return try await [error.message] + next().repair().notices
        }
    }

    /// The version that `current` leads to, when every file of it is as its manifest says.
    private func workingVersion(_ receipt: Receipt) throws -> String? {
        guard let current = InstalledVersions.current(layout, files: files) else { return nil }
        let known = receipt.installed + [receipt.operation?.installing].compactMap(\.self)
        guard let installed = known.first(where: { $0.directory == current }) else { return nil }
        let isDamaged = scenario.name.hasPrefix("repair")
        guard try isDamaged || InstalledVersions.verify(installed, layout, files: files).isEmpty else {
            return nil
        }
        return installed.version
    }

    private func dataIsThere() throws -> Bool {
        if scenario.outcome == .prepared || scenario.outcome == .gone(purged: true) { return true }
        for (name, text) in CrashExamination.data {
            let bytes = try files.readIfPresent(Layout.join(layout.home, name))
            if bytes != Array(text.utf8) { return false }
        }
        return try files.readText("\(user)/.config/editor.conf") == "mine"
    }

    /// What nobody knows of.
    private func leftBehind() throws -> [String] {
        var found: [String] = []
        let receipt = try Receipt.read(layout, files: files)
        if let operation = receipt.operation { found.append("an operation '\(operation.verb)'") }
        let versions = try files.list(layout.versions)
        if Set(versions) != Set(receipt.installed.map(\.directory)) {
            found.append("versions \(versions), installed \(receipt.installed.map(\.directory))")
        }
        if let active = receipt.active, InstalledVersions.current(layout, files: files) != active.directory {
            found.append("current is not the active version \(active.directory)")
        }
        found += try files.list(layout.staging) + files.list(layout.cache)
        found += try home.tree().filter { $0.contains(".tmp.") }
        return found
    }

    private func outcome() throws -> [String] {
        switch scenario.outcome {
        case .prepared:
            let token = try files.readIfPresent(layout.authToken) ?? []
            return token.count == 64 ? [] : ["the token is \(token.count) bytes"]
        case .uses(let version):
            let found = try workingVersion(try Receipt.read(layout, files: files))
            // When the disk fails, so does the bundle's, and the other version is used from then on.
            let isWanted =
                found == version || (isFaulty && scenario.name == "repair from the bundle" && found != nil)
            return try leftBehind() + (isWanted ? [] : ["\(found ?? "no version") is in use"])
        case .gone(let purged):
            let left = try Node(user) ?? .folder(entries: [:], mode: 0o700)
            var wanted = pristine
            if !purged, case .folder(var entries, let mode) = pristine {
                let data = CrashExamination.data.mapValues { Node.file(bytes: Array($0.utf8), mode: 0o600) }
                entries[Files.name(of: layout.home)] = .folder(entries: data, mode: 0o700)
                wanted = .folder(entries: entries, mode: mode)
            }
            return left == wanted ? [] : [difference(left, wanted)]
        }
    }

    private func difference(_ left: Node, _ right: Node) -> String {
        let (left, right) = (left.listing(), right.listing())
        let more = left.keys.filter { right[$0] == nil }.sorted()
        let less = right.keys.filter { left[$0] == nil }.sorted()
        let other = left.keys.filter { right[$0] != nil && right[$0] != left[$0] }.sorted()
        return "too much: \(more), missing: \(less), changed: \(other)"
    }
}

/// How often anything was tried, over all tests.
private let points = Mutex<[String: Int]>([:])

@Suite("The crash matrix", .serialized)
struct CrashMatrixTests {
    private static let isDeep = !(Machine.currentEnvironment()["LLM_GATEWAY_DEEP_TESTS"] ?? "").isEmpty

    private func count(_ kind: String) { points.withLock { $0[kind, default: 0] += 1 } }

    @Test(
        "killed or without power after any step, a version works, no data is lost, and the next command finishes or undoes the rest",
        .enabled(
            if: TemporaryDirectory.usualPlace == "/dev/shm",
            "needs /dev/shm, where a file's inode number is never given to another"
        ),
        arguments: CrashScenario.all
    )
    func stops(scenario: CrashScenario) async throws {
        let examination = try await CrashExamination.prepare(scenario)
        let recorder = try DiskRecorder(examination.home.layout.userHome)
        try await scenario.run(try examination.next(recorder.files))
        let images = try recorder.finish()
        for image in images {
            // Half of what is neither killed nor plainly without power is left to the long run.
            if image.ending == .mixed, !Self.isDeep, image.step % 2 == 1 { continue }
            let isFinished = image.next == "the end"
            let wrong: [String]
            do { wrong = try await examination.look(at: image.root, isFinished) } catch {
                wrong = ["\(error)"]
            }
            count(image.ending.rawValue)
            let place = "\(scenario.name), \(image.ending.rawValue), step \(image.step) before \(image.next)"
            #expect(wrong.isEmpty, "\(place): \(wrong.joined(separator: "; "))")
        }
    }

    @Test(
        "with a full disk or a broken one at any step, a version works, no data is lost, and repeating the command does it",
        arguments: CrashScenario.all,
        [ENOSPC, EIO]
    )
    func fails(scenario: CrashScenario, number: Int32) async throws {
        var examination = try await CrashExamination.prepare(scenario)
        examination.isFaulty = true
        // The short run takes every other step, those that the other error leaves out.
        var step = Self.isDeep || number == ENOSPC ? 0 : 1
        while true {
            try examination.base.write(to: examination.home.layout.userHome)
            let fault = DiskFault(number, at: step)
            var failure: GatewayError?
            do { try await scenario.run(try examination.next(fault.files)) } catch {
                failure = GatewayError.wrapping(error)
            }
            guard fault.wasReached else { break }
            // One that was reported elsewhere: in a notice, or as what the command is meant to end with.
            let code = failure?.code ?? "none"
            let known = [
                "disk-full", "file-error", "rollback-failed", "unhealthy-version", "command-failed", "none",
            ]
            #expect(known.contains(code), "\(scenario.name), step \(step): \(failure?.description ?? "")")
            let root = try Node(examination.home.layout.userHome) ?? examination.pristine
            let wrong: [String]
            do { wrong = try await examination.look(at: root, false) } catch { wrong = ["\(error)"] }
            count(number == ENOSPC ? "disk full" : "input/output error")
            let place = "\(scenario.name), error \(number) at step \(step) (\(fault.place))"
            #expect(wrong.isEmpty, "\(place): \(wrong.joined(separator: "; "))")
            step += Self.isDeep ? 1 : 2
        }
        #expect(step > 1)
    }

    @Test("tries at least two hundred points, and says how many")
    func number() {
        let tried = points.withLock { $0 }
        let total = tried.values.reduce(0, +)
        print("crash matrix: \(total) points tried")
        for (kind, count) in tried.sorted(by: { $0.key < $1.key }) { print("  \(count) \(kind)") }
        #expect(total == 0 || total >= 200)
    }
}

/// A disk that fails at one step, or is full from one step on.
private final class DiskFault: Sendable {
    private let number: Int32
    private let left: Mutex<Int>
    private let reached = Mutex<String?>(nil)

    init(_ number: Int32, at step: Int) {
        self.number = number
        left = Mutex(step)
    }

    var wasReached: Bool { reached.withLock { $0 != nil } }
    var place: String { reached.withLock { $0 ?? "" } }

    var files: Files {
        Files(before: { (step) throws(GatewayError) in
            guard let path = self.concerned(step) else { return }
            let remaining = self.left.withLock { left in
                left -= 1
                return left
            }
            guard remaining == -1 || (remaining < -1 && self.number == ENOSPC) else { return }
            self.reached.withLock { if $0 == nil { $0 = "\(step)" } }
            throw Files.failure("write", path, self.number)
        })
    }

    /// The path of a step that can fail in this way.
    private func concerned(_ step: Files.Step) -> String? {
        switch step {
        case .open(let path), .write(let path), .makeDirectory(let path), .link(let path, _),
            .sync(let path), .syncFileSystem(let path), .rename(_, let path):
            path
        case .remove(let path), .changeMode(let path): number == EIO ? path : nil
        }
    }
}
