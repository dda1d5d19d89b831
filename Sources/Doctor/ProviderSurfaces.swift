import Appliance
import Platform
import Providers

/// How many configuration files and skills of a CLI there are; they are counted, never read.
struct ProviderSurfaces: Sendable, Equatable {
    var configurations = 0
    var skills = 0

    /// Skills of one folder that are counted, as the contract bounds them.
    private static let skillLimit = 100

    init() {}

    /// Counts below the user's home.
    init(_ provider: Provider, userHome: String, files: Files) {
        let (paths, folders) = ProviderSurfaces.places(provider)
        configurations = paths.count { files.exists(Layout.join(userHome, $0)) }
        skills = folders.reduce(0) { count, folder in
            let path = Layout.join(userHome, folder)
            let names = ((try? files.list(path)) ?? []).prefix(ProviderSurfaces.skillLimit)
            return count + names.count { files.exists(Layout.join(path, "\($0)/SKILL.md")) }
        }
    }

    /// Below the user's home: configuration files, and folders with one folder for each skill.
    private static func places(_ provider: Provider) -> (configurations: [String], skills: [String]) {
        switch provider {
        case .claude: ([".claude/settings.json", ".claude.json"], [".claude/skills"])
        case .codex: ([".codex/config.toml"], [".codex/skills"])
        case .gemini: ([".gemini/settings.json", ".gemini/GEMINI.md"], [".gemini/skills"])
        case .grok: ([".grok/config.toml", ".grok/settings.json"], [".grok/skills", ".grok/bundled/skills"])
        case .mistral: ([".vibe/config.toml"], [".vibe/skills"])
        }
    }
}
