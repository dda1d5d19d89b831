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

    private func vibe() -> JSON {
        let path = Layout.join(userHome, ".vibe/config.toml")
        let bytes = try? files.read(path, limit: 128 << 10)
        // Only an explicit false turns it off; a file that cannot be read proves nothing in its favour.
        let enabled: Bool
        if let bytes {
            enabled =
                (try? TOML.parse(bytes)).map { $0["session_logging"]?.table?["enabled"]?.boolean != false }
                ?? false
        } else {
            enabled = true
        }
        return [
            "config_path": .string(path), "config_present": .bool(bytes != nil),
            "session_logging_enabled": .bool(enabled),
            "note": .string(
                enabled
                    ? "a Vibe conversation can be resumed"
                    : "Vibe keeps no sessions, so a conversation cannot be resumed: set [session_logging] enabled = true"
            ),
        ]
    }
}
