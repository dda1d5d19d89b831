import Appliance
import Platform

/// Starts the programs of an unpacked bundle before anything depends on them.
struct SmokeTest: Sendable {
    /// The root of the unpacked bundle.
    var directory: String
    /// What both must say.
    var version: String
    var processes: Processes

    /// Asks both programs for their version.
    ///
    /// Throws `smoke-test-failed` with what they said.
    func run() async throws(GatewayError) {
        try await ask("bin/llm-gateway", "--version")
        try await ask("bin/llm-cli-gateway", "version")
    }

    private func ask(_ program: String, _ argument: String) async throws(GatewayError) {
        let result: ProcessResult
        do throws(GatewayError) {
            result = try await processes.run(
                // No home that exists: a version must be told without touching anything.
                Command(
                    Layout.join(directory, program),
                    [argument],
                    environment: ["PATH": "/usr/bin:/bin", "HOME": "/nonexistent"],
                    directory: directory
                ),
                limits: ProcessLimits(output: 64 << 10, wall: .seconds(10), grace: .seconds(1))
            )
        } catch {
            throw failure(
                program,
                "cannot be started",
                help:
                    "if '\(directory)' is on a file system mounted with noexec, choose another place with LLM_GATEWAY_HOME",
                cause: error
            )
        }
        guard result.succeeded else {
            let line = result.errorText.split(separator: "\n").first.map { ": \($0)" } ?? ""
            let isGlibc = result.errorText.contains("GLIBC_")
            let how =
                switch result.intervention {
                case .wallTime: "did not answer '\(argument)' within 10 s"
                case .outputLimit: "answered '\(argument)' with more than 64 KiB"
                default: "ended with status \(result.status.code)\(line)"
                }
            throw failure(
                program,
                how,
                help: isGlibc
                    ? "this machine's C library is older than this release needs (glibc \(Product.oldestGlibc)); update the system"
                    : "the release does not run on this machine; what was installed before is untouched"
            )
        }
        let said = result.outputText.split(whereSeparator: \.isWhitespace)
        guard said.contains(where: { $0 == version }) else {
            throw failure(
                program,
                "says it is '\(said.prefix(4).joined(separator: " "))', expected version \(version)",
                help: "the bundle was put together wrongly; what was installed before is untouched"
            )
        }
    }

    private func failure(
        _ program: String,
        _ what: String,
        help: String,
        cause: GatewayError? = nil
    ) -> GatewayError {
        GatewayError("smoke-test-failed", "'\(program)' of the bundle \(what)", help: help, cause: cause)
    }
}
