import Appliance
import Glibc
import Platform

extension Verb {
    static let logs = Verb(
        "logs",
        .look,
        "show what the gateway wrote",
        details: """
            From the journal under systemd, else from the file 'log/gateway.log' of the home.

            With --follow, --json prints one object on a line of its own for each line of the
            log: {"source":"journal","path":null,"line":"…"}.
            """,
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
            guard call.output != .text else {
                // The program that knows how becomes this process.
                throw Replacement.become(
                    log.program,
                    [log.program] + log.arguments(lines: lines, follow: true)
                )
            }
            throw try await log.follow(lines: lines, asEvents: call.output == .events, machine: call.machine)
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

    /// Prints every line as an object as it comes, until this process is ended; gives the reason when nothing more can
    /// come.
    ///
    /// The program that reads the log ends by itself when this process is gone: it watches its output.
    func follow(
        lines: Int,
        asEvents: Bool,
        machine: Machine
    ) async throws(GatewayError) -> GatewayError {
        let command = Command(
            program,
            arguments(lines: lines, follow: true),
            environment: machine.environment
        )
        let terminal = machine.terminal
        let log = self
        let ended = try await BlockingThread.run("log-follow") { () throws(GatewayError) in
            let child = try ChildProcess(command, limits: ProcessLimits(output: .max, wall: nil))
            var pending = LogLines()
            do throws(GatewayError) {
                let ended = try child.supervise(cancel: terminal.outputHangUp) {
                    stream,
                    bytes throws(GatewayError) in
                    switch stream {
                    case .output:
                        let text = pending.take(bytes).map { line in
                            let object = log.object(line)
                            return asEvents ? Event.line(object).line : object.compactText + "\n"
                        }.joined()
                        if !text.isEmpty { try terminal.write(text) }
                    case .error: terminal.writeError(String(decoding: bytes, as: UTF8.self))
                    }
                }
                if ended.intervention == .cancelled { GatewayLog.endAsFilter() }
                return ended.status
            } catch {
                if terminal.outputHangUp >= 0 { GatewayLog.endAsFilter() }
                throw error
            }
        }
        return GatewayError(
            "log-unreadable",
            "the log cannot be followed any further: '\(program)' ended with \(ended.wording)"
        )
    }

    /// Ends this process as one ends that passes lines on and whose reader has left.
    private static func endAsFilter() {
        signal(SIGPIPE, SIG_DFL)
        raise(SIGPIPE)
    }

    /// One line of the log, with the members that `LogReport` has.
    private func object(_ line: String) -> JSON {
        switch source {
        case .journal: ["source": "journal", "path": nil, "line": .string(line)]
        case .file(let path): ["source": "file", "path": .string(path), "line": .string(line)]
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

/// Lines out of pieces that end anywhere.
struct LogLines {
    /// Bytes of a line; what is longer is given in parts.
    static let limit = 1 << 20
    private var rest: [UInt8] = []

    /// The lines that these bytes complete, without their ends and without empty ones; invalid UTF-8 is repaired.
    mutating func take(_ bytes: some Sequence<UInt8>) -> [String] {
        var lines: [String] = []
        for byte in bytes {
            if byte != 0x0A {
                rest.append(byte)
                if rest.count < LogLines.limit { continue }
            }
            if !rest.isEmpty { lines.append(String(decoding: rest, as: UTF8.self)) }
            rest.removeAll(keepingCapacity: true)
        }
        return lines
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
