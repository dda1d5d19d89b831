import Appliance
import Platform

/// Reads what one CLI's environment variables and configuration files say about models.
struct ModelSource {
    var models: ProviderModels
    private let environment: [String: String]
    private let userHome: String
    private let files: Files

    /// Configuration files larger than this are not read.
    private static let maximumBytes = 1 << 20

    init(_ provider: Provider, environment: [String: String], userHome: String, files: Files) {
        models = ProviderModels(provider)
        self.environment = environment
        self.userHome = userHome
        self.files = files
        models.hints = ModelSource.hints(of: provider)
    }

    private static func hints(of provider: Provider) -> [String] {
        switch provider {
        case .claude: ["opus", "sonnet", "haiku"]
        case .codex: ["gpt-5.5"]
        case .gemini: []
        case .grok: ["grok-build"]
        case .mistral: ["mistral-medium-3.5"]
        }
    }

    private func variable(_ name: String) -> String? {
        environment[name]?.trimmed.isEmpty == false ? environment[name]?.trimmed : nil
    }

    // MARK: environment

    mutating func readEnvironment() {
        let prefix = models.provider.rawValue.uppercased()
        if let list = variable("\(prefix)_MODELS") { addList(list, from: "\(prefix)_MODELS") }
        let defaults =
            ["\(prefix)_DEFAULT_MODEL"] + (models.provider == .mistral ? ["VIBE_ACTIVE_MODEL"] : [])
        for name in defaults {
            if let model = variable(name) { setDefault(model, .env, name) }
        }
        if let list = variable("\(prefix)_MODEL_ALIASES") { addAliases(ModelSource.pairs(list)) }
        if let list = variable("LLM_GATEWAY_MODEL_ALIASES") {
            let own = "\(models.provider.rawValue)."
            addAliases(
                ModelSource.pairs(list).filter { $0.0.hasPrefix(own) }.map {
                    (String($0.0.dropFirst(own.count)), $0.1)
                }
            )
        }
    }

    /// A list in any of the contract's forms: names by comma or line, `id=description`, a JSON array, a JSON object.
    private mutating func addList(_ text: String, from name: String) {
        if text.hasPrefix("[") || text.hasPrefix("{") {
            guard let json = try? JSON.parse(text) else {
                return models.warnings.append("\(name) looks like JSON and is none")
            }
            for (id, description) in json.object?.members ?? [] {
                add(id, description.string ?? "", .env, name)
            }
            for element in json.array ?? [] {
                let id =
                    element.string ?? ["model", "id", "name"].lazy.compactMap { element[$0]?.string }.first
                let description = element["description"]?.string ?? element["desc"]?.string
                if let id { add(id, description ?? "", .env, name) }
            }
            return
        }
        for item in text.split(whereSeparator: { $0 == "," || $0.isNewline }) {
            let parts = item.split(separator: "=", maxSplits: 1).map { String($0).trimmed }
            if let id = parts.first { add(id, parts.count > 1 ? parts[1] : "", .env, name) }
        }
    }

    private static func pairs(_ text: String) -> [(String, String)] {
        if text.hasPrefix("{"), let json = try? JSON.parse(text) {
            return (json.object?.members ?? []).compactMap { member in
                member.value.string.map { (member.name, $0) }
            }
        }
        return text.split(whereSeparator: { $0 == "," || $0.isNewline }).compactMap { item in
            let parts = item.split(separator: "=", maxSplits: 1).map { String($0).trimmed }
            return parts.count == 2 ? (parts[0], parts[1]) : nil
        }
    }

    private mutating func addAliases(_ pairs: [(String, String)]) {
        for (alias, target) in pairs where !alias.isEmpty && !target.isEmpty {
            models.aliases[alias] = target
        }
    }

    private mutating func add(
        _ id: String,
        _ description: String,
        _ source: ProviderModels.Source,
        _ detail: String
    ) {
        guard CLIContract.Pattern.modelName.matches(id) else {
            return models.warnings.append(
                "model name '\(id.prefix(80))' of \(detail) was left out: it contains white space or control characters"
            )
        }
        guard !models.entries.contains(where: { $0.id == id }) else { return }
        models.entries.append(
            ProviderModels.Entry(id: id, description: description, source: source, detail: detail)
        )
        models.hints.removeAll { $0 == id }
    }

    private mutating func setDefault(_ id: String, _ source: ProviderModels.Source, _ detail: String) {
        add(id, "", source, detail)
        guard models.defaultModel == nil, models.entries.contains(where: { $0.id == id }) else { return }
        models.defaultModel = id
        models.defaultSource = detail
    }

    // MARK: configuration files

    mutating func readConfiguration() {
        switch models.provider {
        case .claude:
            let folder = variable("CLAUDE_CONFIG_DIR") ?? Layout.join(userHome, ".claude")
            readSettings(variable("CLAUDE_SETTINGS_LOCAL_PATH") ?? Layout.join(folder, "settings.local.json"))
            readSettings(variable("CLAUDE_SETTINGS_PATH") ?? Layout.join(folder, "settings.json"))
        case .codex:
            let folder = variable("CODEX_HOME") ?? Layout.join(userHome, ".codex")
            readCodex(variable("CODEX_CONFIG_PATH") ?? Layout.join(folder, "config.toml"))
        case .gemini:
            readSettings(variable("GEMINI_SETTINGS_PATH") ?? Layout.join(userHome, ".gemini/settings.json"))
        case .grok: readGrok(Layout.join(userHome, ".grok/config.toml"))
        case .mistral:
            readVibe(Layout.join(variable("VIBE_HOME") ?? Layout.join(userHome, ".vibe"), "config.toml"))
        }
    }

    /// `model`, or `model.name`, of a JSON settings file.
    private mutating func readSettings(_ path: String) {
        guard let bytes = read(path) else { return }
        guard let json = try? JSON.parse(bytes) else {
            return models.warnings.append("'\(path)' is not JSON and was left out")
        }
        if let model = json["model"]?.string ?? json["model"]?["name"]?.string {
            setDefault(model, .config, path)
        }
    }

    private mutating func readCodex(_ path: String) {
        guard let table = readTOML(path) else { return }
        if let model = table["model"]?.string { setDefault(model, .config, path) }
        for profile in table["profiles"]?.table?.entries ?? [] {
            if let model = profile.element.value.table?["model"]?.string {
                add(model, "profile \(profile.key)", .config, path)
            }
        }
        for migration in table["notice"]?.table?["model_migrations"]?.table?.entries ?? [] {
            if let model = migration.element.value.string {
                add(model, "replaces \(migration.key)", .config, path)
            }
        }
    }

    private mutating func readGrok(_ path: String) {
        guard let table = readTOML(path) else { return }
        for entry in table["model"]?.table?.entries ?? [] {
            add(entry.key, entry.element.value.table?["name"]?.string ?? "", .config, path)
        }
        if let model = table["models"]?.table?["default"]?.string { setDefault(model, .config, path) }
    }

    /// vibe knows a model by its alias, and only those of its configuration and its built-in ones.
    private mutating func readVibe(_ path: String) {
        guard let table = readTOML(path) else { return }
        for element in table["models"]?.array ?? [] {
            guard let model = element.value.table, let id = model["alias"]?.string ?? model["name"]?.string
            else {
                continue
            }
            models.isComplete = true
            add(id, model["name"]?.string.map { $0 == id ? "" : "runs \($0)" } ?? "", .config, path)
        }
        if let model = table["active_model"]?.string { setDefault(model, .config, path) }
    }

    private mutating func readTOML(_ path: String) -> TOMLTable? {
        guard let bytes = read(path) else { return nil }
        do throws(TOMLError) {
            return try TOML.parse(bytes)
        } catch {
            models.warnings.append("'\(path)' is not TOML and was left out: \(error)")
            return nil
        }
    }

    private mutating func read(_ path: String) -> [UInt8]? {
        do throws(GatewayError) {
            return try files.readIfPresent(path, limit: ModelSource.maximumBytes)
        } catch {
            models.warnings.append(error.description)
            return nil
        }
    }
}
