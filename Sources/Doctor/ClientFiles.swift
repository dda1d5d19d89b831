import Appliance
import Platform

/// Which clients' configuration files are there.
///
/// Only their presence and names of servers are read, never secrets.
struct ClientFiles: Sendable {
    let files: Files
    let userHome: String
    let directory: String

    var json: JSON {
        [
            "claude_desktop_config_present": .bool(has(".config/Claude/claude_desktop_config.json")),
            "codex_config_present": .bool(has(".codex/config.toml")),
            "gemini_settings_present": .bool(
                has(".gemini/settings.json") || has(".config/gemini/settings.json")
            ),
            "gemini_config": gemini(),
            "vibe_session_logging": vibe(),
        ]
    }

    private func has(_ path: String) -> Bool { files.exists(Layout.join(userHome, path)) }

    private func gemini() -> JSON {
        let project = Layout.join(directory, "GEMINI.md")
        let user = Layout.join(userHome, ".gemini/GEMINI.md")
        let settings = Layout.join(userHome, ".gemini/settings.json")
        let value = (try? files.read(settings, limit: 128 << 10)).flatMap { try? JSON.parse($0) }
        let servers = value?["mcpServers"]?.object?.names.sorted() ?? []
        return [
            "project_gemini_md_present": .bool(files.exists(project)),
            "project_gemini_md_path": .string(project),
            "user_gemini_md_present": .bool(files.exists(user)), "user_gemini_md_path": .string(user),
            "settings_json_present": .bool(files.exists(settings)), "settings_json_path": .string(settings),
            "mcp_servers_registered": .strings(servers),
            "mcp_reconciliation": ["whitelisted": [], "missing_from_settings": []],
            "next_actions": [],
        ]
    }

    private var vibeConfiguration: String { Layout.join(userHome, ".vibe/config.toml") }

    /// Whether Vibe keeps its conversations.
    ///
    /// Only an explicit false turns that off; a file that cannot be read proves nothing in its favour.
    var vibeKeepsSessions: Bool {
        guard files.exists(vibeConfiguration) else { return true }
        guard let bytes = try? files.read(vibeConfiguration, limit: 128 << 10),
            let table = try? TOML.parse(bytes)
        else { return false }
        return table["session_logging"]?.table?["enabled"]?.boolean != false
    }

    /// What to do about a Vibe that forgets; `nil` when it does not.
    var nextAction: String? {
        vibeKeepsSessions
            ? nil
            : "mistral: set enabled = true under [session_logging] in '\(vibeConfiguration)', so that conversations can be resumed"
    }

    private func vibe() -> JSON {
        [
            "config_path": .string(vibeConfiguration),
            "config_present": .bool(files.exists(vibeConfiguration)),
            "session_logging_enabled": .bool(vibeKeepsSessions),
            "note": .string(
                vibeKeepsSessions
                    ? "a Vibe conversation can be resumed"
                    : "Vibe keeps no sessions, or its configuration cannot be read: a conversation cannot be resumed"
            ),
        ]
    }
}
