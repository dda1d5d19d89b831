import Appliance
import Jobs
import Platform

/// What of a home is carried to another one, by name: pure.
enum HomeContents {
    /// What the program and the machine have in a home: made anew elsewhere, or meaning nothing there.
    private static let program = [
        "versions", "current", "cache", "staging", "log", "receipt.json", "supervisor.json", "takeover.json",
        "restore.json", "start-pending", "auto-upgrade.json", "client-sessions.jsonl", "jobs", "reference",
        "lost+found",
        // Of the Node product.
        "gateway", "runtime", "gateway.previous", "runtime.previous", "gateway-install.tmp",
        "gateway-bundle.tmp", "gateway.pid", "tunnel.pid", "tunnel.json", "gateway.log", "gateway.err.log",
        "tunnel.log", "replace-bootstrapper.cmd",
    ]

    /// The user's records and configuration, which belong together: a restore replaces all of them.
    static let together = ["config.toml", "settings.json", "logs.db", "sessions.json", "approvals.jsonl"]

    /// Files that the user may keep elsewhere and link into the home: a restore writes them where the link leads.
    static let linkable = ["auth-token", "settings.json", "environment", "config.toml"]

    /// Whether a name directly in the home can be in a backup.
    static func isCarried(_ name: String) -> Bool {
        if name.hasPrefix(".") || program.contains(name) { return false }
        let isLog = ["-wal", "-shm", "-journal", ".lock", ".pid", ".sock", ".part"].contains {
            name.hasSuffix($0)
        }
        return !isLog && !name.contains(".tmp.") && !name.hasPrefix(Layout.replacedPrefix)
            && !name.hasPrefix("receipt.json.")
    }

    /// Whether a file is a secret as a whole.
    static func isSecret(_ path: String) -> Bool {
        let name = Files.name(of: path).lowercased()
        if name == "auth-token" || name == "environment" { return true }
        // Copies of settings and configuration, which nobody takes the secrets out of.
        return ["auth-token.", "environment.", "settings.json.", "config.toml.", "id_"].contains {
            name.hasPrefix($0)
        }
            || [".key", ".pem", ".p12", ".env"].contains { name.hasSuffix($0) }
            || ["secret", "token", "credential", "password"].contains { name.contains($0) }
    }

    /// Settings without the members that let somebody in.
    static func withoutSecrets(settings bytes: [UInt8]) -> [UInt8]? {
        guard var document = try? Settings.document(of: bytes) else { return nil }
        for name in ["chatgpt_no_auth_path", "chatgpt_connector_url"] { document[name] = nil }
        let shown = document["public_url"]?.string.map(Redaction.url)
        if let shown, document["public_url"]?.string != shown { document["public_url"] = nil }
        return Array((JSON.object(document).prettyText + "\n").utf8)
    }

    /// A configuration whose secret values are empty; `nil` when it cannot be made sure of.
    ///
    /// The text is kept: the values are found by reading it, and taken out of the text as they stand there. A comment goes as
    /// a whole when it may hold a secret, wherever in a line it stands.
    static func withoutSecrets(configuration bytes: [UInt8]) -> [UInt8]? {
        guard var text = withoutCommentedSecrets(bytes) else { return nil }
        guard let table = try? TOML.parse(text) else { return nil }
        var secrets: Set<String> = []
        let wanted = blanked(table, &secrets)
        // So short a text may stand anywhere.
        guard secrets.allSatisfy({ $0.utf8.count >= 8 }) else { return nil }
        for secret in secrets.sorted(by: { $0.count > $1.count }) {
            text = text.replacing(secret, with: "")
        }
        guard let result = try? TOML.parse(text), result == wanted else { return nil }
        return Array(text.utf8)
    }

    /// A document without the comments that may hold a secret; `nil` for what is none.
    private static func withoutCommentedSecrets(_ bytes: [UInt8]) -> String? {
        guard let comments = try? TOML.comments(in: bytes) else { return nil }
        var out: [UInt8] = []
        var copied = 0
        for comment in comments where mayHoldSecret(String(decoding: bytes[comment], as: UTF8.self)) {
            out += bytes[copied..<comment.lowerBound]
            out += "# left out of the backup".utf8
            copied = comment.upperBound
        }
        return String(decoding: out + bytes[copied...], as: UTF8.self)
    }

    /// Words of comments that speak of secrets, and so may be followed by one.
    private static let telling = [
        "secret", "token", "password", "passphrase", "passwd", "pwd", "credential", "api_key", "api-key",
        "apikey", "api key", "authorization", "bearer", "cookie", "dsn", "_hash", "jwt",
    ]

    /// Whether a comment speaks of a secret, or has a word that looks like one: long, of letters and digits.
    static func mayHoldSecret(_ comment: String) -> Bool {
        let plain = comment.lowercased()
        if telling.contains(where: plain.contains) || Redaction.secrets(in: comment) != comment {
            return true
        }
        let words = comment.utf8.split { byte in
            !(isLetter(byte) || isDigit(byte) || "_-+=.~".utf8.contains(byte))
        }
        return words.contains {
            $0.count >= 16 && $0.contains(where: isLetter) && $0.contains(where: isDigit)
        }
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    private static func blanked(_ table: TOMLTable, _ secrets: inout Set<String>) -> TOMLTable {
        var result = table
        for entry in table.entries {
            let value = blanked(entry.element.value, under: entry.key, &secrets)
            result.set(entry.key, to: TOMLElement(value, line: entry.element.line), line: entry.line)
        }
        return result
    }

    private static func blanked(_ value: TOML, under name: String, _ secrets: inout Set<String>) -> TOML {
        switch value {
        case .table(let table): return .table(blanked(table, &secrets))
        case .array(let elements):
            return .array(
                elements.map { TOMLElement(blanked($0.value, under: name, &secrets), line: $0.line) }
            )
        case .string(let text)
        where !text.isEmpty && (isSecretKey(name) || Redaction.secrets(in: text) != text):
            secrets.insert(text)
            return .string("")
        default: return value
        }
    }

    private static func isSecretKey(_ name: String) -> Bool {
        // The names of variables are no secrets; what they hold is.
        if name.hasSuffix("_env") { return false }
        return name == "dsn" || name.hasSuffix("_hash")
            || [
                "secret", "token", "password", "api_key", "authorization", "secrets", "tokens", "passwords",
                "api_keys",
            ]
            .contains { name.lowercased().hasSuffix($0) }
    }
}
