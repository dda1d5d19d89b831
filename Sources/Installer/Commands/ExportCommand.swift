import Appliance
import Glibc
import Jobs
import Platform

extension Verb {
    static let export = Verb(
        "export",
        .move,
        "write records of requests as JSON lines",
        details: """
            One object a line: first requests with prompt, answer and metadata, then
            finished jobs with their output; the members are the columns of the database.
            The flags narrow it together. The gateway may run meanwhile. The file holds
            your prompts and answers, so only you may read it.
            """,
        operand: ("FILE", "the file to write; standard output when left out, or for '-'"),
        offers: .files,
        flags: RecordFlags.all + [Flag("force", "replace a file of that name")],
        style: .text
    ) { call throws(GatewayError) in
        let selection = try RecordFlags.selection(call)
        let layout = try call.layout()
        let persistence = try call.persistence()
        // Records may be there from a time with another backend.
        let source = RecordSource(persistence, layout: layout) ?? .file(layout.database)
        let files = call.machine.files
        guard let operand = call.arguments.operand, operand != "-" else {
            guard call.output == .text else {
                throw GatewayError(
                    "usage",
                    "the exported lines are JSON already, and are all that standard output gets",
                    help: "leave out '--json' and '--progress', or name a file"
                )
            }
            let terminal = call.machine.terminal
            let count = try await RecordExport.run(source, selection, files: files) {
                (record) throws(GatewayError) in try terminal.write(record.compactText + "\n")
            }
            call.note(ExportReport.wording(count))
            return ExportReport(file: nil, count: count)
        }
        let path = call.absolute(operand)
        guard call.arguments.has("force") || !files.exists(path) else {
            throw GatewayError(
                "file-exists",
                "'\(path)' exists already",
                help: "choose another name, or replace it with --force"
            )
        }
        let file = try ExportFile(path, files: files)
        let count = try await RecordExport.run(source, selection, files: files) {
            (record) throws(GatewayError) in try file.append(record)
        }
        try file.finish()
        return ExportReport(file: path, count: count)
    }
}

/// A file that is there when it is whole.
///
/// `@unchecked Sendable`: only the thread that reads the database writes, and `finish` is called after it.
private final class ExportFile: @unchecked Sendable {
    private let path: String
    private let staged: String
    private let files: Files
    private var descriptor: Int32
    private var isFinished = false
    private var pending: [UInt8] = []

    init(_ path: String, files: Files) throws(GatewayError) {
        self.path = path
        self.files = files
        staged = Layout.join(Files.parent(of: path), ".\(Files.name(of: path)).\(getpid()).part")
        try files.removeFile(staged)
        descriptor = open(staged, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Files.failure("create", staged) }
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        if !isFinished { try? files.removeFile(staged) }
    }

    func append(_ record: JSON) throws(GatewayError) {
        pending += record.compact
        pending.append(0x0A)
        if pending.count >= 1 << 16 { try flush() }
    }

    private func flush() throws(GatewayError) {
        try Files.writeAll(pending, to: descriptor, path: staged)
        pending = []
    }

    /// Gives the file its name once its bytes are on the disk.
    func finish() throws(GatewayError) {
        try flush()
        guard fsync(descriptor) == 0 else { throw Files.failure("write", staged) }
        try files.rename(staged, to: path)
        isFinished = true
    }
}

/// What `export` wrote.
private struct ExportReport: Report {
    /// `nil`: standard output, which got nothing else.
    var file: String?
    var count: (requests: Int, jobs: Int)

    static func wording(_ count: (requests: Int, jobs: Int)) -> String {
        "\(count.requests) requests and \(count.jobs) jobs"
    }

    var json: JSON {
        [
            "ok": true, "file": .optional(file), "requests": .integer(count.requests),
            "jobs": .integer(count.jobs),
        ]
    }

    var text: String {
        file.map { "wrote \(ExportReport.wording(count)) to '\($0)'" } ?? ""
    }
}
