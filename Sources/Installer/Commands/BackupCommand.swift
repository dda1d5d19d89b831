import Appliance
import Platform

extension Verb {
    static let backup = Verb(
        "backup",
        .move,
        "write your settings, configuration and records into one file",
        details: """
            The gateway may run meanwhile: the records are those of one instant. Without
            --with-secrets the file holds no token, no keys and no file 'environment'; it
            holds your prompts and answers all the same, so only you may read it. Not in
            it: the program, downloads, logs, and runs that are under way.
            """,
        operand: ("FILE", "the archive to write, such as gateway.tar.gz"),
        offers: .files,
        flags: [
            Flag("with-secrets", "take the token, the keys and the file 'environment' as well"),
            Flag("force", "replace a file of that name"),
        ]
    ) { call throws(GatewayError) in
        let layout = try call.layout()
        let file = call.absolute(try call.arguments.requiredOperand())
        let backup = Backup(machine: call.machine, layout: layout, say: call.note, progress: call.counter())
        let outcome = try await backup.run(
            Backup.Options(
                file: file,
                withSecrets: call.arguments.has("with-secrets"),
                replaces: call.arguments.has("force")
            )
        )
        return BackupReport(outcome: outcome)
    }
}

extension Invocation {
    /// A path as the caller's shell means it.
    func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        return Layout.join(machine.files.realPath(".") ?? "/", path)
    }

    /// Tells of bytes at most twice a second, and of the end.
    func counter() -> @Sendable (String, Int64, Int64) -> Void {
        let pace = Pace(clock: machine.clock)
        return { phase, done, total in
            if pace.allows(phase, isLast: done == total) { progress(phase, bytes: done, total: total) }
        }
    }
}

/// What `backup` wrote.
private struct BackupReport: Report {
    var outcome: Backup.Outcome

    var json: JSON {
        let manifest = outcome.manifest
        return [
            "ok": true, "file": .string(outcome.file), "size": .int(outcome.size),
            "sha256": .string(outcome.sha256), "version": .string(manifest.version),
            "created_at": .string(manifest.createdAt.iso8601), "home": .string(manifest.home),
            "with_secrets": .bool(manifest.hasSecrets), "files": .strings(manifest.files.map(\.path)),
            "left_out": .array(manifest.omissions.map(\.json)),
        ]
    }

    var text: String {
        let manifest = outcome.manifest
        var lines = ["wrote '\(outcome.file)' (\(outcome.size) bytes) with \(manifest.files.count) files"]
        if !manifest.omissions.isEmpty {
            lines.append("not in it:")
            lines.append(Columns.text(manifest.omissions.map { [$0.path, $0.reason] }, indent: 2))
        }
        lines.append(BackupReport.warning(manifest))
        return lines.joined(separator: "\n")
    }

    /// Why the file has to be kept from others, by what is in it.
    private static func warning(_ manifest: BackupManifest) -> String {
        guard !manifest.files.isEmpty else { return "it holds none of your files" }
        if manifest.files.contains(where: { HomeContents.isSecret($0.path) }) {
            return "it holds your token and keys: whoever has it can use them"
        }
        if manifest.hasSecrets { return "it holds your files as they are, with what secrets may be in them" }
        return manifest.files.contains(where: \.isDatabase)
            ? "it holds your prompts and answers, but no keys"
            : "it holds neither your prompts and answers nor keys"
    }
}
