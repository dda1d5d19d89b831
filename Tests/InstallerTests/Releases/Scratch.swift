import Appliance
import Glibc
import Platform
import Synchronization
import TestSupport

@testable import Installer

/// Runs a program over bytes: the outside tools that make archives.
func filter(
    _ program: String,
    _ arguments: [String],
    _ bytes: [UInt8] = [],
    in directory: String? = nil
) async throws
    -> [UInt8]
{
    let folders = ["/usr/bin", "/bin"]
    guard let executable = Processes.find(program, in: folders) else {
        throw GatewayError("command-not-found", "the tests need '\(program)' in \(folders)")
    }
    let result = try await Processes(clock: .system, reactor: try Reactor()).run(
        Command(
            executable,
            arguments,
            environment: ["PATH": "/usr/bin:/bin"],
            directory: directory,
            input: .bytes(bytes)
        ),
        limits: ProcessLimits(output: 256 << 20, wall: .seconds(60))
    )
    guard result.succeeded else { throw GatewayError("tool-failed", "\(program): \(result.errorText)") }
    return result.output
}

/// Writes tar files, valid and hostile ones: nothing about an entry is checked.
struct TarWriter {
    private(set) var bytes: [UInt8] = []

    mutating func add(
        _ path: String,
        _ content: [UInt8] = [],
        type: Character = "0",
        mode: UInt32 = 0o644,
        link: String = "",
        claimedSize: Int? = nil
    ) {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int, _ width: Int) {
            for (index, byte) in text.utf8.prefix(width).enumerated() { header[offset + index] = byte }
        }
        func octal(_ value: Int, _ width: Int) -> String {
            let digits = String(value, radix: 8)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        put(path, at: 0, 100)
        put(octal(Int(mode), 7), at: 100, 7)
        put(octal(0, 7), at: 108, 7)
        put(octal(0, 7), at: 116, 7)
        put(octal(claimedSize ?? content.count, 11), at: 124, 11)
        put(octal(0, 11), at: 136, 11)
        put("        ", at: 148, 8)
        put(String(type), at: 156, 1)
        put(link, at: 157, 100)
        put("ustar\u{0}00", at: 257, 8)
        let sum = header.reduce(0) { $0 + Int($1) }
        put(octal(sum, 6) + "\u{0} ", at: 148, 8)
        bytes += header + content
        bytes += [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
    }

    /// The file with its end mark.
    var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}

/// A bundle in the making: small shell scripts take the place of the programs.
struct BundleFixture {
    struct File {
        var path: String
        var content: [UInt8]
        var mode: UInt32 = 0o644
    }

    var version = "9.9.9"
    var platform = Product.platform
    var files: [File] = []
    /// What the manifest says; the files unless set.
    var listed: [File]?
    /// Entries that are added behind the files.
    var more: (inout TarWriter) -> Void = { _ in }

    init(version: String = "9.9.9", says: String? = nil) {
        self.version = version
        let script = "#!/bin/sh\necho \"program \(says ?? version)\"\n"
        files = [
            File(path: "bin/llm-cli-gateway", content: Array(script.utf8), mode: 0o755),
            File(path: "bin/llm-gateway", content: Array(script.utf8), mode: 0o755),
            File(path: "lib/libexample.so.1", content: [UInt8](repeating: 7, count: 100_000)),
            File(path: "setup/ui/index.html", content: Array("<h1>\(version)</h1>".utf8)),
        ]
    }

    var manifest: [UInt8] {
        let entries = (listed ?? files).map { file -> JSON in
            [
                "path": .string(file.path),
                "sha256": .string(SHA256.hex(file.content)),
                "mode": .string("0" + String(file.mode, radix: 8)),
                "size": .integer(file.content.count),
            ]
        }
        let json: JSON = [
            "schema_version": "bundle-manifest.v1",
            "version": .string(version),
            "platform": .string(platform),
            "files": .array(entries),
        ]
        return Array(json.prettyText.utf8)
    }

    var tar: [UInt8] {
        var writer = TarWriter()
        writer.add("manifest.json", manifest)
        for file in files { writer.add(file.path, file.content, mode: file.mode) }
        more(&writer)
        return writer.finished
    }

    func tarGzip() async throws -> [UInt8] { try await filter("gzip", ["-n", "-c"], tar) }
    func tarZstd() async throws -> [UInt8] { try await filter("zstd", ["-q", "-c"], tar) }

    func zip() async throws -> [UInt8] {
        let scratch = try TemporaryDirectory()
        let disk = Files()
        try disk.write(manifest, to: scratch.path("manifest.json"), mode: 0o644)
        for file in files {
            try disk.makeDirectory(Files.parent(of: scratch.path(file.path)))
            try disk.write(file.content, to: scratch.path(file.path), mode: file.mode)
        }
        return try await filter("zip", ["-q", "-r", "-X", "-", "."], in: scratch.root)
    }
}

/// A service that does as it is told and remembers what was asked of it.
final class ScriptedService: ServiceControl {
    struct State {
        var running = false
        /// The versions that become healthy; all when `nil`.
        var healthy: Set<String>?
        /// Whether one that is not healthy ends for good, which nobody has asked it to.
        var fails = false
        var hasFailed = false
        var restartedWith: [String] = []
        /// What else a start would use.
        var environment = ""
        /// Units that start with the session.
        var enabled: [String] = []
        var lingers = false
        /// Why it cannot be put back into service.
        var refusal: GatewayError?
        /// Why the running one cannot be replaced.
        var obstacle: GatewayError?
    }

    let state: Mutex<State>
    private let layout: Layout

    init(_ layout: Layout, running: Bool = false, healthy: Set<String>? = nil) {
        self.layout = layout
        state = Mutex(State(running: running, healthy: healthy))
    }

    private var current: String { InstalledVersions.current(layout, files: Files()) ?? "nothing" }

    func isRunning() async -> Bool { state.withLock { $0.running } }

    func isStopped() async -> Bool { state.withLock { !$0.running && !$0.hasFailed } }

    func checkReplaceable() async throws(GatewayError) {
        if let obstacle = state.withLock({ $0.obstacle }) { throw obstacle }
    }

    func restart() async throws(GatewayError) {
        state.withLock {
            $0.restartedWith.append(current)
            ($0.running, $0.hasFailed) = (true, false)
        }
    }

    func fingerprint() throws(GatewayError) -> String { state.withLock { "\(current) \($0.environment)" } }

    func retire() async throws(GatewayError) -> [String] {
        state.withLock {
            $0.running = false
            $0.enabled = []
        }
        return []
    }

    func endRest() async throws(GatewayError) -> Bool { false }

    func isServedWithoutHome() -> Bool { false }

    func standing() async -> ServiceStanding {
        state.withLock { state in
            var standing = ServiceStanding()
            standing.enabled = state.enabled
            standing.isDetached = state.running
            standing.lingers = state.lingers
            return standing
        }
    }

    func reinstate(
        _ standing: ServiceStanding,
        _ receipt: inout Receipt
    ) async throws(GatewayError) -> [String] {
        if let refusal = state.withLock({ $0.refusal }) { throw refusal }
        state.withLock {
            $0.running = standing.isDetached
            $0.enabled = standing.enabled
        }
        return standing.isDetached ? ["started the gateway again"] : []
    }

    var lingers: Bool { state.withLock { $0.lingers } }

    func setLingering(_ on: Bool) async throws(GatewayError) { state.withLock { $0.lingers = on } }

    func reloadUnits() async throws(GatewayError) {}

    func waitUntilHealthy(within limit: Duration) async throws(GatewayError) {
        let healthy = state.withLock { $0.healthy }
        if let healthy, !healthy.contains(current) {
            state.withLock { if $0.fails { ($0.running, $0.hasFailed) = (false, true) } }
            throw GatewayError("service-unhealthy", "the gateway did not answer within 30 s")
        }
    }
}

/// A transport for tests that use files only.
struct NoTransport: BundleTransport {
    func transfer(
        _ transfer: BundleTransfer,
        began: @escaping @Sendable (HTTPClient.Answer) throws(GatewayError) -> Void,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) throws(GatewayError) -> Void
    ) async throws(GatewayError) {
        throw GatewayError("network", "no network in this test")
    }
}

/// A machine whose home is a scratch directory.
struct ScratchHome {
    let scratch: TemporaryDirectory
    var layout: Layout
    var environment: [String: String]

    init(in place: String = TemporaryDirectory.usualPlace) throws {
        scratch = try TemporaryDirectory(in: place)
        environment = ["HOME": scratch.path("home"), "PATH": "/usr/bin:\(scratch.path("home/.local/bin"))"]
        layout = try Layout(environment: environment)
        try Files().makeDirectory(scratch.path("home"))
    }

    func machine(_ files: Files = Files()) throws -> Machine {
        Machine(
            environment: environment,
            files: files,
            clock: .system,
            random: .system,
            reactor: try Reactor(),
            terminal: Terminal(write: { _ in }, writeError: { _ in })
        )
    }

    func installation(
        files: Files = Files(),
        service: ScriptedService? = nil,
        transport: any BundleTransport = NoTransport()
    ) throws -> Installation {
        Installation(
            machine: try machine(files),
            layout: layout,
            service: service ?? ScriptedService(layout),
            transport: transport
        )
    }

    /// Writes a bundle beside the home and makes the request for it.
    func request(
        _ bytes: [UInt8],
        name: String = "bundle.tar.gz",
        sha256: String? = nil
    ) throws -> BundleRequest {
        let path = try scratch.write(bytes, name)
        return try BundleRequest.resolve(url: "file://\(path)", sha256: sha256 ?? SHA256.hex(bytes))
    }

    /// The version that the installed program says.
    func runs() async throws -> String {
        let output = try await filter("sh", [layout.currentGateway, "--version"])
        return String(decoding: output, as: UTF8.self).split(whereSeparator: \.isWhitespace).last.map(
            String.init
        ) ?? ""
    }

    /// Every path below the home, with its kind, for comparing before and after.
    func tree() throws -> [String] {
        func walk(_ directory: String) throws -> [String] {
            try Files().list(directory).flatMap { name -> [String] in
                let path = Layout.join(directory, name)
                let isDirectory = try Files().status(path)?.kind == .directory
                return isDirectory ? try [path] + walk(path) : [path]
            }
        }
        return try walk(scratch.path("home")).map { String($0.dropFirst(scratch.path("home").count + 1)) }
    }
}

extension Files {
    /// A failure that cannot be caught by a clean-up: from one step on, every step fails, as in a process that is gone.
    static func dying(after count: Int) -> Files {
        let left = Mutex(count)
        return Files(before: { (step) throws(GatewayError) in
            let isDead = left.withLock { left in
                left -= 1
                return left < 0
            }
            if isDead { throw GatewayError("killed", "the process was killed before \(step)") }
        })
    }
}

/// The error that a body throws.
func refusal<Value>(_ body: () async throws -> Value) async -> GatewayError {
    do {
        _ = try await body()
        return GatewayError("nothing-thrown", "nothing was thrown")
    } catch {
        return GatewayError.wrapping(error)
    }
}
