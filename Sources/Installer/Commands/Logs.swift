import Appliance
import Glibc
import Platform

extension Verb {
    static let logs = Verb(
        "logs",
        .look,
        "show what the gateway wrote",
        details: "From the journal under systemd, else from the file 'log/gateway.log' of the home.",
        flags: [
            Flag("follow", letter: "f", "go on with what it writes, until interrupted"),
            Flag(
                "lines",
                letter: "n",
                value: "NUMBER",
                "begin with so many of the last lines (standard: 100)"
            ),
        ],
        style: .text,
        isQuestion: true
    ) { call throws(GatewayError) in
        let lines = try call.arguments.number("lines") ?? 100
        let log = try await GatewayLog.find(call)
        if call.arguments.has("follow") {
            // Text or JSON, it is a stream of lines as they come; the program that knows how becomes this process.
            throw Replacement.become(log.program, [log.program] + log.arguments(lines: lines, follow: true))
        }
        return try await log.read(lines: lines, machine: call.machine)
    }
}

/// Where the gateway's words are.
private struct GatewayLog {
    enum Source {
        case journal(unit: String)
        case file(String)
    }

    var source: Source
    /// `journalctl` or `tail`, absolute.
    var program: String

    static func find(_ call: Invocation) async throws(GatewayError) -> GatewayLog {
        let layout = try call.layout()
        let status = try await call.service().status()
        let folders = EnvironmentFile.folders(call.machine.environment["PATH"]) + ["/usr/bin", "/bin"]
        let files = call.machine.files
        if status.supervisor == .systemd, status.logPath == nil {
            guard let journal = Processes.find("journalctl", in: folders, files: files) else {
                throw GatewayError("command-not-found", "the program 'journalctl' is not on the search path")
            }
            return GatewayLog(source: .journal(unit: "\(layout.unitName).service"), program: journal)
        }
        guard files.exists(layout.gatewayLog) else {
            throw GatewayError(
                "no-log",
                "there is no log yet: '\(layout.gatewayLog)' does not exist",
                help: "'\(Product.name) start' starts the gateway"
            )
        }
        guard let tail = Processes.find("tail", in: folders, files: files) else {
            throw GatewayError("command-not-found", "the program 'tail' is not on the search path")
        }
        return GatewayLog(source: .file(layout.gatewayLog), program: tail)
    }

    func arguments(lines: Int, follow: Bool) -> [String] {
        switch source {
        case .journal(let unit):
            // The unit's name with its user: systems keep the journal of root and of small ids in the system's own.
            return [
                "--user-unit=\(unit)", "_UID=\(getuid())", "--lines=\(lines)", "--output=short-iso",
                "--quiet",
            ]
                + (follow ? ["--follow"] : ["--no-pager"])
        case .file(let path): return ["-n", "\(lines)"] + (follow ? ["-F"] : []) + ["--", path]
        }
    }

    func read(lines: Int, machine: Machine) async throws(GatewayError) -> LogReport {
        let command = Command(
            program,
            arguments(lines: lines, follow: false),
            environment: machine.environment
        )
        let result = try await machine.processes.run(
            command,
            limits: ProcessLimits(output: 64 << 20, wall: .seconds(30))
        )
        guard result.succeeded else {
            throw GatewayError(
                "log-unreadable",
                "the log cannot be read: \(result.errorText.trimmed.isEmpty ? result.status.wording : result.errorText.trimmed)"
            )
        }
        var report = LogReport(lines: result.outputText.split(separator: "\n").map(String.init))
        if case .file(let path) = source { report.path = path }
        return report
    }
}

/// The last lines of the log.
private struct LogReport: Report {
    var lines: [String]
    /// `nil`: the journal.
    var path: String?

    var json: JSON {
        [
            "ok": true, "source": .string(path == nil ? "journal" : "file"), "path": .optional(path),
            "lines": .strings(lines),
        ]
    }
    var text: String { lines.joined(separator: "\n") }
}
