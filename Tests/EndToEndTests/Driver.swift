import Appliance
import Platform
import Testing

/// A script of `Tests/EndToEnd` that drives the built programs.
///
/// It prints a line for each check and ends with status 0 when all held, 77 and a reason when it can't run here.
struct Driver {
    static let skipped: Int32 = 77

    let script: String
    let arguments: [String]

    init(_ script: String, _ arguments: String...) {
        self.init(script, arguments)
    }

    init(_ script: String, _ arguments: [String]) {
        self.script = script
        self.arguments = arguments
    }

    /// Whether the environment says which programs to drive, as `setup/test` does.
    static var isProvided: Bool {
        Machine.currentEnvironment()["LLM_GATEWAY_E2E_BIN"].map { !$0.isEmpty } ?? false
    }

    static let missing: Comment =
        "LLM_GATEWAY_E2E_BIN does not name the folder with the built programs; setup/test builds and names it"

    /// The folder of the scripts, beside this one.
    private static func folder(_ file: String = #filePath) -> String {
        file.split(separator: "/").dropLast(2).map { "/" + $0 }.joined() + "/EndToEnd"
    }

    /// Runs the script to its end and shows what it printed; cancels the test when the script can't run here.
    func run(within limit: Duration = .seconds(600)) async throws {
        let own = Machine.currentEnvironment()
        var environment = own.filter { $0.key.hasPrefix("LLM_GATEWAY_") }
        for name in ["HOME", "PATH", "XDG_CACHE_HOME", "LANG"] { environment[name] = own[name] }
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        let processes = Processes(clock: .system, reactor: try Reactor())
        let result = try await processes.run(
            Command("\(Driver.folder())/\(script)", arguments, environment: environment),
            // Its own clean-up may take a while: it looks for what is left running.
            limits: ProcessLimits(output: 16 << 20, wall: limit, grace: .seconds(30))
        )
        print("---- \(script), \(result.duration)\n\(result.outputText)\(result.errorText)")
        if result.status == .exited(Driver.skipped) {
            let reason = result.outputText.split(separator: "\n").last { $0.hasPrefix("skip - ") }
            try Test.cancel("\(reason ?? "no reason was given")")
        }
        let failures = result.outputText.split(separator: "\n").filter { $0.hasPrefix("not ok") }
        #expect(result.intervention == nil, "\(script) was ended after \(limit)")
        #expect(result.status == .exited(0), "\(script): \(failures.joined(separator: "; "))")
    }
}
